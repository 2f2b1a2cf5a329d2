"""A toy with two right answers: diffusion covers both, and few steps are enough."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from policies.beso.noise import LogLogistic
from policies.beso.preconditioning import Preconditioning
from policies.beso.samplers import sampler
from policies.beso.schedules import noise_schedule
from policies.beso.score_transformer import ScoreTransformer

CPU, COUNT = torch.device("cpu"), 2000
PRECONDITIONING = Preconditioning(0.5)


def demonstrations(count: int, generator: torch.Generator) -> Tensor:
    """Two actions in a row, both near +0.6 or both near -0.6: (count, 2, 1)."""
    side = torch.randint(0, 2, (count, 1, 1), generator=generator) * 2.0 - 1
    return 0.6 * side + 0.03 * torch.randn(count, 2, 1, generator=generator)


@pytest.fixture(scope="module")
def network() -> ScoreTransformer:
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    built = ScoreTransformer(1, 1, goal_tokens=1, window=1, horizon=2, width=32, layers=2, heads=2)
    optimizer = torch.optim.Adam(built.parameters(), 3e-3)
    density, blank = LogLogistic(0.005, 1.0), torch.zeros(256, 1, 1)
    for _ in range(500):
        clean = demonstrations(256, generator)
        sigma = density(256, generator, CPU)
        noisy = clean + sigma[:, None, None] * torch.randn(clean.shape, generator=generator)
        scaled = PRECONDITIONING.input(sigma)[:, None, None] * noisy
        prediction = built(scaled, blank, blank, PRECONDITIONING.condition(sigma))
        loss = (prediction - PRECONDITIONING.target(clean, noisy, sigma)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return built.eval()


@torch.no_grad()
def samples(network: ScoreTransformer, name: str, steps: int) -> Tensor:
    blank = torch.zeros(COUNT, 1, 1)

    def denoise(noisy: Tensor, sigma: float) -> Tensor:
        levels = torch.full((COUNT,), sigma)
        return PRECONDITIONING.denoise(lambda x, condition: network(x, blank, blank, condition), noisy, levels)

    generator = torch.Generator().manual_seed(1)
    noise = torch.randn(COUNT, 2, 1, generator=generator)
    sigmas = noise_schedule("exponential", steps, 0.005, 1.0)
    return sampler(name)(denoise, noise, sigmas, generator)[:, :, 0]


@pytest.mark.parametrize("name", ["ddim", "euler", "euler_ancestral", "heun"])
@pytest.mark.parametrize("steps", [3, 10, 50])
def test_both_modes_are_covered_with_the_same_weights(network: ScoreTransformer, name: str, steps: int) -> None:
    drawn = samples(network, name, steps)
    upper = drawn[:, 0] > 0
    assert 0.35 < upper.float().mean().item() < 0.65
    assert ((drawn.abs() - 0.6).abs() < 0.15).float().mean().item() > 0.9  # a regression would answer 0
    assert ((drawn[:, 0] * drawn[:, 1]) > 0).float().mean().item() > 0.97  # one side for the whole chunk


def test_three_steps_are_within_a_few_percent_of_fifty(network: ScoreTransformer) -> None:
    few, many = samples(network, "ddim", 3), samples(network, "ddim", 50)
    for drawn_mode in (1, -1):
        means = [drawn[drawn[:, 0] * drawn_mode > 0].mean().item() for drawn in (few, many)]
        assert means[0] == pytest.approx(means[1], rel=0.05)
    shares = [(drawn[:, 0] > 0).float().mean().item() for drawn in (few, many)]
    assert shares[0] == pytest.approx(shares[1], abs=0.05)
