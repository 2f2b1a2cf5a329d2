"""Other wordings of instructions, from a file that a person or a language model wrote."""

from __future__ import annotations

import json
from collections.abc import Set
from pathlib import Path

from robot.errors import TongsError


def read_paraphrases(path: str | Path | None, instructions: Set[str]) -> dict[str, list[str]]:
    """{instruction: other wordings} of a JSON file; empty for None.

    Raises:
        TongsError: the file is not there or holds something else, or names an instruction that the data does not have.
    """
    if path is None:
        return {}
    try:
        pool = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise TongsError(f"the paraphrases {path} cannot be read: {error.strerror}") from error
    except json.JSONDecodeError as error:
        raise TongsError(f"the paraphrases {path} are not JSON: {error}") from error
    if not isinstance(pool, dict):
        raise TongsError(f"the paraphrases {path} must be an object {{instruction: [wordings]}}")
    for instruction, wordings in pool.items():
        if not isinstance(wordings, list) or not all(isinstance(wording, str) and wording for wording in wordings):
            raise TongsError(f"the paraphrases of {instruction!r} in {path} must be a list of texts, got {wordings!r}")
        if instruction not in instructions:
            raise TongsError(f"{path} has paraphrases of {instruction!r}, which is no instruction of the training data")
    return pool
