"""Talking with the person."""

from __future__ import annotations

from collections.abc import Callable

from policies.lmp.errors import RequestError


class Speech:
    """What is said goes to `tell`, what is asked to `answer`; without it nobody is there to answer."""

    def __init__(self, tell: Callable[[str], None] | None = None, answer: Callable[[str], str] | None = None) -> None:
        self._tell, self.answer = tell, answer
        self.said: list[str] = []

    def say(self, text: str) -> None:
        """Say something to the person: an answer, or why something cannot be done."""
        self.said.append(text)
        if self._tell is not None:
            self._tell(text)

    def ask(self, question: str) -> str:
        """Ask the person and wait for the answer."""
        self.said.append(question)
        if self.answer is None:
            raise RequestError(f"nobody is there to answer {question!r}")
        return self.answer(question)
