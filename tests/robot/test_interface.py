"""The contract refuses what would hurt, and says what and why."""

import json
from dataclasses import replace

import numpy as np
import pytest

from robot.chunk_queue import ChunkQueue
from robot.errors import ContractError
from robot.interface import EE_DELTA, ActionChunk, ActionSpace, Observation, PolicySpec, RobotSpec, require_compatible

STATE = np.zeros(3, np.float32)
SPEC = PolicySpec({"front": (64, 64)}, ("x",), EE_DELTA, horizon=4)
ROBOT = RobotSpec({"front": (128, 128), "wrist": (128, 128)}, ("x", "y", "z"), EE_DELTA)


def test_observation_refuses_wrong_images_and_nan():
    with pytest.raises(ContractError, match="front.*float32"):
        Observation({"front": np.zeros((4, 4, 3), np.float32)}, STATE, "", 0.0)  # type: ignore[arg-type]
    with pytest.raises(ContractError, match="NaN"):
        Observation({}, np.array([np.nan], np.float32), "", 0.0)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_no_nan_reaches_an_arm(bad):
    actions = np.zeros((2, 7), np.float32)
    actions[1, 2] = bad
    with pytest.raises(ContractError, match="NaN or infinity"):
        ActionChunk(actions, np.array([0.0, 0.1]))
    with pytest.raises(ContractError, match="NaN or infinity"):
        EE_DELTA.clip(actions)


def test_chunk_times_must_increase():
    with pytest.raises(ContractError, match="increase"):
        ActionChunk(np.zeros((2, 7), np.float32), np.array([0.1, 0.1]))


def test_clip_keeps_the_bounds():
    clipped = EE_DELTA.clip(np.full(7, 9.0))
    np.testing.assert_allclose(clipped, EE_DELTA.high)


def test_specs_survive_json():
    again = PolicySpec.from_json(json.loads(json.dumps(SPEC.to_json())))
    assert again == SPEC
    assert ActionSpace.from_json(json.loads(json.dumps(EE_DELTA.to_json()))) == EE_DELTA


def test_matching_policy_and_robot_are_accepted():
    require_compatible(SPEC, ROBOT)


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        (replace(SPEC, action_space=replace(EE_DELTA, rate=20.0)), r"rate is 20.0 here and 10.0 there"),
        (replace(SPEC, action_space=replace(EE_DELTA, gripper_open=0.0)), r"gripper_open is 0.0 here and 1.0 there"),
        (replace(SPEC, action_space=replace(EE_DELTA, frame="tool")), r"frame is tool here and base there"),
        (replace(SPEC, cameras={"side": (64, 64)}), r"camera side.*front, wrist"),
        (replace(SPEC, cameras={"front": (256, 256)}), r"256x256.*128x128"),
        (replace(SPEC, state_names=("force",)), r"state force"),
    ],
)
def test_a_mismatch_names_both_sides(spec, said):
    with pytest.raises(ContractError, match=said):
        require_compatible(spec, ROBOT, "checkpoint")


def test_the_range_of_a_joint_is_the_arms_own_and_its_name_is_not():
    joints = ActionSpace("joint_position", ("a", "b"), ("rad", "rad"), (-1.0, -1.0), (1.0, 1.0))
    narrower = replace(joints, low=(-0.5, -0.9))
    assert not joints.differences(narrower)
    assert replace(EE_DELTA, low=(-1.0,) * 7).differences(EE_DELTA)
    (said,) = joints.differences(replace(narrower, names=("a", "c")))
    assert said.startswith("names is ('a', 'b') here and ('a', 'c') there")


class Counting:
    """A policy that returns the number of its call as every action."""

    spec = replace(SPEC, horizon=4)

    def __init__(self):
        self.calls = 0

    def reset(self, seed):
        self.calls = 0

    def act(self, observation):
        self.calls += 1
        return ActionChunk(np.full((4, 7), self.calls, np.float32), observation.time + np.arange(4) / 10)

    def act_batch(self, observations):
        return [self.act(observation) for observation in observations]


def test_a_chunk_is_followed_then_renewed():
    queue = ChunkQueue(Counting(), execute=3)
    queue.reset(0)
    taken = [queue.action(Observation({}, STATE, "lift", i / 10))[0] for i in range(7)]
    assert taken == [1, 1, 1, 2, 2, 2, 3]


class Remembering(Counting):
    spec = PolicySpec({"front": (8, 8)}, (), EE_DELTA, horizon=4, history=2)

    def __init__(self):
        super().__init__()
        self.seen = []

    def act(self, observation):
        self.seen.append(("act", observation.time))
        return super().act(observation)

    def remember(self, observations):
        self.seen += [("remember", observation.time) for observation in observations]


def test_a_policy_with_a_history_sees_every_control_step():
    queue, plain = ChunkQueue(remembering := Remembering(), execute=3), ChunkQueue(Counting(), execute=3)
    queue.reset(0)
    plain.reset(0)
    for i in range(5):
        assert queue.wants_images("lift")
        queue.action(Observation({}, STATE, "lift", float(i)))
    assert remembering.seen == [("act", 0), ("remember", 1), ("remember", 2), ("act", 3), ("remember", 4)]
    assert PolicySpec.from_json(json.loads(json.dumps(remembering.spec.to_json()))) == remembering.spec
    assert plain.wants_images("lift")
    plain.action(Observation({}, STATE, "lift", 0.0))
    assert not plain.wants_images("lift")


def test_a_new_instruction_drops_the_rest_of_the_chunk():
    queue = ChunkQueue(Counting(), execute=4)
    queue.reset(0)
    assert queue.action(Observation({}, STATE, "lift", 0.0))[0] == 1
    assert queue.action(Observation({}, STATE, "stop", 0.1))[0] == 2
