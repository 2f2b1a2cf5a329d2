"""Real-time chunking: chunks that go on from the one before, against Gaussians whose conditional is known."""

from __future__ import annotations

from math import e, exp

import numpy as np
import pytest
import torch
from torch import Tensor

from policies.beso.continuation import continued, overlap_weights
from policies.beso.samplers import sampler
from policies.beso.schedules import noise_schedule
from robot.control.inference import continues
from robot.interface import Continuation, ContinuingPolicy
from tests.policies import small

HORIZON, FROZEN, SIGMA_DATA = 8, 3, 0.5


def covariance(correlation: float) -> Tensor:
    """Of a chunk of one-dimensional actions: an autoregressive process of standard deviation SIGMA_DATA."""
    steps = torch.arange(HORIZON, dtype=torch.float64)
    return SIGMA_DATA**2 * correlation ** (steps[:, None] - steps[None]).abs()


def sampled(correlation: float, previous: Tensor | None, steps: int = 10) -> Tensor:
    """2000 chunks (2000, H) drawn with the exact denoiser D = C (C + sigma^2)^-1 a."""
    prior, identity = covariance(correlation), torch.eye(HORIZON, dtype=torch.float64)

    def denoise(noisy: Tensor, sigma: float) -> Tensor:
        return torch.einsum("ij,bja->bia", prior @ torch.linalg.inv(prior + sigma**2 * identity), noisy)

    guided = denoise
    if previous is not None:
        chunk = previous.expand(2000, HORIZON)[..., None]
        guided = continued(denoise, chunk, overlap_weights(FROZEN, FROZEN, HORIZON).double(), FROZEN, SIGMA_DATA)
    generator = torch.Generator().manual_seed(0)
    noise = 5 * torch.randn(2000, HORIZON, 1, generator=generator, dtype=torch.float64)
    sigmas = noise_schedule("exponential", steps, 0.005, 5.0)
    return sampler("ddim", 0.0)(guided, noise, sigmas, generator)[..., 0]


def test_weights_are_those_of_the_paper():
    weights = overlap_weights(overlap=6, frozen=2, horizon=8).tolist()
    expected = [(6 - i) / 5 for i in range(2, 6)]
    assert weights[:2] == [1, 1] and weights[6:] == [0, 0]
    assert weights[2:6] == pytest.approx([c * (exp(c) - 1) / (e - 1) for c in expected])
    assert overlap_weights(8, 8, 8).tolist() == [1] * 8
    assert overlap_weights(0, 0, 3).tolist() == [0] * 3


@pytest.mark.parametrize("correlation", [0.9, 0.98])
def test_what_is_not_frozen_goes_on_from_what_is(correlation):
    previous = torch.full((HORIZON,), 0.8, dtype=torch.float64)
    chunks, prior = sampled(correlation, previous), covariance(correlation)
    assert torch.allclose(chunks[:, :FROZEN], previous[:FROZEN])
    conditional = prior[FROZEN:, :FROZEN] @ torch.linalg.inv(prior[:FROZEN, :FROZEN]) @ previous[:FROZEN]
    free = sampled(correlation, None).mean(dim=0)[FROZEN:]
    assert free.abs().max() < 0.05  # without guidance the chunk knows nothing of the one before
    share = chunks.mean(dim=0)[FROZEN:] / conditional
    assert share.min() > 0.6 and share[0] > 0.85 and share.max() < 1.05
    assert chunks[:, FROZEN].std() < 0.6 * SIGMA_DATA


def test_without_overlap_nothing_changes():
    chunk = torch.zeros(2000, HORIZON, 1, dtype=torch.float64)
    free, prior = sampled(0.9, None), covariance(0.9)

    def denoise(noisy: Tensor, sigma: float) -> Tensor:
        identity = torch.eye(HORIZON, dtype=torch.float64)
        return torch.einsum("ij,bja->bia", prior @ torch.linalg.inv(prior + sigma**2 * identity), noisy)

    generator = torch.Generator().manual_seed(0)
    noise = 5 * torch.randn(2000, HORIZON, 1, generator=generator, dtype=torch.float64)
    guided = continued(denoise, chunk, torch.zeros(HORIZON, dtype=torch.float64), 0, SIGMA_DATA)
    sigmas = noise_schedule("exponential", 10, 0.005, 5.0)
    assert torch.allclose(sampler("ddim", 0.0)(guided, noise, sigmas, generator)[..., 0], free)


def test_beso_keeps_what_is_frozen_and_is_smoother_at_the_seam():
    policy = small.policy(horizon=8)
    policy.bind(small.ROBOT)
    assert isinstance(policy, ContinuingPolicy) and continues(policy)
    seams = {"free": [], "continued": []}
    for seed in range(8):
        policy.reset(seed)
        before = policy.act(small.observation(0, time=1.0)).actions[4:]
        seen = small.observation(1, time=1.4)
        policy.reset(100 + seed)
        free = policy.act(seen)
        policy.reset(100 + seed)
        chunk = policy.continue_chunk(seen, Continuation(before, frozen=2))
        assert chunk.times[0] == pytest.approx(1.4) and chunk.actions.shape == (8, 7)
        assert np.allclose(chunk.actions[:2], before[:2], atol=1e-6)
        seams["free"].append(np.abs(free.actions[2:4] - before[2:4]).mean())
        seams["continued"].append(np.abs(chunk.actions[2:4] - before[2:4]).mean())
    assert np.mean(seams["continued"]) < 0.85 * np.mean(seams["free"])
    assert all(one < other for one, other in zip(seams["continued"], seams["free"], strict=True))


def test_the_network_is_not_changed_by_it():
    policy = small.policy(horizon=8)
    policy.bind(small.ROBOT)
    policy.reset(0)
    before = policy.act(small.observation(0)).actions
    policy.continue_chunk(small.observation(1), Continuation(before, frozen=3))
    assert all(parameter.grad is None for parameter in policy.parameters())
    policy.reset(0)
    assert np.array_equal(policy.act(small.observation(0)).actions, before)


def test_a_chunk_of_one_action_has_nothing_to_go_on_with():
    assert not continues(small.policy(horizon=1))
