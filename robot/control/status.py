"""What a control loop tells about itself: its state, its numbers, and a log of what happened."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum


class State(str, Enum):
    """What the loop is doing.

    IDLE sends nothing; RUNNING follows the policy; PAUSED and STOPPED hold the arm where it came to rest, PAUSED to
    go on and STOPPED after something that needs a person; OPERATOR follows a person; EMERGENCY has told the robot to
    stop and sends nothing until it is re-armed.
    """

    IDLE = "idle"
    RUNNING = "running"
    PAUSED = "paused"
    OPERATOR = "operator"
    STOPPED = "stopped"
    EMERGENCY = "emergency"


@dataclass(frozen=True)
class Event:
    """Something that happened.

    Attributes:
        number: counts up from 1; one that is missing was forgotten, for the log is finite.
        time: s on the robot's clock.
        kind: such as "state", "instruction", "limit", "fault", "chunk", "command", "starved", "correction".
        text: a sentence.
    """

    number: int
    time: float
    kind: str
    text: str


class EventLog:
    """The newest events, and how many of each kind there ever were. Not thread-safe by itself.

    Args:
        size: events that are kept.
    """

    def __init__(self, size: int = 10_000) -> None:
        self._events: deque[Event] = deque(maxlen=size)
        self._number = 0
        self._said: dict[str, float] = {}
        self.counts: Counter[str] = Counter()

    def add(self, time: float, kind: str, text: str) -> None:
        self._number += 1
        self.counts[kind] += 1
        self._events.append(Event(self._number, time, kind, text))

    def add_throttled(self, time: float, kind: str, subject: str, text: str, every: float = 1.0) -> None:
        """Count it; log it if the last one about the same subject is so many seconds ago."""
        if time - self._said.get(subject, -every) >= every or time < self._said[subject]:
            self._said[subject] = time
            self.add(time, kind, text)
        else:
            self.counts[kind] += 1

    def after(self, number: int) -> list[Event]:
        """The events with a higher number that are still known."""
        return [event for event in self._events if event.number > number]


@dataclass(frozen=True)
class Timing:
    """How well the loop keeps its time; all in ms but the rate (Hz) and the counts.

    Lateness is how long after its time a period began; a deadline is missed where that is more than 5 ms.
    """

    rate: float = 0.0
    periods: int = 0
    missed: int = 0
    skipped: int = 0
    late_p50: float = 0.0
    late_p99: float = 0.0
    late_p999: float = 0.0
    late_max: float = 0.0
    work_p99: float = 0.0


@dataclass(frozen=True)
class Status:
    """A loop at one moment.

    Attributes:
        state: see `State`.
        reason: why it is in that state, or why it does not move in it; "" if there is nothing to say.
        instruction: what the policy is told.
        motion, motion_source: the language motion that it carries out, "" if it has none, and who chose it.
        command: what a policy of two levels chose to do; "" if it is corrected, or for all others.
        time: s on the robot's clock.
        faults: the faults that are present.
        queue: s of motion that are known.
        asking: whether the policy is at work.
        latency_p50, latency_p99: s from an observation to its chunk, of the last ones; None before the first.
        observation_age: s; None before the first.
        speed: share of the speed that the policy asked for.
        limits: how often each limit was met.
        counts: how often each kind of event happened.
        timing: of the loop's thread.
    """

    state: State
    reason: str
    instruction: str
    command: str
    time: float
    faults: tuple[str, ...]
    queue: float
    asking: bool
    latency_p50: float | None
    latency_p99: float | None
    observation_age: float | None
    speed: float
    limits: Mapping[str, int]
    counts: Mapping[str, int]
    motion: str = ""
    motion_source: str = "model"
    timing: Timing = Timing()
