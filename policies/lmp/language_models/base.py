"""What a language model is to a program that asks it for code, and how its answer is made a program."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from policies.lmp.prompt import Prompt

Finish = Literal["stop", "length", "refusal"]
"""Why a completion ended: by itself or at a stop string, at the limit of tokens or time, because the model refused."""


@dataclass(frozen=True)
class Completion:
    """What a model went on with.

    Attributes:
        text: cut at the first stop string.
        finish: why it ended.
        prompt_tokens, completion_tokens: as the model counts them; 0 where it does not say.
        seconds: that it took, retries included.
        retries: requests before the one that was answered.
    """

    text: str
    finish: Finish = "stop"
    prompt_tokens: int = 0
    completion_tokens: int = 0
    seconds: float = 0.0
    retries: int = 0


class LanguageModel(Protocol):
    """Anything that goes on from a prompt."""

    @property
    def name(self) -> str:
        """What it is called in a log."""
        ...

    def complete(self, prompt: Prompt, stop: Sequence[str], max_tokens: int, temperature: float) -> Completion:
        """What follows the prompt, up to the first of the stop strings, which is left out.

        Args:
            prompt: to go on from.
            stop: strings that end the answer.
            max_tokens: after which the answer is cut off.
            temperature: 0 for the likeliest answer.

        Raises:
            TongsError: the model cannot be asked at all: no endpoint, a wrong key, an unknown model.
        """
        ...


INSTRUCTIONS = (
    "You complete Python programs that move a robot arm. You are given a file that ends with a comment; the comment "
    "says what the next lines shall do. Answer with these lines of code only: no explanation, no markdown, and do not "
    "repeat the file. Use only what the file imports, defines or shows in its examples; a helper function that would "
    "be useful may be called without being defined. If a thing that is asked for is not there, answer with a line "
    "that says so by say()."
)
"""What a model that was trained to chat is told before a prompt that was written to be completed."""

_FENCE = re.compile(r"^[ \t]*```[\w+-]*[ \t]*\n(.*?)(?:^[ \t]*```|\Z)", re.DOTALL | re.MULTILINE)


def program_text(answer: str) -> str:
    """The code in an answer: out of its markdown fence if it has one, without the question that a chat model likes to
    repeat before it."""
    fenced = _FENCE.search(answer)
    lines = (fenced[1] if fenced else answer).strip("\n").splitlines()
    while lines and (not lines[0].strip() or lines[0].lstrip().startswith("#")):
        lines.pop(0)
    return "\n".join(lines).rstrip()


def chat_program(answer: str, stop: Sequence[str]) -> str:
    """The code in the answer of a chat model, which knows no stop strings: they are applied here. Not the bare "#",
    at which a completion ends: here it is a comment within the program."""
    return cut(program_text(answer), [mark for mark in stop if mark.strip() != "#"])


def cut(text: str, stop: Sequence[str]) -> str:
    """The text before the first of the stop strings."""
    return text[: min((text.find(mark) for mark in stop if mark in text), default=len(text))]
