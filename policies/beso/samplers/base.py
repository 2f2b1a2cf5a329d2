"""What a sampler is, and the pieces that several of them share.

All follow the probability flow da/dsigma = (a - D(a; sigma)) / sigma (EDM, equation 3, with time = sigma).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Protocol

import torch
from torch import Tensor

from policies.randomness import Randomness, draw

Denoiser = Callable[[Tensor, float], Tensor]
"""D: (noisy actions (B, N, A), noise level) -> denoised actions (B, N, A)."""


class Sampler(Protocol):
    """Carries noise along falling noise levels to actions. All that is random comes from `generator`."""

    def __call__(self, denoise: Denoiser, x: Tensor, sigmas: Tensor, generator: Randomness = None, /) -> Tensor:
        """(B, N, A) at the last of the levels.

        Args:
            denoise: the model.
            x: noise (B, N, A) of standard deviation sigmas[0].
            sigmas: falling levels (steps + 1,), the last one 0 or the level at which to stop.
            generator: on the device of x; deterministic samplers ignore it.
        """
        ...


def pairs(sigmas: Tensor) -> Iterator[tuple[float, float]]:
    """Every level with the one that follows it."""
    levels = sigmas.tolist()
    return zip(levels[:-1], levels[1:], strict=True)


def slope(x: Tensor, denoised: Tensor, sigma: float) -> Tensor:
    """da/dsigma of the probability flow."""
    return (x - denoised) / sigma


def exponential_step(x: Tensor, denoised: Tensor, sigma: float, following: float) -> Tensor:
    """From one level to a lower one, exact if D is constant: a' = (s'/s) a - expm1(-h) D, h = ln(s/s')."""
    ratio = following / sigma  # exp(-h)
    return ratio * x + (1 - ratio) * denoised


def ancestral_levels(sigma: float, following: float) -> tuple[float, float]:
    """(level to step down to, standard deviation of the fresh noise that leads back up to `following`), eta = 1."""
    added = min(following, math.sqrt(following**2 * (sigma**2 - following**2) / sigma**2))
    return math.sqrt(following**2 - added**2), added


def with_noise(x: Tensor, size: float, generator: Randomness) -> Tensor:
    """x plus fresh noise of that standard deviation; nothing is drawn for size 0."""
    if size == 0:
        return x
    return x + size * draw(torch.randn, x.shape, generator, x.device, dtype=x.dtype)


def split_levels(sigmas: Tensor) -> tuple[float, float, int]:
    """(first level, last positive level, network calls left to get there) for samplers that choose their own levels.

    A schedule that ends at 0 keeps one call for the last step, which is the denoiser's answer at the lowest level.
    """
    positive = [level for level in sigmas.tolist() if level > 0]
    return positive[0], positive[-1], len(positive) - 1
