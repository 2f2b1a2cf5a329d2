"""Pouring: a cup is held below its rim, tilted over the receiver, watched, and put upright again."""

from __future__ import annotations

from math import cos, pi, radians, sin, sqrt

import numpy as np
from scipy.spatial.transform import Rotation

from policies.lmp.api.motion import Motion
from policies.lmp.api.perception import Perception, half_box
from policies.lmp.errors import GraspError, RequestError
from robot.interface import SceneObject
from robot.skills import Pose, downward

_GRIP = 0.63
"""Where a cup is held, as a part of its height."""
_LEAN = radians(35.0)
"""How far the hand leans back from the side to which it pours."""
_STEEPEST, _FLOWING = radians(125.0), radians(38.0)
_FALL, _CLEARANCE = 0.020, 0.010
_TILTING, _CAREFULLY, _SMOOTH = 0.09, 0.03, 0.03
"""Tilt per control period in rad, before and while water may run, and how much that changes between periods."""
_ENOUGH = 0.075
"""The share that may still be missing when the cup is tilted back: water leaves in small avalanches."""
_OVER_FLAT = 0.15
"""Height in m above a flat receiver at which the cup's lowest edge stays."""
_FLAT = 0.04


class Pouring:
    """Skill of the API; as the scripted expert of the simulated tasks, but from what a `Scene` tells."""

    def __init__(self, motion: Motion, perception: Perception) -> None:
        self._motion, self._see = motion, perception

    def pour(self, vessel: str, share: float, into: str = "tray") -> None:
        """Pour a share, 0 to 1, of the water that a cup holds into a bowl or over a tray, and hold the cup upright."""
        if not 0.0 < share <= 1.0:
            raise RequestError(f"a share of the water is above 0 and at most 1, not {share:g}")
        cup, target = self._see.thing(vessel), self._see.thing(into)
        if cup.fill is None or cup.cavity is None:
            raise RequestError(f"{cup.name!r} holds no water that could be seen")
        if cup.name == target.name:
            raise RequestError(f"{cup.name!r} cannot be poured into itself")
        if cup.fill < 0.02:
            raise RequestError(f"{cup.name!r} is empty")
        until = cup.fill * (1.0 - share)
        arm, side = self._motion.arm, _side(cup, target)
        self._take(cup, side)
        arm.move(arm.pose().moved((0.0, 0.0, max(0.0, 0.18 - arm.pose().position[2]))), 0.0, patience=0.5)
        axis = _tilt_axis(self._see.thing(cup.name), side)
        for _ in range(3):
            if self._left(cup.name) - until <= _ENOUGH:
                return
            here = arm.pose()
            upright = Rotation.from_rotvec(_back(self._see.thing(cup.name))) * here.rotation
            grip = self._grip(cup.name, here)
            place = _place(self._see.thing(cup.name), self._receiver(target), axis, 0.0, grip)
            arm.move(Pose(place, upright), 0.0, patience=0.5)
            self._tilt(cup.name, target, until, upright, axis, grip)
            arm.do(arm.skills.hold(0.3, 0.0))
        if not self._motion.is_holding(cup.name):
            raise GraspError(f"{cup.name!r} has slipped out of the fingers")
        if self._left(cup.name) - until > 2 * _ENOUGH:
            raise RequestError(f"{cup.name!r} still holds {100 * self._left(cup.name):.0f} % of its water")

    def _take(self, cup: SceneObject, side: float) -> None:
        """Fingers along the cup's own x, just below the rim, the hand leaning away from where the water will go."""
        motion, arm = self._motion, self._motion.arm
        if motion.is_holding(cup.name):
            return
        turn = Rotation.from_quat(cup.quaternion, scalar_first=True)
        point = cup.position + turn.apply((0.0, 0.0, (_GRIP - 0.5) * float(cup.extent[2])))
        lean = Rotation.from_rotvec([-side * _LEAN, 0.0, 0.0])
        grasp = Pose(point, turn * lean * downward(pi / 2))
        motion.release() if arm.gripper < 0.5 else None
        arm.follow([grasp.moved((0.0, 0.0, 0.14)), grasp.moved((0.0, 0.0, 0.06))], 1.0)
        arm.move(grasp, 1.0)
        arm.close()
        if not arm.has_something():
            motion.release()
            raise GraspError(f"the fingers closed on nothing at {cup.name!r}")
        motion.held = cup.name

    def _tilt(
        self, name: str, target: SceneObject, until: float, upright: Rotation, axis: np.ndarray, grip: float
    ) -> None:
        """Tilt until little enough is left, standing still while water runs, and tilt back."""
        arm = self._motion.arm

        def tilted(angle: float) -> Pose:
            turn = Rotation.from_rotvec(angle * axis)
            return Pose(_place(self._see.thing(name), self._receiver(target), axis, angle, grip), turn * upright)

        tilt = last = rate = 0.0
        left = before = self._left(name)
        while 2 * left - before - until > _ENOUGH and tilt < _STEEPEST:
            wanted = _TILTING
            if tilt > _FLOWING:
                wanted = _CAREFULLY * min(1.0, 0.4 + 2.0 * (left - until)) if left == before else 0.0
            rate += min(max(wanted - rate, -_SMOOTH), _SMOOTH)
            tilt += rate
            arm.perform(arm.skills.step(tilted(last), tilted(tilt), 0.0))
            last, before, left = tilt, left, self._left(name)
        if until < _ENOUGH:
            arm.do(arm.skills.hold(0.4, 0.0, tilted(tilt)))
        while tilt > 0.0:
            rate = max(rate - _SMOOTH, -_TILTING, -sqrt(2 * _SMOOTH * tilt))
            last, tilt = tilt, max(0.0, tilt + rate)
            arm.perform(arm.skills.step(tilted(last), tilted(tilt), 0.0))

    def _left(self, name: str) -> float:
        return self._see.get_fill(name)

    def _grip(self, name: str, here: Pose) -> float:
        """How far above its bottom (m) the cup is held."""
        cup = self._see.thing(name)
        turn = Rotation.from_quat(cup.quaternion, scalar_first=True)
        return float(turn.inv().apply(here.position - cup.position)[2] + cup.extent[2] / 2)

    def _receiver(self, target: SceneObject) -> np.ndarray:
        """Where the water should fall (3,), at the height above which the whole cup has to stay."""
        top = target.position + (0.0, 0.0, float(half_box(target)[2]))
        if float(target.extent[2]) < _FLAT:
            return np.array([*target.position[:2], _OVER_FLAT])
        return top


