"""From messages that come when they come to samples on a regular grid: one piece for recorded bags and the live robot.

A sample at time t is made of the newest message of each source that is not newer than t (as-of), and that had arrived
`delay` after t at the latest. So a bag that is read back gives, to the last bit, what a robot saw that pushed the same
messages as they arrived and asked for the sample of t at t + delay.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from robot import ros_messages
from robot.errors import TongsError
from robot.interface import EE_DELTA
from robot.topic_map import SECOND, Camera, Source, TopicMap

FUTURE = SECOND // 10
"""How far (ns) a header stamp may lie after the message's reception: two clocks may disagree as much."""


class NoSampleError(TongsError):
    """A source has no message for this time yet."""


class StaleError(NoSampleError):
    """The newest message of a source is older than its `max_age`."""


@dataclass(frozen=True)
class Sample:
    """What the robot saw at one time of the grid.

    Attributes:
        time: ns.
        images: {camera: uint8 (H, W, 3)}.
        state: float32 (D,), named by `TopicMap.state_names`.
        instruction: the newest text of the instruction's topic, or the map's own; "" if it has neither.
        stamps: {sensor: ns, when what it says was measured}, a sensor of `TopicMap.sensors`.
    """

    time: int
    images: Mapping[str, NDArray[np.uint8]]
    state: NDArray[np.float32]
    instruction: str
    stamps: Mapping[str, int]


@dataclass(frozen=True)
class Timing:
    """How a sensor kept up with the grid.

    Attributes:
        rate: different messages per second among its samples, Hz; a message that is used twice counts once.
        jitter: standard deviation of the intervals between successive samples' stamps, s.
        age: largest age of a sample, s.
    """

    rate: float
    jitter: float
    age: float


class Resampler:
    """Takes messages in any order and gives samples at times that do not run backwards.

    All times are whole nanoseconds on the clock of the messages. Errors are TongsErrors that name the topic.
    """

    def __init__(self, topic_map: TopicMap) -> None:
        self.map = topic_map
        self.period = round(SECOND / topic_map.rate)
        self._clocks = topic_map.clocks
        self._messages: dict[str, list[_Message]] = {topic: [] for topic in self._clocks}

    def push(self, topic: str, message: Any, arrived: int) -> None:
        """Take a message of one of the map's topics that arrived at a time."""
        stamp = message_stamp(topic, message, arrived, self._clocks[topic])
        if self.map.delay is not None and stamp > arrived + FUTURE:
            raise TongsError(
                f"a message of {topic} is stamped {(stamp - arrived) / SECOND:.3f} s after it arrived: the clocks of "
                "sender and receiver differ; choose `time: reception`, or `delay: null` for a bag"
            )
        insort(self._messages[topic], _Message(stamp, arrived, message))

    def sample_at(self, time: int) -> Sample:
        """What was seen as of a time.

        Raises:
            NoSampleError: a source has said nothing yet; StaleError, what it said is older than its `max_age`.
        """
        stamps: dict[str, int] = {}
        images = {}
        for name, camera in self.map.cameras.items():
            newest = self._as_of(camera, time)
            if camera not in newest.pictures:  # a live robot is asked more often than its cameras look
                newest.pictures[camera] = _naming(camera.topic, camera.read, newest.content)
            images[name] = newest.pictures[camera]
            stamps[name] = newest.stamp
        state = []
        for entry in self.map.state:
            newest = self._as_of(entry, time)
            state.append(_naming(entry.topic, entry.read, newest.content))
            stamps[entry.topic] = newest.stamp
        return Sample(time, images, np.concatenate(state).astype(np.float32), self.instruction_at(time), stamps)

    def instruction_at(self, time: int) -> str:
        """The instruction as of a time."""
        told = self.map.instruction
        if isinstance(told, Source):
            return _naming(told.topic, ros_messages.text, self._as_of(told, time).content).strip()
        return told or ""

    def command_at(self, time: int) -> NDArray[np.float64]:
        """What the arm was told last as of a time: the entries of the map's action topics, in order."""
        if self.map.action is None:
            raise TongsError("the topic map has no action")
        commands = self.map.action.commands
        return np.concatenate([_naming(c.topic, c.read, self._as_of(c, time).content) for c in commands])

    def action_at(self, time: int) -> NDArray[np.float32]:
        """The action (A,) of the control step that begins at a time; its end must have been reached."""
        action = self.map.action
        if action is not None and action.at == "start":
            return self.command_at(time).astype(np.float32)
        after = self.command_at(time + self.period)
        if action is not None and action.kind == EE_DELTA.kind:
            return ee_delta(self.command_at(time), after)
        return after.astype(np.float32)

    def forget_before(self, time: int) -> None:
        """Let go of messages that no sample from this time on can need."""
        for messages in self._messages.values():
            newest = self._usable(messages, time)
            if newest is not None:
                del messages[:newest]

    def _usable(self, messages: list[_Message], time: int) -> int | None:
        """Place of the newest message that is not newer than a time and had arrived by then."""
        place = bisect_right(messages, time, key=lambda message: message.stamp) - 1
        while place >= 0:
            if self.map.delay is None or messages[place].arrived <= time + self.map.delay:
                return place
            place -= 1
        return None

    def _as_of(self, source: Source, time: int) -> _Message:
        messages = self._messages[source.topic]
        place = self._usable(messages, time)
        if place is None:
            raise NoSampleError(f"{source.topic} has said nothing yet")
        age = time - messages[place].stamp
        if source.max_age is not None and age > source.max_age:
            raise StaleError(
                f"the newest message of {source.topic} is {age / SECOND:.3f} s old, "
                f"{source.max_age / SECOND:g} s are allowed"
            )
        return messages[place]


