"""The simulated arm: it goes where it is told, holds by friction, stays inside its limits, and repeats exactly."""

import mujoco
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from robot import panda
from robot.errors import ContractError, TongsError
from robot.interface import Robot, Scene
from robot.turning import TURNING_STATE, Turning
from sim import engines
from sim.engines import ENGINES
from sim.engines.mujoco import MujocoEngine
from sim.expert import ScriptedExpert
from sim.objects import DOOR_TRAVEL, DRAWER_TRAVEL
from sim.tasks import SINGLE
from sim.world import ENVIRONMENT_STATE_NAMES, GOAL_NAMES, STATE_NAMES, World
from tests.conformance import check_robot


@pytest.fixture(scope="module", params=ENGINES)
def world(request):
    if request.param == "bullet":
        pytest.importorskip("pybullet")
    world = World("pickup_object", cameras={}, engine=request.param)
    yield world
    world.close()


def action(offset=(0.0, 0.0, 0.0), turn=(0.0, 0.0, 0.0), gripper=1.0):
    return np.array([*offset, *turn, gripper], np.float32)


def test_it_is_a_robot_and_a_scene(world):
    world.reset("test", 0)
    assert isinstance(world, Robot)
    assert isinstance(world, Scene)
    check_robot(world)
    assert set(world.objects()) == {c.body.replace("_", " ") for c in world.scene.candidates}


def test_free_motion_follows_the_command_closely(world):
    world.reset("test", 0)
    start = world.observe().state[:3].astype(float)
    wanted = start.copy()
    for offset in np.random.default_rng(0).uniform(-0.02, 0.02, (40, 3)):
        world.execute(action(offset))
        wanted += offset
        error = np.linalg.norm(world.observe().state[:3] - wanted)
        assert error < 0.003, error


def test_joint_limits_hold_whatever_is_asked(world):
    world.reset("test", 1)
    rng = np.random.default_rng(3)
    low, high = np.array(panda.JOINT_LOW) - 0.02, np.array(panda.JOINT_HIGH) + 0.02
    direction = np.zeros(6)
    for step in range(150):
        if step % 25 == 0:
            direction = rng.normal(size=6) * 10
        world.execute(action(direction[:3], direction[3:]))
        q = world.observe().state[-7:]
        assert (q > low).all() and (q < high).all()


def test_nan_and_wrong_shape_are_refused_before_anything_moves(world):
    world.reset("test", 0)
    before = world.engine.state()
    with pytest.raises(ContractError, match="NaN"):
        world.execute(action((np.nan, 0, 0)))
    with pytest.raises(TongsError, match="7 entries"):
        world.execute(np.zeros(6, np.float32))
    np.testing.assert_array_equal(before, world.engine.state())


def test_a_grasp_is_only_friction(world):
    """Opening the fingers in the air lets the object fall; nothing but contact holds it."""
    world.reset("test", 0)
    expert = ScriptedExpert(world)
    while not world.success:
        world.execute(expert.act(world.observe()).actions[0])
    if isinstance(world.engine, MujocoEngine):  # the only constraint is the two fingers' common spindle
        assert set(world.engine.model.eq_type) == {mujoco.mjtEq.mjEQ_JOINT}
    for _ in range(10):
        world.execute(action())
    assert world.value < 0.02


def test_the_same_actions_give_the_same_world_to_the_last_bit(world):
    actions = np.random.default_rng(5).uniform(-0.03, 0.03, (30, 7)).astype(np.float32)
    states = []
    for _ in range(2):
        world.reset("val", 4)
        for row in actions:
            world.execute(row)
        states.append(world.engine.state())
    np.testing.assert_array_equal(*states)


def everything(world):
    """All that can be asked of a world and its engine, as one vector."""
    engine = world.engine
    told = [world.observe().state, world.environment_state(), engine.state(), engine.jacobian(), *engine.tool()]
    told += [world.render(camera, 48, 48) for camera in ("front", "wrist")]
    for name, thing in world.objects().items():
        told += [thing.position, thing.quaternion, [engine.uprightness(name.replace(" ", "_"))]]
    numbers = [world.value, world.steps, world.success, world.holding(), engine.finger()]
    return np.concatenate([np.ravel(part) for part in [*told, numbers]], dtype=np.float64)


@pytest.mark.parametrize("task", ["pickup_object", "open_cabinet", "transfer_water"])
def test_a_restored_episode_goes_on_to_the_last_bit(task):
    world = World(task, cameras={})
    world.reset("val", 2)
    expert = ScriptedExpert(world)
    while not world.holding():
        world.execute(expert.act(world.observe()).actions[0])
    moves = np.random.default_rng(3).uniform(-0.02, 0.02, (50, 7)).astype(np.float32)  # 1000 physics steps
    snapshot, runs = world.snapshot(), []
    for _ in range(2):
        seen = [everything(world)]
        for move in moves:
            world.execute(move)
            seen.append(everything(world))
        runs.append((np.stack(seen), world.paraphrase()))
        world.restore(snapshot)
    assert not np.array_equal(runs[0][0][0], runs[0][0][-1])
    np.testing.assert_array_equal(runs[0][0], runs[1][0])
    assert runs[0][1] == runs[1][1]
    world.reset("val", 2, "other_goal")
    with pytest.raises(TongsError, match="the scene it was taken in"):
        world.restore(snapshot)
    world.close()


