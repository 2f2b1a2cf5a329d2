"""Heun's second-order steps (EDM, algorithm 1)."""

from __future__ import annotations

from torch import Tensor

from policies.beso.samplers.base import Denoiser, pairs, slope
from policies.beso.samplers.churn import NO_CHURN, Churn
from policies.randomness import Randomness


def heun(denoise: Denoiser, x: Tensor, sigmas: Tensor, generator: Randomness = None, churn: Churn = NO_CHURN) -> Tensor:
    """The mean of the slopes at both ends of a step: two calls per step, one for the last; no chance without churn."""
    for sigma, following in pairs(sigmas):
        x, level = churn(x, sigma, len(sigmas) - 1, generator)
        here = slope(x, denoise(x, level), level)
        ahead = x + here * (following - level)
        if following > 0:
            there = slope(ahead, denoise(ahead, following), following)
            ahead = x + (here + there) / 2 * (following - level)
        x = ahead
    return x
