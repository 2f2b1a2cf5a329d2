"""Steering a denoiser at run time: classifier-free guidance by the goal, and guidance by an external value."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from policies.base import Batch
from policies.beso.samplers import Denoiser


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


Value = Callable[[Tensor, float, Batch], Tensor]
"""V: (noisy actions (B, N, A) in physical units, noise level, the batch that `predict` got) -> values (B,), larger is
better. Differentiable in the actions; at noise level sigma ideally ln E[exp(V(a)) | a + sigma n]."""


@dataclass(frozen=True)
class ValueGuidance:
    """An external value that steers sampling without retraining (classifier guidance).

    Attributes:
        value: see `Value`.
        weight: how much; samples then come from p(a) exp(weight V(a)).
    """

    value: Value
    weight: float = 1.0


def value_guided(
    denoise: Denoiser, guidance: ValueGuidance, batch: Batch, unscale: Callable[[Tensor], Tensor]
) -> Denoiser:
    """D + weight sigma^2 dV/da: the score gains the gradient of the value, and D = a + sigma^2 score.

    Args:
        denoise: of scaled actions.
        guidance: the value and its weight.
        batch: handed to the value.
        unscale: from scaled to physical actions, differentiable.
    """

    def guided_by_value(noisy: Tensor, sigma: float) -> Tensor:
        denoised = denoise(noisy, sigma)
        with torch.inference_mode(False), torch.enable_grad():
            actions = noisy.clone().detach().requires_grad_()
            value = guidance.value(unscale(actions), sigma, batch).sum()
            (gradient,) = torch.autograd.grad(value, actions)
        return denoised + guidance.weight * sigma**2 * gradient

    return guided_by_value
