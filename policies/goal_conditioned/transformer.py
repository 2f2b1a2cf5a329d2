"""A causal transformer from goals and states to one output per state, for policies that do not denoise."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from policies.goal_conditioned.config import GoalConditionedConfig
from policies.precision import full_precision
from policies.transformer import Block, causal_mask, initialise


class GoalTransformer(nn.Module):
    """Tokens [g_1..g_G, s_1..s_T] through BESO's blocks; goals and states share one embedding.

    Args:
        config: number of goal tokens, window and size.
        state_width: size of a state and of a goal vector.
        outputs: numbers per state.
    """

    def __init__(self, config: GoalConditionedConfig, state_width: int, outputs: int) -> None:
        super().__init__()
        self.state_embedding = nn.Linear(state_width, config.width)
        self.position = nn.Parameter(torch.zeros(config.goal_tokens + config.window, config.width))
        self.dropout = nn.Dropout(config.residual_dropout)
        self.blocks = nn.ModuleList(
            Block(config.width, config.heads, config.attention_dropout, config.residual_dropout)
            for _ in range(config.layers)
        )
        self.final_norm = nn.LayerNorm(config.width)
        self.head = nn.Linear(config.width, outputs)
        self.apply(initialise)

    def forward(self, states: Tensor, goals: Tensor) -> Tensor:
        """(B, T, outputs) of states (B, T, state_width) and goals (B, G, state_width)."""
        given = torch.cat([goals, states], dim=1)  # (B, G + T, state_width)
        with full_precision(given):
            tokens = self.state_embedding(given.float()) + self.position[: given.shape[1]]
        tokens = self.dropout(tokens)
        mask = causal_mask(tokens.shape[1], tokens.device)
        for block in self.blocks:
            tokens = block(tokens, mask)
        outputs = tokens[:, goals.shape[1] :]
        with full_precision(outputs):
            return self.head(self.final_norm(outputs.float()))
