"""An arm whose own controller moves its tool, such as MoveIt Servo, with the state that policies read."""

from __future__ import annotations

from dataclasses import replace
from math import hypot

import numpy as np
from numpy.typing import NDArray

from robot.control import quaternions
from robot.control.quaternions import Quaternion
from robot.control.tool_robot import Kinematics
from robot.errors import ContractError
from robot.grip import GRIP_STATE, OPENING_STATES, Grip
from robot.interface import GRIPPER, Observation, RobotSpec, StreamedRobot
from robot.limits import Limits
from robot.skills import POSE_STATE
from robot.turning import TURNING_STATE, TurningWatch

_GAIN = 1.0
"""1/s: the share of the distance to the commanded pose that is made up for per second."""
_FAR, _TURNED = 0.02, 0.1
"""m and rad: a larger distance is made up for no faster than this one."""


class CartesianArm:
    """A `StreamedRobot` of `ee_delta` on top of one that carries out such deltas on its own, blindly: as velocities.

    Velocities drift away from the pose that they should lead to, by every message that is late or lost. So the
    commanded pose is remembered, from where the tool was measured at the first command, and what the measured one lacks
    is added, slowly, and within the limits of the tool's speed.

    Its state is that of the arm, and before it the tool's pose, computed from the measured joints, if the arm does not
    measure it, what the gripper was told (`robot.grip`), if there is one, and how the tool has turned lately
    (`robot.turning`). The joints' limits, singularities and collisions are the other controller's part.

    Args:
        arm: takes `ee_delta`, with or without "gripper".
        limits: of the tool's speed.
        kinematics: for an arm that does not measure its tool's pose.
        joints: those that the kinematics are of.

    Raises:
        ContractError: the arm takes other actions, or nobody knows where its tool is.
    """

    def __init__(
        self,
        arm: StreamedRobot,
        limits: Limits,
        kinematics: Kinematics | None = None,
        joints: tuple[str, ...] = (),
    ) -> None:
        space, names = arm.spec.action_space, arm.spec.state_names
        if space.kind != "ee_delta":
            raise ContractError(f"a CartesianArm drives an arm that takes ee_delta, this one takes {space.kind}")
        self._arm, self._limits = arm, limits
        self._kinematics = None if set(POSE_STATE) <= set(names) else kinematics
        wanted = joints if self._kinematics else POSE_STATE
        if missing := [name for name in wanted if name not in names]:
            raise ContractError(
                f"the tool's pose is not known: the state lacks {', '.join(missing)} and has {', '.join(names)}; give "
                "the topic map a state `pose: columns` of the tool, or the joints of a Panda"
            )
        self._columns = [names.index(name) for name in wanted]
        self._has_gripper = GRIPPER in space.names
        found = [names.index(name) for name in OPENING_STATES if name in names]
        self._opening = found[0] if found and self._has_gripper else None
        pose = POSE_STATE if self._kinematics else ()
        told = GRIP_STATE if self._has_gripper else ()
        self._spec = RobotSpec(arm.spec.cameras, (*pose, *told, *TURNING_STATE, *names), space)
        self._grip = Grip()
        self._turning = TurningWatch()
        self._wanted: NDArray[np.float64] | None = None
        self._wanted_turn: Quaternion = (1.0, 0.0, 0.0, 0.0)
        self._measured: NDArray[np.float64] | None = None
        self._measured_turn: Quaternion = (1.0, 0.0, 0.0, 0.0)

    @property
    def spec(self) -> RobotSpec:
        return self._spec

    @property
    def command_rate(self) -> float:
        return self._arm.command_rate

    def observe(self) -> Observation:
        seen = self._arm.observe()
        measured = seen.state[self._columns].astype(np.float64)
        if self._kinematics is None:
            position, first, second = measured[:3], measured[3:6], measured[6:9]
            pose = np.zeros(0)
        else:
            position, rotation = self._kinematics.forward(measured)
            first, second = rotation[:, 0], rotation[:, 1]
            pose = np.concatenate([position, first, second])
        self._measured, self._measured_turn = position, quaternions.from_columns(first.tolist(), second.tolist())
        if self._wanted is None and self._opening is not None:
            self._grip = self._grip.found(float(seen.state[self._opening]), position)
        told = self._grip.state(position) if self._has_gripper else np.zeros(0)
        turned = self._turning.see(first, second, seen.time)
        return replace(seen, state=np.concatenate([pose, told, turned, seen.state]).astype(np.float32))

    def command(self, command: NDArray[np.float32]) -> None:
        size = self._spec.action_space.dimension
        if command.shape != (size,) or not np.isfinite(command).all():
            raise ContractError(f"a command has {size} finite entries, got {command.tolist()}")
        if self._measured is None:
            raise ContractError("observe before commanding")
        if self._wanted is None:  # the first one since the arm was on its own: begin where it is
            self._wanted, self._wanted_turn = self._measured, self._measured_turn
        if self._has_gripper:
            self._grip = self._grip.told(float(command[6]), self._measured)
        lack = self._wanted - self._measured
        away = quaternions.to_vector(quaternions.product(self._wanted_turn, quaternions.inverse(self._measured_turn)))
        self._wanted = self._wanted + command[:3]
        self._wanted_turn = quaternions.product(quaternions.from_vector(command[3:6].tolist()), self._wanted_turn)
        period = 1.0 / self.command_rate
        shift = _towards(command[:3].tolist(), lack.tolist(), _FAR, self._limits.translation.speed, period)
        turn = _towards(command[3:6].tolist(), list(away), _TURNED, self._limits.rotation.speed, period)
        self._arm.command(np.array([*shift, *turn, *command[6:].tolist()], np.float32))

    def stop(self) -> None:
        """Have the tool stand; the next command begins at the measured pose."""
        self._wanted = None
        self._turning.forget()
        self._arm.stop()


def _towards(delta: list[float], lack: list[float], far: float, fastest: float, period: float) -> list[float]:
    """The delta of a period with its share of what is lacking, no faster than `fastest` per s."""
    share = _GAIN * period * min(1.0, far / max(hypot(*lack), 1e-12))
    summed = [part + share * missing for part, missing in zip(delta, lack, strict=True)]
    most = max(fastest * period, hypot(*delta))
    length = hypot(*summed)
    return [part * most / length for part in summed] if length > most else summed
