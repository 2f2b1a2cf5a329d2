"""What programs may do with the arm: pick, put, lift, open, turn, or move it step by step."""

from __future__ import annotations

from dataclasses import replace
from math import pi, radians

import numpy as np
from scipy.spatial.transform import Rotation

from policies.lmp.api.arm import Arm, numbers, require_reachable
from policies.lmp.api.perception import Perception, half_box
from policies.lmp.errors import GraspError, PerceptionError, RequestError, UnreachableError
from robot.interface import Articulation, Policy, SceneObject
from robot.skills import Pose, downward

CARRY = 0.24
"""Height in m at which the tool carries things."""
_WIDEST, _PLAY = 0.075, 0.024
"""Width in m of the widest thing that can be grasped, and how much wider the gripper opens around a thing."""
_APPROACH = 0.10
_PART_OPENING = 0.62
_FALL = 0.008
_RIM = 0.012
_DRAWER_LOW = 0.060
"""Least height of the tool in m while it lets go of something in a drawer, so that the hand clears its walls."""
_HAND_ROOM = 0.03
_BESIDE = 0.045
"""Distance in m at which things fit beside one another in a container."""
_OFF = 0.04
"""Distance in m from where it should be at which a thing that was put down counts as lost."""
_WAYPOINT = 0.12
_PART_TOLERANCE = 0.015
_TRIES = 5
_TILT_PLACE = np.array([0.52, 0.0, 0.36])


