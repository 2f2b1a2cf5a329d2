"""A dataset as its checks see it, and what they report."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from data.features import ACTION, STATE
from data.reader import Dataset


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong or suspicious.

    Attributes:
        check: the name of the check.
        message: one sentence: what, how much, what it does to training.
        episodes: where; empty for the whole dataset.
        serious: a policy trained on this cannot be right; otherwise it is worth a look.
    """

    check: str
    message: str
    episodes: tuple[int, ...] = ()
    serious: bool = False


class Recording:
    """Proprioception and actions of a whole dataset, with the borders of its episodes.

    Attributes:
        dataset: what was opened.
        state, action: float64 (N, D) and (N, A); zero columns where the dataset has none, and the entry's median where
            a value is no number.
        state_names, action_names: of their entries.
        unusable: {"state", "action": bool (N,)}, frames with a value that is no number.
    """

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset
        self.fps = dataset.fps
        self.unusable: dict[str, NDArray[np.bool_]] = {}
        self.state, self.state_names = self._numbers("state", STATE)
        self.action, self.action_names = self._numbers("action", ACTION)

    @property
    def spans(self) -> Iterator[tuple[int, slice]]:
        """(episode, its frames)."""
        for episode in self.dataset.episodes:
            yield episode.index, slice(episode.start, episode.stop)

    @cached_property
    def motion(self) -> NDArray[np.float64]:
        """How much state and action change from each frame to the next, (N,): the largest entry, where 1 is the 90 %
        quantile of that entry's own changes. The last frame of an episode has 0."""
        values = np.concatenate([self.state, self.action], axis=1)
        change = np.abs(np.diff(values, axis=0, append=values[-1:]))
        change[[span.stop - 1 for _, span in self.spans]] = 0.0
        change /= np.maximum(_quantile_of_changes(change), 1e-12)
        return change.max(axis=1, initial=0.0)

    def seconds(self, frames: int) -> float:
        return frames / self.fps

    def numbers(self) -> Iterator[tuple[str, NDArray[np.float64], tuple[str, ...]]]:
        """(kind, values, names) of the state and of the action, where the dataset has them."""
        if self.state_names:
            yield "state", self.state, self.state_names
        if self.action_names:
            yield "action", self.action, self.action_names

    def _numbers(self, kind: str, key: str) -> tuple[NDArray[np.float64], tuple[str, ...]]:
        if key not in self.dataset.features:
            self.unusable[kind] = np.zeros(self.dataset.total_frames, bool)
            return np.zeros((self.dataset.total_frames, 0)), ()
        values = self.dataset.columns[key].astype(np.float64)
        finite: NDArray[np.bool_] = np.isfinite(values)
        self.unusable[kind] = np.asarray(~finite.all(axis=1))
        values = np.where(finite, values, np.nanmedian(np.where(finite, values, np.nan), axis=0))
        return values, self.dataset.features[key].names or tuple(f"entry {i}" for i in range(values.shape[1]))


def runs(flags: NDArray[np.bool_], at_least: int) -> list[tuple[int, int]]:
    """(first, length) of each stretch of at least so many true values."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8)))
    return [(int(first), int(end - first)) for first, end in edges.reshape(-1, 2) if end - first >= at_least]


def listed(names: Sequence[str]) -> str:
    return ", ".join(names)


def _quantile_of_changes(change: NDArray[np.float64]) -> NDArray[np.float64]:
    """The 90 % quantile of each entry's changes, of those that are any."""
    return np.array([np.quantile(column[column > 0], 0.9) if (column > 0).any() else np.inf for column in change.T])
