"""Training noise levels against the log-logistic distribution's closed form and SciPy."""

from __future__ import annotations

import pytest
import torch
from scipy import stats

from policies.beso.model import _noise_density
from policies.beso.noise import LogLogistic, LogNormal
from tests.policies.small import config

CPU = torch.device("cpu")


@pytest.mark.parametrize(("sigma_min", "median"), [(0.005, 0.408), (0.05, 0.412)])
def test_bounds_and_median(sigma_min: float, median: float) -> None:
    sigma = LogLogistic(sigma_min, 1.0)(200_000, torch.Generator().manual_seed(0), CPU)
    assert sigma.min() >= sigma_min and sigma.max() <= 1.0
    assert sigma.median().item() == pytest.approx(median, abs=0.003)


def test_distribution_is_scipys_truncated_log_logistic() -> None:
    sigma = LogLogistic(0.005, 1.0)(20_000, torch.Generator().manual_seed(1), CPU).numpy()
    free = stats.fisk(c=2, scale=0.5)  # SciPy's log-logistic; shape 1 / 0.5
    low, high = free.cdf(0.005), free.cdf(1.0)
    assert high == pytest.approx(0.8)
    assert stats.kstest(sigma, lambda x: (free.cdf(x) - low) / (high - low)).pvalue > 0.01


def test_mean_and_std_matter_only_to_lognormal() -> None:
    def draw(density: str, mean: float, std: float) -> torch.Tensor:
        built = _noise_density(config(noise_density=density, noise_mean=mean, noise_std=std))
        return built(50_000, torch.Generator().manual_seed(0), CPU)

    assert torch.equal(draw("loglogistic", -0.6, 1.6), draw("loglogistic", -1.2, 0.5))
    logarithm = draw("lognormal", -1.2, 0.5).log()
    assert logarithm.mean().item() == pytest.approx(-1.2, abs=0.01)
    assert logarithm.std().item() == pytest.approx(0.5, abs=0.01)


def test_draws_follow_the_generator() -> None:
    for density in (LogLogistic(0.005, 1.0), LogNormal(-0.6, 1.6)):
        first, second = (density(5, torch.Generator().manual_seed(3), CPU) for _ in range(2))
        assert torch.equal(first, second)
