"""Linear multistep: the slopes of earlier steps, extrapolated (Adams-Bashforth on uneven levels)."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import numpy as np
from torch import Tensor

from policies.beso.samplers.base import Denoiser, pairs, slope
from policies.randomness import Randomness

ORDER = 4
"""Slopes that a step remembers."""


def lms(denoise: Denoiser, x: Tensor, sigmas: Tensor, generator: Randomness = None) -> Tensor:
    """Integrates the polynomial through the last four slopes. One call per step; deterministic.

    Of order four on levels that lie close together; on few levels far apart the extrapolation is the least trusty of
    all samplers here.
    """
    known: deque[tuple[float, Tensor]] = deque(maxlen=ORDER)
    for sigma, following in pairs(sigmas):
        known.append((sigma, slope(x, denoise(x, sigma), sigma)))
        weights = step_weights([level for level, _ in known], sigma, following)
        for weight, (_, value) in zip(weights, known, strict=True):
            x = x + weight * value
    return x


def step_weights(levels: Sequence[float], start: float, end: float) -> list[float]:
    """The integral from `start` to `end` of each Lagrange polynomial over `levels`."""
    weights = []
    for level in levels:
        others = [other for other in levels if other != level]
        lagrange = np.poly(others) / np.prod([level - other for other in others])
        integral = np.polyint(np.atleast_1d(lagrange))
        weights.append(float(np.polyval(integral, end) - np.polyval(integral, start)))
    return weights