class Motion:
    """The skills that programs call by name, on one arm in one scene.

    Args:
        arm: to move.
        perception: where things are.
        learned: a policy that follows instructions; None for none.
    """

    def __init__(self, arm: Arm, perception: Perception, learned: Policy | None = None) -> None:
        self.arm, self._see, self._learned = arm, perception, learned
        self.held: str | None = None
        self._opening = 1.0
        self._stood: dict[str, float] = {}

    def begin(self) -> None:
        """A new command starts: heights to lift by count from where things are now, but for what is held."""
        self._stood = {name: height for name, height in self._stood.items() if name == self.held}

    # --- taking and putting

    def pick(self, obj: str) -> None:
        """Take a thing from above and hold it where it stands. What was held before is put down first."""
        thing = self._see.thing(obj)
        if self.is_holding(thing.name):
            return
        if thing.articulation is not None:
            raise RequestError(f"{thing.name!r} is not a thing to pick up; open or close it")
        self._put_away()
        grasp = grasp_pose(thing)
        require_reachable(grasp.position)
        self._stood.setdefault(thing.name, float(thing.position[2]))
        high = max(grasp.position[2] + _APPROACH, self.arm.pose().position[2])
        above = grasp.moved((0.0, 0.0, _APPROACH))
        self._opening = min(1.0, (_width(thing) + _PLAY) / _WIDEST)
        self.arm.follow([replace(self.arm.pose(), position=np.array([*self._here(), high])), above], self._opening)
        self._rest()
        grasp = grasp_pose(self._see.thing(thing.name))
        self.arm.move(grasp, self._opening)
        self.arm.close()
        if not self.arm.has_something():
            self.arm.open()
            raise GraspError(f"the fingers closed on nothing at {thing.name!r}, {numbers(grasp.position)} m")
        self.held = thing.name

    def lift(self, obj: str, height: float) -> None:
        """Take a thing and hold it `height` m above where it stood."""
        self.pick(obj)
        name = self._see.thing(obj).name
        for _ in range(_TRIES):
            missing = self._stood[name] + height - float(self._see.thing(name).position[2])
            if abs(missing) < 0.005:
                break
            self.arm.move(self.arm.pose().moved((0.0, 0.0, missing)), 0.0)
        self._require_held(name)

    def put_first_on_second(self, obj: str, target: str | list[float] | np.ndarray) -> None:
        """Put a thing on or into another one, given by name, or down on the table at a place [x, y] in m, base frame.

        It is let into bowls, cups and open drawers, and stacked on everything else.
        """
        thing = self._see.thing(obj)
        if isinstance(target, str):
            place = self._see.thing(target)
            if place.name == thing.name:
                raise RequestError(f"{thing.name!r} cannot be put on itself")
            self._require_room(thing, place)
        else:
            place = _point(target)
            require_reachable(np.array([*place, 0.1]))
        self.pick(thing.name)
        held = self._see.thing(thing.name)
        tool = self.arm.pose()
        offset = held.position - tool.position
        offset = offset if np.linalg.norm(offset) < 0.03 else np.zeros(3)
        below = float(half_box(held)[2])  # from the thing's middle to its lowest point
        self.arm.move(replace(tool, position=np.array([*tool.position[:2], max(CARRY, tool.position[2])])), 0.0)
        self._require_held(thing.name)
        goal, rotation = self._goal(place, thing.name, below, tool.rotation)
        goal = goal - np.array([*offset[:2], 0.0])
        above = Pose(np.array([*goal[:2], max(CARRY, goal[2])]), rotation)
        self.arm.move(above, 0.0)
        self._require_held(thing.name)
        self.arm.move(Pose(goal, rotation), 0.0)
        self._let_go(CARRY)
        self._require_there(thing.name, place)

    def place_at(self, pos: list[float] | np.ndarray) -> None:
        """Put down what is held on the table at [x, y] in m in the base frame."""
        self.put_first_on_second(self._holding(), pos)

    def is_holding(self, obj: str) -> bool:
        """Whether a thing is between the closed fingers."""
        thing = self._see.thing(obj)
        near = float(np.linalg.norm(thing.position - self.arm.pose().position)) < 0.06
        return self.held == thing.name and near and self.arm.has_something()

    # --- drawers, doors, bottles

    def set_joint(self, part: str, fraction: float) -> None:
        """Bring a drawer or door to where it is `fraction` open, 0 closed to 1 fully open, and let go of its handle."""
        thing = self._see.thing(part)
        if thing.articulation is None or thing.joint_fraction is None:
            raise RequestError(f"{thing.name!r} is nothing that opens")
        if not 0.0 <= fraction <= 1.0:
            raise RequestError(f"a drawer or door opens from 0 to 1, not {fraction:g}")
        self._put_away()
        grasp = Pose.from_vector(thing.articulation.grasp)
        for lift in (CARRY - grasp.position[2], 0.06):
            self.arm.move(grasp.moved((0.0, 0.0, max(lift, 0.06))), _PART_OPENING)
        self.arm.move(Pose.from_vector(self._articulation(thing.name)[0].grasp), _PART_OPENING)
        self.arm.close()
        if not self.arm.has_something():
            self._let_go(CARRY)
            raise GraspError(f"the fingers closed on nothing at the handle of {thing.name!r}")
        for _ in range(_TRIES):
            articulation, now = self._articulation(thing.name)
            if abs(fraction - now) < _PART_TOLERANCE:
                break
            count = max(1, round(abs(fraction - now) / _WAYPOINT))
            here = self.arm.pose()
            way = [moved(articulation, here, share * (fraction - now)) for share in np.linspace(0, 1, count + 1)[1:]]
            self.arm.do(self.arm.skills.follow(way, 0.0, patience=0.5))
            self.arm.do(self.arm.skills.hold(0.3, 0.0))
        self._let_go(CARRY)
        now = self._articulation(thing.name)[1]
        if abs(now - fraction) > 0.08:
            raise UnreachableError(f"{thing.name!r} is {now:.0%} open and would not go to {fraction:.0%}")

    def reorient(self, obj: str, degrees: float) -> None:
        """Take a bottle and hold it up so that its own axis, from bottom to cap, is `degrees` from upright."""
        if not 0.0 <= degrees <= 180.0:
            raise RequestError(f"an angle from upright is 0 to 180 degrees, not {degrees:g}")
        self.pick(obj)
        name = self._see.thing(obj).name
        self.arm.move(self.arm.pose().moved((0.0, 0.0, 0.10)), 0.0)
        for _ in range(_TRIES):
            turn = _tilt_turn(self._see.thing(name), radians(degrees))
            if np.linalg.norm(turn) < 0.03:
                break
            rotation = Rotation.from_rotvec(turn) * self.arm.pose().rotation
            self.arm.do(self.arm.skills.move(Pose(_TILT_PLACE, rotation), 0.0, patience=0.5))
            self._rest()
        self._require_held(name)

    # --- the arm itself

    def release(self) -> None:
        """Open the fingers and go up."""
        self._let_go(CARRY)

    def open_gripper(self) -> None:
        """Open the fingers on the spot."""
        self.held = None
        self.arm.open()

    def close_gripper(self) -> None:
        """Close the fingers on the spot."""
        self.arm.close()

    def get_tool_pos(self) -> np.ndarray:
        """Where the point between the fingertips is, (3,): x, y, z in m in the base frame."""
        return self.arm.pose().position.copy()

    def move_to(self, pos: list[float] | np.ndarray) -> None:
        """Move the point between the fingertips straight to [x, y, z] in m, base frame, the hand pointing down."""
        target = np.asarray(pos, np.float64)
        if target.shape != (3,):
            raise RequestError(f"move_to takes [x, y, z], got {target.tolist()}")
        self.arm.move(Pose(target, downward(0.0)))

    def servo(self, offset: list[float] | np.ndarray) -> None:
        """Move the tool for one control period (0.1 s) by [dx, dy, dz] in m, at most 0.05 each, in the base frame.

        For loops that look and move in turn.
        """
        way = np.asarray(offset, np.float64)
        if way.shape != (3,):
            raise RequestError(f"servo takes [dx, dy, dz], got {way.tolist()}")
        require_reachable(np.clip(self.arm.pose().position + way, -2.0, 2.0))
        action = np.concatenate([way, np.zeros(3), [self.arm.gripper]])
        self.arm.perform(self.arm.spec.action_space.clip(action))

    def wait(self, seconds: float) -> None:
        """Stay where the arm is for a number of seconds, 60 at most."""
        if not 0.0 <= seconds <= 60.0:
            raise RequestError(f"wait takes 0 to 60 s, got {seconds:g}")
        self.arm.do(self.arm.skills.hold(seconds, self.arm.gripper))

    def get_time(self) -> float:
        """Seconds on the robot's clock."""
        return self.arm.observe().time

    def do(self, instruction: str, seconds: float) -> None:
        """Let the learned policy follow an instruction, such as "open the left drawer halfway", for so many seconds."""
        if self._learned is None:
            raise RequestError("there is no learned policy here; lmp.skills=<checkpoint> names one")
        if not 0.0 < seconds <= 60.0:
            raise RequestError(f"a learned policy is let run for up to 60 s, got {seconds:g}")
        self._learned.reset(0)
        until = self.get_time() + seconds
        self.held = None
        while self.get_time() < until - 1e-6:
            chunk = self._learned.act(replace(self.arm.observe(), instruction=instruction))
            for action in chunk.actions[: max(1, round((until - self.get_time()) / self.arm.period))]:
                self.arm.perform(action)

    # --- within

    def _here(self) -> np.ndarray:
        return self.arm.pose().position[:2]

    def _rest(self) -> None:
        self.arm.do(self.arm.skills.hold(0.2, self.arm.gripper))

    def _holding(self) -> str:
        if self.held is None or not self.arm.has_something():
            raise GraspError("nothing is held")
        return self.held

    def _require_held(self, name: str) -> None:
        if not self.is_holding(name):
            self.held = None
            raise GraspError(f"{name!r} has slipped out of the fingers")

    def _put_away(self) -> None:
        """Before something else is taken: let go of what is held, low above the table."""
        if self.held is not None and self.arm.has_something():
            here = self.arm.pose()
            thing = self._see.thing(self.held)
            low = here.position[2] - (float(thing.position[2]) - float(half_box(thing)[2])) + _FALL
            self.arm.move(Pose(np.array([*here.position[:2], max(low, 0.01)]), downward(_yaw(here.rotation))), 0.0)
            self._let_go(CARRY)
        elif self.arm.gripper < 0.5:
            self._let_go(CARRY)
        self.held = None

    def _let_go(self, height: float) -> None:
        """Open the fingers and go straight up to a height in m."""
        opening, self._opening, self.held = self._opening, 1.0, None
        self.arm.do(self.arm.skills.fingers(opening))
        here = self.arm.pose()
        back = -0.04 * here.rotation.apply([0.0, 0.0, 1.0])
        away = here.moved(back)
        self.arm.do(self.arm.skills.follow([away, away.moved((0, 0, max(height - away.position[2], 0.0)))], opening))

    def _articulation(self, name: str) -> tuple[Articulation, float]:
        thing = self._see.thing(name)
        assert thing.articulation is not None and thing.joint_fraction is not None
        return thing.articulation, thing.joint_fraction

    def _require_room(self, thing: SceneObject, place: SceneObject) -> None:
        if place.cavity is None:
            if place.articulation is not None:
                raise RequestError(f"nothing can be put into {place.name!r}")
            return
        needed = float(min(thing.extent[:2])) + (_HAND_ROOM if place.articulation is not None else 0.0)
        if min(place.cavity.size[:2]) < needed:
            how = f"{100 * place.joint_fraction:.0f} % open" if place.joint_fraction is not None else "narrow"
            raise RequestError(
                f"{place.name!r} is {how}, which leaves {100 * min(place.cavity.size[:2]):.1f} cm; {thing.name!r} and "
                f"the hand need {100 * needed:.1f} cm"
            )

    def _goal(
        self, place: SceneObject | np.ndarray, name: str, below: float, rotation: Rotation
    ) -> tuple[np.ndarray, Rotation]:
        """Where the tool lets go (3,) and how the hand is turned; `below` is from middle to lowest point."""
        if isinstance(place, np.ndarray):
            return np.array([*place, below + _FALL]), rotation
        place = self._see.thing(place.name)
        yaw = Rotation.from_quat(place.quaternion, scalar_first=True).as_euler("ZYX")[0]
        if place.cavity is None:
            if float(place.extent[2]) < 0.04 and place.name == "tray":
                return np.array([*place.position[:2], place.position[2] + below + _FALL]), rotation
            return np.array([*place.position[:2], place.position[2] + half_box(place)[2] + below + _FALL]), rotation
        floor, size = place.cavity.floor, place.cavity.size
        if place.articulation is not None:
            return np.array([*floor[:2], max(floor[2] + below + 0.01, _DRAWER_LOW)]), downward(float(yaw))
        inside = [
            thing
            for thing in self._see.scene.objects().values()
            if thing.name not in (name, place.name) and _within(thing, place)
        ]
        spot = floor + Rotation.from_quat(place.quaternion, scalar_first=True).apply(_free_spot(place, inside, size))
        inside = [other for other in inside if np.linalg.norm((other.position - spot)[:2]) < _BESIDE]
        rim = max([floor[2] + size[2] + _RIM, *(t.position[2] + half_box(t)[2] + below + _FALL for t in inside)])
        return np.array([*spot[:2], rim]), downward(_nearest_turn(float(yaw), _yaw(rotation), pi / 2))

    def _require_there(self, name: str, place: SceneObject | np.ndarray) -> None:
        self._rest()
        thing = self._see.thing(name)
        if isinstance(place, np.ndarray):
            off = float(np.linalg.norm(thing.position[:2] - place))
            if off > _OFF:
                raise GraspError(f"{name!r} came to lie {100 * off:.0f} cm from where it was put")
            return
        place = self._see.thing(place.name)
        if place.cavity is not None and not _within(thing, place):
            raise GraspError(f"{name!r} did not get into {place.name!r}")
        if place.cavity is None and (
            np.linalg.norm(thing.position[:2] - place.position[:2]) > max(place.extent[:2]) / 2 + 0.02
        ):
            raise GraspError(f"{name!r} fell off {place.name!r}")


