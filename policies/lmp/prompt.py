"""A prompt and the parts it is made of."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Repair:
    """A program that failed, and what the model is told of it."""

    code: str
    error: str


@dataclass(frozen=True)
class Prompt:
    """What a language model is asked to go on from.

    The order is that of Code as Policies (Liang et al., ICRA 2023, section III): base, history, context, query; after
    them what failed of earlier answers to the same query.

    Attributes:
        program: name of the language-model program that asks.
        base: imports, the API and examples.
        history: code that earlier commands of the session have run.
        context: such as `objects = ['red block']`; "" for none.
        query: the comment that asks for code, such as `# put the red block on the blue bowl.`.
        repairs: answers to this query that failed, oldest first.
    """

    program: str
    base: str
    history: str
    context: str
    query: str
    repairs: tuple[Repair, ...] = ()

    @property
    def text(self) -> str:
        parts = [self.base]
        if self.history:
            parts.append(self.history)
        if self.context:
            parts.append(self.context)
        parts.append(self.query)
        for repair in self.repairs:
            parts += [repair.code, comment(f"that failed: {repair.error}"), comment("again, corrected:"), self.query]
        return "\n".join(parts)

    def after(self, code: str, error: str) -> Prompt:
        """The same question once more, with what was wrong with an answer."""
        return replace(self, repairs=(*self.repairs, Repair(code, error)))


def comment(text: str) -> str:
    """Text as comment lines of a program."""
    return "\n".join(f"# {line}".rstrip() for line in text.splitlines())
