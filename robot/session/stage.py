"""What a session may know beside the robot: scenes to put up, what can be said there, and whether it worked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from robot.interface import Images


class Stage(Protocol):
    """A simulation has one; of a real table it may be a person's or a detector's word. Any thread may call."""

    @property
    def tasks(self) -> Sequence[str]:
        """Names of the tasks that can be put up; empty if things are put up by hand."""
        ...

    @property
    def splits(self) -> Sequence[str]:
        """Names of the sets that scenes are taken from, the same for all tasks."""
        ...

    @property
    def scene(self) -> Mapping[str, str | int]:
        """What is up: "task", "split" and "index"."""
        ...

    def put(self, task: str, split: str, index: int) -> None:
        """Put up a scene, while the robot is at rest and sent nothing; returns when it is up. Raises TongsError."""
        ...

    def suggestions(self) -> Sequence[str]:
        """Instructions that make sense here, the scene's own first."""
        ...

    def success(self) -> bool | None:
        """Whether the goal is reached; None if that cannot be told."""
        ...

    def pictures(self) -> Images:
        """Pictures for a person to look at, by camera; empty to look through the robot's own."""
        ...
