"""Rates, intervals, errors and timings against closed forms."""

from __future__ import annotations

import math

import pytest

from eval.statistics import rate, task_statistics, timing, wilson_interval
from tests.eval.episodes import episode


@pytest.mark.parametrize(("successes", "episodes"), [(0, 10), (3, 10), (47, 50), (100, 100)])
def test_the_interval_is_wilsons(successes: int, episodes: int) -> None:
    """The roots of (p - p_hat)^2 = z^2 p (1 - p) / n, Wilson (1927)."""
    z, n, share = 1.959963984540054, episodes, successes / episodes
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    assert wilson_interval(successes, episodes) == pytest.approx((centre - half, centre + half), abs=1e-12)


def test_task_statistics_of_three_episodes() -> None:
    episodes = [
        episode(goal=0.5, reached=0.4, length=40),
        episode(goal=0.5, reached=0.52, length=60),
        episode(goal=0.2, reached=0.8, length=200, success=False, failure="overshot"),
    ]
    statistics = task_statistics(episodes)
    assert (statistics.successes, statistics.episodes) == (2, 3)
    assert statistics.mean_error == pytest.approx((0.1 + 0.02 + 0.6) / 3)
    assert statistics.median_error == pytest.approx(0.1)
    assert statistics.mean_length == 100
    assert {label: count for label, count in statistics.failures.items() if count} == {"overshot": 1}
    assert rate(episodes).success_rate == pytest.approx(2 / 3)


def test_subgoals_are_counted_among_the_episodes_that_have_so_many() -> None:
    two, three = ("open_drawer", "close_drawer"), ("open_drawer", "put_in_drawer", "close_drawer")
    episodes = [
        episode(subgoals=two, goal=2.0, reached=2.0),
        episode(subgoals=two, goal=2.0, reached=0.0, success=False, failure="did not reach"),
        episode(subgoals=three, goal=3.0, reached=2.0, success=False, failure="dropped"),
    ]
    counted = task_statistics(episodes).subgoals
    assert [(rate.successes, rate.episodes) for rate in counted] == [(2, 3), (2, 3), (0, 1)]
    assert [rate.interval for rate in counted] == [wilson_interval(2, 3), wilson_interval(2, 3), wilson_interval(0, 1)]
    assert task_statistics([episode()]).subgoals == ()


def test_timing_pools_all_calls() -> None:
    """With 101 calls of 0, 1, ..., 100 ms the percentiles are the calls themselves."""
    calls = tuple(number / 1000 for number in range(101))
    measured = timing([episode(latencies=calls[:7], length=30, duration=2.0), episode(latencies=calls[7:])])
    assert measured.latency_p50_ms == pytest.approx(50)
    assert measured.latency_p99_ms == pytest.approx(99)
    assert measured.steps_per_second == pytest.approx((30 + 50) / (2.0 + 1.0))
