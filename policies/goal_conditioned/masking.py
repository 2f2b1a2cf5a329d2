"""Hiding goals in training, so that a network also learns to act without one."""

from __future__ import annotations

import torch
from torch import Tensor

from policies.randomness import Randomness, draw_whole, own_rows


def mask_goals(
    goals: Tensor, probability: float, per_element: bool = False, generator: Randomness = None
) -> tuple[Tensor, Tensor]:
    """Replace goals by zeros now and then, so that the network also learns to act without one.

    Args:
        goals: (B, G, d).
        probability: of masking.
        per_element: draw for every number of every goal token, as BESO's released code does, instead of per sample.

    Returns:
        The goals (B, G, d) and, per sample, float (B,), what a loss that needs the goal counts it for: 0 if nothing of
        its goal is left, else 1 / (fraction of the whole batch that has some left), so that the mean is 1.
    """
    shape = goals.shape if per_element else (len(goals), 1, 1)
    kept = draw_whole(torch.rand, shape, generator, goals.device) >= probability
    some_left = kept.flatten(1).any(dim=1).float()
    counts = some_left / some_left.mean().clamp(min=1e-8)
    return goals * own_rows(kept, generator), own_rows(counts, generator)
