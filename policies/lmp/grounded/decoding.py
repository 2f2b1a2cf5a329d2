"""Decoding token by token by p(token | language) times the grounded scores of the prefix (equation 3 of the paper).

The search itself, greedy or beam, is that of transformers' `generate`; the grounded scores enter as a logits processor.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import LogitsProcessor, LogitsProcessorList
from transformers.convert_slow_tokenizer import bytes_to_unicode

from policies.lmp.grounded.grounders import Grounder, PrefixScore, joint_log_score
from robot.errors import TongsError

Semantics = Literal["prefix", "option"]
"""`prefix`: each prefix's score is a factor, as in the paper: the product over n of p_LM(w_n | ...) p_G(w_1:n).
`option`: the score of the whole command is a factor once, as in SayCan: the product over n of
p_LM(w_n | ...) p_G(w_1:n) / p_G(w_1:n-1), which is p_LM(command) p_G(command) / p_G(nothing). A beam search stops when
no beginning is better than what it has found, so with a score that rises late (a preference) it may stop early."""
Gate = Literal["always", "brackets"]
"""`brackets`: grounded between "[" and "]" only, where the model names things (section 5 of the paper)."""


_BYTE_OF = {character: byte for byte, character in bytes_to_unicode().items()}
"""GPT-2's byte-level vocabularies write each byte as one printable character."""


def _bytes_of(piece: str) -> bytes | None:
    """What a token of a byte-level vocabulary, or a byte token of a sentence-piece one, stands for."""
    if re.fullmatch("<0x[0-9A-F]{2}>", piece):
        return bytes([int(piece[3:5], 16)])
    if all(character in _BYTE_OF for character in piece):
        return bytes(_BYTE_OF[character] for character in piece)
    return None


