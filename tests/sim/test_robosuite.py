"""robosuite's tasks under our contract: scaling, frames, pictures, scenes by number, experts."""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib.util import find_spec

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from eval.evaluation import evaluate
from eval.protocol import EvaluationConfig, expand_tasks
from robot.errors import ContractError, TongsError
from robot.interface import EE_DELTA, PolicySpec, require_compatible
from robot.kinematics import ArmKinematics
from sim.episode import replay, run_episode
from sim.expert import ScriptedExpert
from sim.robosuite import package
from sim.robosuite.package import robosuite
from sim.robosuite.tasks import TASKS
from sim.robosuite.world import RobosuiteWorld
from sim.world import World
from sim.worlds import make_world, require_simulator
from tests.conformance import check_robot


def usable() -> bool:
    """Whether robosuite is installed and its OpenCV finds the system's libraries."""
    if find_spec("robosuite") is None:
        return False
    try:
        return robosuite() is not None
    except TongsError:
        return False


needs_robosuite = pytest.mark.skipif(not usable(), reason="robosuite cannot be imported here")
SIZE = 256


@pytest.fixture(scope="module")
def lift() -> Iterator[RobosuiteWorld]:
    world = RobosuiteWorld("lift", {"front": (SIZE, SIZE), "wrist": (SIZE, SIZE)})
    yield world
    world.close()


@pytest.fixture
def world(lift: RobosuiteWorld) -> RobosuiteWorld:
    lift.reset("test", 0)
    return lift


def still(gripper: float) -> NDArray[np.float32]:
    return np.array([0, 0, 0, 0, 0, 0, gripper], np.float32)


def tool(world: RobosuiteWorld) -> tuple[NDArray[np.float64], Rotation]:
    values = dict(zip(world.spec.state_names, world.observe(images=False).state.tolist(), strict=True))
    x, y = (np.array([values[f"r{row}{column}"] for row in (1, 2, 3)]) for column in (1, 2))
    return np.array([values[name] for name in "xyz"]), Rotation.from_matrix(np.stack([x, y, np.cross(x, y)], axis=1))


# --- words and settings, which need no robosuite


@pytest.mark.parametrize("name", TASKS)
def test_no_unseen_wording_is_a_seen_one_and_each_names_what_to_take(name: str) -> None:
    task = TASKS[name]
    assert len(task.words["seen"]) >= 3 and len(task.words["unseen"]) >= 2
    assert not set(task.words["seen"]) & set(task.words["unseen"])
    rng = np.random.default_rng(0)
    assert {task.instruct(rng, "unseen") for _ in range(50)} == set(task.words["unseen"])
    if name.startswith(("pick_place_", "nut_assembly_")):
        (thing,) = task.targets.values()
        assert all(thing in sentence for pool in task.words.values() for sentence in pool)


def test_what_robosuite_does_not_have_is_refused_by_name() -> None:
    fields = {"policy": "random", "tasks": ("lift",), "scenes": (0, 1), "output": "x", "engine": "robosuite"}
    for setting, value, said in (
        ("tasks", ("open_drawer",), "unknown task 'open_drawer'.*lift"),
        ("split", "novel_object", "unknown split of robosuite's tasks 'novel_object'.*test, train, val"),
        ("variant", "other_goal", "unknown variant of robosuite's tasks 'other_goal'.*negated"),
    ):
        with pytest.raises(TongsError, match=said):
            EvaluationConfig(**fields | {setting: value})
    with pytest.raises(TongsError, match="unknown task 'lift'.*open_drawer"):
        EvaluationConfig(**fields | {"engine": "mujoco"})
    assert expand_tasks("all", "robosuite") == tuple(TASKS)


def test_without_robosuite_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(package, "find_spec", lambda name: None)
    with pytest.raises(TongsError, match=r"not installed.*tongs\[robosuite\]"):
        require_simulator("robosuite")
    with pytest.raises(TongsError, match=r"not installed.*tongs\[robosuite\]"):
        make_world("lift", {}, "fast", "robosuite")


