"""The safety filter: whatever is sent into it, what leaves it is within every limit, and no jump."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot.control.collision import ArmModel
from robot.control.hits import Hit
from robot.control.joint_command import JointCommand
from robot.control.tool_command import ToolCommand
from robot.errors import ContractError
from robot.grip import OPENING_STATES
from robot.interface import GRIPPER, RobotSpec
from robot.limits import Limits

FORCE = "gripper_force"
_OPENINGS = ("gripper_command", *OPENING_STATES)
"""Entries of a state that say how far the gripper is open, the better ones first."""


@dataclass(frozen=True)
class Filtered:
    """What the filter let through.

    Attributes:
        action: float32 (A,), to be sent.
        hits: the limits that were met.
        rejected: nothing of the command was let through; the arm is braking.
    """

    action: NDArray[np.float32]
    hits: tuple[Hit, ...] = ()
    rejected: bool = False


class SafetyFilter:
    """Holds commands to the limits of a robot: range, speed, acceleration and jerk of every axis, workspace, boxes to
    keep out of, distance from the measured pose, gripper force, self-collision, and plain nonsense.

    It begins at the measured pose, at rest, and knows at any time how to stop within all limits; a command is let
    through only as far as that stays so. `docs/robot.md` says what it guarantees and what it cannot.

    Args:
        spec: of the robot.
        limits: see `Limits`.
        period: s between two commands; an `ee_delta` is the change in one such period.
        arm: a model of the arm for collisions, and for the tool's limits of a robot that is told joints; None checks
            neither.

    Attributes:
        counts: how often each limit was met.
    """

    def __init__(self, spec: RobotSpec, limits: Limits, period: float, arm: ArmModel | None = None) -> None:
        kind, names = spec.action_space.kind, spec.action_space.names
        self._names = names
        motion = [name for name in names if name not in (GRIPPER, FORCE)]
        size = {"ee_delta": 6, "ee_pose": 7, "joint_position": len(motion)}[kind]
        if len(motion) != size or tuple(names[:size]) != tuple(motion):
            raise ContractError(
                f"the safety filter knows {kind} actions of {size} numbers and then gripper, got {', '.join(names)}"
            )
        self._size, self._period, self._limits = size, period, limits
        self._open = spec.action_space.gripper_open
        part = JointCommand if kind == "joint_position" else ToolCommand
        self.command: ToolCommand | JointCommand = part(spec, limits, period, arm)
        found = [name for name in _OPENINGS if name in spec.state_names]
        self._opening_column = spec.state_names.index(found[0]) if found else None
        self._force_column = spec.state_names.index(FORCE) if FORCE in spec.state_names else None
        self._state_size = len(spec.state_names)
        self._force = 0.0
        self._gripper = self._open
        self.counts: Counter[str] = Counter()
        self._started = False

    def start(self, state: NDArray[np.float32]) -> None:
        """Begin anew at a measured state (D,), at rest."""
        values = self._checked(state)
        self.command.start(values)
        if self._opening_column is not None:
            self._gripper = min(max(values[self._opening_column], 0.0), 1.0)
        self._force = 0.0
        self._started = True

    def let_go(self) -> None:
        """Forget what the last commands were after; an absolute command after this is approached slowly."""
        self.command.let_go()

    def measure(self, state: NDArray[np.float32]) -> None:
        """Take note of a newer measured state (D,)."""
        values = self._checked(state)
        self.command.measure(values)
        self._force = values[self._force_column] if self._force_column is not None else 0.0

    @property
    def resting(self) -> bool:
        """Whether the commanded arm stands still."""
        return self.command.resting

    @property
    def astray(self) -> float:
        """How far the robot is from where it was told to be, as a multiple of what is allowed."""
        return self.command.astray

    def apply(self, action: Any) -> Filtered:
        """The next command. Call it once a period, without exception: not calling it is standing still at once.

        Args:
            action: (A,) what is wanted; None brakes and then holds. Anything may be given.
        """
        if not self._started:
            raise ContractError("the safety filter has to be started with a measured state first")
        hits: list[Hit] = []
        values = None if action is None else self._numbers(action, hits)
        moving = values is not None and self.command.ask(values[: self._size], hits)
        rejected = action is not None and not moving
        self.command.advance(moving, hits)
        extra = self._extra(values[self._size :] if moving and values is not None else None, hits)
        for hit in hits:
            self.counts[hit.limit] += 1
        sent = np.array([*self.command.values(), *extra], dtype=np.float32)
        return Filtered(sent, tuple(hits), rejected)

    def _numbers(self, action: Any, hits: list[Hit]) -> list[float] | None:
        try:
            array = np.asarray(action)
            values = array.tolist() if array.shape == (len(self._names),) else None
            values = None if values is None else [float(value) for value in values]
        except (TypeError, ValueError, OverflowError):
            values = None
        if values is None:
            hits.append(Hit("shape or type of the action", rejected=True))
        elif not all(map(isfinite, values)):
            hits.append(Hit("NaN or infinity", rejected=True))
            return None
        return values

    def _extra(self, values: Sequence[float] | None, hits: list[Hit]) -> list[float]:
        """The numbers after the motion: gripper opening and force."""
        extra = []
        for i, name in enumerate(self._names[self._size :]):
            if name == FORCE:
                force = 0.0 if values is None else values[i]
                if not 0 <= force <= self._limits.gripper_force:
                    hits.append(Hit(FORCE, force, self._limits.gripper_force))
                extra.append(min(max(force, 0.0), self._limits.gripper_force))
            else:
                self._gripper = self._gripper if values is None else self._opening(values[i], hits)
                extra.append(self._gripper)
        return extra

    def _opening(self, wanted: float, hits: list[Hit]) -> float:
        if not 0 <= wanted <= 1:
            hits.append(Hit("gripper range", wanted, min(max(wanted, 0.0), 1.0)))
            wanted = min(max(wanted, 0.0), 1.0)
        closing = abs(wanted - self._open) > abs(self._gripper - self._open)
        if closing and self._force > self._limits.gripper_force:
            hits.append(Hit(FORCE, self._force, self._limits.gripper_force))
            return self._gripper
        if self._limits.gripper_speed is None:
            return wanted
        most = self._limits.gripper_speed * self._period
        if abs(wanted - self._gripper) > most * (1 + 1e-9):
            hits.append(Hit("gripper speed", abs(wanted - self._gripper) / self._period, self._limits.gripper_speed))
        return min(max(wanted, self._gripper - most), self._gripper + most)

    def _checked(self, state: NDArray[np.float32]) -> list[float]:
        values = state.tolist()
        if len(values) != self._state_size or not all(map(isfinite, values)):
            raise ContractError(f"a measured state has {self._state_size} finite entries, got {values}")
        return values
