"""FAST action tokens (Pertsch et al. 2025, arXiv 2501.09747): cosine transform, rounding, byte-pair encoding."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from robot.errors import TongsError

FIRST_CHARACTER = 0x100
"""Coefficients become characters from here on, away from the control characters."""


class FastTokens:
    """Chunks as few tokens: what is slow and common costs little.

    Each action dimension is transformed along time (DCT-II, orthonormal), multiplied by `scale` and rounded. The
    integers, low frequencies of all dimensions first, are the text that byte-pair encoding compresses. A decoded text
    that is too short lacks its highest frequencies, which then are zero; one that is too long loses its end.

    Args:
        fitted: what `fit` returned.
        vocabulary: the number that ids count down from.
        horizon, actions: H and A, the shape of a chunk.

    Raises:
        TongsError: it was fitted to chunks of another shape, or not fitted.
    """

    fixed = False

    def __init__(self, fitted: str, vocabulary: int, horizon: int, actions: int) -> None:
        from tokenizers import Tokenizer

        if not fitted:
            raise TongsError("fast action tokens have to be fitted to the chunks of a dataset first")
        settings = json.loads(fitted)
        shape = (horizon, actions)
        if tuple(settings["shape"]) != shape:
            raise TongsError(f"fast action tokens were fitted to chunks of {settings['shape']}, not of {list(shape)}")
        self.shape, self.vocabulary = shape, vocabulary
        self.scale, self.lowest, self.highest = settings["scale"], settings["lowest"], settings["highest"]
        self._pairs: Any = Tokenizer.from_str(settings["tokenizer"])
        self.first = vocabulary - self._pairs.get_vocab_size()
        if self.first < 0:
            raise TongsError(f"a vocabulary of {vocabulary} has no room for {vocabulary - self.first} action tokens")

    @property
    def longest(self) -> int:
        return self.shape[0] * self.shape[1]

    def encode(self, actions: torch.Tensor) -> list[torch.Tensor]:
        integers = _coefficients(actions.detach().cpu().numpy(), self.scale).clip(self.lowest, self.highest)
        texts = [_text(row, self.lowest) for row in integers]
        pieces = [encoding.ids for encoding in self._pairs.encode_batch(texts)]
        return [self.vocabulary - 1 - torch.tensor(ids, dtype=torch.long, device=actions.device) for ids in pieces]

    def decode(self, ids: Sequence[torch.Tensor]) -> torch.Tensor:
        from scipy.fft import idct

        size = self.longest
        integers = np.zeros((len(ids), size))
        last = self.vocabulary - 1 - self.first
        for row, tokens in zip(integers, ids, strict=True):
            pieces = (self.vocabulary - 1 - tokens.cpu().numpy()).clip(0, last)
            text = "".join(self._pairs.id_to_token(int(piece)) for piece in pieces)[:size]
            row[: len(text)] = [ord(character) - FIRST_CHARACTER + self.lowest for character in text]
        chunks: Any = idct(integers.reshape(-1, *self.shape) / self.scale, axis=1, norm="ortho")
        device = ids[0].device if len(ids) else None
        return torch.from_numpy(np.clip(chunks, -1, 1).astype(np.float32)).to(device)


def fit(chunks: NDArray[np.floating], pieces: int = 256, scale: float = 10.0) -> str:
    """Learn the byte pairs of scaled chunks (N, H, A); the result is what `FastTokens` takes.

    Args:
        chunks: of the training data, in [-1, 1].
        pieces: tokens to learn, at least as many as there are different coefficients.
        scale: of the coefficients before rounding; larger is more exact and longer.

    Raises:
        TongsError: there are more different coefficients than pieces.
    """
    from tokenizers import Tokenizer, models, trainers

    integers = _coefficients(chunks, scale)
    lowest, highest = int(integers.min()), int(integers.max())
    alphabet = [chr(FIRST_CHARACTER + number) for number in range(highest - lowest + 1)]
    if len(alphabet) > pieces:
        raise TongsError(f"fast action tokens need at least {len(alphabet)} pieces for this data, got {pieces}")
    tokenizer = Tokenizer(models.BPE())
    trainer = trainers.BpeTrainer(vocab_size=pieces, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator((_text(row, lowest) for row in integers), trainer)
    settings = {"shape": chunks.shape[1:], "scale": scale, "lowest": lowest, "highest": highest}
    return json.dumps(settings | {"tokenizer": tokenizer.to_str()})


def _coefficients(chunks: NDArray[np.floating], scale: float) -> NDArray[np.int64]:
    """Rounded coefficients (N, H * A), low frequencies first."""
    from scipy.fft import dct

    transformed: Any = dct(chunks.astype(np.float64), axis=1, norm="ortho")
    return np.rint(transformed * scale).astype(np.int64).reshape(len(chunks), -1)


def _text(integers: NDArray[np.int64], lowest: int) -> str:
    return "".join(chr(FIRST_CHARACTER + int(number) - lowest) for number in integers)
