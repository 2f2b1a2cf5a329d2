"""From an instruction to token ids, in training and on the robot alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

from robot.errors import TongsError


@dataclass(frozen=True)
class Words:
    """How a policy's instructions become token ids.

    Attributes:
        tokenizer: the text of a tokenizer.json.
        max_tokens: longest prompt.
        prompt: words around the lower-cased instruction, with {instruction}; None for the instruction as it is.
        begin, answer: ids that every prompt starts and ends with; None for none.
    """

    tokenizer: str = field(repr=False)
    max_tokens: int
    prompt: str | None = None
    begin: int | None = None
    answer: int | None = None

    def to_json(self) -> dict[str, Any]:
        """All but the tokenizer, which has a file of its own."""
        return {name: value for name, value in asdict(self).items() if name != "tokenizer"}

    def text(self, instruction: str) -> str:
        """The words of the prompt, in lower case but for the template's."""
        return instruction if self.prompt is None else self.prompt.replace("{instruction}", instruction.lower())

    def ids(self, instruction: str) -> list[int]:
        """Ids of one prompt, from the begin token to the answer token.

        Raises:
            TongsError: the instruction is too long, or there is no tokenizer, or it is damaged.
        """
        ids = list(self._tokenizer.encode(self.text(instruction)).ids)
        if self.begin is not None and ids[:1] != [self.begin]:
            ids = [self.begin, *ids]
        if self.answer is not None and ids[-1:] != [self.answer]:
            ids.append(self.answer)
        if len(ids) > self.max_tokens:
            raise TongsError(
                f"a prompt may have {self.max_tokens} tokens and this instruction gives {len(ids)}: {instruction!r}"
            )
        return ids

    def said(self, ids: Sequence[int]) -> str:
        """The text of ids."""
        return self._tokenizer.decode(list(ids))

    @cached_property
    def _tokenizer(self) -> Any:
        from tokenizers import Tokenizer

        if not self.tokenizer:
            raise TongsError("this model has no text tokenizer; put a tokenizer.json beside its checkpoint")
        try:
            tokenizer = Tokenizer.from_str(self.tokenizer)
        except Exception as error:  # the library raises nothing more specific
            raise TongsError(f"the text tokenizer is damaged: {error}") from error
        tokenizer.no_truncation()
        tokenizer.no_padding()
        return tokenizer
