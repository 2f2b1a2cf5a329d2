"""The steps of DPM-Solver (Lu et al. 2022, arXiv 2206.00927), of order one, two and three, in time t = -ln(sigma)."""

from __future__ import annotations

import math

from torch import Tensor

from policies.beso.samplers.base import Denoiser


class DpmSolver:
    """Single steps; the network is asked at most once for each point, however many steps start from it.

    In the variance-exploding form alpha = 1, so lambda = -ln(sigma) is the time, and eps = (a - D) / sigma.

    Args:
        denoise: the model.
    """

    def __init__(self, denoise: Denoiser) -> None:
        self._denoise = denoise

    def noise(self, x: Tensor, t: float) -> Tensor:
        """eps(a; t), the noise that the denoiser sees in x."""
        sigma = math.exp(-t)
        return (x - self._denoise(x, sigma)) / sigma

    def first(self, x: Tensor, t: float, following: float, eps: Tensor) -> Tensor:
        """DPM-Solver-1 (equation 3.7); `eps` is the noise at (x, t). No call."""
        return x - math.exp(-following) * math.expm1(following - t) * eps

    def second(self, x: Tensor, t: float, following: float, eps: Tensor, r1: float = 1 / 2) -> Tensor:
        """DPM-Solver-2 (algorithm 4) with its middle at r1. One call."""
        return self._second(x, t, following, eps, self._ahead(x, t, following, eps, r1), r1)

    def third(self, x: Tensor, t: float, following: float, eps: Tensor) -> Tensor:
        """DPM-Solver-3 (algorithm 5) with its middles at 1/3 and 2/3. Two calls."""
        return self.second_and_third(x, t, following, eps)[1]

    def second_and_third(self, x: Tensor, t: float, following: float, eps: Tensor) -> tuple[Tensor, Tensor]:
        """Both steps at the price of the third; the second-order one has its middle at 1/3."""
        r1, r2, h = 1 / 3, 2 / 3, following - t
        eps_1 = self._ahead(x, t, following, eps, r1)
        middle = t + r2 * h
        x_2 = x - math.exp(-middle) * (
            math.expm1(r2 * h) * eps + r2 / r1 * (math.expm1(r2 * h) / (r2 * h) - 1) * (eps_1 - eps)
        )
        eps_2 = self.noise(x_2, middle)
        third = x - math.exp(-following) * (math.expm1(h) * eps + (math.expm1(h) / h - 1) / r2 * (eps_2 - eps))
        return self._second(x, t, following, eps, eps_1, r1), third

    def _ahead(self, x: Tensor, t: float, following: float, eps: Tensor, share: float) -> Tensor:
        middle = t + share * (following - t)
        return self.noise(self.first(x, t, middle, eps), middle)

    def _second(self, x: Tensor, t: float, following: float, eps: Tensor, eps_1: Tensor, r1: float) -> Tensor:
        first = self.first(x, t, following, eps)
        return first - math.exp(-following) / (2 * r1) * math.expm1(following - t) * (eps_1 - eps)
