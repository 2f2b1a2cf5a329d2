"""Language events in an episode: corrections, sub-tasks and motions, in the columns of newer LeRobot versions."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pyarrow as pa

from robot.errors import TongsError, unknown
from robot.interface import Correction

PERSISTENT = "language_persistent"
EVENTS = "language_events"
COLUMNS = (PERSISTENT, EVENTS)
PERSISTENT_STYLES = ("subtask", "motion", "plan", "memory", "task_aug")
"""Styles that hold from their time on until the next row of the style."""
EVENT_STYLES = ("interjection", "vqa", "trace")
"""Styles that belong to one instant."""
CAMERA_STYLES = ("vqa", "trace")
"""Styles that speak of one camera's picture and have to name it."""
LanguageStorage = Literal["episodes", "frames"]
FEATURES = {key: {"dtype": "language", "shape": [1], "names": None} for key in COLUMNS}
"""The entries of info.json that announce the columns in the data files."""


@dataclass(frozen=True)
class LanguageEvent:
    """Something said or decided at a time within an episode.

    Attributes:
        time: seconds since the first frame of the episode.
        text: what was said; None only for a speech act that is a tool call.
        style: `interjection` (a correction), `subtask`, `motion`, or another of LeRobot's; None for a tool call.
        role: `user` for a person, `assistant` for a model.
        camera: the camera's feature key for the styles in `CAMERA_STYLES`, otherwise None.
        tool_calls: calls as JSON texts, or None.
    """

    time: float
    text: str | None
    style: str | None
    role: str = "user"
    camera: str | None = None
    tool_calls: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if not math.isfinite(self.time) or self.time < 0:
            raise TongsError(f"a language event needs a time of at least 0 s into its episode, got {self.time}")
        if self.style is not None and self.style not in PERSISTENT_STYLES + EVENT_STYLES:
            raise unknown("style of a language event", self.style, PERSISTENT_STYLES + EVENT_STYLES)
        if self.style is None and not self.tool_calls:
            raise TongsError(f"a language event at {self.time:g} s has neither a style nor a tool call")
        if not self.text and not self.tool_calls:
            raise TongsError(f"a language event at {self.time:g} s has neither a text nor a tool call")
        if (self.camera is not None) != (self.style in CAMERA_STYLES):
            raise TongsError(
                f"a language event names a camera if its style is one of {', '.join(CAMERA_STYLES)} and only then; "
                f"style {self.style!r} came with camera {self.camera!r}"
            )

    @property
    def is_persistent(self) -> bool:
        """Whether it holds until the next event of its style."""
        return self.style in PERSISTENT_STYLES


def correction(said: Correction, start: float) -> LanguageEvent:
    """A correction of an episode that began at `start` (s, the robot's clock)."""
    role = "user" if said.source == "human" else "assistant"
    return LanguageEvent(said.time - start, said.text, "interjection", role)


def subtask(time: float, text: str) -> LanguageEvent:
    """What the robot is about from `time` (s) on."""
    return LanguageEvent(time, text, "subtask", "assistant")


def motion(time: float, text: str) -> LanguageEvent:
    """How the arm moves from `time` (s) on, such as "move left", without reference to a camera."""
    return LanguageEvent(time, text, "motion", "assistant")


def active_at(events: Sequence[LanguageEvent], style: str, time: float) -> LanguageEvent | None:
    """The event of a persistent style that holds at `time` (s); None before the first."""
    begun = [event for event in events if event.style == style and event.time <= time]
    return max(begun, key=lambda event: event.time) if begun else None


def _row_type(timestamp: pa.DataType | None) -> pa.StructType:
    fields: list[tuple[str, pa.DataType]] = [(name, pa.string()) for name in ("role", "content", "style")]
    if timestamp is not None:
        fields.append(("timestamp", timestamp))
    return pa.struct([*fields, ("camera", pa.string()), ("tool_calls", pa.list_(pa.string()))])


EPISODE_TYPES: dict[str, pa.DataType] = {key: pa.list_(_row_type(pa.float64())) for key in COLUMNS}
"""In the episode's metadata every row has its exact time."""
FRAME_TYPES: dict[str, pa.DataType] = {PERSISTENT: pa.list_(_row_type(pa.float32())), EVENTS: pa.list_(_row_type(None))}
"""In the data files a persistent row has the time of its frame, and an event stands on its frame."""


def _row(event: LanguageEvent, timestamp: float | None) -> dict[str, Any]:
    row: dict[str, Any] = {"role": event.role, "content": event.text, "style": event.style}
    if timestamp is not None:
        row["timestamp"] = timestamp
    calls = None if event.tool_calls is None else list(event.tool_calls)
    return row | {"camera": event.camera, "tool_calls": calls}


def _ordered(events: Sequence[LanguageEvent]) -> list[LanguageEvent]:
    return sorted(events, key=lambda event: (event.time, event.style or "", event.role, event.camera or ""))


def to_episode_row(events: Sequence[LanguageEvent]) -> dict[str, list[dict[str, Any]]]:
    """Both columns of the episode's metadata."""
    ordered = _ordered(events)
    return {
        PERSISTENT: [_row(event, event.time) for event in ordered if event.is_persistent],
        EVENTS: [_row(event, event.time) for event in ordered if not event.is_persistent],
    }


def to_frames(events: Sequence[LanguageEvent], length: int, fps: int) -> dict[str, pa.Array]:
    """Both columns of the data file of an episode of N = `length` frames, as LeRobot arranges them.

    The persistent rows stand on every frame, an event only on the first frame at or after its time, which is the first
    at which a policy could have heard it. The frame's time replaces the exact one.
    """

    def frame(event: LanguageEvent) -> int:
        return min(math.ceil(event.time * fps - 1e-6), length - 1)

    ordered = _ordered(events)
    persistent = [_row(event, frame(event) / fps) for event in ordered if event.is_persistent]
    on_frames: list[list[dict[str, Any]]] = [[] for _ in range(length)]
    for event in ordered:
        if not event.is_persistent:
            on_frames[frame(event)].append(_row(event, None))
    return {
        PERSISTENT: pa.array([persistent] * length, FRAME_TYPES[PERSISTENT]),
        EVENTS: pa.array(on_frames, FRAME_TYPES[EVENTS]),
    }


def _event(row: Mapping[str, Any], time: float) -> LanguageEvent:
    calls = row.get("tool_calls")
    texts = None if calls is None else tuple(call if isinstance(call, str) else json.dumps(call) for call in calls)
    return LanguageEvent(time, row.get("content"), row.get("style"), row["role"], row.get("camera"), texts)


def from_episode_row(row: Mapping[str, Any]) -> list[LanguageEvent]:
    """The inverse of `to_episode_row`, in the order of time; no events if the row has no such columns."""
    return _ordered([_event(item, item["timestamp"]) for key in COLUMNS for item in row.get(key) or []])


def from_frames(columns: Mapping[str, Sequence[list[dict[str, Any]] | None]], fps: int) -> list[LanguageEvent]:
    """The events of one episode from the columns of its frames."""
    persistent = next((rows for rows in columns.get(PERSISTENT, ()) if rows), [])
    events = [_event(row, row["timestamp"]) for row in persistent]
    for number, rows in enumerate(columns.get(EVENTS, ())):
        events += [_event(row, number / fps) for row in rows or []]
    return _ordered(events)
