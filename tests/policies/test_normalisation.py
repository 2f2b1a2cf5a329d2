"""Scaling of states and actions, and what is said when statistics are missing."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from policies.normalisation import ActionScaling, Standardise, select_statistics
from robot.errors import TongsError

DATA = torch.tensor(np.random.default_rng(0).normal([0.02, -1.0], [0.01, 2.0], (5000, 2)), dtype=torch.float32)


def measured(values: torch.Tensor) -> dict[str, dict[str, list[float]]]:
    array = values.numpy()
    quantiles = {"q01": np.quantile(array, 0.01, axis=0), "q99": np.quantile(array, 0.99, axis=0)}
    entries = {"mean": array.mean(0), "std": array.std(0), "min": array.min(0), "max": array.max(0), **quantiles}
    return {"f": {key: value.tolist() for key, value in entries.items()}}


def test_standardised_data_has_mean_zero_and_deviation_one() -> None:
    scaled = Standardise(measured(DATA), "f", 2)(DATA)
    torch.testing.assert_close(scaled.mean(0), torch.zeros(2), atol=1e-4, rtol=0)
    torch.testing.assert_close(scaled.std(0), torch.ones(2), atol=1e-3, rtol=0)


def test_an_entry_that_never_varied_does_not_amplify_noise() -> None:
    constant = torch.full((100, 1), 0.3)
    assert Standardise(measured(constant), "f", 1)(constant + 1e-4).abs().max().item() <= 0.11


def test_quantiles_become_plus_and_minus_one_and_scaling_inverts() -> None:
    scaling = ActionScaling(measured(DATA), "f", 2, "quantiles")
    scaled = scaling.scale(DATA)
    assert scaled.quantile(0.99, dim=0).tolist() == pytest.approx([1, 1], abs=1e-3)
    assert scaled.quantile(0.01, dim=0).tolist() == pytest.approx([-1, -1], abs=1e-3)
    torch.testing.assert_close(scaling.unscale(scaled), DATA, atol=1e-5, rtol=0)


def test_actions_never_leave_the_range_of_the_data() -> None:
    for span in ("quantiles", "extremes"):
        scaling = ActionScaling(measured(DATA), "f", 2, span)  # type: ignore[arg-type]
        far = scaling.unscale(torch.tensor([[50.0, -50.0]]))[0]
        assert far.tolist() == pytest.approx([DATA[:, 0].max().item(), DATA[:, 1].min().item()])


def test_rarely_used_and_constant_action_entries() -> None:
    rare = torch.zeros(1000, 2)
    rare[0, 0], rare[1, 0], rare[:, 1] = 0.2, -0.1, 0.7  # nonzero in 0.1 % of the frames; constant
    scaling = ActionScaling(measured(rare), "f", 2, "quantiles")
    assert scaling.scale(rare).abs().max().item() <= 1.0 + 1e-6
    torch.testing.assert_close(scaling.unscale(scaling.scale(rare)), rare)
    assert scaling.unscale(torch.tensor([[0.0, 0.9]]))[0, 1].item() == pytest.approx(0.7)


@pytest.mark.parametrize(
    ("statistics", "message"),
    [
        ({}, "statistics of 'f' are missing; there are: none"),
        ({"f": {"mean": [0.0, 0.0]}}, "statistic 'std' of 'f' is missing; there are: mean"),
        ({"f": {"mean": [0.0], "std": [1.0]}}, "has 1 entries, the policy needs 2"),
        ({"f": {"mean": [0.0, 0.0], "std": [1.0, float("nan")]}}, "holds NaN"),
    ],
)
def test_missing_statistics(statistics: dict[str, dict[str, list[float]]], message: str) -> None:
    with pytest.raises(TongsError, match=message):
        Standardise(statistics, "f", 2)


def test_select_entries_by_name() -> None:
    statistics = {"f": {"mean": np.array([1.0, 2.0, 3.0]), "count": np.array([9])}}
    assert select_statistics(statistics, "f", ("a", "b", "c"), ("c", "a")) == {"mean": [3.0, 1.0]}
    with pytest.raises(TongsError, match="no entry 'd'; it has: a, b, c"):
        select_statistics(statistics, "f", ("a", "b", "c"), ("d",))
