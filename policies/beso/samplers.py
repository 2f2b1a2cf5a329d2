"""Samplers: from noise to actions along falling noise levels, by asking a denoiser a few times.

All follow the probability flow da/dsigma = (a - D(a; sigma)) / sigma (EDM, equation 3, with time = sigma).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from robot.errors import unknown

Denoiser = Callable[[Tensor, float], Tensor]
"""D: (noisy actions (B, N, A), noise level) -> denoised actions (B, N, A)."""

Sampler = Callable[[Denoiser, Tensor, Tensor, torch.Generator | None], Tensor]
"""(denoise, noise (B, N, A) of standard deviation sigmas[0], sigmas (steps + 1,), generator) -> (B, N, A)."""


def _pairs(sigmas: Tensor) -> Iterator[tuple[float, float]]:
    levels = sigmas.tolist()
    return zip(levels[:-1], levels[1:], strict=True)


def ddim(denoise: Denoiser, x: Tensor, sigmas: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """DDIM, which is DPM-Solver-1: exact if D is constant over a step. One call per step; deterministic.

    a' = (s'/s) a - expm1(-h) D with h = ln(s/s'), so a' = D at s' = 0.
    """
    for sigma, following in _pairs(sigmas):
        ratio = following / sigma  # exp(-h)
        x = ratio * x + (1 - ratio) * denoise(x, sigma)
    return x


def euler(denoise: Denoiser, x: Tensor, sigmas: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Euler steps of the probability flow in sigma. One call per step; deterministic."""
    for sigma, following in _pairs(sigmas):
        slope = (x - denoise(x, sigma)) / sigma
        x = x + slope * (following - sigma)
    return x


def euler_ancestral(denoise: Denoiser, x: Tensor, sigmas: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Euler steps that go below the next level and add fresh noise to reach it (eta = 1). One call per step."""
    for sigma, following in _pairs(sigmas):
        added = min(following, math.sqrt(following**2 * (sigma**2 - following**2) / sigma**2))
        below = math.sqrt(following**2 - added**2)
        slope = (x - denoise(x, sigma)) / sigma
        x = x + slope * (below - sigma)
        if added > 0:
            x = x + added * torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype)
    return x


def heun(denoise: Denoiser, x: Tensor, sigmas: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Second-order steps (EDM, algorithm 1): two calls per step, one for the last; deterministic."""
    for sigma, following in _pairs(sigmas):
        slope = (x - denoise(x, sigma)) / sigma
        ahead = x + slope * (following - sigma)
        if following > 0:
            slope_ahead = (ahead - denoise(ahead, following)) / following
            ahead = x + (slope + slope_ahead) / 2 * (following - sigma)
        x = ahead
    return x


SAMPLERS: dict[str, Sampler] = {
    "ddim": ddim,
    "euler": euler,
    "euler_ancestral": euler_ancestral,
    "heun": heun,
}


def sampler(name: str) -> Sampler:
    """The sampler of that name. Raises TongsError that lists the known ones."""
    if name not in SAMPLERS:
        raise unknown("sampler", name, list(SAMPLERS))
    return SAMPLERS[name]
