"""The commanded joints, moved within the limits of joints and tool: the part of the safety filter for
`joint_position` actions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from robot.control.axis import Axis, Motion
from robot.control.collision import ArmModel
from robot.control.hits import Hit
from robot.errors import ContractError
from robot.interface import RobotSpec
from robot.limits import Limits

_RAMP, _RAMP_GROWTH = 0.25, 0.5
"""Share of the speed limits at which the first command is approached, and its growth per s until it is reached."""
_ROUNDING = 1e-9
_SAMPLES = 3
"""Places along a stop that are looked at for collisions and for the tool's limits, its end among them."""


class JointCommand:
    """One axis per joint.

    Args:
        spec: of the robot; the joints of its action space are in its state under the same names.
        limits: see `Limits`.
        period: s between two commands.
        arm: for the tool's workspace, boxes to keep out of and self-collision; None checks the joints alone.

    Raises:
        ContractError: a joint has no limits or is not in the state, or the arm model has other joints.
    """

    def __init__(self, spec: RobotSpec, limits: Limits, period: float, arm: ArmModel | None) -> None:
        self.names = tuple(name for name in spec.action_space.names if not name.startswith("gripper"))
        for kind, known in (("limits", tuple(limits.joints)), ("state", spec.state_names)):
            missing = [name for name in self.names if name not in known]
            if missing:
                raise ContractError(f"joint {missing[0]} of the action space is not in the {kind}: {', '.join(known)}")
        if arm is not None and arm.joints != self.names:
            raise ContractError(f"the arm model has the joints {arm.joints}, the action space {self.names}")
        self._columns = [spec.state_names.index(name) for name in self.names]
        self._limits, self._arm, self._period = limits, arm, period
        self._axes = [
            Axis(limits.joints[name].rates, period, limits.joints[name].low, limits.joints[name].high)
            for name in self.names
        ]
        self._wanted: list[float] = []
        self._ramp: float | None = _RAMP

    @property
    def position(self) -> tuple[float, ...]:
        return tuple(axis.position for axis in self._axes)

    @property
    def resting(self) -> bool:
        return all(axis.resting for axis in self._axes)

    def start(self, state: Sequence[float]) -> None:
        """The command is the measured posture, at rest."""
        self.measure(state)
        for axis, value in zip(self._axes, self._measured, strict=True):
            axis.reset(value)
        self.let_go()

    def let_go(self) -> None:
        """Want nothing but to be here; what comes next is approached anew."""
        self._wanted = list(self.position)
        self._ramp = _RAMP

    def measure(self, state: Sequence[float]) -> None:
        """Take note of the measured joints."""
        self._measured = [float(state[column]) for column in self._columns]

    @property
    def astray(self) -> float:
        """How far the measured joints are from the command, as a multiple of what is allowed."""
        return max(map(_gap, self.position, self._measured)) / self._limits.joint_step

    def ask(self, values: Sequence[float], hits: list[Hit]) -> bool:
        """Want these joint positions. False rejects them."""
        target = list(values)
        share = 1.0
        if self._ramp is not None:
            gaps = map(_gap, target, self._wanted)
            share = min(
                [1.0, *(self._ramp * axis.speed / max(gap, 1e-12) for axis, gap in zip(self._axes, gaps, strict=True))]
            )
            self._ramp = min(self._ramp + _RAMP_GROWTH * self._period, 1.0) if share < 1.0 else None
        for i, (name, axis) in enumerate(zip(self.names, self._axes, strict=True)):
            outside = max(axis.low - target[i], target[i] - axis.high)
            if outside > _ROUNDING:
                far = outside > self._limits.clamped_angle
                hits.append(Hit(f"{name} range", target[i], axis.low if target[i] < axis.low else axis.high, far))
                if far:
                    return False
                target[i] = min(max(target[i], axis.low), axis.high)
            target[i] = self._wanted[i] + share * (target[i] - self._wanted[i])
            change = target[i] - self._wanted[i]
            if abs(change) > axis.speed * (1 + _ROUNDING):
                much = abs(change) > self._limits.clamped_speed * axis.speed
                hits.append(Hit(f"{name} speed", abs(change) / self._period, axis.speed / self._period, much))
                if much:
                    return False
                target[i] = self._wanted[i] + (axis.speed if change > 0 else -axis.speed)
            if _gap(target[i], self._measured[i]) > self._limits.joint_step + _ROUNDING:
                hits.append(
                    Hit(f"{name} step from the measured", _gap(target[i], self._measured[i]), self._limits.joint_step)
                )
                most = self._limits.joint_step
                target[i] = min(max(target[i], self._measured[i] - most), self._measured[i] + most)
        self._lead = [then - now for then, now in zip(target, self._wanted, strict=True)]
        self._lag = [now - axis.position for now, axis in zip(self._wanted, self._axes, strict=True)]
        self._wanted = target
        return True

    def advance(self, moving: bool, hits: list[Hit]) -> bool:
        """One period: towards what is wanted, or (not `moving`) braking. False if the limits forced it to brake."""
        accepted = False
        if moving:
            velocities = [axis.pursuit(*way) for axis, *way in zip(self._axes, self._lead, self._lag, strict=True)]
            accepted = self._try(velocities, hits)
            if not accepted:
                slower = [(v + axis.brake().velocity) / 2 for v, axis in zip(velocities, self._axes, strict=True)]
                accepted = self._try(slower, [])
        if not accepted:
            self._take([axis.brake() for axis in self._axes])
        if not moving:
            self.let_go()
        return accepted or not moving

    def _try(self, velocities: Sequence[float], hits: list[Hit]) -> bool:
        motions = [axis.towards(velocity) for axis, velocity in zip(self._axes, velocities, strict=True)]
        if problem := self._problem(motions):
            hits.append(problem)
            return False
        self._take(motions)
        return True

    def _take(self, motions: Sequence[Motion]) -> None:
        for axis, motion in zip(self._axes, motions, strict=True):
            axis.commit(motion)

    def _problem(self, motions: Sequence[Motion]) -> Hit | None:
        """What speaks against these motions and the stop after them, each joint within its own limits."""
        most = self._limits.joint_step
        for name, axis, motion, there in zip(self.names, self._axes, motions, self._measured, strict=True):
            furthest = max(_gap(motion.low, there), _gap(motion.high, there))
            if furthest > max(most, _gap(axis.position, there)) + _ROUNDING:
                return Hit(f"{name} step from the measured", furthest, most)
        return self._tool_problem(motions) if self._arm else None

    def _tool_problem(self, motions: Sequence[Motion]) -> Hit | None:
        """The same for the tool and the arm's shapes, at a few places between here and standstill."""
        assert self._arm is not None
        arm, limits = self._arm, self._limits
        now = np.array(self.position)
        then = np.array([motion.position for motion in motions])
        end = np.array([m.high if m.high - m.position > m.position - m.low else m.low for m in motions])
        here, there = arm.tool(now), arm.tool(then)
        speed = float(np.linalg.norm(there - here)) / self._period
        if speed > limits.translation.speed + _ROUNDING:
            return Hit("translation speed", speed, limits.translation.speed)
        was_touching = arm.touching(now) is not None
        for share in np.linspace(0.0, 1.0, _SAMPLES):
            angles = then + share * (end - then)
            if (touching := arm.touching(angles)) and not was_touching:
                return Hit(f"collision of {touching[0]} and {touching[1]}")
            point = arm.tool(angles)
            for i, letter in enumerate("xyz"):
                low, high = min(limits.workspace.low[i], here[i]), max(limits.workspace.high[i], here[i])
                if not low - _ROUNDING <= point[i] <= high + _ROUNDING:
                    return Hit(f"workspace {letter}", float(point[i]), float(low if point[i] < low else high))
        return None

    def values(self) -> list[float]:
        """The command of this period, a number per joint."""
        return list(self.position)


def _gap(a: float, b: float) -> float:
    return abs(a - b)
