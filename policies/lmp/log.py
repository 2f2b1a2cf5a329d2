"""The log of an episode: every prompt and answer, every program with its calls, what was said, how it ended."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from policies.lmp.language_models.base import Completion
from policies.lmp.language_models.settings import ModelSettings
from policies.lmp.prompt import Prompt
from policies.lmp.sandbox import Geometry, Outcome

FORMAT = 1
Fault = Literal["model", "program", "robot"]
"""Whose fault an error is: an answer that is no program (prose, a refusal, one without end), a program that is wrong
(a syntax error, an exception, something that programs may not do), or a request that the robot could not fulfil."""
Ending = Literal["running", "finished", "failed", "interrupted"]


@dataclass
class Attempt:
    """One program, as it was run."""

    program: str
    query: str
    code: str
    functions: dict[str, str] = field(default_factory=dict)
    calls: list[dict[str, Any]] = field(default_factory=list)
    error: str | None = None
    fault: Fault | None = None
    seconds: float = 0.0

    def ran(self, outcome: Outcome) -> None:
        """Take over what the executor tells."""
        self.calls = [
            {
                "name": call.name,
                "arguments": {name: plain(value) for name, value in call.arguments.items()},
                "result": plain(call.result),
                **({"error": call.error} if call.error else {}),
                "seconds": round(call.seconds, 3),
            }
            for call in outcome.calls
        ]
        self.seconds = outcome.seconds


@dataclass
class Command:
    """One instruction and what came of it."""

    instruction: str
    time: float
    attempts: list[Attempt] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    ending: Ending = "running"
    reason: str = ""


@dataclass
class EpisodeLog:
    """Everything that happened between the model, the programs and the robot in an episode.

    Attributes:
        domain: of the prompts.
        model: name of the language model.
        commands: in order.
        completions: every prompt with its answer, in order; `TranscriptModel` replays them.
        outcome: of the episode, as the evaluation judges it; empty where nobody judges.
    """

    domain: str = ""
    model: str = ""
    commands: list[Command] = field(default_factory=list)
    completions: list[dict[str, Any]] = field(default_factory=list)
    outcome: dict[str, Any] = field(default_factory=dict)

    def answered(self, prompt: Prompt, completion: Completion, settings: ModelSettings) -> None:
        """Note an answer of the model."""
        self.completions.append(
            {
                "program": prompt.program,
                "query": prompt.query,
                "prompt": prompt.text,
                "completion": completion.text,
                "finish": completion.finish,
                "prompt_tokens": completion.prompt_tokens,
                "completion_tokens": completion.completion_tokens,
                "seconds": round(completion.seconds, 3),
                "retries": completion.retries,
                "cost": settings.cost(completion.prompt_tokens, completion.completion_tokens),
            }
        )

    @property
    def usage(self) -> Mapping[str, float]:
        """Sums over all answers."""
        names = ("prompt_tokens", "completion_tokens", "seconds", "retries", "cost")
        return {"completions": len(self.completions)} | {
            name: sum(entry[name] for entry in self.completions) for name in names
        }

    @property
    def faults(self) -> dict[str, int]:
        """How many attempts failed, by whose fault it was."""
        found: dict[str, int] = {"model": 0, "program": 0, "robot": 0}
        for command in self.commands:
            for attempt in command.attempts:
                if attempt.fault:
                    found[attempt.fault] += 1
        return found

    def to_json(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "domain": self.domain,
            "model": self.model,
            "outcome": self.outcome,
            "usage": self.usage,
            "faults": self.faults,
            "commands": [asdict(command) for command in self.commands],
            "completions": self.completions,
        }

    def write(self, path: Path) -> None:
        """Write it as JSON, whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            temporary.write_text(json.dumps(self.to_json(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


def plain(value: Any) -> Any:
    """A value as JSON has it."""
    if isinstance(value, np.ndarray):
        return np.round(value, 4).tolist() if value.dtype.kind == "f" else value.tolist()
    if isinstance(value, Geometry):
        return {"type": value.kind, "coordinates": value.coordinates}
    if isinstance(value, dict):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(entry) for entry in value]
    return value if isinstance(value, (bool, int, float, str, type(None))) else str(value)