@dataclass(frozen=True, eq=False)
class _Message:
    stamp: int
    arrived: int
    content: Any
    pictures: dict[Camera, NDArray[np.uint8]] = field(default_factory=dict)

    def __lt__(self, other: _Message) -> bool:
        return (self.stamp, self.arrived) < (other.stamp, other.arrived)


def message_stamp(topic: str, message: Any, arrived: int, clock: str) -> int:
    """When a message was made, ns, by its header or by its reception."""
    if clock == "reception":
        return arrived
    stamp = ros_messages.header_stamp(message)
    if not stamp:
        lacks = "has no header" if stamp is None else "has a header without a time stamp"
        raise TongsError(f"{topic} ({ros_messages.type_name(message)}) {lacks}; give it `time: reception`")
    return stamp


def ee_delta(before: NDArray[np.float64], after: NDArray[np.float64]) -> NDArray[np.float32]:
    """The `EE_DELTA` action (7,) between two commands (8,): position m, quaternion w, x, y, z, gripper opening.

    The rotation vector is in the base frame and applied on the left: R_after = exp(r) R_before. The opening is that of
    the later command.
    """
    first, second = (Rotation.from_quat(pose[3:7], scalar_first=True) for pose in (before, after))
    turn = (second * first.inv()).as_rotvec()
    return np.concatenate([after[:3] - before[:3], turn, after[7:]]).astype(np.float32)


def measure(stamps: NDArray[np.int64], times: NDArray[np.int64]) -> Timing:
    """The timing of a sensor from the stamps (N,) of its samples at the times (N,) of the grid, ns."""
    seconds = (times[-1] - times[0]) / SECOND
    intervals = np.diff(stamps)
    return Timing(
        rate=float(np.count_nonzero(intervals) / seconds) if seconds else float("nan"),
        jitter=float(intervals.std() / SECOND) if len(intervals) else 0.0,
        age=float((times - stamps).max() / SECOND),
    )


def _naming(topic: str, read: Any, message: Any) -> Any:
    """What `read` makes of a message; its error says which topic it was."""
    try:
        return read(message)
    except TongsError as error:
        raise TongsError(f"{topic}: {error}") from error
