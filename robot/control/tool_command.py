"""The commanded pose of the tool, moved within the limits of the tool: the part of the safety filter for `ee_delta` and
`ee_pose` actions."""

from __future__ import annotations

from collections.abc import Sequence
from math import hypot, sqrt

import numpy as np

from robot.control import quaternions
from robot.control.axis import Axis, Motion
from robot.control.collision import ArmModel
from robot.control.hits import Hit
from robot.control.quaternions import Quaternion
from robot.errors import ContractError
from robot.interface import RobotSpec
from robot.limits import Box, Limits, Rates
from robot.skills import POSE_STATE

_RAMP, _RAMP_GROWTH = 0.25, 0.5
"""Share of the speed limits at which the first absolute command is approached, and how it grows per s until then."""
_ROUNDING = 1e-9


class ToolCommand:
    """Six axes: the tool's position, and its rotation about the base frame's x, y and z.

    Speeds are limited by their norm; accelerations and jerks per axis, to their limit over the square root of 3, so
    that no direction exceeds it. Rotations do not commute: they are counted from the present one, period by period.

    Args:
        spec: of the robot; its state has the tool's pose.
        limits: see `Limits`.
        period: s between two commands.
        arm: for the self-collision check, or None.

    Raises:
        ContractError: the state lacks the tool's pose.
    """

    def __init__(self, spec: RobotSpec, limits: Limits, period: float, arm: ArmModel | None) -> None:
        missing = [name for name in POSE_STATE if name not in spec.state_names]
        if missing:
            raise ContractError(
                f"the safety filter needs the tool's pose; the robot's state lacks {', '.join(missing)} "
                f"and has {', '.join(spec.state_names)}"
            )
        self._columns = [spec.state_names.index(name) for name in POSE_STATE]
        self._joints = arm.columns(spec.state_names) if arm else []
        self._relative = spec.action_space.kind == "ee_delta"
        self._limits, self._arm, self._period = limits, arm, period
        box, per_axis = limits.workspace, 1 / sqrt(3)
        self._translation = [
            Axis(_shared(limits.translation, per_axis), period, low, high)
            for low, high in zip(box.low, box.high, strict=True)
        ]
        self._rotation = [Axis(_shared(limits.rotation, per_axis), period) for _ in range(3)]
        self._speed, self._turning = limits.translation.speed * period, limits.rotation.speed * period
        self._quaternion: Quaternion = (1.0, 0.0, 0.0, 0.0)
        self._ramp: float | None = _RAMP

    # --- where it is

    @property
    def position(self) -> tuple[float, float, float]:
        x, y, z = self._translation
        return x.position, y.position, z.position

    @property
    def quaternion(self) -> Quaternion:
        """(w, x, y, z) of the commanded rotation."""
        return self._quaternion

    @property
    def resting(self) -> bool:
        return all(axis.resting for axis in (*self._translation, *self._rotation))

    def start(self, state: Sequence[float]) -> None:
        """The command is the measured pose, at rest."""
        self._measure(state)
        for axis, value in zip(self._translation, self._measured, strict=True):
            axis.reset(value)
        for axis in self._rotation:
            axis.reset(0.0)
        self._quaternion = self._measured_quaternion
        self.let_go()

    def let_go(self) -> None:
        """Want nothing but to be here; what comes next is approached anew."""
        self._wanted: list[float] = list(self.position)
        self._wanted_quaternion = self._quaternion
        self._ramp = None if self._relative else _RAMP

    def measure(self, state: Sequence[float]) -> None:
        """Take note of the measured pose."""
        self._measure(state)

    def _measure(self, state: Sequence[float]) -> None:
        values = [float(state[column]) for column in self._columns]
        self._measured = values[:3]
        self._measured_quaternion = quaternions.from_columns(values[3:6], values[6:9])
        self._angles = [float(state[column]) for column in self._joints]

    @property
    def astray(self) -> float:
        """How far the measured pose is from the command, as a multiple of what is allowed."""
        turn = quaternions.angle(self._quaternion, self._measured_quaternion)
        return max(_distance(self.position, self._measured) / self._limits.step, turn / self._limits.turn)

    # --- one period

    def ask(self, values: Sequence[float], hits: list[Hit]) -> bool:
        """Want what an action says: 6 numbers of a delta in this period, or position and quaternion. False rejects."""
        if self._relative:
            offset, turn = list(values[:3]), list(values[3:6])
        else:
            offset, turn = self._towards(values)
        fine = True
        for name, vector, most in (("translation speed", offset, self._speed), ("rotation speed", turn, self._turning)):
            fine &= _limit_speed(name, vector, most, self._limits.clamped_speed, hits)
        target = [now + change for now, change in zip(self._wanted, offset, strict=True)]
        fine = fine and self._within_workspace(target, hits)
        if not fine:
            return False
        self._leash(target, hits)
        quaternion = quaternions.product(quaternions.from_vector(turn), self._wanted_quaternion)
        quaternion = self._leash_turn(quaternion, hits)
        self._lead = [then - now for then, now in zip(target, self._wanted, strict=True)]
        self._lead_turn = quaternions.to_vector(
            quaternions.product(quaternion, quaternions.inverse(self._wanted_quaternion))
        )
        self._lag = [now - axis.position for now, axis in zip(self._wanted, self._translation, strict=True)]
        self._lag_turn = quaternions.to_vector(
            quaternions.product(self._wanted_quaternion, quaternions.inverse(self._quaternion))
        )
        self._wanted, self._wanted_quaternion = target, quaternion
        return True

    def _towards(self, values: Sequence[float]) -> tuple[list[float], list[float]]:
        """From what was wanted to an absolute pose; at first slowly, so that the first one is no jump."""
        offset = [then - now for then, now in zip(values[:3], self._wanted, strict=True)]
        norm = sqrt(sum(part * part for part in values[3:7])) or 1.0
        w, x, y, z = (part / norm for part in values[3:7])
        turn = list(
            quaternions.to_vector(quaternions.product((w, x, y, z), quaternions.inverse(self._wanted_quaternion)))
        )
        if self._ramp is not None:
            shares = [
                self._ramp * self._speed / max(_norm(offset), 1e-12),
                self._ramp * self._turning / max(_norm(turn), 1e-12),
            ]
            share = min(1.0, *shares)
            self._ramp = min(self._ramp + _RAMP_GROWTH * self._period, 1.0) if share < 1.0 else None
            offset, turn = [share * part for part in offset], [share * part for part in turn]
        return offset, turn

    def _within_workspace(self, target: list[float], hits: list[Hit]) -> bool:
        """Clamp a target that is a little outside of the box; False if it is far out, or where nothing may be."""
        box = self._limits.workspace
        for i, (low, high) in enumerate(zip(box.low, box.high, strict=True)):
            outside = max(low - target[i], target[i] - high)
            if outside > _ROUNDING and outside > max(low - self._wanted[i], self._wanted[i] - high, 0.0):
                far = outside > self._limits.clamped_distance
                hits.append(Hit(f"workspace {'xyz'[i]}", target[i], low if target[i] < low else high, far))
                if far:
                    return False
                begun = self._wanted[i]
                target[i] = min(max(target[i], min(low, begun)), max(high, begun))
        for number, box in enumerate(self._limits.keep_out):
            if _overlap(target, target, box):
                hits.append(Hit(f"keep_out[{number}]", rejected=True))
                return False
        return True

    def _leash(self, target: list[float], hits: list[Hit]) -> None:
        offset = [then - now for then, now in zip(target, self._measured, strict=True)]
        distance, most = _norm(offset), self._limits.step
        if distance > most + _ROUNDING:
            hits.append(Hit("step from the measured pose", distance, most))
            target[:] = [now + part * (most / distance) for now, part in zip(self._measured, offset, strict=True)]

    def _leash_turn(self, quaternion: Quaternion, hits: list[Hit]) -> Quaternion:
        offset = quaternions.to_vector(quaternions.product(quaternion, quaternions.inverse(self._measured_quaternion)))
        angle, most = _norm(offset), self._limits.turn
        if angle <= most + _ROUNDING:
            return quaternion
        hits.append(Hit("turn from the measured pose", angle, most))
        share = most / angle
        return quaternions.product(
            quaternions.from_vector([share * part for part in offset]), self._measured_quaternion
        )

    def advance(self, moving: bool, hits: list[Hit]) -> bool:
        """One period: towards what is wanted, or (not `moving`) braking. False if the limits forced it to brake."""
        accepted = False
        if moving:
            wanted = _scaled([*map(Axis.pursuit, self._translation, self._lead, self._lag)], self._speed)
            turning = _scaled([*map(Axis.pursuit, self._rotation, self._lead_turn, self._lag_turn)], self._turning)
            accepted = self._try(wanted, turning, hits)
            if not accepted:
                gentler = [(w + axis.brake().velocity) / 2 for w, axis in zip(wanted, self._translation, strict=True)]
                turned = [(w + axis.brake().velocity) / 2 for w, axis in zip(turning, self._rotation, strict=True)]
                accepted = self._try(gentler, turned, [])
        if not accepted:
            self._take([axis.brake() for axis in self._translation], [axis.brake() for axis in self._rotation])
        if not moving:
            self.let_go()
        return accepted or not moving

    def _try(self, velocity: Sequence[float], turning: Sequence[float], hits: list[Hit]) -> bool:
        shifts = [axis.towards(wanted) for axis, wanted in zip(self._translation, velocity, strict=True)]
        turns = [axis.towards(wanted) for axis, wanted in zip(self._rotation, turning, strict=True)]
        if problem := self._problem(shifts, turns):
            hits.append(problem)
            return False
        self._take(shifts, turns)
        return True

    def _problem(self, shifts: Sequence[Motion], turns: Sequence[Motion]) -> Hit | None:
        """What speaks against these motions and the stop after them, each axis within its own limits."""
        speed, turning = _norm([m.fastest for m in shifts]), _norm([m.fastest for m in turns])
        if speed > self._speed * (1 + _ROUNDING):
            return Hit("translation speed", speed, self._speed)
        if turning > self._turning * (1 + _ROUNDING):
            return Hit("rotation speed", turning, self._turning)
        low, high = [m.low for m in shifts], [m.high for m in shifts]
        now, limits = self.position, self._limits
        for number, box in enumerate(limits.keep_out):
            if _overlap([*map(min, low, now)], [*map(max, high, now)], box) and not _overlap(now, now, box):
                return Hit(f"keep_out[{number}]")
        furthest = _norm(
            [max(abs(m.low - there), abs(m.high - there)) for m, there in zip(shifts, self._measured, strict=True)]
        )
        if furthest > max(limits.step, _distance(now, self._measured)) + _ROUNDING:
            return Hit("step from the measured pose", furthest, limits.step)
        then = quaternions.product(quaternions.from_vector([m.velocity for m in turns]), self._quaternion)
        reach = _norm([max(m.high - m.position, m.position - m.low) for m in turns])
        angle = quaternions.angle(then, self._measured_quaternion) + reach
        if angle > max(limits.turn, quaternions.angle(self._quaternion, self._measured_quaternion)) + _ROUNDING:
            return Hit("turn from the measured pose", angle, limits.turn)
        return self._collision(low, high, then) if self._arm else None

    def _collision(self, low: Sequence[float], high: Sequence[float], then: Quaternion) -> Hit | None:
        """Whether the arm would touch itself where these motions end: at whichever end of each axis is further."""
        assert self._arm is not None
        end = [b if abs(b - now) > abs(a - now) else a for a, b, now in zip(low, high, self.position, strict=True)]
        measured = np.array(self._angles)
        touching = self._arm.touching(self._arm.reach(measured, np.array(end), then))
        if touching is None or self._arm.touching(measured) is not None:  # touching already: let it come away
            return None
        return Hit(f"collision of {touching[0]} and {touching[1]}")

    def _take(self, shifts: Sequence[Motion], turns: Sequence[Motion]) -> None:
        for axis, motion in zip(self._translation, shifts, strict=True):
            axis.commit(motion)
        for axis, motion in zip(self._rotation, turns, strict=True):
            axis.commit(motion)
            axis.shift(-axis.position)
        self._shift = [axis.velocity for axis in self._translation]
        self._turn = [axis.velocity for axis in self._rotation]
        self._quaternion = quaternions.product(quaternions.from_vector(self._turn), self._quaternion)

    def values(self) -> list[float]:
        """The command of this period: 6 numbers of a delta, or position and quaternion."""
        return [*self._shift, *self._turn] if self._relative else [*self.position, *self._quaternion]


def _shared(rates: Rates, share: float) -> Rates:
    return Rates(rates.speed, rates.acceleration * share, rates.jerk * share)


def _norm(vector: Sequence[float]) -> float:
    return hypot(*vector)


def _scaled(vector: list[float], most: float) -> list[float]:
    norm = _norm(vector)
    return [part * (most / norm) for part in vector] if norm > most else vector


def _distance(a: Sequence[float], b: Sequence[float]) -> float:
    return hypot(a[0] - b[0], a[1] - b[1], a[2] - b[2])


def _overlap(low: Sequence[float], high: Sequence[float], box: Box) -> bool:
    """Whether the box from low to high meets another."""
    return all(low[i] < box.high[i] and high[i] > box.low[i] for i in range(3))


def _limit_speed(name: str, vector: list[float], most: float, clamped: float, hits: list[Hit]) -> bool:
    """Scale the vector to the limit if it is a little longer; False if it is much longer."""
    norm = _norm(vector)
    if norm <= most * (1 + _ROUNDING):
        return True
    rejected = norm > clamped * most
    hits.append(Hit(name, norm, most, rejected))
    vector[:] = [part * (most / norm) for part in vector]
    return not rejected
