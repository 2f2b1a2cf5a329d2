"""Answers that were recorded: a run without a model, which gives the same every time."""

from __future__ import annotations

import json
from collections import defaultdict, deque
from collections.abc import Sequence
from pathlib import Path

from policies.lmp.language_models.base import Completion
from policies.lmp.prompt import Prompt
from robot.errors import TongsError


class TranscriptModel:
    """Gives to each prompt the answer that it got when it was recorded, in the order of recording.

    A recording is the log of an episode (see `policies.lmp.log`), a folder of logs, or a JSON file that somebody wrote
    with a list of {"program", "query", "completion"}. Entries with the whole prompt's text answer that text only;
    those without it answer the query of the language-model program.

    Attributes:
        left: the recorded answers that were not asked for yet.
    """

    def __init__(self, source: str | Path) -> None:
        path = Path(source).expanduser()
        if not str(source) or not path.exists():
            raise TongsError(
                f"lmp.model.backend=transcript needs a recording, and there is none at {str(source)!r}: "
                "lmp.model.model=<file or folder of episode logs>"
            )
        self._source = path
        self._answers: defaultdict[tuple[str, str], deque[dict]] = defaultdict(deque)
        files = sorted(path.rglob("*.json")) if path.is_dir() else [path]
        for file in files:
            for entry in self._entries(file):
                self._answers[entry["program"], entry.get("prompt") or entry["query"]].append(entry)
        if not self._answers:
            raise TongsError(f"there is no recorded answer of a language model in {path}")

    @property
    def name(self) -> str:
        return f"transcript {self._source.name}"

    @property
    def left(self) -> int:
        return sum(len(entries) for entries in self._answers.values())

    def _entries(self, file: Path) -> list[dict]:
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
            entries = content.get("completions", []) if isinstance(content, dict) else content
            for entry in entries:
                if not {"program", "query", "completion"} <= set(entry):
                    raise ValueError("an entry lacks program, query or completion")
        except (OSError, ValueError, AttributeError, TypeError) as error:
            raise TongsError(f"{file} is no recording of a language model: {error}") from error
        return list(entries)

    def complete(self, prompt: Prompt, stop: Sequence[str], max_tokens: int, temperature: float) -> Completion:
        for key in (prompt.text, prompt.query):
            entries = self._answers.get((prompt.program, key))
            if entries:
                entry = entries.popleft()
                return Completion(
                    entry["completion"],
                    entry.get("finish", "stop"),
                    int(entry.get("prompt_tokens", 0)),
                    int(entry.get("completion_tokens", 0)),
                )
        raise TongsError(
            f"the recording {self._source} has no answer left for {prompt.program}: {prompt.query!r}; it was made with "
            "other prompts, another scene or another session"
        )
