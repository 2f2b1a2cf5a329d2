"""Samplers against data whose denoiser is known exactly, and against numbers that k-diffusion gave."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp
from torch import Tensor

from policies.beso.config import Sampling
from policies.beso.samplers import CHURNED, SAMPLERS, Denoiser, sampler
from policies.beso.samplers.lms import step_weights
from policies.beso.schedules import noise_schedule
from robot.errors import TongsError

MEAN, STD = 0.3, 0.5


def gaussian(noisy: Tensor, sigma: float) -> Tensor:
    """E[a | a + sigma n] for a ~ N(MEAN, STD^2)."""
    return (STD**2 * noisy + sigma**2 * MEAN) / (STD**2 + sigma**2)


def mixture(noisy: Tensor, sigma: float) -> Tensor:
    """E[a | a + sigma n] for a ~ 0.3 N(-0.6, 0.15^2) + 0.7 N(0.4, 0.15^2)."""
    variance = 0.15**2 + sigma**2
    logits = [math.log(weight) - (noisy - mean) ** 2 / (2 * variance) for weight, mean in ((0.3, -0.6), (0.7, 0.4))]
    chance = torch.stack(logits).softmax(0)
    return (0.15**2 * noisy + sigma**2 * (-0.6 * chance[0] + 0.4 * chance[1])) / variance


K_DIFFUSION = {
    "ddim": (-0.642390, -0.439906, 0.246014, 0.322237, 0.436720, 0.540532),
    "euler": (-0.642390, -0.439906, 0.246014, 0.322237, 0.436720, 0.540532),
    "euler_ancestral": (0.275805, 0.278022, -0.696984, 0.409381, 0.196504, 0.410975),
    "heun": (-0.718161, -0.537321, 0.265203, 0.339835, 0.471612, 0.606517),
    "lms": (-0.677813, -0.495793, 0.262326, 0.334479, 0.452262, 0.567329),
    "dpm_2": (-0.716113, -0.538016, 0.266761, 0.338554, 0.470280, 0.601909),
    "dpm_2_ancestral": (0.204618, -0.493045, -0.900162, 0.443653, 0.275354, 0.483798),
    "dpm_fast": (-0.656963, -0.587490, 0.322255, 0.364732, 0.434219, 0.533297),
    "dpm_adaptive": (-0.695084, -0.518100, 0.260268, 0.334027, 0.460210, 0.585029),
    "dpmpp_2s": (-0.689190, -0.514726, 0.264917, 0.335728, 0.457135, 0.575215),
    "dpmpp_2s_ancestral": (0.260279, -0.293645, -0.754630, 0.424015, 0.273952, 0.437203),
    "dpmpp_2m": (-0.754138, -0.598227, 0.309235, 0.375713, 0.482134, 0.597281),
    "dpmpp_2m_sde": (0.427130, 0.517628, -0.937167, 0.472669, -0.322512, 0.478314),
}
"""What the samplers of k-diffusion 0.1.1 make of START along LEVELS for the denoiser `mixture`, with noise from a
generator of seed 0. Its dpm_fast (4 calls) and dpm_adaptive stop at 0.03; the denoiser's answer there is given."""
K_DIFFUSION_CHURNED = {
    "euler": (0.151895, 0.312647, -0.696369, 0.404320, 0.149637, 0.421216),
    "heun": (0.220161, 0.302235, -0.851150, 0.474452, 0.262684, 0.489026),
    "dpm_2": (0.237677, 0.298350, -0.831247, 0.472986, 0.157032, 0.483794),
}
"""The same with s_churn = 1.5."""
START = torch.tensor([-1.5, -0.8, -0.1, 0.2, 0.9, 1.7], dtype=torch.float64).reshape(1, 3, 2)
LEVELS = torch.tensor([1.0, 0.6, 0.3, 0.12, 0.03, 0.0], dtype=torch.float64)


@pytest.mark.parametrize("name", sorted(SAMPLERS))
def test_same_numbers_as_k_diffusion(name: str) -> None:
    result = sampler(name)(mixture, START, LEVELS, torch.Generator().manual_seed(0))
    assert result.flatten().tolist() == pytest.approx(K_DIFFUSION[name], abs=2e-6)


@pytest.mark.parametrize("name", sorted(CHURNED))
def test_same_churn_as_k_diffusion(name: str) -> None:
    result = sampler(name, churn=1.5)(mixture, START, LEVELS, torch.Generator().manual_seed(0))
    assert result.flatten().tolist() == pytest.approx(K_DIFFUSION_CHURNED[name], abs=2e-6)


DETERMINISTIC = ("ddim", "dpm_2", "dpm_adaptive", "dpm_fast", "dpmpp_2m", "dpmpp_2s", "euler", "heun", "lms")


@pytest.mark.parametrize("name", DETERMINISTIC)
def test_many_steps_follow_the_flow_of_a_mixture(name: str) -> None:
    def flow(sigma: float, x: np.ndarray) -> np.ndarray:
        return (x - mixture(torch.from_numpy(x), sigma).numpy()) / sigma

    exact = solve_ivp(flow, (1.0, 0.01), START.flatten().numpy(), method="DOP853", rtol=1e-10, atol=1e-10).y[:, -1]
    levels = noise_schedule("exponential", 201, 0.01, 1.0)[:-1]
    result = sampler(name)(mixture, START, levels, None).flatten().numpy()
    np.testing.assert_allclose(result, exact, atol={"ddim": 0.02, "euler": 0.02, "dpm_adaptive": 0.03}.get(name, 2e-3))


