"""BESO's score network: a causal transformer over noise level, goal, states and noisy actions."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from policies.goal_conditioned.config import GoalConditionedConfig
from policies.precision import full_precision
from policies.transformer import Block, causal_mask, initialise
from robot.interface import PolicySpec


class ScoreTransformer(nn.Module):
    """F(c_in a, s, g, c_noise) of BESO, a minGPT over [sigma, g_1..g_G, s_1, a_1, ..., s_T, a_T, a_T+1, ..., a_T+H-1].

    States and goals share one linear embedding; s_i and a_i share one positional vector; the noise token has none.
    With H = 1 this is the paper's network; H > 1 continues with the rest of an action chunk after the newest state.
    The positional table has G + T + H rows, the last unused, as in the released code.

    Attention is causal, but the actions of the newest chunk a_T .. a_T+H-1 see each other unless `causal_chunk`: only
    then is D the mean of the joint density of the chunk given all of its noise, which the probability flow needs to
    settle on one mode for the whole chunk.

    Args:
        state_width: size of a state and of a goal vector.
        action_width: A, size of an action.
        goal_tokens: G.
        window: T, the largest number of states.
        horizon: H, actions from the newest state on.
        width, layers, heads: of the transformer.
        attention_dropout, residual_dropout: probabilities; the latter also applies to the embedded tokens.
        causal_chunk: hide later actions of the chunk from earlier ones.
    """

    def __init__(
        self,
        state_width: int,
        action_width: int,
        goal_tokens: int,
        window: int,
        horizon: int,
        width: int = 128,
        layers: int = 4,
        heads: int = 4,
        attention_dropout: float = 0.0,
        residual_dropout: float = 0.0,
        causal_chunk: bool = False,
    ) -> None:
        super().__init__()
        self.window = window
        self.causal_chunk = causal_chunk
        self.goal_tokens = goal_tokens
        self.state_embedding = nn.Linear(state_width, width)
        self.action_embedding = nn.Linear(action_width, width)
        self.noise_embedding = nn.Linear(1, width)
        self.position = nn.Parameter(torch.zeros(goal_tokens + window + horizon, width))
        self.dropout = nn.Dropout(residual_dropout)
        self.blocks = nn.ModuleList(Block(width, heads, attention_dropout, residual_dropout) for _ in range(layers))
        self.final_norm = nn.LayerNorm(width)
        self.action_head = nn.Linear(width, action_width)
        self.apply(initialise)

    @classmethod
    def of(
        cls, config: GoalConditionedConfig, spec: PolicySpec, state_width: int, causal_chunk: bool = False
    ) -> ScoreTransformer:
        """The network for a policy's settings and spec."""
        return cls(
            state_width,
            spec.action_space.dimension,
            config.goal_tokens,
            config.window,
            spec.horizon,
            config.width,
            config.layers,
            config.heads,
            config.attention_dropout,
            config.residual_dropout,
            causal_chunk,
        )

    def forward(self, actions: Tensor, states: Tensor, goals: Tensor, noise: Tensor) -> Tensor:
        """Network output at the action tokens.

        Args:
            actions: scaled noisy actions (B, T-1+H, A), the newest state's first action at index T-1.
            states: (B, T, state_width), T at most the window.
            goals: (B, G, state_width).
            noise: ln(sigma) / 4, (B,).

        Returns:
            (B, T-1+H, A).
        """
        length = states.shape[1]
        with full_precision(actions):
            tokens = self.tokens(actions.float(), states.float(), goals.float(), noise.float())
        tokens = self.dropout(tokens)
        mask = self.attention_mask(length, actions.shape[1], tokens.device)
        for block in self.blocks:
            tokens = block(tokens, mask)
        first = 1 + self.goal_tokens
        interleaved = tokens[:, first + 1 : first + 2 * length : 2]  # a_1 .. a_T
        outputs = torch.cat([interleaved, tokens[:, first + 2 * length :]], dim=1)
        with full_precision(outputs):
            return self.action_head(self.final_norm(outputs.float()))

    def attention_mask(self, states: int, actions: int, device: torch.device) -> Tensor:
        """(L, L), added to attention scores, for so many state and action tokens."""
        mask = causal_mask(1 + self.goal_tokens + states + actions, device)
        if not self.causal_chunk:
            horizon = actions - states + 1
            mask[-horizon:, -horizon:] = 0.0
        return mask

    def tokens(self, actions: Tensor, states: Tensor, goals: Tensor, noise: Tensor) -> Tensor:
        """The embedded sequence (B, 1 + G + 2T + H - 1, width) that the blocks see; arguments as in `forward`."""
        batch, length, _ = states.shape
        goal_count, action_count = goals.shape[1], actions.shape[1]
        action_position = self.position[goal_count : goal_count + action_count]
        goal = self.state_embedding(goals) + self.position[:goal_count]
        state = self.state_embedding(states) + action_position[:length]
        action = self.action_embedding(actions) + action_position
        pairs = torch.stack([state, action[:, :length]], dim=2).reshape(batch, 2 * length, -1)  # s_1, a_1, s_2, ...
        sigma = self.noise_embedding(noise[:, None, None])
        return torch.cat([sigma, goal, pairs, action[:, length:]], dim=1)
