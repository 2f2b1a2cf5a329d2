"""Exponential moving average of a module's weights, the ones a diffusion policy is evaluated with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from robot.errors import TongsError


def ema_decay(step: int, limit: float = 0.999) -> float:
    """Decay after `step` updates, min(limit, (1 + n) / (10 + n)): short memory first, long memory later."""
    return min(limit, (1 + step) / (10 + step))


class ExponentialMovingAverage:
    """Averages a module's trainable parameters in place; buffers and frozen parameters stay the live ones."""

    def __init__(self, module: nn.Module, limit: float = 0.999) -> None:
        self.limit = limit
        self._live = {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}
        self._average = {name: parameter.detach().clone() for name, parameter in self._live.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """average <- decay * average + (1 - decay) * weights, after optimiser step `step` (the first is 1)."""
        weight = 1.0 - ema_decay(step, self.limit)
        for name, average in self._average.items():
            average.lerp_(self._live[name], weight)

    @contextmanager
    def swapped(self) -> Iterator[None]:
        """Within this context the module computes with the averaged weights."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for name, parameter in self._live.items():
            live = parameter.detach().clone()
            parameter.copy_(self._average[name])
            self._average[name].copy_(live)

    def state_dict(self) -> dict[str, Tensor]:
        return {name: value.clone() for name, value in self._average.items()}

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Continue from a saved average. Raises TongsError if it belongs to another module."""
        difference = sorted(set(state) ^ set(self._average))
        if difference:
            raise TongsError(
                f"the saved moving average does not fit this policy: {difference[0]!r} is on one side only"
            )
        for name, value in state.items():
            self._average[name].copy_(value)
