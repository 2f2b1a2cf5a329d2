"""Policies that read their actions off the state tokens at once, without denoising."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from policies.base import Batch
from policies.goal_conditioned.model import GoalConditioned
from policies.goal_conditioned.transformer import GoalTransformer
from policies.normalisation import Statistics
from robot.interface import PolicySpec


class Direct(GoalConditioned):
    """From each state token to the action there (window T, horizon 1) or to a whole chunk (window 1, horizon H).

    Either way a state token answers for H A numbers. A family gives `outputs`, `action_losses` and `sample`.
    """

    def __init__(self, config: Any, spec: PolicySpec, statistics: Statistics) -> None:
        super().__init__(config, spec, statistics)
        self.chunk_size = spec.horizon * spec.action_space.dimension
        self.transformer = GoalTransformer(config, self.token_width, self.outputs)

    @property
    def outputs(self) -> int:
        """Numbers that the transformer gives per state."""
        raise NotImplementedError

    @property
    def heavy_parts(self) -> list[nn.Module]:
        return [*super().heavy_parts, self.transformer]

    def targets(self, batch: Batch, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Scaled chunks (B, T, H A), and what each number counts (B, T, H A); 0 for padding."""
        clean = self.action_scaling.scale(batch["actions"])
        counts = (~batch["action_is_pad"] * weight[:, None])[..., None].expand_as(clean)
        shape = (len(clean), self.window, self.chunk_size)
        return clean.reshape(shape), counts.reshape(shape)

    def newest(self, batch: Batch, goals: Tensor) -> Tensor:
        """The transformer's output at the newest state (B, outputs)."""
        return self.transformer(self.observe(batch, goals), goals)[:, -1]

    def chunk(self, numbers: Tensor) -> Tensor:
        """(B, H, A) of (B, H A)."""
        return numbers.view(len(numbers), self.spec.horizon, -1)
