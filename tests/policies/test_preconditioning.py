"""EDM preconditioning against the published numbers."""

from __future__ import annotations

import math

import pytest
import torch

from policies.beso.preconditioning import Preconditioning


@pytest.mark.parametrize(
    ("sigma", "skip", "output", "scale"),
    [(0.5, 0.5, 0.353553, 1.414214), (1.0, 0.2, 0.447214, 0.894427), (1e-9, 1, 0, 2)],
)
def test_coefficients(sigma: float, skip: float, output: float, scale: float) -> None:
    preconditioning, level = Preconditioning(0.5), torch.tensor(sigma, dtype=torch.float64)
    assert preconditioning.skip(level).item() == pytest.approx(skip, abs=1e-6)
    assert preconditioning.output(level).item() == pytest.approx(output, abs=1e-6)
    assert preconditioning.input(level).item() == pytest.approx(scale, abs=1e-6)


@pytest.mark.parametrize(("sigma", "expected"), [(1.0, 0.0), (0.005, -1.3246)])
def test_noise_condition(sigma: float, expected: float) -> None:
    assert Preconditioning().condition(torch.tensor(sigma)).item() == pytest.approx(expected, abs=1e-4)


def test_no_noise_passes_actions_through() -> None:
    actions = torch.randn(3, 5, 2, generator=torch.Generator().manual_seed(0))
    wild = lambda x, condition: 100 * torch.ones_like(x)  # noqa: E731
    denoised = Preconditioning().denoise(wild, actions, torch.full((3,), 1e-7))
    torch.testing.assert_close(denoised, actions, atol=1e-4, rtol=0)


def test_perfect_network_has_no_loss_and_denoises_exactly() -> None:
    generator = torch.Generator().manual_seed(0)
    clean = torch.randn(4, 3, 2, generator=generator, dtype=torch.float64) * 0.5
    sigma = torch.tensor([0.005, 0.1, 0.5, 1.0], dtype=torch.float64)
    noisy = clean + sigma[:, None, None] * torch.randn(clean.shape, generator=generator, dtype=torch.float64)
    preconditioning = Preconditioning(0.5)
    target = preconditioning.target(clean, noisy, sigma)
    by_hand = (clean[1, 0, 0] - 0.25 / 0.26 * noisy[1, 0, 0]) / (0.1 * 0.5 / math.sqrt(0.26))
    assert target[1, 0, 0].item() == pytest.approx(by_hand.item())
    torch.testing.assert_close(preconditioning.denoise(lambda x, condition: target, noisy, sigma), clean)


def test_network_sees_unit_variance_and_targets_have_unit_variance() -> None:
    generator = torch.Generator().manual_seed(0)
    clean = torch.randn(20000, 1, 1, generator=generator) * 0.5
    for level in (0.01, 0.3, 1.0):
        sigma = torch.full((20000,), level)
        noisy = clean + level * torch.randn(clean.shape, generator=generator)
        assert (Preconditioning(0.5).input(sigma)[:, None, None] * noisy).std().item() == pytest.approx(1, abs=0.03)
        assert Preconditioning(0.5).target(clean, noisy, sigma).std().item() == pytest.approx(1, abs=0.03)
