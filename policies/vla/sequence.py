"""What the language model reads: begin token, image, prompt, actions; and who sees whom."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from robot.errors import TongsError


@dataclass(frozen=True)
class Sequence:
    """Embeddings with their places and which of them are real.

    Prompts of unequal length are padded between the image and the words, so that in every row the last column is the
    last token of the prompt and what follows has the same columns in all rows. Places are counted as if there
    were no padding, and nobody sees it, so a row is the same as alone.

    Attributes:
        embeddings: (B, N, width).
        places: int64 (B, N), for the rotary (or learned) position of each.
        real: bool (B, N), False on padding.
    """

    embeddings: Tensor
    places: Tensor
    real: Tensor

    @property
    def length(self) -> int:
        return self.embeddings.shape[1]

    def append(self, embeddings: Tensor, real: Tensor | None = None) -> Sequence:
        """The sequence with (B, K, width) behind it."""
        batch, count = embeddings.shape[:2]
        steps = torch.arange(1, count + 1, device=embeddings.device)
        if real is None:
            real = torch.ones(batch, count, dtype=torch.bool, device=embeddings.device)
        return Sequence(
            torch.cat([self.embeddings, embeddings.to(self.embeddings.dtype)], dim=1),
            torch.cat([self.places, self.places[:, -1:] + steps], dim=1),
            torch.cat([self.real, real], dim=1),
        )

    def mask(self, causal: bool) -> Tensor:
        """Additive attention mask (B, 1, N, N): everybody sees what is real, or only what is real and not later."""
        count = self.length
        visible = self.real[:, None, None, :].expand(-1, 1, count, -1)
        if causal:
            visible = visible & torch.ones(count, count, dtype=torch.bool, device=self.real.device).tril()
        return additive(visible, self.embeddings.dtype)


def additive(visible: Tensor, dtype: torch.dtype) -> Tensor:
    """0 where visible, the most negative number elsewhere."""
    return torch.zeros(visible.shape, dtype=dtype, device=visible.device).masked_fill_(~visible, torch.finfo(dtype).min)


def multimodal(texts: list[Tensor], image: Tensor, embed: nn.Module) -> Sequence:
    """[begin] [image] [rest of the prompt] as embeddings.

    Args:
        texts: B vectors of ids, each from the begin token on.
        image: (B, P, width): patches, and whatever else goes behind them.
        embed: ids to embeddings.
    """
    batch, patches = image.shape[:2]
    device = image.device
    lengths = torch.tensor([len(text) - 1 for text in texts], device=device)
    longest = int(lengths.max())
    ids = torch.stack([torch.cat([text[:1].expand(longest - len(text) + 2), text[1:]]) for text in texts])
    words = embed(ids).to(image.dtype)  # (B, 1 + longest, width): begin token, padding, the rest
    column = torch.arange(longest, device=device)
    real = column >= (longest - lengths)[:, None]  # (B, longest)
    places = (1 + patches + column - (longest - lengths)[:, None]).clamp(min=0)
    first = torch.arange(1 + patches, device=device).expand(batch, -1)
    return Sequence(
        torch.cat([words[:, :1], image, words[:, 1:]], dim=1),
        torch.cat([first, places], dim=1),
        torch.cat([torch.ones_like(first, dtype=torch.bool), real], dim=1),
    )


class NextToken:
    """The language model on its way through a text of its own, with the keys and values of all before kept.

    Args:
        language_model: a causal one.
        embed: ids to embeddings.
        sequence: what it goes on from.

    Attributes:
        logits: of the next token of each row (B, vocabulary).
    """

    def __init__(self, language_model: Any, embed: nn.Module, sequence: Sequence) -> None:
        self._model, self._embed = language_model, embed
        self._real, self._place, self._dtype = sequence.real, sequence.places[:, -1:], sequence.embeddings.dtype
        self._ask(sequence.embeddings, sequence.mask(causal=True), sequence.places, None)

    def take(self, tokens: Tensor) -> None:
        """The text goes on with these tokens (B,)."""
        self._real = torch.cat([self._real, torch.ones_like(self._real[:, :1])], dim=1)
        self._place = self._place + 1
        self._ask(
            self._embed(tokens)[:, None], additive(self._real[:, None, None], self._dtype), self._place, self._kept
        )

    def _ask(self, embeddings: Tensor, mask: Tensor, places: Tensor, kept: Any) -> None:
        output = self._model(
            inputs_embeds=embeddings,
            attention_mask=mask,
            position_ids=places,
            past_key_values=kept,
            use_cache=True,
            logits_to_keep=1,
        )
        self.logits, self._kept = output.logits[:, -1], output.past_key_values


def last_hidden_states(language_model: Any, sequence: Sequence, causal: bool) -> Tensor:
    """(B, N, width) after the last layer and its norm."""
    output = language_model.base_model(
        inputs_embeds=sequence.embeddings,
        attention_mask=sequence.mask(causal),
        position_ids=sequence.places,
        use_cache=False,
    )
    return output.last_hidden_state


@torch.no_grad()
def require_bidirectional(language_model: Any) -> None:
    """Try out whether a token sees a later one.

    Parallel decoding needs it, and a causal pass gives plausible but much worse actions instead of an error (the best
    known trap of OFT: any transformers but its own fork).

    Raises:
        TongsError: it does not.
    """
    weight = language_model.get_input_embeddings().weight
    generator = torch.Generator().manual_seed(0)
    first, second = torch.randn(2, 1, 4, weight.shape[1], generator=generator).to(weight.device, weight.dtype)
    second[:, :-1] = first[:, :-1]
    places = torch.arange(4, device=weight.device)[None]
    real = torch.ones(1, 4, dtype=torch.bool, device=weight.device)
    training = language_model.training
    language_model.eval()
    try:
        one, other = (
            last_hidden_states(language_model, Sequence(embeddings, places, real), causal=False)
            for embeddings in (first, second)
        )
    finally:
        language_model.train(training)
    if torch.equal(one[:, 0], other[:, 0]):
        kind = language_model.config._attn_implementation
        raise TongsError(
            f"parallel decoding needs attention in both directions, and {type(language_model).__name__} with attention "
            f"{kind!r} hides later tokens; use attention 'sdpa' or 'eager' and a decoder that takes a 4-D mask"
        )
