"""DPM-Solver++ 2M (Lu et al. 2022, arXiv 2211.01095): second order from the step before, with or without noise."""

from __future__ import annotations

import math

from torch import Tensor

from policies.beso.samplers.base import Denoiser, exponential_step, pairs, with_noise
from policies.randomness import Randomness


def dpmpp_2m(denoise: Denoiser, x: Tensor, sigmas: Tensor, generator: Randomness = None) -> Tensor:
    """Algorithm 2: the denoised actions, extrapolated in ln(sigma). One call per step; deterministic."""
    earlier: Tensor | None = None
    length_before = 0.0
    for sigma, following in pairs(sigmas):
        denoised = extrapolated = denoise(x, sigma)
        if following > 0:
            length = math.log(sigma / following)
            if earlier is not None:
                extrapolated = denoised + length / (2 * length_before) * (denoised - earlier)
            length_before = length
        x = exponential_step(x, extrapolated, sigma, following)
        earlier = denoised
    return x


def dpmpp_2m_sde(denoise: Denoiser, x: Tensor, sigmas: Tensor, generator: Randomness = None) -> Tensor:
    """SDE-DPM-Solver++ 2M (section 5), midpoint form, eta = 1. One call per step.

    a' = (s'/s) exp(-h) a - expm1(-2h) (D + (D - D_before) / (2r)) + s' sqrt(-expm1(-2h)) n, with r the length of the
    step before relative to this one.
    """
    earlier: Tensor | None = None
    length_before = 0.0
    for sigma, following in pairs(sigmas):
        denoised = denoise(x, sigma)
        if following == 0:
            x = denoised
            continue
        length = math.log(sigma / following)
        extrapolated = denoised
        if earlier is not None:
            extrapolated = denoised + length / (2 * length_before) * (denoised - earlier)
        share = -math.expm1(-2 * length)
        x = following / sigma * math.exp(-length) * x + share * extrapolated
        x = with_noise(x, following * math.sqrt(share), generator)
        earlier, length_before = denoised, length
    return x
