"""Two success rates on the same scenes: is one really higher, by how much, and what could have been seen at all?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar

from eval.statistics import Rate, wilson_interval

RESAMPLES = 9999
SEED = 0
LEVEL, POWER = 0.05, 0.80
"""Two-sided level of the test and of the intervals, and the power at which a difference counts as detectable."""


@dataclass(frozen=True)
class PairedRates:
    """Success of a first and a second policy on the same episodes.

    Attributes:
        pairs: episodes that both have done.
        first, second: their success rates.
        difference: second - first, in -1..1.
        interval: its 95 % interval (low, high).
        only_first, only_second: discordant episodes, in which only this one succeeded.
        p_value: of McNemar's exact test.
        detectable: the smallest difference that so many pairs can show; None if they cannot show any.
    """

    pairs: int
    first: Rate
    second: Rate
    difference: float
    interval: tuple[float, float]
    only_first: int
    only_second: int
    p_value: float
    detectable: float | None


def paired_rates(first: Sequence[bool], second: Sequence[bool]) -> PairedRates:
    """Compare successes episode by episode; there has to be at least one."""
    a, b = np.asarray(first, np.float64), np.asarray(second, np.float64)
    only_first, only_second = int(np.sum(a > b)), int(np.sum(b > a))
    return PairedRates(
        len(a),
        _rate(a),
        _rate(b),
        float(np.mean(b) - np.mean(a)),
        difference_interval(a, b),
        only_first,
        only_second,
        mcnemar_p_value(only_first, only_second),
        detectable_difference(len(a), only_first + only_second),
    )


def _rate(successes: NDArray[np.float64]) -> Rate:
    count, episodes = int(successes.sum()), len(successes)
    return Rate(count, episodes, count / episodes, wilson_interval(count, episodes))


def mcnemar_p_value(only_first: int, only_second: int) -> float:
    """Two-sided exact p value: were both equally good, each discordant pair would be a fair coin (McNemar, 1947)."""
    return float(mcnemar([[0, only_first], [only_second, 0]], exact=True).pvalue)  # type: ignore[attr-defined]


def difference_interval(first: NDArray[np.float64], second: NDArray[np.float64]) -> tuple[float, float]:
    """The 95 % interval of mean(second) - mean(first) for paired 0 or 1 values (n,): a percentile bootstrap of pairs.

    Where all pairs differ alike, by d (most often none does, d = 0), resampling shows no spread at all. Then the share
    of pairs that would differ from d is below u = 1 - (level / 2)^(1/n) (Clopper and Pearson, 1934), and at worst all
    of those lie at one end: from d - u (d + 1) to d + u (1 - d).
    """
    differences = second - first
    if np.ptp(differences) == 0:
        d, u = float(differences[0]), 1 - (LEVEL / 2) ** (1 / len(differences))
        return d - u * (d + 1), d + u * (1 - d)
    return bootstrap_interval(first, second)


def bootstrap_interval(first: NDArray[np.float64], second: NDArray[np.float64]) -> tuple[float, float]:
    """The 95 % interval of mean(second) - mean(first) for paired values (n,): a percentile bootstrap of pairs."""
    found = stats.bootstrap(
        (first, second),
        lambda a, b, axis: np.mean(b, axis=axis) - np.mean(a, axis=axis),
        paired=True,
        vectorized=True,
        n_resamples=RESAMPLES,
        batch=1000,
        confidence_level=1 - LEVEL,
        method="percentile",
        rng=np.random.default_rng(SEED),
    ).confidence_interval
    return float(found.low), float(found.high)


def detectable_difference(pairs: int, discordant: int) -> float | None:
    """The smallest true difference that McNemar's test finds with 80 % power at the two-sided 5 % level.

    Connor (1987, Biometrics 43, p. 209, after Miettinen, 1968) gives the pairs that a difference delta needs where a
    share psi of all pairs is discordant,

        n = (z_a sqrt(psi) + z_b sqrt(psi - delta^2))^2 / delta^2,   z_a = 1.96, z_b = 0.84,

    which is solved here for delta, with the observed share for psi. No difference can exceed the share of discordant
    pairs: where delta would, as when none was seen, the true share is taken to be delta itself, the least in which
    such a difference can show, with all discordant pairs in favour of one side. None below 6 pairs, of which even all
    in favour of one side are not significant (2 / 2^5 > 5 %).
    """
    if pairs < 6:
        return None
    a, b, psi = stats.norm.ppf(1 - LEVEL / 2), stats.norm.ppf(POWER), discordant / pairs
    delta = sqrt(psi) * (a * sqrt(pairs) + b * sqrt(pairs + b * b - a * a)) / (pairs + b * b)
    if 0 < delta <= psi:
        return float(delta)
    rest = (sqrt((a * b) ** 2 + (pairs + b * b) * (pairs - a * a)) - a * b) / (pairs + b * b)  # sqrt(1 - delta)
    return float(1 - rest * rest)
