"""ARNOLD's two-call protocol: who is asked when, the planner's way between key poses, and that they decide."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from robot.errors import ContractError
from robot.interface import KEYPOSE, ActionChunk, PolicySpec
from robot.skills import Pose
from sim.episode import run_episode
from sim.expert import ScriptedExpert
from sim.keypose import Oracle, keypose_actions
from sim.world import World
from tests.conformance import check_policy

DRY = ("pickup_object", "reorient_object", "open_drawer", "close_drawer", "open_cabinet", "close_cabinet")


class Told:
    """A policy that passes on what it is asked and what another one answers; its second answer may be replaced."""

    def __init__(self, policy, cameras=(), second=None):
        self.policy, self.second = policy, second
        self.spec = replace(policy.spec, cameras=dict.fromkeys(cameras, (32, 32)))
        self.asked, self.answers = [], []

    def reset(self, seed):
        self.policy.reset(seed)

    def act(self, observation):
        self.asked.append(observation)
        chunk = self.policy.act(observation)
        if self.second is not None and len(self.asked) == 2:
            chunk = replace(chunk, actions=np.asarray(self.second(chunk.actions), np.float32))
        self.answers.append(chunk.actions)
        return chunk

    def act_batch(self, observations):
        return [self.act(observation) for observation in observations]


def entry(observation, name, world):
    return observation.state[world.spec.state_names.index(name)]


@pytest.mark.parametrize("task", DRY)
def test_true_key_poses_succeed(task):
    world = World(task, cameras={})
    results = [run_episode(world, Oracle(world), "test", index, protocol="keypose") for index in range(4)]
    assert [result.success for result in results] == [True] * 4
    assert all(len(result.latencies) == 2 for result in results)
    world.close()


def test_the_policy_is_asked_at_the_start_and_once_it_has_grasped():
    world = World("open_drawer", {"front": (32, 32)})
    policy = Told(Oracle(world), cameras=["front"])
    result = run_episode(world, policy, "test", 0, protocol="keypose")
    first, second = policy.asked
    assert result.success and first.instruction == second.instruction == result.instruction
    assert first.time == 0.0 and entry(first, "gripper_command", world) == 1.0
    assert second.time > 1.0 and entry(second, "gripper_command", world) == 0.0
    assert entry(second, "gripper_opening", world) < 0.4
    assert first.images["front"].shape == (32, 32, 3)
    assert np.abs(first.images["front"].astype(int) - second.images["front"]).mean() > 1
    world.close()


@pytest.mark.parametrize(
    ("task", "before"),
    [
        ("open_drawer", lambda grasp: grasp.position + (0.0, 0.0, 0.05)),
        ("pickup_object", lambda grasp: grasp.position + (0.0, 0.0, 0.05)),
        ("reorient_object", lambda grasp: [*grasp.position[:2], 0.15]),
        ("pour_water", lambda grasp: grasp.position + (0.0, 0.0, 0.05)),
    ],
)
def test_it_stops_before_the_grasp_and_closes_only_there(task, before):
    """ARNOLD: pre-grasp 5 cm back (reorient: at 15 cm), reached within 5 mm; the grasp within 1 mm; then it closes."""
    world = World(task, cameras={})
    world.reset("test", 1)
    policy, way = Told(Oracle(world)), []
    actions = keypose_actions(world, policy)
    for action in actions:
        tool = world.engine.tool()[0]
        if action[6] == 0.0:
            break
        way.append(tool)
        world.execute(action)
    grasp = Pose.from_vector(policy.answers[0][0])
    assert min(np.linalg.norm(np.array(way) - before(grasp), axis=1)) < 0.005
    assert np.linalg.norm(tool - grasp.position) < 0.001
    for _ in range(4):
        world.execute(action)
        action = next(actions)
    assert len(policy.asked) == 1 and world.gripping()
    world.close()


@pytest.mark.parametrize(("task", "pace"), [("open_drawer", 0.0006 * 120), ("open_cabinet", 0.001 * 120)])
def test_furniture_moves_at_the_pace_of_the_path(task, pace):
    """ARNOLD's paths have one pose per 0.06 cm (drawers) or 0.1 cm (doors) and step; a step is 1/120 s."""
    world = World(task, cameras={})
    policy, places = Told(Oracle(world)), []
    world.reset("test", 2)
    for action in keypose_actions(world, policy):
        if len(policy.asked) == 2:
            places.append(world.engine.tool()[0])
        if world.steps > 120:
            break
        world.execute(action)
    grasp, goal = (Pose.from_vector(answer[0]) for answer in policy.answers)
    distances = np.linalg.norm(np.array(places) - goal.position, axis=1)
    arrived = int(np.argmax(distances < 0.005))
    expected = np.linalg.norm(goal.position - grasp.position) / pace * 10
    assert expected - 2 <= arrived <= expected + 5
    world.close()