def counted(denoise: Denoiser) -> tuple[Denoiser, list[float]]:
    levels: list[float] = []

    def call(noisy: Tensor, sigma: float) -> Tensor:
        levels.append(sigma)
        return denoise(noisy, sigma)

    return call, levels


def noise(count: int = 64) -> Tensor:
    return torch.randn(count, 2, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


CALLS = {"heun": 5, "dpm_2": 5, "dpm_2_ancestral": 5, "dpmpp_2s": 5, "dpmpp_2s_ancestral": 5}


@pytest.mark.parametrize("name", sorted(set(SAMPLERS) - {"dpm_adaptive"}))
def test_network_calls(name: str) -> None:
    denoise, levels = counted(gaussian)
    sampler(name)(denoise, noise(), noise_schedule("exponential", 3, 0.005, 1.0), torch.Generator().manual_seed(0))
    assert len(levels) == CALLS.get(name, 3)
    assert min(levels) > 0


@pytest.mark.parametrize("name", sorted(SAMPLERS))
def test_one_step_is_the_answer_of_the_denoiser(name: str) -> None:
    denoise, levels = counted(gaussian)
    result = sampler(name)(denoise, noise(), noise_schedule("linear", 1, 0.005, 1.0), torch.Generator())
    torch.testing.assert_close(result, gaussian(noise(), 1.0))
    assert levels == [1.0]


@pytest.mark.parametrize("name", DETERMINISTIC)
@pytest.mark.parametrize("steps", [1, 2, 5])
def test_a_constant_denoiser_is_reached_exactly(name: str, steps: int) -> None:
    wanted = torch.full((64, 2, 3), 0.7, dtype=torch.float64)
    result = sampler(name)(lambda noisy, sigma: wanted, noise(), noise_schedule("linear", steps, 0.005, 1.0), None)
    torch.testing.assert_close(result, wanted)


def test_ddim_step_is_its_formula() -> None:
    sigmas = torch.tensor([0.8, 0.2], dtype=torch.float64)
    start, denoised = noise(), gaussian(noise(), 0.8)
    h = math.log(0.8 / 0.2)
    wanted = 0.25 * start - math.expm1(-h) * denoised
    torch.testing.assert_close(sampler("ddim")(gaussian, start, sigmas), wanted)


@pytest.mark.parametrize(
    ("name", "order"),
    [
        ("ddim", 1),
        ("euler", 1),
        ("heun", 2),
        ("dpm_2", 2),
        ("dpmpp_2s", 2),
        ("dpmpp_2m", 2),
        ("lms", 2),
        ("dpm_fast", 3),
    ],
)
def test_converges_to_the_probability_flow_at_its_order(name: str, order: int) -> None:
    """lms begins with an Euler step, which limits it to 2; dpm_fast keeps 3 where no step of order 1 ends it."""
    exact = MEAN + (noise() - MEAN) * math.sqrt((STD**2 + 0.005**2) / (STD**2 + 1))

    def error(steps: int) -> float:
        sigmas = noise_schedule("exponential", steps, 0.005, 1.0)[:-1]  # the flow from 1 to 0.005
        return (sampler(name)(gaussian, noise(), sigmas, None) - exact).abs().max().item()

    assert error(60) / error(120) == pytest.approx(2**order, rel=0.25)


def test_lms_is_exact_for_cubic_slopes() -> None:
    levels, start, end = [1.0, 0.7, 0.5, 0.2], 0.2, 0.05
    weights = step_weights(levels, start, end)
    cubic = np.polynomial.Polynomial([0.3, -1.0, 2.0, 5.0])
    integral = cubic.integ()
    assert np.dot(weights, cubic(np.array(levels))) == pytest.approx(integral(end) - integral(start))


@pytest.mark.parametrize(
    ("name", "churn"),
    [("euler_ancestral", 0), ("dpm_2_ancestral", 0), ("dpmpp_2s_ancestral", 0), ("dpmpp_2m_sde", 0), ("heun", 20.0)],
)
def test_samplers_with_noise_give_the_data_distribution(name: str, churn: float) -> None:
    generator = torch.Generator().manual_seed(0)
    start = MEAN + math.sqrt(STD**2 + 1) * torch.randn(20_000, 1, 1, generator=generator)
    samples = sampler(name, churn)(gaussian, start, noise_schedule("exponential", 60, 0.005, 1.0), generator)
    assert samples.mean().item() == pytest.approx(MEAN, abs=0.02)
    assert samples.std().item() == pytest.approx(STD, rel=0.05)


@pytest.mark.parametrize("name", sorted(SAMPLERS))
def test_randomness_comes_from_the_generator(name: str) -> None:
    sigmas = noise_schedule("exponential", 4, 0.005, 1.0)

    def draw(seed: int) -> Tensor:
        return sampler(name)(gaussian, noise(), sigmas, torch.Generator().manual_seed(seed))

    assert torch.equal(draw(1), draw(1))
    assert torch.equal(draw(1), draw(2)) == (name in DETERMINISTIC)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sampler": "plms"}, f"'plms'.*{', '.join(sorted(SAMPLERS))}"),
        ({"sampler": "ddim", "churn": 1.0}, "'ddim' has no churn; euler, heun, dpm_2 have"),
        ({"sampler": "euler", "churn": -1.0}, "at least 0, got -1.0"),
    ],
)
def test_bad_input(settings: dict[str, str | float], message: str) -> None:
    with pytest.raises(TongsError, match=message):
        Sampling(**settings)  # type: ignore[arg-type]
