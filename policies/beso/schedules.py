"""The noise levels a sampler steps through: `steps` falling values from sigma_max to sigma_min, then 0."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from robot.errors import TongsError, unknown

Schedule = Callable[[int, float, float], Tensor]
"""(steps, sigma_min, sigma_max) -> float64 (steps + 1,) with 0 at the end."""


def _with_zero(sigmas: Tensor) -> Tensor:
    return torch.cat([sigmas, sigmas.new_zeros(1)])


def exponential(steps: int, sigma_min: float, sigma_max: float) -> Tensor:
    """Equal steps of ln(sigma)."""
    logarithms = torch.linspace(math.log(sigma_max), math.log(sigma_min), steps, dtype=torch.float64)
    return _with_zero(logarithms.exp())


def karras(steps: int, sigma_min: float, sigma_max: float, rho: float = 5.0) -> Tensor:
    """Equal steps of sigma^(1/rho) (EDM, equation 5; BESO uses rho = 5 where EDM has 7)."""
    ramp = torch.linspace(0, 1, steps, dtype=torch.float64)
    low, high = sigma_min ** (1 / rho), sigma_max ** (1 / rho)
    return _with_zero((high + ramp * (low - high)) ** rho)


def linear(steps: int, sigma_min: float, sigma_max: float) -> Tensor:
    """Equal steps of sigma."""
    return _with_zero(torch.linspace(sigma_max, sigma_min, steps, dtype=torch.float64))


def polyexponential(steps: int, sigma_min: float, sigma_max: float, rho: float = 2.0) -> Tensor:
    """ln(sigma) along a power of the ramp: rho > 1 spends more levels on small noise, rho = 1 is `exponential`."""
    ramp = torch.linspace(1, 0, steps, dtype=torch.float64) ** rho
    return _with_zero(torch.exp(math.log(sigma_min) + ramp * math.log(sigma_max / sigma_min)))


def variance_exploding(steps: int, sigma_min: float, sigma_max: float) -> Tensor:
    """sigma^2 = sigma_max^2 (sigma_min^2 / sigma_max^2)^ramp (EDM, table 1, column VE); geometric, as `exponential`."""
    ramp = torch.linspace(0, 1, steps, dtype=torch.float64)
    return _with_zero((sigma_max**2 * (sigma_min**2 / sigma_max**2) ** ramp).sqrt())


def variance_preserving(
    steps: int, sigma_min: float, sigma_max: float, beta_growth: float = 19.9, beta_min: float = 0.1
) -> Tensor:
    """Equal steps of t in sigma(t) = sqrt(exp(beta_growth t^2 / 2 + beta_min t) - 1) (EDM, table 1, column VP).

    The constants are those of Song et al. 2021; t runs between the times at which the two bounds are reached.
    """

    def time(sigma: float) -> float:
        return (math.sqrt(beta_min**2 + 2 * beta_growth * math.log1p(sigma**2)) - beta_min) / beta_growth

    t = torch.linspace(time(sigma_max), time(sigma_min), steps, dtype=torch.float64)
    return _with_zero(torch.expm1(beta_growth * t**2 / 2 + beta_min * t).sqrt())


SCHEDULES: dict[str, Schedule] = {
    "exponential": exponential,
    "karras": karras,
    "linear": linear,
    "polyexponential": polyexponential,
    "ve": variance_exploding,
    "vp": variance_preserving,
}


def noise_schedule(name: str, steps: int, sigma_min: float, sigma_max: float) -> Tensor:
    """Noise levels float64 (steps + 1,) by the schedule's name.

    Raises:
        TongsError: unknown name, no steps, or bounds that are not 0 < sigma_min < sigma_max.
    """
    if name not in SCHEDULES:
        raise unknown("noise schedule", name, list(SCHEDULES))
    if steps < 1:
        raise TongsError(f"a noise schedule needs at least one step, got {steps}")
    if not 0 < sigma_min < sigma_max:
        raise TongsError(f"noise levels must satisfy 0 < sigma_min < sigma_max, got {sigma_min} and {sigma_max}")
    return SCHEDULES[name](steps, sigma_min, sigma_max)
