"""Which frame comes next in training: shuffled epochs, weighted, and exactly resumable."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from robot.errors import TongsError


class Samples(Protocol):
    """What batches are made of, such as `data.windows.Windows`: numbered samples with sampling weights.

    Attributes:
        in_order, newest: as in `EpochSampler`.
    """

    @property
    def in_order(self) -> float: ...
    @property
    def newest(self) -> tuple[int, float] | None: ...
    @property
    def weights(self) -> NDArray[np.float32]: ...
    @property
    def instructions(self) -> tuple[str, ...]: ...
    def __len__(self) -> int: ...

    def batch(
        self, indices: NDArray[np.integer] | Sequence[int], chances: NDArray[np.float64] | None = None
    ) -> dict[str, Any]:
        """These samples as arrays, with uniform random numbers for what is drawn of each."""
        ...


class EpochSampler:
    """Endless batches of indices in shuffled epochs.

    An epoch is a systematic sample (points at equal distance on the cumulated weights, with one random offset),
    shuffled: index i appears floor(e_i) or ceil(e_i) times, with e_i = N w_i / sum(w). With equal weights that is
    every index once.

    Args:
        weights: (N,), at least zero, not all zero.
        batch_size: indices per batch; the last short batch of an epoch is filled from the next epoch.
        generator: where all randomness comes from.
        in_order: share of every batch that runs through the data in its own order, so that neighbours meet: episodes
            of one scene, which are the hard negatives of a contrastive loss (GRIF takes 0.5). What an epoch lacks to
            whole batches is filled with its first indices again.
        newest: (first, share): exactly so much of every batch, rounded down, is drawn with replacement from the indices
            from `first` on, and an epoch is one of the others (the DAgger ratio of YAY Robot).
    """

    def __init__(
        self,
        weights: NDArray[np.floating],
        batch_size: int,
        generator: np.random.Generator,
        in_order: float = 0.0,
        newest: tuple[int, float] | None = None,
    ) -> None:
        if batch_size < 1:
            raise TongsError(f"batch size must be at least 1, got {batch_size}")
        if len(weights) == 0 or not np.isfinite(weights).all() or weights.min() < 0 or weights.sum() <= 0:
            raise TongsError("sampling weights must be finite, at least zero, and not all zero")
        if not 0 <= in_order <= 1:
            raise TongsError(f"the share of a batch that is in order must lie in 0..1, got {in_order}")
        self.batch_size = batch_size
        self._in_order = round(in_order * batch_size)
        self._newest: tuple[int, int] | None = None
        if newest is not None:
            self._newest = _require_newest(*newest, weights, batch_size)
            self._newest_chances = weights[newest[0] :] / weights[newest[0] :].sum(dtype=np.float64)
            weights = weights[: newest[0]]
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

    def chances(self, count: int) -> NDArray[np.float64]:
        """Uniform numbers in [0, 1) for the batch drawn last, (batch_size, count), the same ones after a resume."""
        return np.random.default_rng([self._epoch_seed, self._cursor]).random((self.batch_size, count))

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
        ordered = self._order.copy()
        self._generator.shuffle(self._order)
        self._epoch_seed = int(self._generator.integers(2**63))
        self._cursor = 0
        if self._newest is not None:
            self._order = self._with_newest(*self._newest)
        elif self._in_order:
            self._order = self._interleaved(np.roll(ordered, -(self._epoch_seed % count)))

    def _interleaved(self, ordered: NDArray[np.int64]) -> NDArray[np.int64]:
        """Whole batches, the first part of each from the shuffled order and the rest from the data's own."""
        shuffled = self.batch_size - self._in_order
        batches = -(-len(ordered) // max(shuffled, self._in_order))
        parts = [
            np.resize(source, batches * size).reshape(batches, size)
            for source, size in ((self._order, shuffled), (ordered, self._in_order))
        ]
        return np.concatenate(parts, axis=1).ravel()

    def _with_newest(self, first: int, count: int) -> NDArray[np.int64]:
        """Whole batches, `count` of each from the newest data."""
        others = self.batch_size - count
        batches = -(-len(self._order) // others)
        drawn = self._generator.choice(len(self._newest_chances), (batches, count), p=self._newest_chances) + first
        return np.concatenate([np.resize(self._order, (batches, others)), drawn], axis=1).ravel()


def _require_newest(first: int, share: float, weights: NDArray[np.floating], batch_size: int) -> tuple[int, int]:
    """Where the newest data begins, and how many samples of a batch it gives."""
    count = int(share * batch_size + 1e-9)
    if not 0 < first < len(weights) or weights[:first].sum() <= 0 or weights[first:].sum() <= 0:
        raise TongsError("a share of the samples for the newest data needs older data beside it, and some of either")
    if not 0 < count < batch_size:
        raise TongsError(
            f"the newest data gives {share:g} of a batch of {batch_size}, which is {count} samples; "
            f"it has to be from 1 to {batch_size - 1}"
        )
    return first, count
