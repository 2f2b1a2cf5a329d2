"""Churn: a little fresh noise before a step (EDM, algorithm 2)."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from policies.beso.samplers.base import with_noise
from policies.randomness import Randomness


@dataclass(frozen=True)
class Churn:
    """How much noise is added before every step, S_churn, S_tmin, S_tmax and S_noise of EDM.

    Attributes:
        amount: S_churn, spread over the steps; 0 for none.
        lowest, highest: only at levels between these.
        size: standard deviation of the noise, relative to what keeps the level right.
    """

    amount: float = 0.0
    lowest: float = 0.0
    highest: float = math.inf
    size: float = 1.0

    def __call__(self, x: Tensor, sigma: float, steps: int, generator: Randomness) -> tuple[Tensor, float]:
        """The noisier actions and their level, sigma (1 + gamma)."""
        gamma = min(self.amount / steps, math.sqrt(2) - 1) if self.lowest <= sigma <= self.highest else 0.0
        if gamma == 0:
            return x, sigma
        level = sigma * (1 + gamma)
        return with_noise(x, self.size * math.sqrt(level**2 - sigma**2), generator), level


NO_CHURN = Churn()
