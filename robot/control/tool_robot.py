"""An arm that is told joint positions, seen as one that is told how its tool shall move: for `ee_delta` policies."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from robot.control import quaternions
from robot.control.collision import ArmModel
from robot.control.quaternions import Quaternion
from robot.control.safety import SafetyFilter
from robot.errors import ContractError
from robot.grip import GRIP_STATE, OPENING_STATES, Grip
from robot.interface import EE_DELTA, Observation, RobotSpec, StreamedRobot
from robot.limits import Limits
from robot.skills import POSE_STATE
from robot.turning import TURNING_STATE, TurningWatch


class Kinematics(Protocol):
    """Of an arm; `q` are its joint angles, poses those of the tool in the base frame (`robot.kinematics`)."""

    def forward(self, q: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Position (3,) m and rotation matrix (3, 3)."""
        ...

    def inverse(
        self, q: NDArray[np.float64], position: NDArray[np.float64], rotation: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """The angles near `q` that bring the tool there, as far as that can be."""
        ...


class ToolRobot:
    """A `StreamedRobot` of `EE_DELTA` on top of one that takes joint positions.

    Its state is the tool's pose, from the measured joints, then what the gripper was told (`robot.grip`), if there is
    one, how the tool has turned lately (`robot.turning`), and then the arm's own. A command moves the commanded pose,
    inverse kinematics gives joints, and these pass a safety filter of their own, so that the limits of the tool (of the
    control loop's filter) and those of the joints both hold. After `stop` the arm may be put elsewhere: all begins
    again at what is measured.

    Args:
        arm: takes `joint_position` with the arm's joints and then, if it has one, "gripper".
        kinematics: of the arm.
        limits: of joints and tool.
        model: for collisions, or None.

    Attributes:
        counts: how often the joints' filter met each limit.

    Raises:
        ContractError: the arm takes other actions, or has no limits for a joint.
    """

    def __init__(
        self, arm: StreamedRobot, kinematics: Kinematics, limits: Limits, model: ArmModel | None = None
    ) -> None:
        space = arm.spec.action_space
        if space.kind != "joint_position":
            raise ContractError(f"a ToolRobot drives an arm that takes joint_position, this one takes {space.kind}")
        self._arm, self._kinematics = arm, kinematics
        self._joints = [name for name in space.names if name != "gripper"]
        self._columns = [arm.spec.state_names.index(name) for name in self._joints if name in arm.spec.state_names]
        self._filter = SafetyFilter(arm.spec, limits, 1.0 / arm.command_rate, model)
        self._has_gripper = "gripper" in space.names
        found = [name for name in OPENING_STATES if name in arm.spec.state_names]
        self._opening = arm.spec.state_names.index(found[0]) if found and self._has_gripper else None
        low = {"low": EE_DELTA.low, "high": EE_DELTA.high, "names": EE_DELTA.names, "units": EE_DELTA.units}
        if not self._has_gripper:
            low = {name: values[:6] for name, values in low.items()}
        own = replace(EE_DELTA, rate=space.rate, gripper_open=space.gripper_open, **low)  # type: ignore[arg-type]
        told = GRIP_STATE if self._has_gripper else ()
        self._spec = RobotSpec(arm.spec.cameras, (*POSE_STATE, *told, *TURNING_STATE, *arm.spec.state_names), own)
        self._grip = Grip()
        self._turning = TurningWatch()
        self._position: NDArray[np.float64] | None = None
        self._quaternion: Quaternion = (1.0, 0.0, 0.0, 0.0)
        self._seen: Observation | None = None
        self._measured = np.zeros(3)

    @property
    def spec(self) -> RobotSpec:
        return self._spec

    @property
    def command_rate(self) -> float:
        return self._arm.command_rate

    @property
    def counts(self) -> Counter[str]:
        return self._filter.counts

    def observe(self) -> Observation:
        self._seen = seen = self._arm.observe()
        position, rotation = self._kinematics.forward(seen.state[self._columns].astype(np.float64))
        self._measured = position
        if self._position is None and self._opening is not None:
            self._grip = self._grip.found(float(seen.state[self._opening]), position)
        told = self._grip.state(position) if self._has_gripper else np.zeros(0)
        first, second = rotation[:, 0], rotation[:, 1]
        turned = self._turning.see(first, second, seen.time)
        state = np.concatenate([position, first, second, told, turned, seen.state])
        return replace(seen, state=state.astype(np.float32))

    def command(self, command: NDArray[np.float32]) -> None:
        if command.shape != (self._spec.action_space.dimension,) or not np.isfinite(command).all():
            raise ContractError(
                f"a command has {self._spec.action_space.dimension} finite entries, got {command.tolist()}"
            )
        if self._seen is None:
            raise ContractError("observe before commanding")
        if self._position is None:  # the first one since the arm was on its own: begin where it is
            self._filter.start(self._seen.state)
            self._position, rotation = self._kinematics.forward(np.array(self._filter.command.position))
            self._quaternion = quaternions.from_columns(rotation[:, 0].tolist(), rotation[:, 1].tolist())
        if self._has_gripper:
            self._grip = self._grip.told(float(command[6]), self._measured)
        self._filter.measure(self._seen.state)
        self._position = self._position + command[:3]
        self._quaternion = quaternions.product(quaternions.from_vector(command[3:6].tolist()), self._quaternion)
        now = np.array(self._filter.command.position)
        wanted = self._kinematics.inverse(now, self._position, _matrix(self._quaternion))
        filtered = self._filter.apply([*wanted.tolist(), *command[6:].tolist()])
        self._arm.command(filtered.action)

    def stop(self) -> None:
        """Have the arm hold its pose; the next command begins at the measured one."""
        self._position = None
        self._turning.forget()
        self._arm.stop()


def _matrix(quaternion: Quaternion) -> NDArray[np.float64]:
    return Rotation.from_quat(quaternion, scalar_first=True).as_matrix()
