"""Bringing two kinds of embeddings together: symmetric InfoNCE with masks, its temperature, and retrieval."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

LOWEST, HIGHEST, INITIAL = math.log(0.01), math.log(100.0), math.log(0.07)
"""Bounds and first value of the logarithm of the temperature."""


def similarity(transitions: Tensor, texts: Tensor, log_temperature: Tensor) -> Tensor:
    """Logits (N, M): cosine of unit vectors (N, d) and (M, d) over the temperature, clipped to 0.01 .. 100."""
    return transitions @ texts.T / log_temperature.clamp(LOWEST, HIGHEST).exp()


def same_task(instructions: Sequence[str], episodes: Tensor) -> Tensor:
    """Which rows ask for the same, bool (N, N): the same words, or another moment or wording of the same episode."""
    numbers = {text: number for number, text in enumerate(dict.fromkeys(instructions))}
    words = torch.tensor([numbers[text] for text in instructions], device=episodes.device)
    return (words[:, None] == words) | (episodes[:, None] == episodes)


def info_nce(
    transitions: Tensor,
    texts: Tensor,
    log_temperature: Tensor,
    positives: Tensor,
    labelled: Tensor | None = None,
    comparable: Tensor | None = None,
) -> Tensor:
    """The symmetric contrastive loss of GRIF, zero if no row is labelled.

    The mean over the labelled rows of -(log p(texts that fit | transition) + log p(transitions that fit | text)) / 2.
    With `positives` the identity it is CLIP's loss; the released code counts equal instructions as fitting, too.

    Args:
        transitions, texts: unit vectors (N, d), row i of the one belonging to row i of the other.
        log_temperature: scalar.
        positives: which texts fit which transitions, bool (N, N), the diagonal among them.
        labelled: which rows have a text, bool (N,); the others take no part. All by default.
        comparable: pairs that may be contrasted, bool (N, N), such as those of one dataset. All by default.
    """
    logits = similarity(transitions, texts, log_temperature)
    if labelled is None:
        labelled = torch.ones(len(logits), dtype=torch.bool, device=logits.device)
    kept = labelled[:, None] & labelled
    if comparable is not None:
        kept = kept & comparable
    positives = positives & kept
    rows = labelled.float()
    total = logits.new_zeros(())
    for axis in (0, 1):
        whole = _log_sum(logits, kept, axis)
        total = total + ((whole - _log_sum(logits, positives, axis)) * rows).sum()
    return total / (2 * rows.sum().clamp(min=1))


def _log_sum(logits: Tensor, kept: Tensor, axis: int) -> Tensor:
    """ln of the sum of exp over what is kept along an axis; anything finite where nothing is."""
    return logits.masked_fill(~kept, -1e9).logsumexp(dim=axis)


def retrieval(texts: Tensor, transitions: Tensor, positives: Tensor, k: int) -> Tensor:
    """For which texts (N, d) one of the k nearest transitions (N, d) fits, bool (N,); `positives` as in `info_nce`."""
    nearest = (texts @ transitions.T).topk(min(k, len(transitions)), dim=1).indices  # (N, k)
    return positives.T.gather(1, nearest).any(dim=1)
