"""The last episode, kept to be looked at again: what was seen, done and said at every moment of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from robot.images import jpeg
from robot.session.recording import Frame, Happening

_MOST = 36_000
"""Moments that are kept, an hour at 10 Hz; what comes later is not."""


@dataclass(frozen=True)
class Moment:
    """One period of the action space.

    Attributes:
        pictures: of every camera, as JPEG, in the size in which they are recorded.
        state: (D,) as the robot's spec names it.
        action: (A,) that was sent.
        operated: whether a person drove.
        instruction: what the robot was told.
    """

    pictures: Mapping[str, bytes]
    state: tuple[float, ...]
    action: tuple[float, ...]
    operated: bool
    instruction: str


@dataclass
class Replay:
    """An episode, under way or over. One thread adds to it, any may look.

    Attributes:
        number: of the episode in this session, from 1 on.
        rate: moments per s.
        moments, happenings: in the order of time; a happening's time is in s since the first moment.
        frames: how many moments there were, also those that were too many to be kept.
    """

    number: int
    rate: float
    moments: list[Moment] = field(default_factory=list)
    happenings: list[Happening] = field(default_factory=list)
    frames: int = 0

    def add(self, frame: Frame) -> None:
        self.frames += 1
        if len(self.moments) == _MOST:
            return
        pictures = {name: jpeg(picture, 90) for name, picture in frame.observation.images.items()}
        state, action = frame.observation.state.tolist(), frame.action.tolist()
        self.moments.append(Moment(pictures, tuple(state), tuple(action), frame.operated, frame.instruction))
