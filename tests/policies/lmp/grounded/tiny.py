"""Random language models small enough to compute every sequence."""

import itertools
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from policies.lmp.grounded import CausalLanguage

PIECES = (".", " red", " blue", "ish", " block", " [", "]")


class PieceTokenizer:
    """One token for each piece of text, written as `PIECES` says."""

    def __init__(self, pieces: Sequence[str] = PIECES) -> None:
        self.pieces = list(pieces)

    def __len__(self) -> int:
        return len(self.pieces)

    def encode(self, text: str, add_special_tokens: bool = False) -> list[int]:
        tokens = []
        while text:
            token = next(place for place, piece in enumerate(self.pieces) if text.startswith(piece))
            tokens.append(token)
            text = text[len(self.pieces[token]) :]
        return tokens

    def decode(self, tokens: Sequence[int], **ignored: bool) -> str:
        return "".join(self.pieces[token] for token in tokens)


def random_model(vocabulary: int, seed: int = 0) -> GPT2LMHeadModel:
    torch.manual_seed(seed)
    model = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=vocabulary, n_positions=64, n_embd=16, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=0
        )
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(8)  # far from uniform, so that nothing is a tie
    return model.eval()


def piece_language(seed: int = 0) -> CausalLanguage:
    return CausalLanguage(random_model(len(PIECES), seed), PieceTokenizer())


def byte_level_language(sentences: Sequence[str], vocabulary: int = 290, seed: int = 0) -> CausalLanguage:
    """Byte-level BPE as of GPT-2, learnt from a few sentences: words are cut into pieces, spaces lead."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # pyright: ignore[reportAttributeAccessIssue]
    tokenizer.decoder = decoders.ByteLevel()  # pyright: ignore[reportAttributeAccessIssue]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        sentences, trainers.BpeTrainer(vocab_size=vocabulary, initial_alphabet=alphabet, show_progress=False)
    )
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer)
    return CausalLanguage(random_model(len(fast), seed), fast)


def next_log_probabilities(language: CausalLanguage, tokens: Sequence[int]) -> NDArray[np.float64]:
    """(V,) straight from the model, without a cache or `generate`."""
    with torch.inference_mode():
        logits = language.model(torch.tensor([list(tokens)])).logits[0, -1].double()
    return torch.log_softmax(logits, dim=-1).numpy()


def every_command(terminal: int, longest: int, vocabulary: int) -> Iterator[tuple[int, ...]]:
    """All sequences that end with the terminal, or are as long as they may be."""
    for length in range(1, longest + 1):
        for begun in itertools.product([token for token in range(vocabulary) if token != terminal], repeat=length - 1):
            yield from ([(*begun, terminal)] if length < longest else [(*begun, token) for token in range(vocabulary)])
