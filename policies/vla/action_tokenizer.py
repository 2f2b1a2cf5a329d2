"""Continuous actions as tokens at the end of a language model's vocabulary (OpenVLA, section 3.2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from robot.errors import TongsError


class ActionTokenizer(Protocol):
    """Chunks of scaled actions to token ids and back. Ids count down from `vocabulary`, the least used words first."""

    first: int
    """Smallest id of an action token; the largest is `vocabulary` - 1."""

    @property
    def longest(self) -> int:
        """Most tokens that a chunk can take."""
        ...

    @property
    def fixed(self) -> bool:
        """Whether every chunk takes exactly `longest` tokens, so that no end token is needed."""
        ...

    def encode(self, actions: torch.Tensor) -> list[torch.Tensor]:
        """Chunks (B, H, A) in [-1, 1] to B vectors of ids."""
        ...

    def decode(self, ids: Sequence[torch.Tensor]) -> torch.Tensor:
        """B vectors of ids, without the end token, to chunks float32 (B, H, A) in [-1, 1]."""
        ...


class UniformBins:
    """One token per number, by uniform bins between -1 and 1.

    The `bins` values are edges, so there are bins - 1 intervals, each decoded as its centre. The id is `vocabulary` - i
    for the i-th edge at or below the number, i from 1: -1 has the largest id. Exactly 1 has an id of its own, which
    decodes like its neighbour. Ids that stand for no action are taken for the nearest that do, as in the reference.

    Args:
        vocabulary: the number that ids count down from; 32000 for Llama 2.
        bins: edges.
        horizon, actions: H and A, the shape of a chunk.
    """

    fixed = True

    def __init__(self, vocabulary: int, bins: int, horizon: int, actions: int) -> None:
        if vocabulary <= bins:
            raise TongsError(f"a vocabulary of {vocabulary} has no room for {bins} action tokens")
        self.vocabulary = vocabulary
        self.first = vocabulary - bins
        self.shape = (horizon, actions)
        self.edges: NDArray[np.float64] = np.linspace(-1, 1, bins)
        self.centres: NDArray[np.float64] = (self.edges[:-1] + self.edges[1:]) / 2

    @property
    def longest(self) -> int:
        return self.shape[0] * self.shape[1]

    def ids(self, values: NDArray[np.floating]) -> NDArray[np.int64]:
        """Ids of single numbers, of any shape."""
        return self.vocabulary - np.digitize(np.clip(values.astype(np.float64), -1, 1), self.edges)

    def values(self, ids: NDArray[np.integer]) -> NDArray[np.float64]:
        """The numbers that ids stand for, of any shape."""
        return self.centres[np.clip(self.vocabulary - ids - 1, 0, len(self.centres) - 1)]

    def encode(self, actions: torch.Tensor) -> list[torch.Tensor]:
        ids = self.ids(actions.detach().cpu().numpy()).reshape(len(actions), -1)
        return list(torch.from_numpy(ids).to(actions.device))

    def decode(self, ids: Sequence[torch.Tensor]) -> torch.Tensor:
        together = torch.stack(list(ids))
        values = self.values(together.cpu().numpy()).astype(np.float32)
        return torch.from_numpy(values).to(together.device).view(len(together), *self.shape)
