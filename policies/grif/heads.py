"""The action head of GRIF: a Gaussian around a learned mean, with a fixed deviation of one."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor, nn


class GaussianHead(nn.Module):
    """Dense layers with dropout from a state to the mean of a chunk of standardised actions.

    Args:
        inputs: size of a state.
        hidden: widths of the layers.
        shape: (H, A) of a chunk.
        dropout: after each layer.
    """

    def __init__(self, inputs: int, hidden: Sequence[int], shape: tuple[int, int], dropout: float) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in zip([inputs, *hidden], hidden, strict=False):
            layers += [nn.Linear(before, after), nn.ReLU(), nn.Dropout(dropout)]
        self.layers = nn.Sequential(*layers, nn.Linear(hidden[-1], shape[0] * shape[1]))
        self.shape = shape

    def forward(self, states: Tensor) -> Tensor:
        """Means (B, H, A) of states (B, inputs)."""
        return self.layers(states.float()).view(-1, *self.shape)


def log_probability(actions: Tensor, mean: Tensor) -> Tensor:
    """Of actions (..., A) under a Gaussian of that mean and deviation 1: (...)."""
    return -0.5 * (actions - mean).square().sum(dim=-1) - actions.shape[-1] / 2 * math.log(2 * math.pi)
