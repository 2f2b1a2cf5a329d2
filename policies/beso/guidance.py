"""Classifier-free guidance: how strongly the goal steers, chosen after training."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from policies.beso.samplers import Denoiser


def mask_goals(
    goals: Tensor, probability: float, per_element: bool = False, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor]:
    """Replace goals by zeros now and then, so that the network also learns to act without one.

    Args:
        goals: (B, G, d).
        probability: of masking.
        per_element: draw for every number of every goal token, as BESO's released code does, instead of per sample.

    Returns:
        The goals (B, G, d) and, per sample, whether any of its goal is left: bool (B,).
    """
    shape = goals.shape if per_element else (len(goals), 1, 1)
    kept = torch.rand(shape, generator=generator, device=goals.device) >= probability
    return goals * kept, kept.flatten(1).any(dim=1)


def guided(conditional: Denoiser, unconditional: Callable[[], Denoiser], strength: float) -> Denoiser:
    """D = D_u + strength * (D_c - D_u) (BESO, classifier-free guidance).

    Strength 1 is the conditional denoiser itself and 0 the unconditional one, each at the cost of one network call.
    `unconditional` is called only if it is needed, because it encodes the observation a second time.
    """
    if strength == 1:
        return conditional
    without_goal = unconditional()
    if strength == 0:
        return without_goal

    def denoise(noisy: Tensor, sigma: float) -> Tensor:
        free = without_goal(noisy, sigma)
        return free + strength * (conditional(noisy, sigma) - free)

    return denoise
