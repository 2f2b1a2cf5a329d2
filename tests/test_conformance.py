"""The conformance suite accepts a correct policy and robot, and names the fault of each broken one."""

from __future__ import annotations

from collections.abc import Sequence
from time import sleep

import numpy as np
import pytest
from numpy.typing import NDArray

from robot import panda
from robot.control.tool_robot import ToolRobot
from robot.errors import ContractError
from robot.interface import EE_DELTA, ActionChunk, Observation, PolicySpec, RobotSpec
from robot.kinematics import ArmKinematics
from tests.conformance import check_batches, check_policy, check_robot, check_streamed_robot
from tests.robot.control.arms import JointArm, ToolArm

CAMERAS = {"front": (8, 8)}


def make_observation(number: int) -> Observation:
    rng = np.random.default_rng(number)
    images = {"front": rng.integers(0, 255, (8, 8, 3)).astype(np.uint8)}
    return Observation(images, rng.normal(size=2).astype(np.float32), "open the drawer", time=float(number))


class GoodPolicy:
    """Gaussian actions that depend on the observation."""

    def __init__(self) -> None:
        self.spec = PolicySpec(CAMERAS, ("x", "y"), EE_DELTA, horizon=4)

    def reset(self, seed: int) -> None:
        self.generator = np.random.default_rng(seed)

    def raw(self, observation: Observation) -> NDArray:
        return self.generator.normal(observation.state.mean(), 0.1, (4, 7))

    def act(self, observation: Observation) -> ActionChunk:
        times = observation.time + np.arange(4) / EE_DELTA.rate
        return ActionChunk(EE_DELTA.clip(self.raw(observation)), times)

    def act_batch(self, observations: Sequence[Observation]) -> list[ActionChunk]:
        return [self.act(observation) for observation in observations]


class Forgetful(GoodPolicy):
    def reset(self, seed: int) -> None:
        self.generator = getattr(self, "generator", np.random.default_rng(seed))


class OutOfBounds(GoodPolicy):
    def act(self, observation: Observation) -> ActionChunk:
        chunk = super().act(observation)
        return ActionChunk(chunk.actions + np.float32(1.0), chunk.times)


class TooShort(GoodPolicy):
    def act(self, observation: Observation) -> ActionChunk:
        chunk = super().act(observation)
        return ActionChunk(chunk.actions[:3], chunk.times[:3])


class OwnClock(GoodPolicy):
    def act(self, observation: Observation) -> ActionChunk:
        return ActionChunk(super().act(observation).actions, np.arange(4) / EE_DELTA.rate + 0.5)


class Vandal(GoodPolicy):
    def raw(self, observation: Observation) -> NDArray:
        observation.images["front"][:] = 0
        return super().raw(observation)


class DoubleBatch(GoodPolicy):
    def act_batch(self, observations: Sequence[Observation]) -> list[ActionChunk]:
        return super().act_batch(observations) * 2


class Diverged(GoodPolicy):
    def act(self, observation: Observation) -> ActionChunk:
        times = observation.time + np.arange(4) / EE_DELTA.rate
        return ActionChunk(np.full((4, 7), np.nan, np.float32), times)


def test_a_good_policy_passes() -> None:
    check_policy(GoodPolicy(), make_observation)
    check_batches(GoodPolicy(), make_observation)


@pytest.mark.parametrize(
    ("policy", "fault"),
    [
        (Forgetful, "same seed"),
        (OutOfBounds, "leaves"),
        (TooShort, "as the spec says"),
        (OwnClock, "times must start"),
        (Vandal, "changed the observation"),
        (DoubleBatch, "gave 2 chunks"),
    ],
)
def test_a_broken_policy_is_told_its_fault(policy: type[GoodPolicy], fault: str) -> None:
    with pytest.raises(AssertionError, match=fault):
        check_policy(policy(), make_observation)


def test_not_a_number_breaks_the_contract_itself() -> None:
    with pytest.raises(ContractError, match="NaN"):
        check_policy(Diverged(), make_observation)


def test_something_else_is_no_policy() -> None:
    with pytest.raises(AssertionError, match="lacks one of"):
        check_policy(object(), make_observation)  # type: ignore[arg-type]


class GoodRobot:
    """A point that goes where it is told."""

    def __init__(self) -> None:
        self.spec = RobotSpec(CAMERAS, ("x", "y"), EE_DELTA)
        self.position, self.time = np.zeros(2, np.float32), 0.0
        self.image = np.zeros((8, 8, 3), np.uint8)

    def observe(self) -> Observation:
        return Observation({"front": self.image.copy()}, self.position.copy(), "", self.time)

    def execute(self, action: NDArray[np.float32]) -> None:
        if action.shape != (7,):
            raise ContractError(f"expected an action (7,), got {action.shape}")
        self.position += EE_DELTA.clip(action)[:2]
        self.image += 1
        self.time += 0.1

    def stop(self) -> None:
        pass


class Careless(GoodRobot):
    def execute(self, action: NDArray[np.float32]) -> None:
        self.time += 0.1


class Hasty(GoodRobot):
    def execute(self, action: NDArray[np.float32]) -> None:
        super().execute(action)
        self.time -= 0.09


class SharesItsImage(GoodRobot):
    def observe(self) -> Observation:
        return Observation({"front": self.image}, self.position.copy(), "", self.time)


class ShortState(GoodRobot):
    def observe(self) -> Observation:
        return Observation({"front": self.image.copy()}, self.position[:1].copy(), "", self.time)


def test_a_good_robot_passes() -> None:
    check_robot(GoodRobot())


@pytest.mark.parametrize(
    ("robot", "fault"),
    [
        (Careless, "NaN must raise"),
        (Hasty, "control period"),
        (SharesItsImage, "changed after"),
        (ShortState, "names 2 state entries"),
    ],
)
def test_a_broken_robot_is_told_its_fault(robot: type[GoodRobot], fault: str) -> None:
    with pytest.raises(AssertionError, match=fault):
        check_robot(robot())


def test_the_simulated_world_keeps_the_contract() -> None:
    from sim.world import World

    world = World("open_drawer", cameras={"front": (32, 32)})
    world.reset("test", 0)
    check_robot(world)
    world.close()


def test_streamed_robots_keep_the_contract() -> None:
    still = np.array([0, 0, 0, 0, 0, 0, 1], np.float32)
    check_streamed_robot(ToolArm(), still)
    check_streamed_robot(ToolRobot(JointArm(), ArmKinematics(), panda.LIMITS), still)


class Frozen(ToolArm):
    def observe(self) -> Observation:
        self.silent = True
        return super().observe()


class Slow(ToolArm):
    def command(self, command: NDArray[np.float32]) -> None:
        super().command(command)
        sleep(0.06)


class Gullible(ToolArm):
    def command(self, command: NDArray[np.float32]) -> None:
        pass


@pytest.mark.parametrize(
    ("robot", "fault"), [(Frozen, "stands still"), (Slow, "must return at once"), (Gullible, "must raise")]
)
def test_a_broken_streamed_robot_is_told_its_fault(robot: type[ToolArm], fault: str) -> None:
    with pytest.raises(AssertionError, match=fault):
        check_streamed_robot(robot(), np.array([0, 0, 0, 0, 0, 0, 1], np.float32))
