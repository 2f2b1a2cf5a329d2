"""Keeps numbers that carry millimetres out of reduced precision."""

from __future__ import annotations

import torch


def full_precision(tensor: torch.Tensor) -> torch.autocast:
    """A context in which automatic mixed precision is off on the tensor's device.

    bfloat16 has 8 significant bits: near 1 its steps are 0.008, coarser than the smallest noise level of a diffusion
    policy and than a pixel of a keypoint coordinate.
    """
    return torch.autocast(tensor.device.type, enabled=False)
