"""What every importer gives: the columns of its datasets, and one episode after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Columns:
    """The vector columns of the state and of the action: {key: names of the entries}, and a unit for each entry."""

    names: Mapping[str, tuple[str, ...]]
    units: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class Episode:
    """One recorded episode of N frames, complete in memory.

    Attributes:
        columns: {key: (N, D)} for each key of the importer's columns.
        images: {camera name: uint8 (N, H, W, 3)}, upright.
        tasks: the instruction at each frame.
        stamps: {camera name or column key: float64 (N,) s on the robot's clock}, when it was measured, if that is
            known.
        notes: whatever else is known of it, for the import's journal.
    """

    columns: Mapping[str, NDArray[Any]]
    images: Mapping[str, NDArray[np.uint8]]
    tasks: Sequence[str]
    stamps: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    notes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Recorded:
    """An episode that can be loaded: its name, the same whenever the source is opened, and how."""

    name: str
    load: Callable[[], Episode]


class Importer(Protocol):
    """An opened source.

    Attributes:
        fps: frames per second.
        robot_type: free text kept in the dataset.
        columns: names and units of state and action.
        description: what else decides what an episode becomes, for the dataset's `meta/import.jsonl`; `action_space` in
            it says what the actions mean.
        total: how many episodes there are, None if that shows only at the end.
    """

    fps: int
    robot_type: str
    columns: Columns
    description: Mapping[str, Any]
    total: int | None

    def episodes(self) -> Iterator[Recorded]:
        """Every episode, always in the same order."""
        ...
