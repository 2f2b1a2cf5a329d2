"""Real-time chunking: a new chunk that goes on from the one that is still being executed (Black, Galliker, Levine 2025,
"Real-Time Execution of Action Chunking Flow Policies", arXiv 2506.07339), for denoisers instead of flows."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from policies.beso.samplers import Denoiser

LARGEST_WEIGHT = 5.0
"""The paper's beta, which bounds the guidance at high noise."""


def overlap_weights(overlap: int, frozen: int, horizon: int) -> Tensor:
    """How much each action of a chunk (H,) holds to the one before (equation 5).

    1 for the frozen ones, which will have been executed; then c (exp(c) - 1) / (e - 1) with
    c = (overlap - i) / (overlap - frozen + 1), falling; 0 where the old chunk has ended.
    """
    weights = torch.zeros(horizon)
    for i in range(min(overlap, horizon)):
        share = 1.0 if i < frozen else (overlap - i) / (overlap - frozen + 1)
        weights[i] = share * math.expm1(share) / math.expm1(1.0)
    return weights


def continued(denoise: Denoiser, previous: Tensor, weights: Tensor, frozen: int, sigma_data: float) -> Denoiser:
    """A denoiser whose samples go on from a previous chunk y.

    D' = D + min(beta, sigma^2 / r^2) (dD/da)^T W (y - D) with r^2 = sigma^2 sd^2 / (sigma^2 + sd^2), the guidance by
    pseudo-inverse of Song et al. 2023 in which the paper's equation 2 is written for flows: there (1 - t) / (t r^2)
    scales a velocity, here sigma^2 / r^2 a denoised action. The frozen actions are then replaced by y (inpainting), so
    that they are y exactly.

    Args:
        denoise: of scaled actions (B, H, A); differentiable.
        previous: y (B, H, A), scaled; anything where the weight is 0.
        weights: the diagonal of W (H,), as `overlap_weights` gives it.
        frozen: actions that are y exactly.
        sigma_data: sd, the standard deviation that scaled actions are taken to have.
    """
    diagonal = weights.to(previous)[None, :, None]

    def denoise_continued(noisy: Tensor, sigma: float) -> Tensor:
        with torch.enable_grad():
            actions = noisy.detach().requires_grad_()
            denoised = denoise(actions, sigma)
            error = diagonal * (previous - denoised.detach())
            (pull,) = torch.autograd.grad(denoised, actions, error)
        strength = min(LARGEST_WEIGHT, (sigma**2 + sigma_data**2) / sigma_data**2)
        guided = denoised.detach() + strength * pull
        return torch.cat([previous[:, :frozen], guided[:, frozen:]], dim=1)

    return denoise_continued
