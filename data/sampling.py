"""Which frame comes next in training: shuffled epochs, weighted, and exactly resumable."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot.errors import TongsError


class EpochSampler:
    """Endless batches of indices in shuffled epochs.

    An epoch is a systematic sample (points at equal distance on the cumulated weights, with one random offset),
    shuffled: index i appears floor(e_i) or ceil(e_i) times, with e_i = N w_i / sum(w). With equal weights that is
    every index once.

    Args:
        weights: (N,), at least zero, not all zero.
        batch_size: indices per batch; the last short batch of an epoch is filled from the next epoch.
        generator: where all randomness comes from.
    """

    def __init__(self, weights: NDArray[np.floating], batch_size: int, generator: np.random.Generator) -> None:
        if batch_size < 1:
            raise TongsError(f"batch size must be at least 1, got {batch_size}")
        if len(weights) == 0 or not np.isfinite(weights).all() or weights.min() < 0 or weights.sum() <= 0:
            raise TongsError("sampling weights must be finite, at least zero, and not all zero")
        self.batch_size = batch_size
        self._cumulative = np.cumsum(weights, dtype=np.float64)
        self._generator = generator
        self._start_epoch()

    def next_batch(self) -> NDArray[np.int64]:
        """The next (batch_size,) indices."""
        parts, missing = [], self.batch_size
        while missing:
            if self._cursor == len(self._order):
                self._start_epoch()
            part = self._order[self._cursor : self._cursor + missing]
            parts.append(part)
            self._cursor += len(part)
            missing -= len(part)
        return np.concatenate(parts)

    def state_dict(self) -> dict[str, Any]:
        """What `load_state_dict` needs to go on with the same order; plain numbers and strings, fit for JSON."""
        return {"epoch_start": self._epoch_start, "cursor": self._cursor}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._generator.bit_generator.state = state["epoch_start"]
        self._start_epoch()
        self._cursor = int(state["cursor"])

    def _start_epoch(self) -> None:
        self._epoch_start = self._generator.bit_generator.state
        count, total = len(self._cumulative), self._cumulative[-1]
        points = (np.arange(count) + self._generator.random()) * (total / count)
        order = np.searchsorted(self._cumulative, points, side="right")
        self._order = np.minimum(order, count - 1).astype(np.int64)
        self._generator.shuffle(self._order)
        self._cursor = 0
