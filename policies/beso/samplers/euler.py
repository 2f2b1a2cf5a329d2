"""Euler steps of the probability flow, and their ancestral kin with fresh noise."""

from __future__ import annotations

from torch import Tensor

from policies.beso.samplers.base import Denoiser, ancestral_levels, pairs, slope, with_noise
from policies.beso.samplers.churn import NO_CHURN, Churn
from policies.randomness import Randomness


def euler(
    denoise: Denoiser, x: Tensor, sigmas: Tensor, generator: Randomness = None, churn: Churn = NO_CHURN
) -> Tensor:
    """Euler steps in sigma, the same as DDIM. One call per step; deterministic without churn."""
    for sigma, following in pairs(sigmas):
        x, level = churn(x, sigma, len(sigmas) - 1, generator)
        x = x + slope(x, denoise(x, level), level) * (following - level)
    return x


def euler_ancestral(denoise: Denoiser, x: Tensor, sigmas: Tensor, generator: Randomness = None) -> Tensor:
    """Euler steps that go below the next level and add fresh noise to reach it (eta = 1). One call per step."""
    for sigma, following in pairs(sigmas):
        below, added = ancestral_levels(sigma, following)
        x = x + slope(x, denoise(x, sigma), sigma) * (below - sigma)
        x = with_noise(x, added, generator)
    return x
