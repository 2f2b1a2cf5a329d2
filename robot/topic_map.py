"""The topic map: a YAML file that says which ROS 2 topics give a robot's cameras, state, actions and instruction.

One map serves the importer of recorded bags and the live robot. `docs/importing.md` explains every key.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import pi
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from robot import ros_messages
from robot.errors import TongsError
from robot.interface import EE_DELTA
from robot.settings_file import REQUIRED, Section, read_yaml

SI = {
    "deg": ("rad", pi / 180),
    "deg/s": ("rad/s", pi / 180),
    "cm": ("m", 1e-2),
    "mm": ("m", 1e-3),
    "cm/s": ("m/s", 1e-2),
    "mm/s": ("m/s", 1e-3),
    "%": ("1", 1e-2),
}
"""Units that are turned into SI: {unit of the message: (unit that is kept, factor)}."""
UNITS = ("m", "rad", "1", "m/s", "rad/s", "m/s^2", "N", "N m", *SI)

POSITION_NAMES = ("x", "y", "z")
ROTATIONS: Mapping[str, tuple[tuple[str, ...], str]] = {
    "quaternion": (("qw", "qx", "qy", "qz"), "1"),
    "rotation_vector": (("rx", "ry", "rz"), "rad"),
    "columns": (("r11", "r21", "r31", "r12", "r22", "r32"), "1"),
}
"""Forms of a rotation in the state, the names of their entries and their unit; `columns` are the first two columns of
the rotation matrix, which `robot.skills` reads."""

TWIST = ("vx", "vy", "vz", "wx", "wy", "wz")
TWIST_UNITS = ("m/s", "m/s", "m/s", "rad/s", "rad/s", "rad/s")
_TWIST_FIELDS = tuple(f"twist.{part}.{axis}" for part in ("linear", "angular") for axis in "xyz")

TIMES = ("header", "reception")
KINDS = (EE_DELTA.kind, "ee_pose", "joint_position", "joint_velocity", "ee_twist")
SECOND = 10**9
CONTRACT = "tongs_contract"
"""Key of a bag's custom data (in its `metadata.yaml`) under which the recorder keeps the topic map, as YAML."""


@dataclass(frozen=True)
class Source:
    """A topic, the clock of its messages, how old (ns) the newest one may be (None for any age), and the type of its
    messages, which a live robot needs and a bag knows by itself."""

    topic: str
    time: Literal["header", "reception"]
    max_age: int | None
    type: str | None = None


@dataclass(frozen=True)
class Camera(Source):
    """A topic of images; `size` (H, W) is what they are scaled down to, None for as they are."""

    size: tuple[int, int] | None = None

    def read(self, message: Any) -> NDArray[np.uint8]:
        """uint8 (H, W, 3) RGB."""
        from robot.images import scale_down

        picture = ros_messages.image(message, self.size)
        return picture if self.size is None else scale_down(picture, self.size)