def _side(cup: SceneObject, target: SceneObject) -> float:
    """1 if the receiver is towards the cup's own -y, -1 for +y."""
    turn = Rotation.from_quat(cup.quaternion, scalar_first=True)
    return -1.0 if turn.inv().apply(target.position - cup.position)[1] > 0 else 1.0


def _tilt_axis(cup: SceneObject, side: float) -> np.ndarray:
    """The level axis (3,) between the fingers."""
    axis = Rotation.from_quat(cup.quaternion, scalar_first=True).apply([1.0, 0.0, 0.0])
    axis[2] = 0.0
    return side * axis / np.linalg.norm(axis)


def _place(cup: SceneObject, receiver: np.ndarray, axis: np.ndarray, tilt: float, grip: float) -> np.ndarray:
    """Where the tool is (3,) with the cup tilted by `tilt` rad: its edge before the receiver, all of it above."""
    half, above = float(max(cup.extent[:2])) / 2, float(cup.extent[2]) - grip
    reach = half * cos(tilt) + above * sin(tilt)
    depth = max(half * sin(tilt) + grip * cos(tilt), half * sin(tilt) - above * cos(tilt))
    towards = np.cross(axis, (0.0, 0.0, 1.0))
    return receiver - (reach + _FALL) * towards + (0.0, 0.0, depth + _CLEARANCE)


def _back(cup: SceneObject) -> np.ndarray:
    """How a cup has to turn to be upright, as a rotation vector (3,)."""
    up = Rotation.from_quat(cup.quaternion, scalar_first=True).apply([0.0, 0.0, 1.0])
    back = np.cross(up, (0.0, 0.0, 1.0))
    length = float(np.linalg.norm(back))
    return np.arctan2(length, up[2]) / max(length, 1e-9) * back