def _width(thing: SceneObject) -> float:
    """Width in m of the narrower level side."""
    turn = Rotation.from_quat(thing.quaternion, scalar_first=True).as_matrix()
    return float(np.min(np.delete(thing.extent, int(np.argmax(np.abs(turn[2]))))))


def grasp_pose(thing: SceneObject) -> Pose:
    """From above at the middle, the fingers closing across the narrower of the level sides.

    Raises:
        UnreachableError: it is too wide for the gripper.
    """
    turn = Rotation.from_quat(thing.quaternion, scalar_first=True).as_matrix()
    upright = int(np.argmax(np.abs(turn[2])))
    level = [axis for axis in range(3) if axis != upright]
    sides = thing.extent[level]
    across = level[int(np.argmin(sides))]
    if min(sides) > _WIDEST:
        raise UnreachableError(f"{thing.name!r} is {100 * min(sides):.0f} cm wide, the gripper opens 8 cm")
    closing = float(np.arctan2(turn[1, across], turn[0, across]))  # the hand closes along y at yaw 0
    even = max(sides) - min(sides) < 0.015
    yaw = _nearest_turn(closing - pi / 2, 0.0, pi / 2 if even else pi)
    if upright != 2:  # lying: turn the wrist so that it can still tilt far to both sides
        yaw %= pi
    return Pose(thing.position.copy(), downward(yaw))