class CausalLanguage:
    """A causal language model of transformers with its tokenizer."""

    def __init__(self, model: Any, tokenizer: Any) -> None:
        self.model = model.eval()
        self.tokenizer = tokenizer
        self._texts: list[str] | None = None

    def encode(self, text: str) -> list[int]:
        """Token ids, without special tokens."""
        return self.tokenizer.encode(text, add_special_tokens=False)

    def text(self, tokens: Sequence[int]) -> str:
        """Text of tokens. Bytes that are no whole character (yet) stand in it as Python's `surrogateescape` has them,
        so that a grounded function can tell which character they may become."""
        text = self.tokenizer.decode(tokens, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        if "\N{REPLACEMENT CHARACTER}" not in text:
            return text
        pieces = [_bytes_of(piece) for piece in self.tokenizer.convert_ids_to_tokens(list(tokens))]
        known = [piece for piece in pieces if piece is not None]
        return b"".join(known).decode("utf-8", "surrogateescape") if len(known) == len(pieces) else text

    def tokens_with(self, terminal: str) -> tuple[list[int], list[int]]:
        """Ids of the tokens that end with a text, and of those that go on after it, with which a command would end too
        late.

        Raises:
            TongsError: no token ends with it.
        """
        if self._texts is None:
            self._texts = [self.text([token]) for token in range(len(self.tokenizer))]
        holding = [token for token, text in enumerate(self._texts) if terminal in text]
        ending = [token for token in holding if self._texts[token].endswith(terminal)]
        if not ending:
            raise TongsError(f"no token of the language model ends with {terminal!r}, so no command would ever end")
        return ending, sorted(set(holding) - set(ending))


@dataclass(frozen=True)
class TokenScore:
    """A decoded token: natural logarithms of its probability by language and of its grounded score."""

    text: str
    language: float
    grounded: float

    @property
    def joint(self) -> float:
        return self.language + self.grounded


@dataclass(frozen=True)
class Decoded:
    """A command.

    Attributes:
        text: without the terminal.
        tokens: one score each, the terminal's included; outside the gate the grounded score is 0.
        ended: by a terminal, not by the limit of tokens.
        scored_tokens: positions that the language model computed beyond the prompt: its cost.
        scored_prefixes: that grounded functions were asked about: theirs.
    """

    text: str
    tokens: tuple[TokenScore, ...]
    ended: bool
    scored_tokens: int
    scored_prefixes: int

    @property
    def score(self) -> float:
        """Logarithm of the product that was maximised."""
        return sum(token.joint for token in self.tokens)


@dataclass
class GroundedLogitsProcessor(LogitsProcessor):
    """Adds log p_G of each prefix to the log-probabilities of its candidates, for `generate`, greedy or beam.

    Attributes:
        language: whose tokens.
        prompt_length: tokens before the command.
        scores: grounded functions, given the state.
        candidates: this many of the likeliest tokens are judged; others are out.
        semantics: how scores of prefixes combine.
        gate: where they count.
    """

    language: CausalLanguage
    prompt_length: int
    scores: Sequence[PrefixScore]
    candidates: int = 50
    semantics: Semantics = "prefix"
    gate: Gate = "always"
    scored_tokens: int = 0
    scored_prefixes: int = 0
    _seen: dict[tuple[int, ...], tuple[float, float]] = field(default_factory=dict)
    _levels: dict[tuple[int, ...], float] = field(default_factory=dict)

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        """Joint log-probabilities (B, V), minus infinity for all but the candidates.

        Args:
            input_ids: (B, T) prompt and what was decoded so far.
            scores: (B, V) logits or log-probabilities of the next token.
        """
        language = torch.log_softmax(scores.double(), dim=-1)
        best, tokens = language.topk(min(self.candidates, language.shape[-1]), dim=-1)
        joint = torch.full_like(language, -torch.inf)
        known: dict[tuple[int, ...], NDArray[np.float64]] = {}  # at first, all beams are the same
        for row, begun in enumerate(input_ids[:, self.prompt_length :].tolist()):
            self.scored_tokens += 1
            if tuple(begun) not in known:
                known[tuple(begun)] = self._grounded(begun, tokens[row].tolist())
            grounded = known[tuple(begun)]
            joint[row, tokens[row]] = best[row] + torch.as_tensor(grounded, device=best.device)
            for token, by_language, by_ground in zip(tokens[row].tolist(), best[row].tolist(), grounded, strict=True):
                self._seen[(*begun, token)] = by_language, float(by_ground)
        return joint.to(scores.dtype)  # pyright: ignore[reportReturnType]

    def _grounded(self, begun: list[int], tokens: list[int]) -> NDArray[np.float64]:
        if not self.scores:
            return np.zeros(len(tokens))
        phrase, opened = self._gated(self.language.text(begun))
        if not opened:
            return np.zeros(len(tokens))
        prefixes = [self._gated(self.language.text([*begun, token]))[0] for token in tokens]
        grounded = np.zeros(len(tokens))
        # the bracket that closes is always allowed: what it closes was judged already
        judged = [place for place, prefix in enumerate(prefixes) if self.gate == "always" or "]" not in prefix]
        self.scored_prefixes += len(judged) * len(self.scores)
        if judged:
            grounded[judged] = joint_log_score(self.scores, [prefixes[place] for place in judged])
        if self.semantics == "option" and judged:
            for place in judged:
                self._levels[(*begun, tokens[place])] = float(grounded[place])
            grounded[judged] -= self._level(begun, phrase)
        return grounded

    def _level(self, begun: list[int], phrase: str) -> float:
        """log p_G of what was decoded so far; of nothing at all at the beginning."""
        key = tuple(begun)
        if key not in self._levels:
            self._levels[key] = float(joint_log_score(self.scores, [phrase])[0])
        return self._levels[key]

    def _gated(self, text: str) -> tuple[str, bool]:
        """The part of a text that is judged, and whether it is within the gate."""
        if self.gate == "always":
            return text, True
        before, bracket, phrase = text.rpartition("[")
        return phrase, bool(bracket) and "]" not in phrase

    def trace(self, tokens: Sequence[int]) -> tuple[TokenScore, ...]:
        """Scores of the tokens of a decoded command."""
        return tuple(
            TokenScore(self.language.text([token]), *self._seen[tuple(tokens[: place + 1])])
            for place, token in enumerate(tokens)
        )


def decode(
    language: CausalLanguage,
    prompt: str,
    grounders: Sequence[Grounder],
    state: Any,
    *,
    beams: int = 1,
    candidates: int = 50,
    terminal: str = "\n",
    most_tokens: int = 40,
    semantics: Semantics = "prefix",
    gate: Gate = "always",
) -> Decoded:
    """The command that is likeliest by language and grounded functions together.

    Args:
        language: model and tokenizer.
        prompt: what the command follows.
        grounders: grounded functions, multiplied; none is decoding by language only.
        state: given to each of them, once.
        beams: 1 is greedy: the best token at each place. More keep so many beginnings.
        candidates: tokens per place that are judged.
        terminal: text that ends a command.
        most_tokens: a command is cut off after so many.
        semantics: see `Semantics`.
        gate: see `Gate`.

    Raises:
        TongsError: a grounded function gives something else than scores in [0, 1], or no token ends with `terminal`.
    """
    for name, value in (("beams", beams), ("candidates", candidates), ("most_tokens", most_tokens)):
        if value < 1:
            raise TongsError(f"{name} of grounded decoding has to be at least 1, not {value}")
    inputs = torch.tensor([language.encode(prompt)], device=language.model.device)
    if inputs.shape[1] == 0:
        raise TongsError("grounded decoding needs a prompt to go on from")
    terminals, too_long = language.tokens_with(terminal)
    processor = GroundedLogitsProcessor(
        language, inputs.shape[1], [grounder.given(state) for grounder in grounders], candidates, semantics, gate
    )
    with torch.inference_mode():
        output = language.model.generate(
            inputs,
            attention_mask=torch.ones_like(inputs),
            max_new_tokens=most_tokens,
            num_beams=beams,
            do_sample=False,
            length_penalty=0.0,  # the product itself, not its mean per token
            eos_token_id=terminals,
            suppress_tokens=too_long or None,
            pad_token_id=terminals[0],
            logits_processor=LogitsProcessorList([processor]),
        )
    tokens = _until(output[0, inputs.shape[1] :].tolist(), terminals)
    ended = bool(tokens) and tokens[-1] in terminals
    text = language.text(tokens)
    text = text[: -len(terminal)] if ended else text
    scores = processor.trace(tokens)
    return Decoded(text.strip(), scores, ended, processor.scored_tokens, processor.scored_prefixes)


def _until(tokens: list[int], terminals: Sequence[int]) -> list[int]:
    """Tokens up to the first terminal; what follows is padding."""
    ends = [place for place, token in enumerate(tokens) if token in terminals]
    return tokens[: ends[0] + 1] if ends else tokens
