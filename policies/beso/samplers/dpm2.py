"""DPM-Solver-2: a second look half way through each step, half way in ln(sigma)."""

from __future__ import annotations

import math

from torch import Tensor

from policies.beso.samplers.base import Denoiser, ancestral_levels, pairs, slope, with_noise
from policies.beso.samplers.churn import NO_CHURN, Churn
from policies.randomness import Randomness


def dpm_2(
    denoise: Denoiser, x: Tensor, sigmas: Tensor, generator: Randomness = None, churn: Churn = NO_CHURN
) -> Tensor:
    """The slope at the geometric middle of a step: two calls per step, one for the last; no chance without churn."""
    for sigma, following in pairs(sigmas):
        x, level = churn(x, sigma, len(sigmas) - 1, generator)
        x = _midpoint(denoise, x, level, following)
    return x


def dpm_2_ancestral(denoise: Denoiser, x: Tensor, sigmas: Tensor, generator: Randomness = None) -> Tensor:
    """`dpm_2` to below the next level and fresh noise to reach it (eta = 1). Two calls per step, one for the last."""
    for sigma, following in pairs(sigmas):
        below, added = ancestral_levels(sigma, following)
        x = with_noise(_midpoint(denoise, x, sigma, below), added, generator)
    return x


def _midpoint(denoise: Denoiser, x: Tensor, sigma: float, following: float) -> Tensor:
    here = slope(x, denoise(x, sigma), sigma)
    if following == 0:
        return x + here * (following - sigma)
    middle = math.sqrt(sigma * following)
    half_way = x + here * (middle - sigma)
    return x + slope(half_way, denoise(half_way, middle), middle) * (following - sigma)
