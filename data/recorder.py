"""Recording a session with a robot: an episode as it happens, into a LeRobotDataset with events and a verdict."""

from __future__ import annotations

import json
from collections.abc import Mapping
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


class SessionRecorder:
    """Writes one episode at a time into a dataset folder, which is continued if it exists.

    A correction becomes an `interjection`, a motion a `motion`; whatever else happens (taking over, handing
    back, pauses, faults, the emergency stop, the verdict) is a tool call with the name of what happened.

    Args:
        folder: of the dataset.
        robot_type: free text kept in info.json.
    """

    def __init__(self, folder: Path | str, robot_type: str) -> None:
        self.folder, self._robot_type = Path(folder), robot_type
        self._writer: DatasetWriter | None = None
        self._frames: list[Frame] = []
        self._events: list[LanguageEvent] = []

    def begin(self, robot: RobotSpec) -> None:
        """A new episode of a robot. Raises TongsError if the folder holds a dataset of another one."""
        self.discard()
        if self._writer is None:
            features = robot_features(robot.cameras, robot.state_names, robot.action_space.names)
            features[INTERVENTION] = Feature("bool", (1,))
            rate = robot.action_space.rate
            self._writer = DatasetWriter(self.folder, round(rate), features, self._robot_type, language="episodes")

    def frame(self, frame: Frame) -> None:
        self._frames.append(frame)

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
        if self._writer is None or not self._frames:
            raise TongsError("there is no episode to save: no frame was recorded")
        frames, length = self._frames, len(self._frames) / self._writer.fps
        events = list(self._events)
        if success is not None:
            events.append(_call(length, VERDICT, {"success": success}, "user"))
        columns: dict[str, NDArray[Any]] = {
            STATE: np.stack([frame.observation.state for frame in frames]),
            ACTION: np.stack([frame.action for frame in frames]),
            INTERVENTION: np.array([[frame.operated] for frame in frames]),
        }
        cameras = [key for key, feature in self._writer.features.items() if feature.is_image]
        images = {
            key: np.stack([frame.observation.images[key.removeprefix(IMAGES)] for frame in frames]) for key in cameras
        }
        tasks = [frame.instruction or _NOTHING_SAID for frame in frames]
        number = self._writer.add_episode(columns, tasks, images=images, events=events)
        self.discard()
        return f"episode {number} of {self.folder}"

    def discard(self) -> None:
        """Forget the episode, if there is one."""
        self._frames, self._events = [], []

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
