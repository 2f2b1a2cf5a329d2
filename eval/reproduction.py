"""What reproductions of a paper's claim share: one folder for all, trainings and measurements that are made once."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console

from eval.evaluation import evaluate
from eval.protocol import EvaluationConfig
from eval.results import Results, write_json
from robot.errors import TongsError, unknown

Collect = Callable[[Path, Sequence[str], int, str, int], Path]
"""(output folder, tasks, demonstrations of each, split, first scene) -> the folder that holds the datasets."""

Train = Callable[[list[str], Path], None]
"""(words of `tongs train` or `tongs finetune`, run folder): trains to the end, from where it stopped before."""


def check(
    config: Any,
    sequences: Iterable[str] = (),
    counts: Iterable[str] = (),
    known: Iterable[tuple[str, str, Collection[str]]] = (),
) -> None:
    """The settings of a reproduction, fields of a frozen dataclass.

    Args:
        config: the dataclass.
        sequences: what may have been given as a single value, and becomes a tuple.
        counts: what must be at least 1.
        known: (field, what one of its names is, names that there are).

    Raises:
        TongsError: a number below 1, an unknown name.
    """
    for name in sequences:
        value = getattr(config, name)
        object.__setattr__(config, name, (value,) if isinstance(value, str | int | float) else tuple(value))
    for name, kind, names in known:
        for given in getattr(config, name):
            if given not in names:
                raise unknown(kind, given, list(names))
    for name in counts:
        if getattr(config, name) < 1:
            raise TongsError(f"{name} must be at least 1, got {getattr(config, name)}")


_FREE = ("output", "videos", "threads", "processes")
"""Settings that change no result."""


def claim_folder(config: Any, files: Mapping[str, str | None] | None = None) -> Path:
    """The output folder of a reproduction, for it alone: its settings are written there, or compared with those that
    are.

    Args:
        config: the dataclass of its settings.
        files: SHA-256 of what was made before and decides the results as well, such as a language model, by name.

    Raises:
        TongsError: the folder holds a reproduction with other settings.
    """
    folder = Path(config.output)
    decisive = {key: value for key, value in asdict(config).items() if key not in _FREE} | dict(files or {})
    settings = json.loads(json.dumps(decisive))
    file = folder / "settings.json"
    folder.mkdir(parents=True, exist_ok=True)
    if not file.is_file():
        write_json(settings, file)
    before = json.loads(file.read_text(encoding="utf-8"))
    if changed := [key for key in settings if settings[key] != before.get(key)]:
        key = changed[0]
        raise TongsError(
            f"{folder} holds a reproduction with {key}={before.get(key)}, not {settings[key]}; take another output"
        )
    return folder


def demonstrated(config: Any, collect: Collect, folder: Path, tasks: Sequence[str]) -> Path:
    """What is learned from: the folder `data` of the settings, or so many `demonstrations` collected into `folder`."""
    return Path(config.data) if config.data else collect(folder, tasks, config.demonstrations, "train", 0)


def training_words(
    data: Sequence[Path], steps: int, batch_size: int, seed: int, threads: int, longest_warmup: int = 500
) -> list[str]:
    """What every training is told: its datasets, and a warm-up over a tenth of it."""
    return [
        f"data={','.join(map(str, data))}",
        f"train.steps={steps}",
        f"train.batch_size={batch_size}",
        f"train.warmup_steps={min(longest_warmup, steps // 10)}",
        f"train.seed={seed}",
        f"train.threads={threads}",
        "train.keep=1",
    ]


def train_once(train: Train, words: list[str], run: Path) -> None:
    """Train in a run folder unless that is done."""
    done = run / "done"
    if not done.exists():
        train(words, run)
        done.touch()


def play(config: EvaluationConfig, console: Console | None = None) -> Results:
    """A whole evaluation.

    Raises:
        KeyboardInterrupt: it was interrupted.
    """
    results = evaluate(config, console)
    if not results.complete:
        raise KeyboardInterrupt
    return results


def played(results: Results) -> dict[str, Any]:
    """What a cell keeps of an evaluation: success of all, of each task, and of every episode by task and scene."""
    return {
        "success": {"mean": results.overall.success_rate, "interval": results.overall.interval},
        "tasks": {task: statistics.success_rate for task, statistics in results.tasks.items()},
        "episodes": [[episode.task, episode.scene, bool(episode.success)] for episode in results.episodes],
    }


class Cells:
    """Measurements, one file each; what is there is not measured again."""

    def __init__(self, folder: Path, console: Console) -> None:
        self._folder = folder
        self._console = console
        folder.mkdir(exist_ok=True)

    def measure(self, key: dict[str, Any], run: Callable[[], dict[str, Any]]) -> None:
        name = "_".join(str(value) for value in key.values())
        file = self._folder / f"{name}.json"
        if file.is_file():
            return
        content = key | run()
        write_json(content, file)
        shown = {k: round(v["mean"], 3) for k, v in content.items() if isinstance(v, dict) and "mean" in v}
        self._console.print(name, shown, highlight=False)

    def read(self) -> list[dict[str, Any]]:
        return [json.loads(file.read_text(encoding="utf-8")) for file in sorted(self._folder.glob("*.json"))]
