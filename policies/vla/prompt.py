"""From an instruction to the token ids of a prompt (OpenVLA, section 3.1)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from policies.vla.config import VlaConfig
from robot.words import Words

SPECIAL = ("<pad>", "<s>", "</s>")
"""The first ids of a tokenizer learned here: padding, begin, end."""


class Prompter:
    """Writes and tokenises prompts; each once."""

    def __init__(self, config: VlaConfig) -> None:
        self.words = Words(config.tokenizer, config.max_tokens, config.prompt, config.begin_token, config.answer_token)
        self._known: dict[str, Tensor] = {}

    def ids(self, instruction: str) -> Tensor:
        """Ids (L,) of one prompt; see `Words.ids`."""
        if instruction not in self._known:
            self._known[instruction] = torch.tensor(self.words.ids(instruction))
        return self._known[instruction]

    def batch(self, instructions: Sequence[str], device: torch.device | None = None) -> list[Tensor]:
        return [self.ids(instruction).to(device) for instruction in instructions]


def learn_tokenizer(texts: Iterable[str], size: int) -> str:
    """A byte-pair tokenizer.json of at most `size` pieces, learned from prompts; every digit is a piece of its own.

    It knows every byte, so it reads any text. Its first ids are those of `SPECIAL`.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(  # type: ignore[assignment]
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()  # type: ignore[assignment]
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(sorted(set(texts)), trainer)
    return tokenizer.to_str()
