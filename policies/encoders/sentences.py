"""One vector for a whole sentence, from a frozen encoder."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import normalize

from policies.encoders.text import MINILM, TextEncoder


class SentenceEncoder:
    """Unit vectors of sentences: the mean over the tokens of a frozen language model, as sentence-transformers has it.

    Args:
        name, max_tokens: as in `TextEncoder`.
    """

    def __init__(self, name: str = MINILM, max_tokens: int = 64) -> None:
        self._encoder = TextEncoder(name, max_tokens)

    @property
    def dimension(self) -> int:
        """Size of a vector."""
        return self._encoder.dimension

    def remember(self, sentences: Sequence[str], device: torch.device) -> None:
        """Compute now what will be asked for later."""
        self._encoder.remember(sentences, device)

    def __call__(self, sentences: Sequence[str], device: torch.device) -> Tensor:
        """float32 (len(sentences), dimension). Raises TongsError for a too long sentence, or a model that cannot be
        loaded."""
        features, mask = self._encoder.encode(sentences, device)
        return normalize(features.sum(dim=1) / mask.sum(dim=1, keepdim=True), dim=-1)
