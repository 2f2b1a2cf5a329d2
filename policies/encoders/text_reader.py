"""A small trained reader that turns the tokens of an instruction into a few goal tokens."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from policies.precision import full_precision
from policies.transformer import Block, padding_mask

_LOUDNESS = 1.7
"""Standard deviation at first of what a whitened sentence adds to a goal token."""


class TextReader(nn.Module):
    """Reads frozen token features with a transformer of its own, then G learned queries ask it for the goal.

    Nothing is pooled before the queries, so a number keeps its own token from end to end. Beside them the whitened mean
    of the tokens reaches every goal token: a frozen encoder puts "red" and "green" close together, and what differs
    little is learned late; whitened, every way in which the instructions of the data differ weighs the same.

    Args:
        text_width: size of a token's features.
        goal_width: size of a goal token.
        goal_tokens: G.
        max_tokens: longest instruction.
        width, layers, heads: of the reader.
        directions: of the mean token that are whitened; 0 for none.
    """

    middle: Tensor
    whitening: Tensor

    def __init__(
        self,
        text_width: int,
        goal_width: int,
        goal_tokens: int,
        max_tokens: int,
        width: int = 128,
        layers: int = 2,
        heads: int = 4,
        directions: int = 0,
    ) -> None:
        super().__init__()
        self.embedding = nn.Linear(text_width, width)
        self.position = nn.Parameter(torch.randn(max_tokens, width) * 0.02)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.queries = nn.Parameter(torch.randn(goal_tokens, width) * 0.02)
        self.key_value = nn.Linear(width, 2 * width)
        self.output = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, goal_width))
        self.heads = heads
        self.directions = directions
        if directions:
            self.register_buffer("middle", torch.zeros(text_width))
            self.register_buffer("whitening", torch.zeros(text_width, directions))
            self.sentence = nn.Linear(directions, goal_width)
            nn.init.normal_(self.sentence.weight, std=_LOUDNESS * directions**-0.5)

    @torch.no_grad()
    def whiten(self, batches: Iterable[tuple[Tensor, Tensor]]) -> None:
        """Fit the whitening to token features and masks (as in `forward`) of the instructions to be read, if any."""
        sentences = [_mean_token(features, mask) for features, mask in batches]
        if not sentences:
            return
        means = torch.cat(sentences).double()
        middle = means.mean(dim=0)
        _, lengths, directions = torch.linalg.svd(means - middle, full_matrices=False)
        spread = lengths / len(means) ** 0.5
        count = min(self.directions, int((spread > 1e-3 * spread[0]).sum()) if spread[0] > 0 else 0)
        self.middle.copy_(middle)
        self.whitening.zero_()
        self.whitening[:, :count] = (directions[:count] / spread[:count, None]).T

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        """Token features (B, L, text_width) and mask (B, L), True on real tokens, to goals (B, G, goal_width)."""
        with full_precision(features):
            absent = padding_mask(mask)
            x = self.embedding(features) + self.position[: features.shape[1]]
            for block in self.blocks:
                x = block(x, absent)
            goals = self.output(self.queries + self._ask(self.norm(x), absent))
            if self.directions:
                sentence = (_mean_token(features, mask) - self.middle) @ self.whitening
                goals = goals + self.sentence(sentence)[:, None]
            return goals

    def _ask(self, x: Tensor, absent: Tensor) -> Tensor:
        """What each learned query finds among the tokens x (B, L, width): (B, G, width)."""
        batch, length, width = x.shape
        parts = self.key_value(x).view(batch, length, 2, self.heads, width // self.heads)
        key, value = parts.permute(2, 0, 3, 1, 4)  # each (B, heads, L, width / heads)
        query = self.queries.view(-1, self.heads, width // self.heads).transpose(0, 1)  # (heads, G, width / heads)
        scores = query @ key.transpose(-1, -2) * (width // self.heads) ** -0.5 + absent
        found = scores.softmax(dim=-1) @ value  # (B, heads, G, width / heads)
        return found.transpose(1, 2).reshape(batch, -1, width)


def _mean_token(features: Tensor, mask: Tensor) -> Tensor:
    """(B, text_width): the mean of the real tokens."""
    real = mask[..., None].to(features.dtype)
    return (features * real).sum(dim=1) / real.sum(dim=1)
