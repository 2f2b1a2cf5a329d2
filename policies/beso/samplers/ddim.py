"""DDIM, the default: exact steps for a denoiser that stays the same."""

from __future__ import annotations

from torch import Tensor

from policies.beso.samplers.base import Denoiser, exponential_step, pairs
from policies.randomness import Randomness


def ddim(denoise: Denoiser, x: Tensor, sigmas: Tensor, generator: Randomness = None) -> Tensor:
    """DDIM, which is DPM-Solver-1: exact if D is constant over a step. One call per step; deterministic.

    a' = (s'/s) a - expm1(-h) D with h = ln(s/s'), so a' = D at s' = 0.
    """
    for sigma, following in pairs(sigmas):
        x = exponential_step(x, denoise(x, sigma), sigma, following)
    return x