# --- the robot


@needs_robosuite
def test_it_keeps_the_contract(world: RobosuiteWorld) -> None:
    check_robot(world)


@needs_robosuite
def test_a_sponge_has_no_gripper_in_action_or_state() -> None:
    world = RobosuiteWorld("wipe", {"front": (64, 64)})
    world.reset("test", 0)
    assert world.spec.action_space.names == ("dx", "dy", "dz", "rx", "ry", "rz")
    assert not [name for name in world.spec.state_names if "gripper" in name]
    check_robot(world)
    world.close()


@needs_robosuite
def test_the_bounds_are_the_controllers_own(world: RobosuiteWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """robosuite's documented scaling: its input of 1 is 5 cm or 0.5 rad per step at 20 Hz."""
    space = world.spec.action_space
    assert (space.kind, space.frame, space.rate, space.gripper_open) == ("ee_delta", "base", 20.0, 1.0)
    assert space.low == (-0.05, -0.05, -0.05, -0.5, -0.5, -0.5, 0.0)
    assert space.high == (0.05, 0.05, 0.05, 0.5, 0.5, 0.5, 1.0)
    given = []
    step = world._env.step
    monkeypatch.setattr(world._env, "step", lambda action: given.append(action) or step(action))
    world.execute(np.array([0.05, -0.025, 0.0, 0.5, -0.1, 0.0, 1.0], np.float32))
    world.execute(np.array([0.5, -0.5, 0.0, 5.0, -5.0, 0.0, 0.0], np.float32))
    np.testing.assert_allclose(given[0], [1, -0.5, 0, 1, -0.2, 0, -1], atol=1e-6)
    np.testing.assert_allclose(given[1], [1, -1, 0, 1, -1, 0, 1], atol=1e-6)


@needs_robosuite
@pytest.mark.parametrize("axis", range(3))
def test_motions_are_in_the_base_frame(world: RobosuiteWorld, axis: int) -> None:
    action = still(1.0)
    action[axis], action[3 + axis] = 0.02, 0.0
    before, _ = tool(world)
    for _ in range(10):
        world.execute(action)
    moved = tool(world)[0] - before
    assert moved[axis] > 0.03 and np.abs(np.delete(moved, axis)).max() < 0.005
    world.reset("test", 0)
    action[axis], action[3 + axis] = 0.0, 0.1
    _, before = tool(world)
    for _ in range(10):
        world.execute(action)
    turned = (tool(world)[1] * before.inv()).as_rotvec()
    assert turned[axis] > 0.15 and np.abs(np.delete(turned, axis)).max() < 0.05


@needs_robosuite
def test_one_is_open_and_openings_between_are_kept(world: RobosuiteWorld) -> None:
    opening, command = (world.spec.state_names.index(f"gripper_{name}") for name in ("opening", "command"))
    for wanted in (1.0, 0.0, 0.5, 0.8):
        for _ in range(25):
            world.execute(still(wanted))
        state = world.observe(images=False).state
        assert state[command] == pytest.approx(wanted, abs=1e-6)
        assert state[opening] == pytest.approx(wanted, abs=0.05)


@needs_robosuite
def test_tool_pose_and_joints_agree_with_the_published_kinematics(world: RobosuiteWorld) -> None:
    """Ours are Franka's, here at robosuite's joint angles; its grip site is 7 mm short of our tool centre point."""
    kinematics, rng = ArmKinematics(), np.random.default_rng(0)
    for _ in range(5):
        for action in rng.uniform(-1, 1, (5, 6)) * (0.03, 0.03, 0.03, 0.3, 0.3, 0.3):
            world.execute(np.append(action, 1.0).astype(np.float32))
        joints = world.observe(images=False).state[-7:].astype(np.float64)
        position, rotation = tool(world)
        expected, turn = kinematics.forward(joints)
        assert np.degrees((Rotation.from_matrix(turn) * rotation.inv()).magnitude()) < 0.1
        short = turn.T @ (expected - position)
        np.testing.assert_allclose(short, [0, 0, 0.007], atol=1e-3)


@needs_robosuite
def test_our_policies_at_ten_hertz_do_not_fit(world: RobosuiteWorld) -> None:
    with pytest.raises(ContractError, match="rate is 10.0 here and 20.0 there"):
        require_compatible(PolicySpec({}, (), EE_DELTA, horizon=1), world.spec)


# --- pictures


@needs_robosuite
@pytest.mark.parametrize("camera", ["front", "wrist"])
def test_pictures_are_upright_and_not_mirrored(world: RobosuiteWorld, camera: str) -> None:
    """A small ball put somewhere off the middle shows up where a pinhole camera, x right and y up, has it."""
    env = world._env
    model, data = env.sim.model._model, env.sim.data._data
    seen = model.camera({"front": "agentview", "wrist": "robot0_eye_in_hand"}[camera]).id
    shapes = [i for i in range(model.ngeom) if model.geom(i).name.startswith("cube_")]
    model.geom_size[shapes], model.geom_matid[shapes], model.geom_rgba[shapes] = 0.004, -1, (1, 0, 1, 1)
    turn, scale = data.cam_xmat[seen].reshape(3, 3).copy(), 0.5 * SIZE / np.tan(np.radians(model.cam_fovy[seen]) / 2)
    for right, up in ((0.08, 0.05), (-0.06, 0.07), (0.05, -0.02)):
        data.qpos[model.joint("cube_joint0").qposadr[0] :][:3] = data.cam_xpos[seen] + turn @ [right, up, -0.3]
        env.sim.forward()
        image = world.render(camera, SIZE, SIZE).astype(int)
        rows, columns = np.nonzero((image[..., 0] > image[..., 1] + 60) & (image[..., 2] > image[..., 1] + 60))
        assert len(rows) > 5
        expected = (SIZE / 2 + scale * right / 0.3, SIZE / 2 - scale * up / 0.3)
        assert np.hypot(columns.mean() + 0.5 - expected[0], rows.mean() + 0.5 - expected[1]) < 1.5
    world._env.reset()


@needs_robosuite
def test_our_own_pictures_are_the_same_beside_it(world: RobosuiteWorld) -> None:
    mine = World("pickup_object", {"front": (64, 64)})
    mine.reset("test", 0)
    before, theirs = mine.observe().images["front"], world.observe().images["front"]
    backend = os.environ["MUJOCO_GL"]
    world.reset("test", 1)
    world.observe()
    np.testing.assert_array_equal(before, mine.observe().images["front"])
    world.reset("test", 0)
    np.testing.assert_array_equal(theirs, world.observe().images["front"])
    assert os.environ["MUJOCO_GL"] == backend
    mine.close()


# --- scenes and success


@needs_robosuite
def test_a_number_is_one_scene_whatever_came_before(world: RobosuiteWorld) -> None:
    first = world.state()
    world.reset("test", 1)
    assert not np.array_equal(world.state(), first)
    world.reset("train", 0)
    assert not np.array_equal(world.state(), first)
    np.random.seed(7)
    expected = np.random.random()
    np.random.seed(7)
    world.reset("test", 0)
    assert np.random.random() == expected, "the caller's random numbers were touched"
    np.testing.assert_array_equal(world.state(), first)
    fresh = RobosuiteWorld("lift", {})
    fresh.reset("test", 0)
    np.testing.assert_array_equal(fresh.state(), first)
    fresh.close()


@needs_robosuite
def test_variants_change_the_words_only(world: RobosuiteWorld) -> None:
    original = world.state()
    for variant, said in (("empty", ""), ("negated", "not ")):
        world.reset("test", 0, variant)
        assert said in world.instruction and (variant != "empty" or not world.instruction)
        np.testing.assert_array_equal(world.state(), original)
    world.reset("test", 0, wording="unseen")
    assert world.instruction in TASKS["lift"].words["unseen"]


@needs_robosuite
def test_lift_succeeds_above_four_centimetres(world: RobosuiteWorld) -> None:
    sim = world._env.sim
    address = sim.model._model.joint("cube_joint0").qposadr[0]
    for height, lifted in ((0.03, False), (0.10, True)):  # it falls by 1.2 cm while a control step lasts
        world.reset("test", 0)
        sim = world._env.sim
        sim.data.qpos[address + 2] = 0.8 + height
        world.execute(still(1.0))
        assert (world.success, world.finished, world.value) == (lifted, lifted, float(lifted))


@needs_robosuite
def test_an_opened_door_and_a_sorted_can_succeed() -> None:
    door = RobosuiteWorld("door", {})
    door.reset("test", 0)
    for angle in (0.15, 0.35):
        door._env.sim.data.qpos[door._env.hinge_qpos_addr] = angle
        door.execute(still(1.0))
        assert door.success == (angle > 0.3) and (door.value == 1.0) == door.success and door.value > 0.3
    door.close()
    can = RobosuiteWorld("pick_place_can", {})
    can.reset("test", 0)
    can.execute(still(1.0))
    assert not can.success and can.value == 0.0
    sim, bin_ = can._env.sim, can._env.target_bin_placements[can._env.object_id]
    sim.data.set_joint_qpos("Can_joint0", [*bin_[:2], bin_[2] + 0.08, 1, 0, 0, 0])
    can.execute(still(1.0))
    assert can.success and can.value == 1.0
    can.close()


# --- episodes


@needs_robosuite
def test_the_expert_lifts_and_its_actions_replayed_do_as_well(world: RobosuiteWorld) -> None:
    for index in (0, 1):
        world.reset("test", index)
        expert, actions = ScriptedExpert(world), []
        expert.reset(index)
        while not world.finished:
            actions.append(expert.act(world.observe(images=False)).actions[0])
            world.execute(actions[-1])
        assert world.success
        end = world.state()
        world.reset("test", index)
        for action in actions:
            assert not world.success
            world.execute(action)
        assert world.success
        np.testing.assert_array_equal(world.state(), end)


@needs_robosuite
def test_the_expert_stacks() -> None:
    world = RobosuiteWorld("stack", {})
    result = run_episode(world, ScriptedExpert(world), "test", 0)
    assert result.success and result.reached == 1.0
    world.close()


@needs_robosuite
def test_a_dropped_cube_is_called_dropped_and_one_left_alone_not_reached(world: RobosuiteWorld) -> None:
    outcome = world.watch()
    world.execute(still(1.0))
    outcome.look()
    assert outcome.failure() == "did not reach"
    expert = ScriptedExpert(world)
    while not outcome._held:
        world.execute(expert.act(world.observe(images=False)).actions[0])
        outcome.look()
    assert outcome.failure() == "undershot"
    for _ in range(10):
        world.execute(still(1.0))
        outcome.look()
    assert outcome.failure() == "dropped"


@needs_robosuite
def test_a_film_shows_what_was_seen(world: RobosuiteWorld) -> None:
    expert = ScriptedExpert(world)
    result = run_episode(world, expert, "test", 2)
    last = world.render("front", 64, 64)
    films = list(replay(world, result, height=64, width=64, every=1000))
    assert len(films) == 2 and not np.array_equal(films[0], films[1])
    np.testing.assert_array_equal(films[1], last)


@needs_robosuite
def test_a_task_without_an_expert_says_so() -> None:
    world = RobosuiteWorld("door", {})
    world.reset("test", 0)
    with pytest.raises(TongsError, match="no scripted expert for robosuite's door, only for: lift, stack"):
        ScriptedExpert(world)
    world.close()


@needs_robosuite
def test_an_evaluation_runs_there(tmp_path) -> None:
    config = EvaluationConfig("expert", ("lift",), (0, 1), str(tmp_path), engine="robosuite", processes=1, videos=1)
    results = evaluate(config)
    assert results.overall.successes == 1
    page = (tmp_path / "report.html").read_text()
    assert "robosuite" in page and "data:video/mp4" in page
    assert results.to_json()["protocol"]["control_rate_hz"] == 20.0
