"""Classifier-free guidance: goal masking and the mix of two denoisers."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from policies.beso.guidance import guided
from policies.goal_conditioned.masking import mask_goals


def conditional(noisy: Tensor, sigma: float) -> Tensor:
    return noisy + sigma


def unconditional(noisy: Tensor, sigma: float) -> Tensor:
    return noisy * 2


def test_strength_one_is_the_conditional_denoiser_and_never_builds_the_other() -> None:
    def fail() -> None:
        raise AssertionError

    assert guided(conditional, fail, 1.0) is conditional  # type: ignore[arg-type]


def test_strength_zero_is_the_unconditional_denoiser() -> None:
    assert guided(conditional, lambda: unconditional, 0.0) is unconditional


@pytest.mark.parametrize("strength", [0.5, 1.25, 2.0])
def test_extrapolation(strength: float) -> None:
    noisy = torch.tensor([1.0, -2.0])
    result = guided(conditional, lambda: unconditional, strength)(noisy, 0.5)
    torch.testing.assert_close(result, (1 - strength) * 2 * noisy + strength * (noisy + 0.5))


def test_samples_are_masked_whole_at_the_rate() -> None:
    goals, counts = mask_goals(torch.ones(20_000, 3, 4), 0.1, generator=torch.Generator().manual_seed(0))
    left = (counts > 0).float()
    assert left.mean().item() == pytest.approx(0.9, abs=0.01)
    assert torch.equal(goals.amin(dim=(1, 2)), left) and torch.equal(goals.amax(dim=(1, 2)), left)
    torch.testing.assert_close(counts.mean(), torch.tensor(1.0))
    assert len(counts.unique()) == 2


def test_elements_are_masked_singly_at_the_rate() -> None:
    goals, counts = mask_goals(torch.ones(2_000, 3, 4), 0.1, True, torch.Generator().manual_seed(0))
    assert (goals == 0).float().mean().item() == pytest.approx(0.1, abs=0.01)
    assert torch.equal(counts, torch.ones(2_000))
    assert (goals.flatten(1).std(dim=1) > 0).float().mean() > 0.5  # partly masked goals
