"""Paired statistics against closed forms, textbooks and simulation."""

from __future__ import annotations

from math import comb, sqrt

import numpy as np
import pytest
from scipy import stats

from eval.paired import detectable_difference, difference_interval, mcnemar_p_value, paired_rates


@pytest.mark.parametrize(("only_first", "only_second"), [(0, 1), (1, 7), (12, 5), (6, 6), (30, 10)])
def test_the_p_value_is_a_fair_coins(only_first: int, only_second: int) -> None:
    n, k = only_first + only_second, min(only_first, only_second)
    tail = sum(comb(n, i) for i in range(k + 1)) / 2**n
    assert mcnemar_p_value(only_first, only_second) == pytest.approx(min(1.0, 2 * tail))


def test_the_p_value_of_the_textbook() -> None:
    """Agresti (1990), p. 350: approval 86 to 150; R's exact2x2 gives 3.716e-05 for it."""
    assert mcnemar_p_value(86, 150) == pytest.approx(3.716e-05, abs=5e-9)
    assert mcnemar_p_value(0, 0) == 1.0


def test_counts_and_rates() -> None:
    first = [True] * 5 + [True] * 2 + [False] * 6 + [False] * 7
    second = [True] * 5 + [False] * 2 + [True] * 6 + [False] * 7
    rates = paired_rates(first, second)
    assert (rates.pairs, rates.only_first, rates.only_second) == (20, 2, 6)
    assert (rates.first.successes, rates.second.successes) == (7, 11)
    assert rates.difference == pytest.approx(0.2)
    assert rates.interval[0] < 0.2 < rates.interval[1]
    swapped = paired_rates(second, first)
    assert swapped.difference == pytest.approx(-0.2) and swapped.p_value == rates.p_value
    assert paired_rates(first, second) == rates


def test_the_interval_has_the_width_of_theory() -> None:
    """For many pairs it is d +- 1.96 sqrt((psi - d^2) / n), Fleiss (1981), section 8.1."""
    b, c, n = 60, 100, 1000
    first = np.repeat([1.0, 0.0, 1.0], [b, c, n - b - c])
    second = np.repeat([0.0, 1.0, 1.0], [b, c, n - b - c])
    d, psi = (c - b) / n, (b + c) / n
    half = 1.96 * sqrt((psi - d * d) / n)
    assert difference_interval(first, second) == pytest.approx((d - half, d + half), abs=0.002)


def test_the_interval_covers_the_truth_19_times_in_20() -> None:
    """300 made-up evaluations of 80 scenes, of which some are hard for both."""
    generator, covered, true = np.random.default_rng(5), 0, 0.10
    for _ in range(300):
        hard = generator.random(80) < 0.4
        first = generator.random(80) < np.where(hard, 0.3, 0.8)
        second = generator.random(80) < np.where(hard, 0.4, 0.9)
        low, high = difference_interval(first.astype(float), second.astype(float))
        covered += low <= true <= high
    assert stats.binomtest(covered, 300, 0.95).pvalue > 0.01
    assert covered >= 275


def test_an_interval_without_discordance_is_not_empty() -> None:
    """The bound u for which no discordant pair among n is seen with probability 2.5 %."""
    low, high = difference_interval(np.ones(40), np.ones(40))
    assert (1 - high) ** 40 == pytest.approx(0.025) and low == -high
    always_better = difference_interval(np.zeros(40), np.ones(40))
    assert always_better == pytest.approx((1 - 2 * high, 1.0))


def pairs_needed(delta: float, psi: float) -> float:
    """Connor (1987), p. 209."""
    return ((1.959964 * sqrt(psi) + 0.841621 * sqrt(psi - delta**2)) / delta) ** 2


@pytest.mark.parametrize(("pairs", "discordant"), [(50, 20), (200, 30), (400, 100), (1600, 40)])
def test_the_detectable_difference_needs_these_pairs(pairs: int, discordant: int) -> None:
    delta = detectable_difference(pairs, discordant)
    assert delta is not None and delta < discordant / pairs
    assert pairs_needed(delta, discordant / pairs) == pytest.approx(pairs, rel=1e-4)


def test_the_published_example() -> None:
    """Connor: shares 0.45 and 0.05 need 23 pairs at 5 % and 80 %."""
    fewer, more = detectable_difference(22, 11), detectable_difference(24, 12)
    assert fewer is not None and more is not None
    assert more < 0.45 - 0.05 < fewer


@pytest.mark.parametrize("pairs", [6, 20, 100, 400])
def test_with_little_discordance_all_of_it_is_on_one_side(pairs: int) -> None:
    delta = detectable_difference(pairs, 0)
    assert delta is not None and 0 < delta <= 1
    assert pairs_needed(delta, delta) == pytest.approx(pairs, rel=1e-4)
    assert detectable_difference(pairs, 1) == pytest.approx(delta)


def test_five_pairs_detect_nothing() -> None:
    assert detectable_difference(5, 5) is None
    assert mcnemar_p_value(0, 5) > 0.05 > mcnemar_p_value(0, 6)


def test_the_detectable_difference_is_found_four_times_in_five() -> None:
    """Simulated with McNemar's chi-squared test, for which the formula is made."""
    n, psi, generator = 200, 0.3, np.random.default_rng(0)
    delta = detectable_difference(n, round(n * psi))
    assert delta is not None
    counts = generator.multinomial(n, [(psi + delta) / 2, (psi - delta) / 2, 1 - psi], size=20_000)
    b, c = counts[:, 0], counts[:, 1]
    found = (b - c) ** 2 / (b + c) > stats.chi2.ppf(0.95, 1)
    assert found.mean() == pytest.approx(0.80, abs=0.02)