def moved(articulation: Articulation, hand: Pose, share: float) -> Pose:
    """Where a hand that holds the handle is once the part has moved on by a share of its way."""
    if articulation.kind == "slide":
        return hand.moved(articulation.axis * articulation.travel * share)
    turn = Rotation.from_rotvec(articulation.axis * articulation.travel * share)
    return Pose(articulation.origin + turn.apply(hand.position - articulation.origin), turn * hand.rotation)


def _tilt_turn(thing: SceneObject, angle: float) -> np.ndarray:
    """The rotation vector (3,) that brings a thing's own z axis to an angle (rad) from the vertical."""
    axis = Rotation.from_quat(thing.quaternion, scalar_first=True).apply([0.0, 0.0, 1.0])
    towards = np.cross(axis, (0.0, 0.0, 1.0))
    length = float(np.linalg.norm(towards))
    now = float(np.arctan2(length, axis[2]))
    return towards * ((now - angle) / length) if length > 0.02 else np.zeros(3)


def _free_spot(place: SceneObject, inside: list[SceneObject], size: np.ndarray) -> np.ndarray:
    """Where in a container to let something down, (3,) m from the middle of its floor along its own axes: in the
    quarter that is furthest from what is inside, or in the middle of one that is too narrow for quarters."""
    quarter = np.array([*size[:2] / 4, 0.0])
    if min(size[:2]) < 2 * _BESIDE:
        return np.zeros(3)
    turn = Rotation.from_quat(place.quaternion, scalar_first=True).inv()
    assert place.cavity is not None
    taken = [turn.apply(thing.position - place.cavity.floor)[:2] for thing in inside]
    spots = [quarter * (x, y, 0.0) for x, y in ((-1, -1), (1, 1), (-1, 1), (1, -1))]
    room = [min((float(np.linalg.norm(spot[:2] - at)) for at in taken), default=1.0) for spot in spots]
    return spots[int(np.argmax(room))]


