"""The two physics engines show the same scenes: kinematics, cameras, contacts, and what experts achieve in them."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from robot import panda
from robot.description import Body, Geom
from robot.errors import TongsError
from sim.engines import ENGINES, make_engine
from sim.episode import replay, run_episode
from sim.expert import ScriptedExpert
from sim.model import CAMERAS, Camera, WorldModel
from sim.tasks import SINGLE
from sim.world import World

pytest.importorskip("pybullet")

EMPTY = WorldModel((), CAMERAS)


@pytest.fixture(scope="module")
def pair():
    both = {name: make_engine(name) for name in ENGINES}
    yield both
    for engine in both.values():
        engine.close()


def test_forward_kinematics_and_jacobian_agree(pair):
    rng = np.random.default_rng(0)
    for engine in pair.values():
        engine.load(EMPTY)
    for _ in range(50):
        q = rng.uniform(panda.JOINT_LOW, panda.JOINT_HIGH)
        for engine in pair.values():
            engine.set_arm(q, 0.02)
        (p, r), (other_p, other_r) = (engine.tool() for engine in pair.values())
        assert np.linalg.norm(p - other_p) < 0.001
        assert np.degrees(Rotation.from_matrix(r @ other_r.T).magnitude()) < 0.5
        ours, theirs = (engine.jacobian() for engine in pair.values())
        np.testing.assert_allclose(ours, theirs, atol=1e-3)


BALL = 0.012


def pinhole(camera: Camera, pose, point, size: int) -> tuple[float, float]:
    """Column and row at which a camera with (position, rotation) `pose` sees a point; pixel centres are at .5."""
    x, y, z = pose[1].T @ (point - pose[0])
    focal = size / 2 / np.tan(np.radians(camera.fovy) / 2)
    return size / 2 + focal * x / -z, size / 2 - focal * y / -z


def ball_in(image) -> tuple[float, float] | None:
    """Column and row of the middle of what is plainly green."""
    red, green, blue = (image[..., channel].astype(int) for channel in range(3))
    rows, columns = np.nonzero((green > 50) & (red < 0.4 * green) & (blue < 0.4 * green))
    return (columns.mean() + 0.5, rows.mean() + 0.5) if len(rows) > 8 else None


@pytest.mark.parametrize("camera", CAMERAS, ids=lambda camera: camera.name)
@pytest.mark.parametrize("name", ENGINES)
def test_points_are_where_a_pinhole_camera_puts_them(pair, name, camera):
    """Small balls, in the middle of the view and towards its corners."""
    engine, size = pair[name], 192
    engine.load(EMPTY)
    if camera.mount:
        position, quaternion = engine.pose("hand")
        hand = Rotation.from_quat(quaternion, scalar_first=True)
        site, turn = next(body.sites for body in panda.panda().walk() if body.sites)[camera.mount]
        pose = position + hand.apply(site), (hand * Rotation.from_quat(turn, scalar_first=True)).as_matrix()
        depths = (0.15, 0.25)
    else:
        pose, depths = (np.array(camera.position), camera.rotation()), (0.6, 0.9)
    reach = np.tan(np.radians(camera.fovy) / 2)
    for depth in depths:
        for across, up in ((0, 0), (0.7, 0.7), (-0.7, 0.7), (0.7, 0.1), (-0.6, 0.2)):
            point = pose[0] + pose[1] @ (np.array([across * reach, up * reach, -1.0]) * depth)
            shape = Geom("sphere", (BALL,), colour=(0, 1, 0, 1), collides="none")
            engine.load(WorldModel((Body("ball", tuple(point), geoms=(shape,)),), CAMERAS))
            seen = ball_in(engine.render(camera.name, size, size))
            assert seen is not None, (depth, across, up)
            np.testing.assert_allclose(seen, pinhole(camera, pose, point, size), atol=1.5)


def test_pictures_of_a_scene_are_alike():
    """Nine pixels in ten differ by less than 40 of 255; edges and the light on round things account for the rest."""
    pictures = []
    for name in ENGINES:
        world = World("open_drawer", engine=name)
        world.reset("test", 2)
        pictures.append([world.render(camera, 128, 128).astype(int) for camera in ("front", "wrist")])
        world.close()
    for ours, theirs in zip(*pictures, strict=True):
        assert np.mean(np.abs(ours - theirs).max(axis=-1) < 40) > 0.9


@pytest.fixture(scope="module")
def drawers():
    both = {name: World("open_drawer", cameras={}, engine=name) for name in ENGINES}
    yield both
    for world in both.values():
        world.close()


@pytest.mark.parametrize("scene", [0, 1, 2])
def test_the_same_pull_opens_a_drawer_equally_far(drawers, scene):
    """What the expert does in MuJoCo, done in PyBullet without looking."""
    world, other = drawers.values()
    world.reset("test", scene)
    other.reset("test", scene)
    expert = ScriptedExpert(world)
    while not world.finished:
        action = expert.act(world.observe()).actions[0]
        world.execute(action)
        other.execute(action)
    assert world.value > 0.15
    assert other.value == pytest.approx(world.value, rel=0.10)


@pytest.mark.parametrize("task", [*SINGLE, "compose", "tabletop_spatial"])
def test_experts_succeed_in_pybullet(task):
    """A quick look; `docs/simulation.md` has 40 scenes per task, and `test_expert.py` has MuJoCo."""
    world = World(task, cameras={}, engine="bullet")
    scenes = 1 if task in ("pour_water", "transfer_water") else 4  # 72 drops take a quarter of a minute per episode
    results = [run_episode(world, ScriptedExpert(world), "test", index) for index in range(scenes)]
    assert all(result.success for result in results)
    world.close()


def test_a_grasp_does_not_creep():
    """Less than half a millimetre per second over five seconds, of a tolerance of 50 mm."""
    world = World("pickup_object", cameras={}, engine="bullet")
    world.reset("test", 0)
    expert = ScriptedExpert(world)
    while not world.success:
        world.execute(expert.act(world.observe()).actions[0])
    below = world.engine.height(world.goal_spec.body) - world.engine.tool()[0][2]
    for _ in range(50):
        world.execute(np.zeros(7, np.float32))
    assert abs(world.engine.height(world.goal_spec.body) - world.engine.tool()[0][2] - below) < 0.0025
    world.close()


def test_a_state_brings_back_what_was_seen():
    world = World("reorient_object", {"front": (64, 64)}, engine="bullet")
    result = run_episode(world, ScriptedExpert(world), "test", 1)
    last = world.render("front", 64, 64)
    poses = {name: world.engine.pose(name) for name in (world.goal_spec.body, "hand")}
    value, finger, speed = world.value, world.engine.finger(), world.engine.vertical_speed(world.goal_spec.body)
    frames = list(replay(world, result, "front", 64, 64, every=20))
    np.testing.assert_array_equal(frames[-1], last)
    assert (frames[0] != last).any()
    for name, (position, quaternion) in poses.items():
        np.testing.assert_allclose(world.engine.pose(name)[0], position, atol=1e-9)
        np.testing.assert_allclose(world.engine.pose(name)[1], quaternion, atol=1e-9)
    assert (world.value, world.engine.finger()) == pytest.approx((value, finger))
    assert world.engine.vertical_speed(world.goal_spec.body) == pytest.approx(speed)
    np.testing.assert_allclose(world.engine.state(), result.states[-1], atol=1e-9)
    world.close()


def test_an_unknown_quality_is_refused():
    with pytest.raises(TongsError, match="unknown render quality 'best'"):
        make_engine("bullet", "best")
