"""DPM-Solver++ 2S (Lu et al. 2022, arXiv 2211.01095): second order within a single step, on denoised actions."""

from __future__ import annotations

import math

from torch import Tensor

from policies.beso.samplers.base import Denoiser, ancestral_levels, exponential_step, pairs, with_noise
from policies.randomness import Randomness


def dpmpp_2s(denoise: Denoiser, x: Tensor, sigmas: Tensor, generator: Randomness = None) -> Tensor:
    """Algorithm 1 with r = 1/2: two calls per step, one for the last; deterministic."""
    for sigma, following in pairs(sigmas):
        x = _step(denoise, x, sigma, following)
    return x


def dpmpp_2s_ancestral(denoise: Denoiser, x: Tensor, sigmas: Tensor, generator: Randomness = None) -> Tensor:
    """`dpmpp_2s` to below the next level, fresh noise to reach it (eta = 1). Two calls per step, one for the last."""
    for sigma, following in pairs(sigmas):
        below, added = ancestral_levels(sigma, following)
        x = with_noise(_step(denoise, x, sigma, below), added, generator)
    return x


def _step(denoise: Denoiser, x: Tensor, sigma: float, following: float) -> Tensor:
    denoised = denoise(x, sigma)
    if following == 0:
        return denoised
    middle = math.sqrt(sigma * following)
    half_way = exponential_step(x, denoised, sigma, middle)
    return exponential_step(x, denoise(half_way, middle), sigma, following)
