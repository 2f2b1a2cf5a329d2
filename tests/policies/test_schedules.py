"""Noise schedules against their closed forms."""

from __future__ import annotations

import math

import pytest
from scipy.optimize import brentq

from policies.beso.schedules import SCHEDULES, noise_schedule
from robot.errors import TongsError


def test_exponential_in_three_steps() -> None:
    assert noise_schedule("exponential", 3, 0.005, 1.0).tolist() == pytest.approx([1, 0.0707107, 0.005, 0])


def _closed_form(name: str, i: int, n: int, low: float, high: float) -> float:
    part = i / (n - 1)
    if name == "exponential" or name == "ve":
        return high * (low / high) ** part
    if name == "karras":
        return (high**0.2 + part * (low**0.2 - high**0.2)) ** 5
    if name == "linear":
        return high + part * (low - high)
    if name == "polyexponential":
        return low * (high / low) ** ((1 - part) ** 2)

    # vp: find the times of the two bounds by root finding, then evaluate sigma(t)
    def level(t: float, less: float = 0.0) -> float:
        return math.sqrt(math.expm1(19.9 * t * t / 2 + 0.1 * t)) - less

    first, last = (brentq(level, 1e-9, 1, args=(sigma,)) for sigma in (high, low))
    return level(first + part * (last - first))


@pytest.mark.parametrize("name", sorted(SCHEDULES))
@pytest.mark.parametrize("steps", [2, 3, 10])
def test_closed_form(name: str, steps: int) -> None:
    sigmas = noise_schedule(name, steps, 0.05, 0.9).tolist()
    assert sigmas == pytest.approx([_closed_form(name, i, steps, 0.05, 0.9) for i in range(steps)] + [0.0], rel=1e-6)
    assert all(before > after for before, after in zip(sigmas, sigmas[1:], strict=False))


@pytest.mark.parametrize("name", sorted(SCHEDULES))
def test_one_step_goes_from_the_largest_level_to_zero(name: str) -> None:
    assert noise_schedule(name, 1, 0.005, 1.0).tolist() == pytest.approx([1.0, 0.0])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("cosine", 3, 0.005, 1.0), "cosine.*exponential, karras, linear"),
        (("linear", 0, 0.005, 1.0), "at least one step, got 0"),
        (("linear", 3, 1.0, 0.005), "0 < sigma_min < sigma_max"),
    ],
)
def test_bad_input(arguments: tuple[str, int, float, float], message: str) -> None:
    with pytest.raises(TongsError, match=message):
        noise_schedule(*arguments)
