"""Arms for the tests of the control loop: ideal, lagging or stuck, told deltas of the tool or joint positions."""

from __future__ import annotations

import time

import numpy as np

from robot import panda
from robot.control import quaternions
from robot.errors import ContractError
from robot.interface import EE_DELTA, ActionChunk, ActionSpace, Observation, PolicySpec, RobotSpec
from robot.skills import POSE_STATE

JOINT_SPACE = ActionSpace(
    "joint_position",
    (*panda.JOINTS, "gripper"),
    (*["rad"] * 7, "1"),
    (*panda.JOINT_LOW, 0.0),
    (*panda.JOINT_HIGH, 1.0),
)
DOWN = np.diag([1.0, -1.0, -1.0])
START = np.array([0.45, 0.0, 0.35])


def tool_state(position, rotation=DOWN, opening: float = 1.0) -> np.ndarray:
    return np.concatenate([position, rotation[:, 0], rotation[:, 1], [opening]]).astype(np.float32)


def columns(quaternion) -> tuple[float, ...]:
    """The first two columns of the rotation matrix."""
    w, x, y, z = quaternion
    return (
        *(1 - 2 * (y * y + z * z), 2 * (x * y + w * z), 2 * (x * z - w * y)),
        *(2 * (x * y - w * z), 1 - 2 * (x * x + z * z), 2 * (y * z + w * x)),
    )


class ToolArm:
    """A streamed arm that is where it was told to be, with the share `follows` of the way in each period."""

    def __init__(self, rate: float = 100.0, cameras: dict | None = None, follows: float = 1.0) -> None:
        self.spec = RobotSpec(cameras or {}, (*POSE_STATE, "gripper_opening"), EE_DELTA)
        self.command_rate, self.follows = rate, follows
        self.position, self.told = START.copy(), START.copy()
        self.quaternion = quaternions.from_columns(DOWN[:, 0], DOWN[:, 1])
        self.gripper, self.stops = 1.0, 0
        self.commands: list[np.ndarray] = []
        self.positions: list[np.ndarray] = []
        self.instruction = "open it"
        self.silent, self.clock = False, time.monotonic
        self._last: Observation | None = None

    def observe(self) -> Observation:
        if not self.silent or self._last is None:
            pictures = {name: np.zeros((*size, 3), np.uint8) for name, size in self.spec.cameras.items()}
            state = np.array([*self.position, *columns(self.quaternion), self.gripper], np.float32)
            self._last = Observation(pictures, state, self.instruction, self.clock())
        return self._last

    def command(self, command: np.ndarray) -> None:
        if command.shape != (7,) or not np.isfinite(command).all():
            raise ContractError(f"expected 7 finite numbers, got {command.tolist()}")
        self.commands.append(command)
        self.told = self.told + command[:3]
        self.position = self.position + self.follows * (self.told - self.position)
        self.quaternion = quaternions.product(quaternions.from_vector(command[3:6].tolist()), self.quaternion)
        self.gripper = float(command[6])
        self.positions.append(self.told.copy())

    def stop(self) -> None:
        self.stops += 1


class JointArm:
    """A streamed arm that is told joint positions, and is where it was told to be."""

    spec = RobotSpec({}, (*panda.JOINTS, "gripper_opening"), JOINT_SPACE)
    command_rate = 50.0

    def __init__(self) -> None:
        self.joints, self.gripper, self.stops = np.array(panda.HOME), 1.0, 0
        self.told: list[np.ndarray] = []

    def observe(self) -> Observation:
        return Observation({}, np.array([*self.joints, self.gripper], np.float32), "go", time.monotonic())

    def command(self, command) -> None:
        self.joints, self.gripper = command[:7].astype(np.float64), float(command[7])
        self.told.append(command)

    def stop(self) -> None:
        self.stops += 1


class Line:
    """A policy of straight chunks along x: `speed` in m/s, after `latency` s of waiting."""

    def __init__(self, speed: float = 0.1, horizon: int = 8, latency: float = 0.0, cameras: dict | None = None) -> None:
        self.spec = PolicySpec(cameras or {}, (), EE_DELTA, horizon)
        self.speed, self.latency = speed, latency
        self.asked: list[Observation] = []
        self.seeds: list[int] = []
        self.problem: Exception | None = None

    def reset(self, seed: int) -> None:
        self.seeds.append(seed)

    def act(self, observation: Observation) -> ActionChunk:
        self.asked.append(observation)
        time.sleep(self.latency)
        if self.problem is not None:
            raise self.problem
        actions = np.zeros((self.spec.horizon, 7), np.float32)
        actions[:, 0] = self.speed / EE_DELTA.rate
        actions[:, 6] = 1.0
        return ActionChunk(actions, observation.time + np.arange(self.spec.horizon) / EE_DELTA.rate)

    def act_batch(self, observations):
        return [self.act(observation) for observation in observations]
