"""Samplers against Gaussian data, whose denoiser and probability flow are known exactly."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from policies.beso.samplers import SAMPLERS, Denoiser, Sampler, ddim, euler, euler_ancestral, heun, sampler
from policies.beso.schedules import noise_schedule
from robot.errors import TongsError

MEAN, STD = 0.3, 0.5


def gaussian(noisy: Tensor, sigma: float) -> Tensor:
    """E[a | a + sigma n] for a ~ N(MEAN, STD^2)."""
    return (STD**2 * noisy + sigma**2 * MEAN) / (STD**2 + sigma**2)


def gaussian_flow(noise: Tensor, sigma: float) -> Tensor:
    """Where the probability flow carries a sample of level sigma at level 0."""
    return MEAN + (noise - MEAN) * STD / math.sqrt(STD**2 + sigma**2)


def counted(denoise: Denoiser) -> tuple[Denoiser, list[float]]:
    levels: list[float] = []

    def call(noisy: Tensor, sigma: float) -> Tensor:
        levels.append(sigma)
        return denoise(noisy, sigma)

    return call, levels


def noise(count: int = 64) -> Tensor:
    return torch.randn(count, 2, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize(("name", "calls"), [("ddim", 3), ("euler", 3), ("euler_ancestral", 3), ("heun", 5)])
def test_network_calls(name: str, calls: int) -> None:
    denoise, levels = counted(gaussian)
    sampler(name)(denoise, noise(), noise_schedule("exponential", 3, 0.005, 1.0), torch.Generator().manual_seed(0))
    assert len(levels) == calls
    assert min(levels) > 0


@pytest.mark.parametrize("step", [ddim, euler, heun])
def test_constant_denoiser_is_reached_in_one_step(step: Sampler) -> None:
    wanted = torch.full((64, 2, 3), 0.7, dtype=torch.float64)
    result = step(lambda noisy, sigma: wanted, noise(), noise_schedule("linear", 1, 0.005, 1.0), None)
    torch.testing.assert_close(result, wanted)


def test_ddim_step_is_its_formula() -> None:
    sigmas = torch.tensor([0.8, 0.2], dtype=torch.float64)
    start, denoised = noise(), gaussian(noise(), 0.8)
    h = math.log(0.8 / 0.2)
    torch.testing.assert_close(ddim(gaussian, start, sigmas), 0.25 * start - math.expm1(-h) * denoised)


@pytest.mark.parametrize(("step", "order"), [(ddim, 1), (euler, 1), (heun, 2)])
def test_converges_to_the_probability_flow_at_its_order(step: Sampler, order: int) -> None:
    exact = gaussian_flow(noise(), 1.0)

    def error(steps: int) -> float:
        sigmas = noise_schedule("exponential", steps, 0.005, 1.0)[:-1]  # the flow from 1 to 0.005
        end = MEAN + (noise() - MEAN) * math.sqrt((STD**2 + 0.005**2) / (STD**2 + 1))
        return (step(gaussian, noise(), sigmas, None) - end).abs().max().item()

    assert error(40) / error(80) == pytest.approx(2**order, rel=0.2)
    full = step(gaussian, noise(), noise_schedule("exponential", 200, 0.005, 1.0), None)
    torch.testing.assert_close(full, exact, atol=0.02, rtol=0)


def test_ancestral_sampling_gives_the_data_distribution() -> None:
    generator = torch.Generator().manual_seed(0)
    start = MEAN + math.sqrt(STD**2 + 1) * torch.randn(20_000, 1, 1, generator=generator)
    samples = euler_ancestral(gaussian, start, noise_schedule("exponential", 60, 0.005, 1.0), generator)
    assert samples.mean().item() == pytest.approx(MEAN, abs=0.02)
    assert samples.std().item() == pytest.approx(STD, rel=0.05)


def test_randomness_comes_from_the_generator() -> None:
    sigmas = noise_schedule("exponential", 4, 0.005, 1.0)

    def draw(step: Sampler, seed: int) -> Tensor:
        return step(gaussian, noise(), sigmas, torch.Generator().manual_seed(seed))

    assert torch.equal(draw(euler_ancestral, 1), draw(euler_ancestral, 1))
    assert not torch.equal(draw(euler_ancestral, 1), draw(euler_ancestral, 2))
    assert torch.equal(draw(ddim, 1), draw(ddim, 2))


def test_unknown_sampler() -> None:
    with pytest.raises(TongsError, match=f"'lms'.*{', '.join(sorted(SAMPLERS))}"):
        sampler("lms")