def _within(thing: SceneObject, place: SceneObject) -> bool:
    """Whether the middle of a thing is between the walls of a container."""
    assert place.cavity is not None
    turn = Rotation.from_quat(place.quaternion, scalar_first=True)
    if place.articulation is not None:  # the floor goes on under the unit's top
        offset = turn.inv().apply(thing.position - place.position)
        return bool((np.abs(offset) < np.maximum(place.extent / 2, (0.115, 0.10, 0.08))).all())
    offset = turn.inv().apply(thing.position - place.cavity.floor)
    return bool((np.abs(offset[:2]) < place.cavity.size[:2] / 2).all()) and offset[2] < place.cavity.size[2] + 0.08


def _point(target: list[float] | np.ndarray) -> np.ndarray:
    place = np.asarray(target, np.float64)
    if place.shape not in ((2,), (3,)) or not np.isfinite(place).all():
        raise PerceptionError(f"a place is [x, y] in m, got {np.asarray(target).tolist()}")
    return place[:2].copy()


def _yaw(rotation: Rotation) -> float:
    """The yaw of a hand that points down."""
    closing = rotation.apply([0.0, -1.0, 0.0])  # y of `downward(0)` is -y
    return float(np.arctan2(-closing[0], closing[1]))


def _nearest_turn(angle: float, wanted: float, period: float) -> float:
    """The angle nearest to `wanted` among those that differ from `angle` by multiples of `period`."""
    return wanted + (angle - wanted + period / 2) % period - period / 2
