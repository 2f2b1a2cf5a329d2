"""Grounded functions p_G(w_1:n | s): how possible, safe and wanted a command is in this state, judged by its beginning.

A prefix is judged as a whole, the newest token included, and it may end within a word. So "pick" is as good as the best
thing that can still follow, and only the noun tells feasible from infeasible (section 3.2 and appendix of the paper).
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from robot.errors import TongsError

FLOOR = 1e-300
"""The least that any prefix gets: no language model makes up for it, but where nothing is possible it still decides."""

PrefixScore = Callable[[Sequence[str]], NDArray[np.float64]]
"""Scores in [0, 1], one for each prefix of a command."""


class Grounder(Protocol):
    """One grounded function; several are multiplied."""

    def given(self, state: Any) -> PrefixScore:
        """The function for this state. It is asked for once per command, not once per token."""
        ...


class OptionValue(Protocol):
    """How likely each option succeeds from a state: a success classifier, or a value head made a probability by
    `squash`."""

    def __call__(self, options: Sequence[str], state: Any) -> NDArray[np.float64]:
        """(len(options),) in [0, 1]."""
        ...


@dataclass(frozen=True)
class Affordance:
    """p_AF: what the robot can do now.

    A value function knows whole commands; a prefix gets the best value of the options that begin with it, so partial
    nouns keep what they may become, and a prefix of no option gets nothing. Calls the value function once per state.

    Attributes:
        value: of whole options.
        options: what the robot can be told, or a function that lists it for a state.
        terminal: what ends an option in decoded text.
    """

    value: OptionValue
    options: Sequence[str] | Callable[[Any], Sequence[str]]
    terminal: str = "\n"

    def given(self, state: Any) -> PrefixScore:
        options = list(self.options(state) if callable(self.options) else self.options)
        if not options:
            raise TongsError("an affordance needs at least one option")
        values = probabilities(self.value(options, state), options)
        ended = [(option.strip() + self.terminal).encode() for option in options]

        def score(prefixes: Sequence[str]) -> NDArray[np.float64]:
            return np.array(
                [
                    max(
                        (value for option, value in zip(ended, values, strict=True) if option.startswith(begun)),
                        default=0.0,
                    )
                    # one space after the prompt; bytes, for a token may hold half a character
                    for begun in (prefix.removeprefix(" ").encode("utf-8", "surrogateescape") for prefix in prefixes)
                ]
            )

        return score


class _Words:
    """Finds whole words; a word that is not yet finished is not there yet."""

    def __init__(self, words: Sequence[str]) -> None:
        if not words:
            raise TongsError("a rule about words needs at least one word")
        self._pattern = re.compile(rf"\b(?:{'|'.join(map(re.escape, words))})\b", re.IGNORECASE)

    def __call__(self, prefixes: Sequence[str]) -> NDArray[np.bool_]:
        return np.array([self._pattern.search(prefix) is not None for prefix in prefixes])


@dataclass(frozen=True)
class Safety:
    """p_S: epsilon for a command with a forbidden word, 1 for others (the paper's Z cancels).

    Epsilon is above 0, so that a plan that has come to a dead end still goes on.
    """

    words: Sequence[str]
    epsilon: float = 1e-3

    def __post_init__(self) -> None:
        if not 0 < self.epsilon < 1:
            raise TongsError(f"epsilon of a safety rule has to be between 0 and 1, not {self.epsilon}")

    def given(self, state: Any) -> PrefixScore:
        found = _Words(self.words)
        return lambda prefixes: np.where(found(prefixes), self.epsilon, 1.0)


@dataclass(frozen=True)
class Preference:
    """p_P: 0.5 for a command with one of the preferred words, 0.1 for others (the paper's weights)."""

    words: Sequence[str]
    preferred: float = 0.5
    other: float = 0.1

    def __post_init__(self) -> None:
        if not 0 < self.other <= self.preferred <= 1:
            raise TongsError(
                f"weights of a preference have to be 0 < other <= preferred <= 1, not {self.other} and {self.preferred}"
            )

    def given(self, state: Any) -> PrefixScore:
        found = _Words(self.words)
        return lambda prefixes: np.where(found(prefixes), self.preferred, self.other)


def squash(
    values: NDArray[np.floating], kind: Literal["sigmoid", "softmax"] = "sigmoid", temperature: float = 1.0
) -> NDArray[np.float64]:
    """Values of options made factors in [0, 1]; the paper multiplies bare logits and leaves the squashing open.

    Args:
        values: (N,) logits of a success classifier (`sigmoid`), or values of which only the order and distance mean
            something (`softmax`, scaled so that the best is 1).
        kind: which of the two.
        temperature: divides the values first; above 1 the language model decides more.
    """
    if temperature <= 0:
        raise TongsError(f"the temperature of a grounded function has to be above 0, not {temperature}")
    scaled = np.asarray(values, np.float64) / temperature
    return np.exp(scaled - scaled.max()) if kind == "softmax" else 1 / (1 + np.exp(-np.clip(scaled, -700, 700)))


def probabilities(values: Any, of: Sequence[str]) -> NDArray[np.float64]:
    """Checked scores.

    Raises:
        TongsError: not one in [0, 1] for each.
    """
    scores = np.asarray(values, np.float64)
    if scores.shape != (len(of),):
        raise TongsError(f"a grounded function has to give {len(of)} scores, not an array of shape {scores.shape}")
    if not ((scores >= 0) & (scores <= 1)).all():
        wrong = of[int(np.argmax(~((scores >= 0) & (scores <= 1))))]
        raise TongsError(f"a grounded function has to give scores in [0, 1]; for {wrong!r} it does not")
    return scores


def joint_log_score(scores: Sequence[PrefixScore], prefixes: Sequence[str]) -> NDArray[np.float64]:
    """Sum over grounded functions of log p_G of each prefix, at least log `FLOOR` each."""
    total = np.zeros(len(prefixes))
    for score in scores:
        total += np.log(np.maximum(probabilities(score(prefixes), prefixes), FLOOR))
    return total
