"""Recording a session with a robot: an episode as it happens, into a LeRobotDataset with events and a verdict."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from data.events import LanguageEvent
from data.features import ACTION, IMAGES, STATE, Feature, robot_features
from data.writer import DatasetWriter
from robot.errors import TongsError
from robot.interface import Observation, RobotSpec

INTERVENTION = "intervention"
"""Column: whether a person's action was executed in this frame rather than the policy's."""
VERDICT = "verdict"
"""Name of the tool call at the end of an episode that somebody judged, with {"success": true or false}."""
_NOTHING_SAID = "demonstration"


class Frame(Protocol):
    """What is seen and done in one period."""

    @property
    def observation(self) -> Observation: ...
    @property
    def action(self) -> NDArray[np.float32]: ...
    @property
    def operated(self) -> bool: ...
    @property
    def instruction(self) -> str: ...


class Happening(Protocol):
    """Something between two frames, `time` s after the first."""

    @property
    def time(self) -> float: ...
    @property
    def kind(self) -> str: ...
    @property
    def text(self) -> str: ...
    @property
    def source(self) -> Literal["human", "model"]: ...


class _Film:
    """The pictures of one camera in one episode, in a file without a name that is gone when nobody holds it: an episode
    may be longer than memory."""

    def __init__(self, folder: Path) -> None:
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - open for as long as this is held
        self._shape: tuple[int, ...] = ()

    def put(self, number: int, picture: NDArray[np.uint8]) -> None:
        """Write a picture (H, W, 3) as this one of the episode.

        Raises:
            TongsError: it has another size than those before.
            OSError: the disk is full.
        """
        if number and picture.shape != self._shape:
            raise TongsError(f"the pictures of a camera change their size from {self._shape} to {picture.shape}")
        self._shape = picture.shape
        self._file.seek(number * picture.nbytes)
        self._file.write(np.ascontiguousarray(picture).data)
        self._file.flush()

    def pictures(self, length: int) -> NDArray[np.uint8]:
        """The first of them (length, H, W, 3), read from the file as they are looked at."""
        return np.memmap(self._file, np.uint8, "r", shape=(length, *self._shape))


@dataclass(frozen=True)
class _Row:
    state: NDArray[np.float32]
    action: NDArray[np.float32]
    operated: bool
    task: str


class SessionRecorder:
    """Writes one episode at a time into a dataset folder, which is continued if it exists. Until it is saved, its
    pictures wait on disk.

    A correction becomes an `interjection`, a motion a `motion`; whatever else happens (taking over, handing
    back, pauses, faults, the emergency stop, the verdict) is a tool call with the name of what happened.

    Args:
        folder: of the dataset.
        robot_type: free text kept in info.json.
    """

    def __init__(self, folder: Path | str, robot_type: str) -> None:
        self.folder, self._robot_type = Path(folder), robot_type
        self._writer: DatasetWriter | None = None
        self._rows: list[_Row] = []
        self._films: dict[str, _Film] = {}
        self._events: list[LanguageEvent] = []

    def begin(self, robot: RobotSpec) -> None:
        """A new episode of a robot. Raises TongsError if the folder holds a dataset of another one."""
        self.discard()
        if self._writer is None:
            features = robot_features(robot.cameras, robot.state_names, robot.action_space.names)
            features[INTERVENTION] = Feature("bool", (1,))
            rate = robot.action_space.rate
            self._writer = DatasetWriter(self.folder, round(rate), features, self._robot_type, language="episodes")
        self._films = {IMAGES + name: _Film(self.folder) for name in robot.cameras}

    def frame(self, frame: Frame) -> None:
        """Add a frame. Raises TongsError if it lacks a camera or has pictures of another size, OSError if the disk is
        full; the episode is then as it was."""
        observation = frame.observation
        if missing := sorted(self._films.keys() - {IMAGES + name for name in observation.images}):
            raise TongsError(f"a frame has no picture of {', '.join(missing)}")
        for key, film in self._films.items():
            film.put(len(self._rows), observation.images[key.removeprefix(IMAGES)])
        self._rows.append(_Row(observation.state, frame.action, frame.operated, frame.instruction or _NOTHING_SAID))

    def happened(self, happening: Happening) -> None:
        role = "user" if happening.source == "human" else "assistant"
        if happening.kind in ("correction", "motion"):
            style = "interjection" if happening.kind == "correction" else "motion"
            event = LanguageEvent(happening.time, happening.text, style, role)
        else:
            event = _call(happening.time, happening.kind, {"text": happening.text}, role)
        self._events.append(event)

    def save(self, success: bool | None) -> str:
        """Append the episode; returns where it is.

        Raises:
            TongsError: there are no frames, or the dataset cannot be written; the episode is kept, to be saved again.
        """
        if self._writer is None or not self._rows:
            raise TongsError("there is no episode to save: no frame was recorded")
        rows, length = self._rows, len(self._rows) / self._writer.fps
        events = list(self._events)
        if success is not None:
            events.append(_call(length, VERDICT, {"success": success}, "user"))
        columns: dict[str, NDArray[Any]] = {
            STATE: np.stack([row.state for row in rows]),
            ACTION: np.stack([row.action for row in rows]),
            INTERVENTION: np.array([[row.operated] for row in rows]),
        }
        images = {key: film.pictures(len(rows)) for key, film in self._films.items()}
        number = self._writer.add_episode(columns, [row.task for row in rows], images=images, events=events)
        self.discard()
        return f"episode {number} of {self.folder}"

    def discard(self) -> None:
        """Forget the episode, if there is one."""
        self._rows, self._films, self._events = [], {}, []

    def close(self) -> None:
        """Let others write to the folder."""
        if self._writer is not None:
            self._writer.close()


def _call(time: float, name: str, arguments: Mapping[str, Any], role: str) -> LanguageEvent:
    function = {"name": name, "arguments": dict(arguments)}
    return LanguageEvent(time, None, None, role, tool_calls=(json.dumps({"type": "function", "function": function}),))


def called(events: list[LanguageEvent]) -> list[tuple[float, str, dict[str, Any]]]:
    """(time in s, name, arguments) of the tool calls among events: what happened in a session beside words."""
    found = []
    for event in events:
        for call in event.tool_calls or ():
            function = json.loads(call)["function"]
            found.append((event.time, function["name"], function["arguments"]))
    return found