@dataclass(frozen=True)
class Numbers(Source):
    """A topic of numbers: joints by name, a pose, a twist, or fields by path.

    Attributes:
        names, units: one per number that is kept; SI.
        joints: names of joints in a JointState; then `fields` is one of position, velocity, effort.
        pose: form of the rotation, a key of `ROTATIONS`; then the message holds a pose.
        twist: whether the message is a TwistStamped; then `fields` are its six numbers.
        fields: paths to numbers.
        frame: what `header.frame_id` must be; None for anything.
        scale, offset: kept = scale * value + offset, with one scale for all numbers or one for each.
    """

    names: tuple[str, ...] = ()
    units: tuple[str, ...] = ()
    joints: tuple[str, ...] = ()
    pose: str | None = None
    fields: tuple[str, ...] = ()
    frame: str | None = None
    scale: float | tuple[float, ...] = 1.0
    offset: float = 0.0
    twist: bool = False

    def read(self, message: Any) -> NDArray[np.float64]:
        """(len(names),) in SI units."""
        if self.frame is not None and ros_messages.frame_id(message) != self.frame:
            raise TongsError(
                f"{self.topic} is in the frame {ros_messages.frame_id(message)!r}, the topic map wants {self.frame!r}"
            )
        if self.pose is not None:
            values = _pose(ros_messages.pose(message), self.pose)
        elif self.joints:
            values = ros_messages.joints(message, self.fields[0], self.joints)
        else:
            values = np.concatenate([ros_messages.numbers(message, path) for path in self.fields])
        if len(values) != len(self.names):
            raise TongsError(f"{self.topic} gives {len(values)} numbers, the topic map names {len(self.names)}")
        if not np.isfinite(values).all():
            raise TongsError(f"{self.topic} gives NaN or infinity: {values.tolist()}")
        return np.multiply(self.scale, values) + self.offset

    def written(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """(len(names),) as the message has them, from SI units: what `read` undoes."""
        return np.divide(values - self.offset, self.scale)


@dataclass(frozen=True)
class Action:
    """What the arm is told, from the topics that told it.

    Attributes:
        kind: `ee_delta` (computed from commanded poses; then `commands` are the pose, as quaternion, and the gripper
            opening), or what the commands are as they come.
        commands: the topics, in the order of the action's entries.
        at: whether an action is the command in force at the `end` of its control step or at its `start`.
    """

    kind: str
    commands: tuple[Numbers, ...]
    at: Literal["start", "end"]

    @property
    def names(self) -> tuple[str, ...]:
        if self.kind == EE_DELTA.kind:
            return EE_DELTA.names
        return tuple(name for command in self.commands for name in command.names)

    @property
    def units(self) -> tuple[str, ...]:
        if self.kind == EE_DELTA.kind:
            return EE_DELTA.units
        return tuple(unit for command in self.commands for unit in command.units)


@dataclass(frozen=True)
class Episodes:
    """Where an episode begins and ends: the whole `bag`, a `gap` in the sensors' messages, or a `topic` that says so.

    Attributes:
        gap: seconds without a message that separate two episodes.
        topic, field: where a value is that turns to `start` and to `stop`.
    """

    by: Literal["bag", "gap", "topic"]
    gap: float = 0.0
    topic: str = ""
    field: str = "data"
    start: Any = True
    stop: Any = False


@dataclass(frozen=True)
class TopicMap:
    """A whole topic map; `TopicMap.parse` checks it.

    Attributes:
        robot_type: free text, kept in the dataset.
        rate: observations per second.
        cameras: {name: Camera}.
        state: topics of the state vector, in order.
        action: None for a robot that is only watched.
        instruction: text, or a topic of std_msgs/String, or None.
        delay: how long after its time a sample is taken (ns), so that late messages count; None waits for all.
        phase: shift of the grid after the first complete set of messages (ns).
        stale: whether a message older than its `max_age` is an `error` or the `end` of the episode.
        min_rate: least share of `rate` at which each sensor must have delivered something new.
        max_jitter: largest standard deviation (s) of the intervals between a sensor's samples.
    """

    robot_type: str
    rate: float
    cameras: Mapping[str, Camera]
    state: tuple[Numbers, ...]
    action: Action | None
    instruction: str | Source | None
    episodes: Episodes
    delay: int | None
    phase: int
    stale: Literal["error", "end"]
    min_rate: float
    max_jitter: float

    @classmethod
    def read(cls, path: Path | str) -> TopicMap:
        """The map in a YAML file. Raises TongsError, naming file and key."""
        return cls.parse(read_yaml(path), str(path))

    @classmethod
    def parse(cls, content: Any, name: str = "topic map") -> TopicMap:
        """The map in what a YAML file held. Raises TongsError, naming the key, what it is and what would be right."""
        return _parse(Section(content, name, ""))

    @property
    def sensors(self) -> tuple[str, ...]:
        """One name per source of observations: cameras by name, state by topic."""
        return (*self.cameras, *dict.fromkeys(entry.topic for entry in self.state))

    @property
    def state_names(self) -> tuple[str, ...]:
        return tuple(name for entry in self.state for name in entry.names)

    @property
    def state_units(self) -> tuple[str, ...]:
        return tuple(unit for entry in self.state for unit in entry.units)

    @property
    def observed(self) -> tuple[Source, ...]:
        """Sources of observations: cameras and state."""
        return (*self.cameras.values(), *self.state)

    @property
    def sources(self) -> tuple[Source, ...]:
        """Every source: cameras, state, commands, instruction."""
        commands = () if self.action is None else self.action.commands
        told = (self.instruction,) if isinstance(self.instruction, Source) else ()
        return (*self.observed, *commands, *told)

    @property
    def clocks(self) -> dict[str, Literal["header", "reception"]]:
        """{topic: the clock of its messages} of every source."""
        return {source.topic: source.time for source in self.sources}


def _pose(values: NDArray[np.float64], form: str) -> NDArray[np.float64]:
    """Position and rotation in one of the forms, from position and quaternion w, x, y, z (7,)."""
    from scipy.spatial.transform import Rotation

    if form == "quaternion":
        return values
    rotation = Rotation.from_quat(values[3:], scalar_first=True)
    turn = rotation.as_rotvec() if form == "rotation_vector" else rotation.as_matrix()[:, :2].T.ravel()
    return np.concatenate([values[:3], turn])


# --- reading and checking


@dataclass(frozen=True)
class _Defaults:
    time: str
    max_age: int | None


def _parse(section: Section) -> TopicMap:
    max_age = section.number("max_age", 0.2)
    defaults = _Defaults(section.choice("time", TIMES, "header"), _nanoseconds(max_age))
    rate = section.number("rate", least=1e-3)
    camera_sections = section.section("cameras", {})
    cameras = {name: _camera(camera_sections.section(name), defaults) for name in camera_sections.content}
    state = tuple(_numbers(entry, defaults) for entry in section.sections("state"))
    timing = section.section("timing", {})
    result = TopicMap(
        robot_type=section.text("robot_type"),
        rate=rate,
        cameras=cameras,
        state=state,
        action=_action(section.section("action"), defaults) if "action" in section.content else None,
        instruction=_instruction(section.section("instruction")) if "instruction" in section.content else None,
        episodes=_episodes(section.section("episodes", {})),
        delay=_nanoseconds(section.number("delay", 0.0, none=True)),
        phase=_nanoseconds(section.number("phase", 0.0)) or 0,
        stale=section.choice("stale", ("error", "end"), "error"),
        min_rate=timing.number("min_rate", 0.8),
        max_jitter=timing.number("max_jitter", 0.5 / rate),
    )
    section.take("action", None)
    section.take("instruction", None)
    timing.finish()
    section.finish()
    _require_once(section, "state", result.state_names)
    if result.action is not None:
        _require_once(section, "action", result.action.names)
    for source in result.sources:
        if source.time != result.clocks[source.topic]:
            raise section.error("", f"gives {source.topic} both times, header and reception; it can have one")
    return result


def _nanoseconds(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds * SECOND)


def _require_once(section: Section, key: str, names: Sequence[str]) -> None:
    if twice := [name for name in dict.fromkeys(names) if names.count(name) > 1]:
        raise section.error(key, f"has the name {', '.join(twice)} twice; give names of your own with `names`")


def _source(section: Section, defaults: _Defaults) -> tuple[str, Any, int | None, str | None]:
    age = None if defaults.max_age is None else defaults.max_age / SECOND
    max_age = _nanoseconds(section.number("max_age", age, none=True))
    return section.topic(), section.choice("time", TIMES, defaults.time), max_age, _type(section)


def _type(section: Section) -> str | None:
    kind = section.text("type", None)
    if kind is not None and not ros_messages.TYPE.fullmatch(kind):
        raise section.error("type", f"must be a message type such as sensor_msgs/msg/JointState, got {kind!r}")
    return kind


def _camera(section: Section, defaults: _Defaults) -> Camera:
    source = _source(section, defaults)
    size = None
    if "size" in section.content:
        height, width = value if isinstance(value := section.take("size"), Sequence) and len(value) == 2 else (0, 0)
        if not isinstance(height, int) or not isinstance(width, int) or min(height, width) < 1:
            raise section.error("size", f"must be [height, width] in pixels, got {value!r}")
        size = height, width
    section.finish()
    return Camera(*source, size=size)


def _numbers(section: Section, defaults: _Defaults, names: tuple[str, ...] = ()) -> Numbers:
    """An entry of `state` or of `commands`: one of `joints`, `pose`, `twist` and `fields` says what is read.

    `names` are those of the numbers if the entry gives none.
    """
    source = _source(section, defaults)
    forms = [key for key in ("joints", "pose", "twist", "fields") if key in section.content]
    if len(forms) != 1:
        raise section.error(
            "", f"needs exactly one of joints, pose, twist and fields, got {', '.join(forms) or 'none'}"
        )
    frame, unit = section.text("frame", None), section.choice("unit", UNITS, None)
    if forms[0] == "pose":
        entry = _pose_entry(section, source, unit, frame)
    elif forms[0] == "twist":
        entry = _twist_entry(section, source, unit, frame)
    else:
        entry = _plain_entry(section, source, unit, frame, names)
    section.finish()
    return entry


def _pose_entry(section: Section, source: tuple[Any, ...], unit: str | None, frame: str | None) -> Numbers:
    form = section.choice("pose", ROTATIONS)
    turns, turn_unit = ROTATIONS[form]
    if unit is not None:
        raise section.error("unit", "is not for a pose, which is in m and rad in ROS")
    standard = (*POSITION_NAMES, *turns)
    names = section.texts("names", standard)
    if len(names) != len(standard):
        raise section.error("names", f"must be {len(standard)} names for {', '.join(standard)}, got {len(names)}")
    units = (*("m",) * 3, *(turn_unit,) * len(turns))
    return Numbers(*source, names=names, units=units, pose=form, frame=frame)


def _twist_entry(section: Section, source: tuple[Any, ...], unit: str | None, frame: str | None) -> Numbers:
    """Velocities in m/s and rad/s, or as MoveIt Servo's `unitless`: -1 to 1 of the largest ones."""
    form = section.choice("twist", ("speed_units", "unitless"))
    if unit is not None:
        raise section.error("unit", "is not for a twist, which is in m/s and rad/s or unitless")
    scale: float | tuple[float, ...] = 1.0
    if form == "unitless":
        linear, rotational = (section.number(key, least=1e-6) for key in ("linear", "rotational"))
        scale = (*(linear,) * 3, *(rotational,) * 3)
    return Numbers(*source, names=TWIST, units=TWIST_UNITS, fields=_TWIST_FIELDS, frame=frame, scale=scale, twist=True)


def _plain_entry(
    section: Section, source: tuple[Any, ...], unit: str | None, frame: str | None, names: tuple[str, ...]
) -> Numbers:
    joints = section.texts("joints", ())
    if joints:
        fields = (section.choice("field", ("position", "velocity", "effort"), "position"),)
    else:
        fields = section.texts("fields")
        for path in fields:
            if not ros_messages.FIELD.fullmatch(path):
                raise section.error("fields", f"must be paths such as data[0] or pose.position.x, got {path!r}")
    names = section.texts("names", joints or names or REQUIRED)
    if joints and len(names) != len(joints):
        raise section.error("names", f"must be one name per joint, got {len(names)} for {len(joints)}")
    scale, offset = 1.0, 0.0
    if "range" in section.content:  # what means 0 and what means 1, such as fingers closed and open
        low, high = section.pair("range")
        if unit is not None:
            raise section.error("unit", "is not for a range, which is kept as 0 to 1")
        unit, scale, offset = "1", 1.0 / (high - low), -low / (high - low)
    elif unit is None:
        raise section.error("unit", f"is missing; known are {', '.join(UNITS)}")
    elif unit in SI:
        unit, scale = SI[unit]
    units = (unit,) * len(names)
    return Numbers(
        *source, names=names, units=units, joints=joints, fields=fields, frame=frame, scale=scale, offset=offset
    )


def _action(section: Section, defaults: _Defaults) -> Action:
    held = _Defaults(defaults.time, None)  # a command is in force until the next one
    kind = section.choice("kind", KINDS)
    if kind == EE_DELTA.kind:
        pose_section, gripper_section = section.section("pose"), section.section("gripper")
        pose = Numbers(
            *_source(pose_section, held),
            names=(*POSITION_NAMES, *ROTATIONS["quaternion"][0]),
            units=(*("m",) * 3, *("1",) * 4),
            pose="quaternion",
            frame=pose_section.text("frame", None),
        )
        pose_section.finish()
        gripper = _numbers(gripper_section, held, ("gripper",))
        if gripper.units != ("1",):
            raise section.error("gripper", "must be one number, 0 closed to 1 open: `range: [closed, open]`")
        action = Action(kind, (pose, gripper), "end")
    else:
        commands = tuple(_numbers(entry, held) for entry in section.sections("commands"))
        action = Action(kind, commands, section.choice("at", ("start", "end"), "end"))
    section.finish()
    return action


def _instruction(section: Section) -> str | Source:
    if "text" in section.content:
        result: str | Source = section.text("text").strip()
    else:
        result = Source(section.topic(), "reception", None, _type(section))
    section.finish()
    return result


def _episodes(section: Section) -> Episodes:
    by = section.choice("by", ("bag", "gap", "topic"), "bag")
    if by == "gap":
        result = Episodes(by, gap=section.number("seconds", least=1e-3))
    elif by == "topic":
        start, stop = section.take("start", True), section.take("stop", False)
        if start == stop:
            raise section.error("start", f"and stop must differ, got {start!r} twice")
        result = Episodes(by, topic=section.topic(), field=section.text("field", "data"), start=start, stop=stop)
    else:
        result = Episodes("bag")
    section.finish()
    return result
