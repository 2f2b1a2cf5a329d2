"""Scoring whole options: SayCan's way (arXiv 2204.01691), and what is left where a model is behind an endpoint.

Every option is scored, so the cost grows with their number; decoding token by token does not.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from policies.lmp.grounded.decoding import CausalLanguage
from policies.lmp.grounded.grounders import Grounder, joint_log_score
from robot.errors import TongsError


class OptionLanguage(Protocol):
    """A language model that says how likely a text is after a prompt."""

    def log_probabilities(self, prompt: str, options: Sequence[str]) -> tuple[NDArray[np.float64], int]:
        """(N,) log p(option | prompt), summed over tokens, and the tokens that were scored."""
        ...


@dataclass(frozen=True)
class Scored:
    """An option that was chosen.

    Attributes:
        text: of it.
        language, grounded: (N,) natural logarithms for all options.
        scored_tokens: positions that the language model computed beyond the prompt.
        scored_prefixes: that grounded functions were asked about.
    """

    text: str
    language: NDArray[np.float64]
    grounded: NDArray[np.float64]
    scored_tokens: int
    scored_prefixes: int


def score_options(
    language: OptionLanguage | None,
    prompt: str,
    options: Sequence[str],
    grounders: Sequence[Grounder],
    state: Any,
    terminal: str = "\n",
) -> Scored:
    """The option with the greatest p(option | prompt) times the product of its grounded scores.

    Args:
        language: None is grounded functions only.
        prompt: what the option follows.
        options: to choose from, without the terminal.
        grounders: none is language only; with an affordance it is SayCan.
        state: given to each of them.
        terminal: ends an option; its probability counts, as that of SayCan's "done()".
    """
    if not options:
        raise TongsError("there is no option to choose from")
    ended = [option + terminal for option in options]
    by_language, tokens = (np.zeros(len(options)), 0) if language is None else language.log_probabilities(prompt, ended)
    grounded = joint_log_score([grounder.given(state) for grounder in grounders], ended)
    best = int(np.argmax(by_language + grounded))
    return Scored(options[best].strip(), by_language, grounded, tokens, len(options) * len(grounders))


@dataclass(frozen=True)
class LanguageOptions:
    """Options scored by a causal language model in this process, in batches."""

    language: CausalLanguage
    batch: int = 32

    def log_probabilities(self, prompt: str, options: Sequence[str]) -> tuple[NDArray[np.float64], int]:
        begun = self.language.encode(prompt)
        if not begun:
            raise TongsError("scoring options needs a prompt that they follow")
        encoded = [self.language.encode(option) for option in options]
        scores: list[float] = []
        for start in range(0, len(encoded), self.batch):
            scores += self._scores(begun, encoded[start : start + self.batch])
        return np.array(scores), sum(map(len, encoded))

    def _scores(self, begun: list[int], options: list[list[int]]) -> list[float]:
        longest = max(map(len, options))
        model = self.language.model
        rows = torch.tensor([[*begun, *option, *[0] * (longest - len(option))] for option in options])
        there = torch.tensor([[1] * (len(begun) + len(option)) + [0] * (longest - len(option)) for option in options])
        with torch.inference_mode():
            logits = model(rows.to(model.device), attention_mask=there.to(model.device)).logits
        # position t tells about token t + 1
        log_probabilities = torch.log_softmax(logits[:, len(begun) - 1 : -1].double(), dim=-1).cpu()
        return [float(log_probabilities[row, range(len(option)), option].sum()) for row, option in enumerate(options)]


@dataclass(frozen=True)
class EndpointOptions:
    """Options scored by an endpoint of OpenAI's text completions that gives the log-probabilities of the prompt (vLLM
    and others; with `echo` and `logprobs`).

    Attributes:
        post: sends a request's JSON and returns the answer's.
        model: its name there.
        batch: options per request.
    """

    post: Callable[[Mapping[str, Any]], Mapping[str, Any]]
    model: str
    batch: int = 32

    def log_probabilities(self, prompt: str, options: Sequence[str]) -> tuple[NDArray[np.float64], int]:
        scores: list[float] = []
        tokens = 0
        for start in range(0, len(options), self.batch):
            part = options[start : start + self.batch]
            answer = self.post(
                {
                    "model": self.model,
                    "prompt": [prompt + option for option in part],
                    "max_tokens": 1,  # not every server takes 0; what it adds is not counted
                    "temperature": 0,
                    "echo": True,
                    "logprobs": 1,
                }
            )
            for option, (score, count) in zip(part, self._read(answer, prompt, part), strict=True):
                scores.append(score)
                tokens += count
                if count == 0:
                    raise TongsError(f"the endpoint of {self.model} gives no log-probability for {option!r}")
        return np.array(scores), tokens

    def _read(self, answer: Mapping[str, Any], prompt: str, options: Sequence[str]) -> list[tuple[float, int]]:
        try:
            choices = sorted(answer["choices"], key=lambda choice: choice["index"])
            read = [
                _sum_of(choice["logprobs"], len(prompt), len(prompt) + len(option))
                for choice, option in zip(choices, options, strict=True)
            ]
        except (KeyError, TypeError, ValueError) as error:
            raise TongsError(
                f"the endpoint of {self.model} gives no log-probabilities of its prompt (echo and logprobs of text "
                f"completions), without which options cannot be scored: {type(error).__name__} {error}"
            ) from None
        return read


def _sum_of(logprobs: Mapping[str, Any], start: int, end: int) -> tuple[float, int]:
    """Sum over tokens that reach into characters start to end, and how many they are."""
    found = [
        float(value)
        for token, value, offset in zip(
            logprobs["tokens"], logprobs["token_logprobs"], logprobs["text_offset"], strict=True
        )
        if offset + len(token) > start and offset < end
    ]
    return sum(found), len(found)
