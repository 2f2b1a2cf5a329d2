"""From what a person holds down, keys or a gamepad, to an action of the robot's space."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from math import hypot

import numpy as np
from numpy.typing import NDArray

from robot.errors import ContractError, TongsError
from robot.interface import GRIPPER, ActionSpace
from robot.limits import Limits

KEYS: dict[str, tuple[int, float]] = {
    "w": (0, 1.0),
    "s": (0, -1.0),
    "a": (1, 1.0),
    "d": (1, -1.0),
    "r": (2, 1.0),
    "f": (2, -1.0),
    "l": (3, 1.0),
    "j": (3, -1.0),
    "i": (4, 1.0),
    "k": (4, -1.0),
    "q": (5, 1.0),
    "e": (5, -1.0),
}
"""Which entry of the velocity a key drives, and its sign: x forward, y left, z up, and the rotations about them."""
GRIPPER_KEY = "g"
_ENTRIES = ("dx", "dy", "dz", "rx", "ry", "rz")
_JOINT_ENTRIES = (1, 0, 2, 4, 5, 3)
_JOINT_KEYS = ("A D", "W S", "R F", "I K", "Q E", "L J")
"""Which entry of the velocity drives the first joint, the second, and so on; and its keys."""
_AHEAD = 0.1
"""s by which a joint's goal may be ahead of what was sent."""
_DEAD_ZONE = 0.15


def velocity_of_keys(held: Collection[str]) -> list[float]:
    """The velocity (6,) in shares of full speed, -1 to 1."""
    velocity = [0.0] * 6
    for key in held:
        if key in KEYS:
            axis, sign = KEYS[key]
            velocity[axis] += sign
    return velocity


def velocity_of_gamepad(axes: Sequence[float]) -> list[float]:
    """The velocity (6,) that the sticks of a gamepad with the web's standard mapping ask for: left stick forward and
    left, right stick up and turn. Small deflections are none; beyond them the speed grows from 0.

    Raises TongsError for axes that are no numbers from -1 to 1.
    """
    if len(axes) < 4 or not np.isfinite(axes).all() or max(map(abs, axes)) > 1.01:
        raise TongsError(f"a gamepad has four axes from -1 to 1, got {list(axes)}")
    left, forward, turn, up = (-beyond_dead_zone(value, _DEAD_ZONE) for value in axes[:4])
    return [forward, left, up, 0.0, 0.0, turn]


def beyond_dead_zone(deflection: float, dead_zone: float) -> float:
    """A deflection from -1 to 1 without its dead zone: 0 within it, growing from 0 beyond it, 1 at full deflection."""
    return float(np.sign(deflection)) * max(abs(deflection) - dead_zone, 0.0) / (1 - dead_zone)


class ToolDrive:
    """Velocities of the tool as actions of `ee_delta`, of all six entries or some.

    Args:
        space: of the robot.
        speed: m/s at full deflection.
        turning: rad/s at full deflection.
    """

    keys = (("W A S D", "move"), ("R F", "up, down"), ("Q E", "turn"), ("I J K L", "tilt"))
    """Which keys drive what."""

    def __init__(self, space: ActionSpace, speed: float = 0.15, turning: float = 0.8) -> None:
        self.space, self.speed, self.turning = space, speed, turning

    def action(self, velocity: Sequence[float], opening: float) -> NDArray[np.float32]:
        """The action (A,) of one period; `velocity` (6,) is in shares of full speed, the sum of the shifts and that of
        the turns at most 1 long, `opening` of the gripper is 0 to 1.

        Raises TongsError for anything but six finite numbers.
        """
        require_velocity([*velocity, opening])
        shift, turn = _unit(velocity[:3]), _unit(velocity[3:])
        period = 1.0 / self.space.rate
        values = [self.speed * period * part for part in shift] + [self.turning * period * part for part in turn]
        named: dict[str, float] = dict(zip(_ENTRIES, values, strict=True))
        named[GRIPPER] = _told(self.space, opening)
        return self.space.clip(np.array([named[name] for name in self.space.names]))