def test_a_door_handle_keeps_its_distance_from_the_hinge():
    world = World("open_cabinet", cameras={})
    world.reset("test", 2)
    policy = Told(Oracle(world))
    hinge, radii = world.engine.pose(world.goal_spec.body)[0], []
    for action in keypose_actions(world, policy):
        if len(policy.asked) == 2:
            radii.append(np.linalg.norm((world.engine.tool()[0] - hinge)[:2]))
        if world.finished:
            break
        world.execute(action)
    assert world.success and np.ptp(radii) < 0.006
    world.close()


def test_the_goal_pose_decides():
    """Half of the way is not enough, nor is no way at all."""
    world = World("pickup_object", cameras={})
    for share in (0.0, 0.5):

        def fall_short(pose, share=share):
            lifted = pose.copy()
            lifted[0, 2] = world.engine.tool()[0][2] + share * world.goal
            return lifted

        index = next(i for i in range(20) if (world.reset("test", i), world.goal)[1] > 0.25)
        result = run_episode(world, Told(Oracle(world), second=fall_short), "test", index, protocol="keypose")
        assert not result.success and result.failure == "undershot"
        assert result.reached == pytest.approx(share * result.goal, abs=0.02)
    world.close()


def test_a_pose_out_of_reach_uses_up_the_time():
    world = World("open_drawer", cameras={})

    class Away(Oracle):
        def act(self, observation):
            return ActionChunk(np.array([[1.5, 0, 0.2, 0, 1, 0, 0]], np.float32), np.array([observation.time]))

    result = run_episode(world, Away(world), "test", 0, protocol="keypose")
    assert (result.success, result.length, len(result.latencies)) == (False, world.horizon, 1)
    world.close()


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (lambda pose: np.concatenate([pose, pose]), r"shape \(1, 7\), the policy gave \(2, 7\)"),
        (lambda pose: pose[:, :6], r"the policy gave \(1, 6\)"),
        (lambda pose: pose * [1, 1, 1, 0, 0, 0, 0], "quaternion that is not zero"),
    ],
)
def test_what_is_no_key_pose_is_refused(answer, said):
    world = World("pickup_object", cameras={})

    class Wrong(Oracle):
        def act(self, observation):
            actions = np.asarray(answer(super().act(observation).actions), np.float32)
            return ActionChunk(actions, observation.time + np.arange(len(actions)))

    with pytest.raises(ContractError, match=said):
        run_episode(world, Wrong(world), "test", 0, protocol="keypose")
    world.close()


def test_policies_of_the_other_protocol_are_refused():
    world = World("pickup_object", cameras={})
    with pytest.raises(ContractError, match="gives ee_delta actions, and protocol=keypose takes ee_pose"):
        run_episode(world, ScriptedExpert(world), "test", 0, protocol="keypose")
    with pytest.raises(ContractError, match="gives ee_pose actions, and protocol=closed_loop takes ee_delta"):
        run_episode(world, Oracle(world), "test", 0)
    near = PolicySpec({}, (), replace(KEYPOSE, frame="world"), horizon=1)
    policy = Told(Oracle(world))
    policy.spec = near
    with pytest.raises(ContractError, match="frame is world here and base there"):
        run_episode(world, policy, "test", 0, protocol="keypose")
    world.close()


def test_the_oracle_keeps_the_contract():
    world = World("pickup_object", cameras={})
    world.reset("test", 0)
    check_policy(Oracle(world), lambda number: replace(world.observe(), time=float(number)))
    world.close()


def test_a_rehearsal_changes_nothing_and_foretells_to_the_last_bit():
    world = World("open_cabinet", cameras={})
    world.reset("test", 0)
    oracle = Oracle(world)
    policy, foretold, values = Told(oracle), None, []
    for action in keypose_actions(world, policy):
        if foretold is None and len(policy.asked) == 2:
            before = world.engine.state()
            foretold = oracle.rehearse(Pose.from_vector(policy.answers[1][0]))
            np.testing.assert_array_equal(before, world.engine.state())
        if world.finished:
            break
        world.execute(action)
        values.append(world.value)
    assert foretold is not None and foretold[1] is True
    assert foretold[0] in values[30:] and foretold[0] == pytest.approx(world.goal, abs=0.03)
    world.close()


def test_pouring_tilts_on_the_spot_and_comes_back_upright():
    world = World("pour_water", cameras={})
    policy = Told(Oracle(world))
    result = run_episode(world, policy, "test", 0, protocol="keypose")
    assert result.success
    grasp, goal = (Pose.from_vector(answer[0]) for answer in policy.answers)
    assert (goal.rotation * grasp.rotation.inv()).magnitude() > np.radians(38)
    tool, rotation = world.engine.tool()
    assert np.linalg.norm(tool - goal.position) < 0.01
    assert (Rotation.from_matrix(rotation) * grasp.rotation.inv()).magnitude() < 0.15
    world.close()
