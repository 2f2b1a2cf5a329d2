"""What an arm may not exceed, whoever commands it: limits as data, from a robot's description, a file or a URDF."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from math import inf, isfinite
from pathlib import Path
from typing import Any

from robot.errors import TongsError
from robot.settings_file import Section, read_yaml

_ACCELERATION, _JERK = 5.0, 500.0
"""rad/s^2 and rad/s^3 of joints of which only range and speed are known."""


@dataclass(frozen=True)
class Box:
    """An axis-aligned box in the base frame, from corner to corner, m."""

    low: tuple[float, float, float]
    high: tuple[float, float, float]

    def __post_init__(self) -> None:
        if not all(low < high for low, high in zip(self.low, self.high, strict=True)):
            raise TongsError(f"a box needs low < high along every axis, got {list(self.low)} and {list(self.high)}")


@dataclass(frozen=True)
class Rates:
    """Largest speed, acceleration and jerk of one quantity, per s, s^2 and s^3; infinity for none."""

    speed: float
    acceleration: float = inf
    jerk: float = inf

    def __post_init__(self) -> None:
        for name in ("speed", "acceleration", "jerk"):
            if not getattr(self, name) > 0:
                raise TongsError(f"the limit of {name} must be a positive number, got {getattr(self, name)}")


@dataclass(frozen=True)
class JointLimit:
    """Range (rad, or m of a slide) and rates of a joint."""

    low: float
    high: float
    rates: Rates

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise TongsError(f"a joint's range needs low < high, got {self.low} and {self.high}")


@dataclass(frozen=True)
class Limits:
    """Everything that the safety filter holds a robot to. Lengths in m, angles in rad, base frame.

    Attributes:
        joints: {name: limit}, in the arm's order.
        translation, rotation: of the tool: norms of its velocity, acceleration and jerk.
        workspace: the box that the tool's point stays in.
        keep_out: boxes that it stays out of; with a collision model the whole arm does.
        clearance: that the arm keeps from itself and, with a collision model, from `keep_out`.
        step, turn: how far a command may be from the measured pose of the tool.
        joint_step: how far a command may be from a measured joint.
        gripper_force: N; entries of an action named "gripper_force" stay below it, and fingers that are measured to
            press harder are not closed any further.
        gripper_speed: openings (0 to 1) per s; None leaves it to the gripper's own controller.
        clamped_speed: an action that asks for up to this many times a speed limit is clamped, for more it is rejected.
        clamped_distance: m that a target may be outside of the workspace to be clamped; further out it is rejected.
        clamped_angle: the same for joints and their range, rad.
    """

    joints: Mapping[str, JointLimit]
    translation: Rates
    rotation: Rates
    workspace: Box
    keep_out: tuple[Box, ...] = ()
    clearance: float = 0.01
    step: float = 0.05
    turn: float = 0.35
    joint_step: float = 0.3
    gripper_force: float = inf
    gripper_speed: float | None = None
    clamped_speed: float = 2.0
    clamped_distance: float = 0.05
    clamped_angle: float = 0.1

    def __post_init__(self) -> None:
        for name in ("step", "turn", "joint_step", "gripper_force", "clamped_distance", "clamped_angle"):
            if not getattr(self, name) > 0:
                raise TongsError(f"the limit {name} must be a positive number, got {getattr(self, name)}")
        if self.clamped_speed < 1:
            raise TongsError(f"clamped_speed must be at least 1, got {self.clamped_speed}")
        if self.clearance < 0:
            raise TongsError(f"clearance must not be negative, got {self.clearance}")

    def scaled(self, share: float) -> Limits:
        """The same places at a share of all speeds and accelerations, such as 0.3 for a first try."""
        if not 0 < share <= 1:
            raise TongsError(f"a share of the limits must be above 0 and at most 1, got {share}")
        joints = {name: replace(limit, rates=_slower(limit.rates, share)) for name, limit in self.joints.items()}
        translation, rotation = _slower(self.translation, share), _slower(self.rotation, share)
        return replace(self, joints=joints, translation=translation, rotation=rotation)

    @classmethod
    def read(cls, path: Path | str, base: Limits) -> Limits:
        """The limits in a YAML file; what it does not say is as in `base`. `docs/robot.md` explains the keys.

        Raises:
            TongsError: a key is unknown or its value no limit.
        """
        section = Section(read_yaml(path), str(path), "")
        changes: dict[str, Any] = {}
        for name in ("translation", "rotation"):
            if name in section.content:
                changes[name] = _rates(section.section(name), getattr(base, name))
        if "joints" in section.content:
            changes["joints"] = _joints(section.section("joints"), base.joints)
        if "workspace" in section.content:
            changes["workspace"] = _box(section.section("workspace"))
        if "keep_out" in section.content:
            changes["keep_out"] = tuple(_box(part) for part in section.sections("keep_out"))
        plain = [field.name for field in fields(cls) if isinstance(field.default, float) or field.default is None]
        for name in plain:
            if name in section.content:
                changes[name] = section.number(name, none=name == "gripper_speed")
        section.finish()
        try:
            return replace(base, **changes)
        except TongsError as error:
            raise TongsError(f"{path}: {error}") from error


def joint_limits_of_urdf(
    path: Path | str, joints: Sequence[str], acceleration: float = _ACCELERATION, jerk: float = _JERK
) -> dict[str, JointLimit]:
    """Range and speed of joints by name from a URDF, which says nothing of acceleration and jerk: they are given.

    Raises:
        TongsError: the file is missing or no URDF, or lacks a joint or its limits.
    """
    from xml.etree import ElementTree

    try:
        root = ElementTree.parse(path).getroot()
    except FileNotFoundError as error:
        raise TongsError(f"there is no file {path}") from error
    except (ElementTree.ParseError, OSError) as error:
        raise TongsError(f"{path} is no readable URDF: {error}") from error
    there = {element.get("name", ""): element for element in root.iter("joint")}
    found = {}
    for name in joints:
        if name not in there:
            raise TongsError(f"{path} has no joint {name!r}; it has: {', '.join(sorted(there)) or 'none'}")
        limit = there[name].find("limit")
        try:
            assert limit is not None
            low, high = (-inf, inf) if there[name].get("type") == "continuous" else _range(limit)
            found[name] = JointLimit(low, high, Rates(float(limit.attrib["velocity"]), acceleration, jerk))
        except (AssertionError, KeyError, ValueError) as error:
            raise TongsError(f"{path}: joint {name!r} has no limit with lower, upper and velocity") from error
    return found


def _range(limit: Any) -> tuple[float, float]:
    return float(limit.attrib["lower"]), float(limit.attrib["upper"])


def _slower(rates: Rates, share: float) -> Rates:
    return Rates(rates.speed * share, rates.acceleration * share, rates.jerk)


def _rates(section: Section, base: Rates) -> Rates:
    names = ("speed", "acceleration", "jerk")
    rates = {name: section.number(name) if name in section.content else getattr(base, name) for name in names}
    section.finish()
    return _made(Rates, section, **rates)


def _joints(section: Section, base: Mapping[str, JointLimit]) -> dict[str, JointLimit]:
    """The joints of `base` with what the file says of them; if `base` has none, the file's own, which need range and
    speed."""
    joints = dict(base)
    for name in section.content:
        part = section.section(name)
        known = base.get(name)
        if known is None and base:
            raise section.error(name, f"is no joint of the robot; it has: {', '.join(base)}")
        if known is None and not {"range", "speed"} <= set(part.content):
            raise section.error(name, "needs range and speed, since nothing else says them")
        low, high = part.pair("range") if "range" in part.content or known is None else (known.low, known.high)
        rates = _rates(part, Rates(1.0, _ACCELERATION, _JERK) if known is None else known.rates)
        joints[name] = _made(JointLimit, section, low=low, high=high, rates=rates)
    return joints


def _box(section: Section) -> Box:
    corners = {key: _triple(section, key) for key in ("low", "high")}
    section.finish()
    return _made(Box, section, **corners)


def _triple(section: Section, key: str) -> tuple[float, float, float]:
    value = section.take(key)
    numeric = isinstance(value, Sequence) and all(isinstance(part, (int, float)) and isfinite(part) for part in value)
    if not numeric or len(value) != 3:
        raise section.error(key, f"must be three numbers, got {value!r}")
    return float(value[0]), float(value[1]), float(value[2])


def _made(kind: Any, section: Section, **values: Any) -> Any:
    try:
        return kind(**values)
    except TongsError as error:
        raise section.error("", f"is wrong: {error}") from error