@pytest.mark.parametrize("task", ["open_drawer", "pour_water"])
def test_another_goal_in_the_same_scene_compiles_nothing_and_changes_nothing(task):
    used, fresh = World(task, cameras={}), World(task, cameras={})
    used.reset("val", 1)
    compiled = used.engine.model
    for row in np.random.default_rng(5).uniform(-0.03, 0.03, (10, 7)).astype(np.float32):
        used.execute(row)
    for world in (used, fresh):
        world.reset("val", 1, "other_goal")
        world.execute(action((0.01, 0.01, -0.02), gripper=0.0))
    assert used.engine.model is compiled
    np.testing.assert_array_equal(everything(used), everything(fresh))
    used.reset("val", 2)
    assert used.engine.model is not compiled
    used.close()
    fresh.close()


def test_path_since_grasp_is_remembered_and_forgotten(world):
    world.reset("test", 0)
    path = slice(STATE_NAMES.index("path_x"), STATE_NAMES.index("path_z") + 1)
    world.execute(action((0, 0, 0.02)))
    assert not world.observe().state[path].any()
    for _ in range(3):
        world.execute(action((0.02, 0, 0), gripper=0.0))
    np.testing.assert_allclose(world.observe().state[path], (0.06, 0, 0), atol=0.004)
    world.execute(action(gripper=0.4))  # no clear wish to let go
    assert world.observe().state[path].any()
    assert world.observe().state[STATE_NAMES.index("gripper_command")] == np.float32(0.4)
    world.execute(action())
    assert not world.observe().state[path].any()


def test_turning_is_remembered_from_when_the_clock_starts(world):
    world.reset("test", 0)
    columns = {name: column for column, name in enumerate(STATE_NAMES)}
    turned = [columns[name] for name in TURNING_STATE]
    across = [[columns[f"r{row}{column}"] for row in (1, 2, 3)] for column in (1, 2)]

    def orientation(state):
        first, second = (state[entries].astype(float) for entries in across)
        return Rotation.from_matrix(np.stack([first, second, np.cross(first, second)], axis=1))

    for turn in ((0, 0, 0), (0.1, 0, 0)):
        turning = Turning(orientation(world.observe().state))
        assert not world.observe().state[turned].any()
        for _ in range(8):
            world.execute(action(turn=turn))
            here = orientation(world.observe().state)
            turning = turning.after(0.1, here)
            np.testing.assert_allclose(world.observe().state[turned], turning.state(here), atol=1e-6)
        world.restart_clock()
    assert turning.state(here)[0] > 0.3


@pytest.mark.parametrize("task", [name for name in SINGLE if "water" not in name])
def test_moving_the_thing_by_what_remains_reaches_the_goal(task):
    world = World(task, cameras={})
    names = ENVIRONMENT_STATE_NAMES
    for scene in range(5):
        world.reset("val", scene)
        body, way = world.goal_spec.body, world.environment_state()[names.index("remaining_x") :].astype(float)
        position, quaternion = world.engine.pose(body)
        if body in world.scene.joints:
            before = world.task.grasp_pose(world.engine, world.goal_spec)
            world.engine.set_joint(body, world.goal * (DRAWER_TRAVEL if "drawer" in task else DOOR_TRAVEL))
            after = world.task.grasp_pose(world.engine, world.goal_spec)
            np.testing.assert_allclose(way[:3], after.position - before.position, atol=1e-6)
            np.testing.assert_allclose(way[3:], (after.rotation * before.rotation.inv()).as_rotvec(), atol=1e-6)
        else:
            turned = Rotation.from_rotvec(way[3:]) * Rotation.from_quat(quaternion, scalar_first=True)
            world.engine.set_pose(body, position + way[:3], turned.as_quat(scalar_first=True))
        assert world.value == pytest.approx(world.goal, abs=1e-4 * world.task.scale)
    world.close()


def test_unknown_names_are_one_sentence():
    with pytest.raises(TongsError, match=r"unknown task 'fly'.*close_drawer"):
        World("fly")
    with pytest.raises(TongsError, match=r"unknown camera 'side'.*front, wrist"):
        World("open_drawer", {"side": (64, 64)})
    with pytest.raises(TongsError, match=r"unknown engine 'ode'.*bullet, mujoco"):
        World("open_drawer", engine="ode")
    world = World("open_drawer", {})
    with pytest.raises(TongsError, match="call reset"):
        world.observe()
    with pytest.raises(TongsError, match="unknown wording 'rude'"):
        world.reset("test", 0, wording="rude")  # type: ignore[arg-type]
    with pytest.raises(TongsError, match="unknown variant 'twice'"):
        world.reset("test", 0, variant="twice")


def test_an_engine_that_is_not_installed_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(engines, "find_spec", lambda name: None)
    with pytest.raises(TongsError, match=r"needs PyBullet.*pip install 'tongs\[bullet\]'"):
        World("open_drawer", engine="bullet")


def test_the_goal_is_told_as_the_instruction_says_it():
    """Left drawers lie to the arm's left, and the value is the one that the environment state holds too."""
    world, plain = World("open_drawer", {}, tell_goal=True), World("open_drawer", {})
    names, sides = world.spec.state_names, set()
    for index in range(6):
        for variant in ("original", "other_target", "other_goal"):
            world.reset("train", index, variant)
            state = world.observe().state
            left, value = state[names.index("goal_left")], state[names.index("goal_value")]
            assert ("left" in world.goal_spec.body) == (left == 1.0), world.instruction
            assert value == pytest.approx(world.environment_state()[ENVIRONMENT_STATE_NAMES.index("goal")])
            plain.reset("train", index, variant)
            np.testing.assert_array_equal(plain.observe().state, state[: len(STATE_NAMES)])
            sides.add(float(left))
    assert sides == {1.0, -1.0} and plain.spec.state_names == STATE_NAMES and names[-2:] == GOAL_NAMES
    with pytest.raises(TongsError, match="task compose asks for several things"):
        World("compose", {}, tell_goal=True)
