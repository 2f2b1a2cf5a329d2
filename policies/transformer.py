"""The transformer block that the text reader and the score network are made of."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Attention(nn.Module):
    """Multi-head self-attention, written out.

    At the 10 to 30 tokens of a policy two batched products train twice (float32) to seven times (bfloat16) as fast on
    a CPU as torch's fused attention, which is made for long sequences.
    """

    def __init__(self, width: int, heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.heads = heads
        self.query_key_value = nn.Linear(width, 3 * width)
        self.projection = nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """x: (B, L, width); mask: added to the scores, broadcast to (B, heads, L, L), -inf where not to look."""
        batch, length, width = x.shape
        parts = self.query_key_value(x).view(batch, length, 3, self.heads, width // self.heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4)  # each (B, heads, L, width / heads)
        scores = (query * (width // self.heads) ** -0.5) @ key.transpose(-1, -2) + mask
        mixed = self.dropout(scores.softmax(dim=-1)) @ value
        return self.projection(mixed.transpose(1, 2).reshape(batch, length, width))


class Block(nn.Module):
    """Pre-LayerNorm: self-attention, then an MLP of four times the width with GELU, each added to its input."""

    def __init__(self, width: int, heads: int, attention_dropout: float = 0.0, residual_dropout: float = 0.0) -> None:
        super().__init__()
        self.ln1 = nn.LayerNorm(width)
        self.attention = Attention(width, heads, attention_dropout)
        self.ln2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.dropout = nn.Dropout(residual_dropout)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """x: (B, L, width); mask as in `Attention`."""
        x = x + self.dropout(self.attention(self.ln1(x), mask))
        return x + self.dropout(self.mlp(self.ln2(x)))


def causal_mask(length: int, device: torch.device) -> Tensor:
    """(length, length): 0 where a row may look (itself and what is before it), -inf after it."""
    return torch.full((length, length), float("-inf"), device=device).triu(1)


def padding_mask(present: Tensor) -> Tensor:
    """bool (B, L), True on real tokens, to (B, 1, 1, L): 0 on real tokens, -inf on padding."""
    mask = torch.zeros(present.shape, device=present.device).masked_fill(~present, float("-inf"))
    return mask[:, None, None, :]


def initialise(module: nn.Module) -> None:
    """Weights N(0, 0.02), biases zero, as in minGPT; the positional table starts at zero."""
    if isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)
