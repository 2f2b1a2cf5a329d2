"""What a session hands to a recorder: frames at the rate of actions, and what was said and decided between them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from robot.control import quaternions
from robot.control.loop import Step
from robot.interface import Observation, RobotSpec

HappeningKind = Literal["correction", "motion", "take_over", "hand_back", "pause", "resume", "emergency_stop", "fault"]


@dataclass(frozen=True)
class Frame:
    """What was seen, and the action (A,) that was sent from there on, for one period of the action space; `operated`
    if a person drove, and what the robot was told to do."""

    observation: Observation
    action: NDArray[np.float32]
    operated: bool
    instruction: str


@dataclass(frozen=True)
class Happening:
    """Something within an episode: `time` in s since its first frame, and who (human or model) said or did it."""

    time: float
    kind: HappeningKind
    text: str
    source: Literal["human", "model"] = "human"


class Recorder(Protocol):
    """Takes one episode at a time; called by one thread, never the control loop's."""

    def begin(self, robot: RobotSpec) -> None:
        """A new episode."""
        ...

    def frame(self, frame: Frame) -> None: ...

    def happened(self, happening: Happening) -> None: ...

    def save(self, success: bool | None) -> str:
        """Keep the episode, with its verdict or None; returns where it is. Raises TongsError if it cannot."""
        ...

    def discard(self) -> None:
        """Forget the episode, if there is one."""
        ...

    def close(self) -> None: ...


class Frames:
    """Turns the steps of a control loop, which may send many commands per action, into frames.

    Deltas within a period are put together: translations add up, rotations follow one another. Of any other command
    the last one of the period counts.

    Args:
        spec: of the robot.
        rate: commands per s.
    """

    def __init__(self, spec: RobotSpec, rate: float) -> None:
        self._space = spec.action_space
        self._needed = max(round(rate / self._space.rate), 1)
        self._steps: list[tuple[Step, bool, str]] = []

    def clear(self) -> None:
        """Forget a period that is not complete."""
        self._steps = []

    def add(self, step: Step, operated: bool, instruction: str) -> Iterator[Frame]:
        """The frame that this step completes, if it does."""
        if step.observation is None or step.command is None:
            return
        if self._steps and (operated, instruction) != self._steps[0][1:]:
            self.clear()  # half a period of one and half of the other is no action of either
        self._steps.append((step, operated, instruction))
        if len(self._steps) < self._needed:
            return
        first = self._steps[0][0].observation
        commands = [taken.command for taken, _, _ in self._steps if taken.command is not None]
        self.clear()
        assert first is not None
        yield Frame(first, self._joined(commands), operated, instruction)

    def _joined(self, commands: list[NDArray[np.float32]]) -> NDArray[np.float32]:
        if len(commands) == 1 or self._space.kind != "ee_delta":
            return commands[-1]
        names, stacked = self._space.names, np.array(commands, dtype=np.float64)
        joined = stacked[-1].copy()
        for i, name in enumerate(names):
            if name in ("dx", "dy", "dz"):
                joined[i] = stacked[:, i].sum()
        turning = [i for i, name in enumerate(names) if name in ("rx", "ry", "rz")]
        if len(turning) == 3:
            turn: quaternions.Quaternion = (1.0, 0.0, 0.0, 0.0)
            for part in stacked[:, turning].tolist():
                turn = quaternions.product(quaternions.from_vector(part), turn)
            joined[turning] = quaternions.to_vector(turn)
        return joined.astype(np.float32)
