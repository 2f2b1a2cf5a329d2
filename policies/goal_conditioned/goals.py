"""Goals that are seen, not said: future states and pictures of future moments, as goal tokens."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from policies.base import Batch
from robot.errors import TongsError


class StateGoals(nn.Module):
    """Scaled future states, without the entries that are no part of a goal; projected where tokens have another width.

    Args:
        state_names: entries of a state.
        goal_names: those that make a goal; empty for all.
        token_width: of a goal token; at the size of a state nothing is projected, so that goals and states share one
            embedding, as in BESO.
        projected: whether states are tokens only after a projection.

    Raises:
        TongsError: a goal entry is no state entry.
    """

    kept: Tensor

    def __init__(
        self, state_names: Sequence[str], goal_names: Sequence[str], token_width: int, projected: bool
    ) -> None:
        super().__init__()
        for name in goal_names:
            if name not in state_names:
                raise TongsError(f"goal_names: the state has no entry {name!r}; it has: {', '.join(state_names)}")
        kept = torch.tensor([float(not goal_names or name in goal_names) for name in state_names])
        self.register_buffer("kept", kept, persistent=False)
        self.projection = nn.Linear(len(state_names), token_width) if projected else nn.Identity()

    def forward(self, scaled: Tensor) -> Tensor:
        """(B, G, token_width) of scaled states (B, G, D)."""
        return self.projection(scaled * self.kept)


def goal_frames(batch: Batch, key: str, tokens: int) -> Tensor:
    """What the batch holds of its goals, (B, G, ...).

    Raises:
        TongsError: it holds none, or another number of moments than the policy's goal has.
    """
    if key not in batch:
        raise TongsError(f"the policy is told its goal by {key}, and the batch has none; training needs goals.*")
    found = batch[key]
    if isinstance(found, dict):
        found = next(iter(found.values()))
    if found.shape[1] != tokens:
        raise TongsError(f"the policy takes goals of {tokens} moments (goal_tokens), and got {found.shape[1]}")
    return found