class JointDrive:
    """Velocities of single joints as actions of `joint_position`: for arms whose kinematics nobody has told us.

    The first joint, which turns the arm on its base, goes with left and right, the next two with forward and up, the
    others with tilting and turning; a seventh joint and those after it stay. One full deflection is `speed`, or what
    the limits allow if that is less. Where a joint is to be goes on from command to command, in step with the control
    loop, and is never further ahead of what was sent than it gets in a tenth of a second: an arm that does not come
    along, at a limit say, has nothing to catch up with.

    Args:
        space: of the robot.
        limits: of its joints.
        rate: commands per s.
        speed: rad/s, and `slide` m/s of a joint that slides, at full deflection.
    """

    def __init__(self, space: ActionSpace, limits: Limits, rate: float, speed: float = 0.5, slide: float = 0.1) -> None:
        self.space = space
        self._places = [i for i, name in enumerate(space.names) if name != GRIPPER]
        names = [space.names[i] for i in self._places]
        wanted = [slide if space.units[i] == "m" else speed for i in self._places]
        fastest = [
            min(one, limits.joints[name].rates.speed) if name in limits.joints else one
            for name, one in zip(names, wanted, strict=True)
        ]
        self._step = np.array(fastest) / rate
        self._ahead = _AHEAD * np.array(fastest)
        known = [limits.joints.get(name) for name in names]
        self._low = np.array([-np.inf if one is None else one.low for one in known])
        self._high = np.array([np.inf if one is None else one.high for one in known])
        self._low = np.maximum(self._low, np.array(space.low, np.float64)[self._places])
        self._high = np.minimum(self._high, np.array(space.high, np.float64)[self._places])
        self._wanted: NDArray[np.float64] | None = None
        self.keys = tuple(zip(_JOINT_KEYS, names, strict=False))

    def forget(self) -> None:
        """Begin anew at what is sent then."""
        self._wanted = None

    def action(self, velocity: Sequence[float], opening: float, sent: NDArray[np.float32]) -> NDArray[np.float32]:
        """Where to be (A,) one command later; `velocity` (6,) is in shares of full speed, `opening` of the gripper 0 to
        1, `sent` the command (A,) that went out last. Raises TongsError for anything but six finite numbers.
        """
        require_velocity([*velocity, opening])
        now = sent[self._places].astype(np.float64)
        shares = np.zeros(len(now))
        for joint, entry in enumerate(_JOINT_ENTRIES[: len(now)]):
            shares[joint] = min(max(velocity[entry], -1.0), 1.0)
        wanted = (now if self._wanted is None else self._wanted) + shares * self._step
        wanted = np.clip(np.clip(wanted, now - self._ahead, now + self._ahead), self._low, self._high)
        self._wanted = wanted
        action = np.full(self.space.dimension, _told(self.space, opening))
        action[self._places] = wanted
        return action.astype(np.float32)


def require_velocity(numbers: Sequence[float]) -> None:
    """Raise TongsError unless these are a velocity (6,) and an opening, all finite."""
    if len(numbers) != 7 or not np.isfinite(numbers).all():
        raise TongsError(f"a velocity has six finite entries, got {list(numbers[:-1])}")


def make_drive(space: ActionSpace, limits: Limits, rate: float) -> ToolDrive | JointDrive:
    """What turns a person's velocities into a robot's actions.

    Args:
        space, limits: of the robot.
        rate: commands per s.

    Raises:
        ContractError: nothing does, for robots that are told poses.
    """
    if space.kind == "ee_delta":
        return ToolDrive(space)
    if space.kind == "joint_position":
        return JointDrive(space, limits, rate)
    raise ContractError(f"a person drives a robot that takes ee_delta or joint_position, this one takes {space.kind}")


def _told(space: ActionSpace, opening: float) -> float:
    """An opening (1 = open) as the space has it."""
    return space.gripper_open * opening + (1.0 - space.gripper_open) * (1.0 - opening)


def _unit(vector: Sequence[float]) -> list[float]:
    length = hypot(*vector)
    return [part / length for part in vector] if length > 1.0 else list(vector)
