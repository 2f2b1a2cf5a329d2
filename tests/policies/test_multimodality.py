"""A toy with two right answers: diffusion covers both, follows a goal to either, and few steps are enough."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from policies.beso.noise import LogLogistic
from policies.beso.preconditioning import Preconditioning
from policies.beso.samplers import sampler
from policies.beso.schedules import noise_schedule
from policies.beso.score_transformer import ScoreTransformer
from policies.goal_conditioned.masking import mask_goals

CPU, COUNT, MODE, SPREAD = torch.device("cpu"), 1000, 0.6, 0.15
PRECONDITIONING = Preconditioning(0.5)


@pytest.fixture(scope="module")
def network() -> ScoreTransformer:
    """Trained on chunks of two actions, both near +0.6 or both near -0.6; half of the time the goal says which."""
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    built = ScoreTransformer(1, 1, goal_tokens=1, window=1, horizon=2, width=32, layers=2, heads=2)
    optimizer = torch.optim.Adam(built.parameters(), 3e-3)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.05, total_iters=400)
    density = LogLogistic(0.005, 1.0)
    for _ in range(400):
        side = torch.randint(0, 2, (256, 1, 1), generator=generator) * 2.0 - 1
        clean = MODE * side + SPREAD * torch.randn(256, 2, 1, generator=generator)
        goals, _ = mask_goals(side, 0.5, generator=generator)
        sigma = density(256, generator, CPU)
        noisy = clean + sigma[:, None, None] * torch.randn(clean.shape, generator=generator)
        scaled = PRECONDITIONING.input(sigma)[:, None, None] * noisy
        prediction = built(scaled, torch.zeros(256, 1, 1), goals, PRECONDITIONING.condition(sigma))
        loss = (prediction - PRECONDITIONING.target(clean, noisy, sigma)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return built.eval()


@torch.no_grad()
def samples(network: ScoreTransformer, name: str, steps: int, goal: float = 0.0) -> Tensor:
    """Chunks (COUNT, 2) for a goal of +1, -1 or none (0)."""
    goals, states = torch.full((COUNT, 1, 1), goal), torch.zeros(COUNT, 1, 1)

    def denoise(noisy: Tensor, sigma: float) -> Tensor:
        levels = torch.full((COUNT,), sigma)
        return PRECONDITIONING.denoise(lambda x, condition: network(x, states, goals, condition), noisy, levels)

    generator = torch.Generator().manual_seed(1)
    noise = torch.randn(COUNT, 2, 1, generator=generator)
    sigmas = noise_schedule("linear", steps, 0.005, 1.0)
    return sampler(name)(denoise, noise, sigmas, generator)[:, :, 0]


@pytest.mark.parametrize(
    ("name", "steps"), [("ddim", 3), ("euler", 3), ("euler_ancestral", 3), ("ddim", 10), ("heun", 25)]
)
def test_both_modes_are_covered_with_the_same_weights(network: ScoreTransformer, name: str, steps: int) -> None:
    drawn = samples(network, name, steps)
    assert 0.4 < (drawn[:, 0] > 0).float().mean().item() < 0.6
    assert (drawn.abs() > MODE / 2).float().mean().item() > 0.8  # a regression would answer 0
    assert (drawn[:, 0] * drawn[:, 1] > 0).float().mean().item() > 0.95  # one side for the whole chunk


@pytest.mark.parametrize("goal", [1.0, -1.0])
def test_three_steps_to_a_goal_are_as_good_as_fifty(network: ScoreTransformer, goal: float) -> None:
    few, many = samples(network, "ddim", 3, goal), samples(network, "ddim", 50, goal)
    assert (few * goal > 0).float().mean().item() > 0.99
    few_error, many_error = (abs(drawn.mean().item() - goal * MODE) for drawn in (few, many))
    assert few_error < many_error + 0.03 * MODE
    # The exact flow of a Gaussian from N(0, 1): starting without the mean at sigma_max = 1 keeps this share of it.
    share = SPREAD / math.sqrt(SPREAD**2 + 1)
    assert many.mean().item() == pytest.approx(goal * MODE * (1 - share), rel=0.05)
    assert many.std().item() == pytest.approx(share, rel=0.25)
