"""Success rates with their uncertainty, goal errors and timings of a set of episodes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from statsmodels.stats.proportion import proportion_confint

from sim.outcome import FAILURES


class Episode(Protocol):
    """What the statistics read of a finished episode; `sim.episode.EpisodeResult` is one."""

    @property
    def goal(self) -> float: ...
    @property
    def reached(self) -> float: ...
    @property
    def success(self) -> bool: ...
    @property
    def failure(self) -> str | None: ...
    @property
    def subgoals(self) -> Sequence[str]: ...
    @property
    def length(self) -> int: ...
    @property
    def duration(self) -> float: ...
    @property
    def latencies(self) -> Sequence[float]: ...


@dataclass(frozen=True)
class Rate:
    """A success rate with its Wilson 95 % interval (low, high), all in 0..1."""

    successes: int
    episodes: int
    success_rate: float
    interval: tuple[float, float]


@dataclass(frozen=True)
class TaskStatistics(Rate):
    """A rate, the distance |reached - goal| in the task's own unit, the mean episode length in control steps, and how
    many episodes failed in each of the ways of `sim.outcome.FAILURES`.

    `subgoals` of a longer task are the rates at which at least 1, 2, ... of its sub-goals were reached, among the
    episodes that have so many; empty for a single one.
    """

    mean_error: float
    median_error: float
    mean_length: float
    failures: dict[str, int]
    subgoals: tuple[Rate, ...] = ()


@dataclass(frozen=True)
class Timing:
    """Control steps per second of one process, and the latency of a policy call in milliseconds."""

    steps_per_second: float
    latency_p50_ms: float
    latency_p99_ms: float


def wilson_interval(successes: float, episodes: int) -> tuple[float, float]:
    """The 95 % interval of a binomial proportion (Wilson, 1927), (low, high) in 0..1."""
    low, high = np.asarray(proportion_confint(successes, episodes, alpha=0.05, method="wilson"), dtype=np.float64)
    return float(low), float(high)


def rate(episodes: Sequence[Episode]) -> Rate:
    """The success rate of at least one episode."""
    return _share([bool(episode.success) for episode in episodes])


def _share(outcomes: Sequence[bool]) -> Rate:
    successes, count = sum(outcomes), len(outcomes)
    return Rate(successes, count, successes / count, wilson_interval(successes, count))


def subgoal_rates(episodes: Sequence[Episode]) -> tuple[Rate, ...]:
    """How often at least 1, 2, ... sub-goals were reached in order, each among the episodes that have so many."""
    most = max(len(episode.subgoals) for episode in episodes)
    return tuple(
        _share([episode.reached >= number for episode in episodes if len(episode.subgoals) >= number])
        for number in range(1, most + 1)
    )


def task_statistics(episodes: Sequence[Episode]) -> TaskStatistics:
    """Statistics of at least one episode, all of one task, so that their errors share a unit."""
    errors = np.abs([episode.reached - episode.goal for episode in episodes])
    counted = rate(episodes)
    return TaskStatistics(
        counted.successes,
        counted.episodes,
        counted.success_rate,
        counted.interval,
        mean_error=float(errors.mean()),
        median_error=float(np.median(errors)),
        mean_length=float(np.mean([episode.length for episode in episodes])),
        failures={label: sum(episode.failure == label for episode in episodes) for label in FAILURES},
        subgoals=subgoal_rates(episodes),
    )


def timing(episodes: Sequence[Episode]) -> Timing:
    """Speed over at least one episode; the policy's latencies come in seconds."""
    latencies = np.concatenate([np.asarray(episode.latencies, dtype=np.float64) for episode in episodes])
    p50, p99 = np.percentile(latencies, [50, 99]) * 1000
    seconds = sum(episode.duration for episode in episodes)
    return Timing(sum(episode.length for episode in episodes) / seconds, float(p50), float(p99))
