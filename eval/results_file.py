"""Reading a `results.json` back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eval.results import FORMAT
from robot.errors import TongsError


@dataclass(frozen=True)
class ResultsFile:
    """What a `results.json` says, as far as comparing needs it.

    Attributes:
        path: the file.
        policy: name, checkpoint and sampling settings.
        protocol: fields of the protocol by name.
        tolerances: of each task, in its unit.
        complete: False if the evaluation was interrupted.
        episodes: fields of each episode by (task, scene).
    """

    path: Path
    policy: Mapping[str, Any]
    protocol: Mapping[str, Any]
    tolerances: Mapping[str, float]
    complete: bool
    episodes: Mapping[tuple[str, int], Mapping[str, Any]]


def read_results(path: str | Path) -> ResultsFile:
    """Read a `results.json`, given by its own path or by its folder's.

    Raises:
        TongsError: there is none, it is damaged, something else, or of another format.
    """
    file = Path(path).expanduser()
    if file.is_dir():
        file = file / "results.json"
    try:
        fields = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise TongsError(f"there is no {file}") from None
    except OSError as error:
        raise TongsError(f"cannot read {file}: {error.strerror or error}") from error
    except ValueError as error:
        raise TongsError(f"{file} is damaged or no results.json: {error}") from error
    if not isinstance(fields, dict) or not {"format", "protocol", "episodes"} <= set(fields):
        raise TongsError(f"{file} is no results.json of tongs eval: it lacks format, protocol or episodes")
    if fields["format"] != FORMAT:
        raise TongsError(f"{file} has format {fields['format']}, this program reads {FORMAT}")
    try:
        return _take(file, fields)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise TongsError(f"{file} is damaged: {type(error).__name__} {error}") from error


def _take(file: Path, fields: Mapping[str, Any]) -> ResultsFile:
    episodes = {(str(episode["task"]), int(episode["scene"])): episode for episode in fields["episodes"]}
    if not episodes or len(episodes) < len(fields["episodes"]):
        raise ValueError("no episode, or one that is there twice")
    for episode in episodes.values():
        if not isinstance(episode["success"], bool) or not {"instruction", "goal"} <= set(episode):
            raise ValueError(f"episode {episode['task']} {episode['scene']} lacks success, instruction or goal")
    if not {"tasks", "scenes"} <= set(fields["protocol"]):
        raise ValueError("the protocol lacks tasks or scenes")
    return ResultsFile(
        file,
        {key: fields["policy"][key] for key in ("name", "checkpoint", "sampling")},
        dict(fields["protocol"]),
        {task: float(statistics["tolerance"]) for task, statistics in fields["tasks"].items()},
        bool(fields["complete"]),
        episodes,
    )
