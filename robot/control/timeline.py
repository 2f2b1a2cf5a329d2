"""Chunks of actions on the clock: what is to be done when, whichever chunk it comes from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, inf

import numpy as np
from numpy.typing import NDArray

from robot.errors import ContractError
from robot.interface import ActionChunk, ActionSpace

_ROUNDING = 1e-6
"""Shares of an action's period that do not count."""


@dataclass(frozen=True)
class _Placed:
    """A chunk whose first action begins at `start`, on the robot's clock."""

    actions: NDArray[np.float64]
    start: float


class Timeline:
    """Action k of a chunk is in force from its time to that of action k + 1. The newest chunk counts; with `decay` all
    that cover a moment are averaged with weights exp(-decay i), i = 0 for the oldest (temporal ensembling, Zhao et al.
    2023, arXiv 2304.13705).

    A delta is spread evenly over its period. Between two absolute commands there is a straight line.
    """

    def __init__(self, space: ActionSpace, decay: float | None = None) -> None:
        self._space, self._decay = space, decay
        self._period = 1.0 / space.rate
        names = space.names
        self._motion = 6 if space.kind == "ee_delta" else 0
        self._rotation = [names.index(name) for name in ("qw", "qx", "qy", "qz") if name in names]
        self._chunks: list[_Placed] = []

    def clear(self) -> None:
        self._chunks = []

    def add(self, chunk: ActionChunk, start: float | None = None) -> None:
        """Put a chunk where its times say, or from `start` on.

        Raises:
            ContractError: its actions have another size, or are not a period apart.
        """
        require_chunk(chunk, self._space)
        placed = _Placed(chunk.actions.astype(np.float64), float(chunk.times[0]) if start is None else start)
        if self._decay is None:
            self._chunks = [placed]
        else:
            self._chunks = [old for old in self._chunks if self._end(old) > placed.start] + [placed]

    def _end(self, chunk: _Placed) -> float:
        return chunk.start + len(chunk.actions) * self._period

    @property
    def start(self) -> float:
        """When the newest chunk begins; infinity if there is none."""
        return self._chunks[-1].start if self._chunks else inf

    @property
    def end(self) -> float:
        """When the newest chunk ends; minus infinity if there is none."""
        return self._end(self._chunks[-1]) if self._chunks else -inf

    def covers(self, time: float) -> bool:
        """Whether something is to be done then."""
        return bool(self._chunks) and time < self.end - _ROUNDING * self._period

    def take(self, start: float, stop: float) -> NDArray[np.float64] | None:
        """The command (A,) for the time from start to stop; None if nothing is to be done then."""
        if not self.covers(start):
            return None
        covering = [chunk for chunk in self._chunks if start < self._end(chunk) - _ROUNDING * self._period]
        parts = np.stack([self._part(chunk, start, stop) for chunk in covering])
        if len(parts) == 1:
            return parts[0]
        weights = np.array([exp(-(self._decay or 0.0) * i) for i in range(len(parts))])
        return weights @ self._aligned(parts) / weights.sum()

    def following(self, times: Sequence[float]) -> NDArray[np.float32]:
        """The actions (N, A) that are in force from each of the times on, a period apart, up to the end."""
        actions = []
        for time in times:
            taken = self.take(time, time + self._period)
            if taken is None:
                break
            actions.append(taken)
        return np.array(actions, dtype=np.float32).reshape(len(actions), self._space.dimension)

    def _part(self, chunk: _Placed, start: float, stop: float) -> NDArray[np.float64]:
        place = max((start - chunk.start) / self._period, 0.0)
        last = len(chunk.actions) - 1
        index = min(int(place + _ROUNDING), last)
        if not self._motion:
            return self._between(chunk.actions[index], chunk.actions[min(index + 1, last)], place - index)
        action = chunk.actions[index].copy()
        action[: self._motion] = 0.0
        begin, end = place, (stop - chunk.start) / self._period
        while begin < end - _ROUNDING and index <= last:
            share = min(end, index + 1.0) - begin
            share = round(share) if abs(share - round(share)) < _ROUNDING else share
            action[: self._motion] += share * chunk.actions[index, : self._motion]
            index += 1
            begin = float(index)
        return action

    def _between(self, a: NDArray[np.float64], b: NDArray[np.float64], share: float) -> NDArray[np.float64]:
        if share < _ROUNDING:
            return a
        return np.array([1 - share, share]) @ self._aligned(np.stack([a, b]))

    def _aligned(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        """Quaternions of one sign, so that their mean is a rotation between them."""
        if self._rotation:
            sign = np.sign(rows[:, self._rotation] @ rows[0, self._rotation])
            rows[:, self._rotation] *= np.where(sign == 0, 1.0, sign)[:, None]
        return rows


def require_chunk(chunk: ActionChunk, space: ActionSpace) -> None:
    """Raise a ContractError unless the chunk fits the action space: its size, and actions a period apart."""
    if chunk.actions.shape[1] != space.dimension:
        raise ContractError(
            f"a chunk has actions of {chunk.actions.shape[1]} numbers, the robot takes {space.dimension}"
        )
    if not np.isfinite(chunk.times).all():
        raise ContractError("the times of a chunk hold NaN or infinity")
    gaps = np.diff(chunk.times) * space.rate
    if len(gaps) and np.abs(gaps - 1).max() > 1e-3:
        raise ContractError(
            f"the actions of a chunk must be {1 / space.rate:g} s apart, got {np.diff(chunk.times).tolist()}"
        )
