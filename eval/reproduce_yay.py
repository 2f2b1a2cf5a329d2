"""YAY Robot's central claims on long tasks: what corrections in words do, when they are said and after learning.

Every training, every round of corrections and every measurement is kept, so that an interrupted reproduction goes on.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from eval.correcting import Help, collect_corrections, corrected_episodes
from eval.protocol import EvaluationConfig
from eval.reproduction import Cells, Collect, Train, check, claim_folder, play, train_once, training_words
from eval.results import write_json
from policies.checkpoint import read_header
from robot.errors import TongsError

TASK = "compose"
FLAT, ONE_HOT, BASE, ORACLE = "flat", "one-hot", "base", "oracle"
_FIRST_SCENE, _ROUND_SCENES, _SEED_SCENES = 1_000_000, 10_000, 100_000
"""Where the scenes of corrections begin, far from those of the demonstrations; how far rounds and seeds are apart."""


@dataclass(frozen=True)
class YayReproductionConfig:
    """What is trained and measured.

    Attributes:
        output: folder of everything; an unfinished reproduction in it goes on.
        data: dataset of demonstrations with sub-tasks; None collects one.
        demonstrations: if they are collected.
        seeds: trainings of everything.
        rounds, corrections: rounds of corrections and learning from them, and corrections in each.
        patience: s for which the made-up person looks at a wrong command before it corrects.
        low: policy family of the low level and of the flat policy, a file of configs/policy.
        low_steps, low_batch_size: of the low level and of the flat policy.
        high_steps, post_steps, high_batch_size: of a high level, and of its learning from a round of corrections.
        share: part of each batch that the newest corrections give (the DAgger ratio).
        image_size: side in pixels of what the policies see.
        episodes: test scenes in every measurement.
        videos: successes and failures that are filmed in a measurement, that many of each.
        threads, processes: of training, and of evaluation.
        low_words, high_words: further words for the trainings of either kind, such as policy.keypoints=16.
    """

    output: str
    data: str | None = None
    demonstrations: int = 1000
    seeds: int = 1
    rounds: int = 2
    corrections: int = 60
    patience: float = 1.0
    low: str = "beso"
    low_steps: int = 20000
    low_batch_size: int = 256
    high_steps: int = 5000
    post_steps: int = 2000
    high_batch_size: int = 64
    share: float = 0.1
    image_size: int = 96
    episodes: int = 100
    videos: int = 2
    threads: int = 2
    processes: int = 2
    low_words: Sequence[str] = ()
    high_words: Sequence[str] = ()

    def __post_init__(self) -> None:
        counted = ("demonstrations", "seeds", "rounds", "corrections", "low_steps", "high_steps", "post_steps")
        counted += ("low_batch_size", "high_batch_size", "episodes", "threads", "processes")
        check(self, ("low_words", "high_words"), counted)
        if not 0 < self.share < 1:
            raise TongsError(f"share must lie between 0 and 1, got {self.share}")
        if self.patience < 0:
            raise TongsError(f"patience must be at least 0 s, got {self.patience}")

    @property
    def stages(self) -> tuple[str, ...]:
        """Everything that is measured, in the order of the report."""
        return (FLAT, ONE_HOT, BASE, *(tuned(number) for number in range(1, self.rounds + 1)), ORACLE)


def tuned(number: int) -> str:
    """The policy that has learned from so many rounds of corrections."""
    return f"round {number}"


def reproduce(config: YayReproductionConfig, collect: Collect, train: Train, console: Console | None = None) -> Path:
    """Everything that is not there yet, then `report.md` and `figure.png`; returns the report.

    Raises:
        TongsError: the folder holds a reproduction with other settings.
        KeyboardInterrupt: Ctrl-C; the same call goes on.
    """
    from eval.reproduce_yay_report import write_report

    folder, console = claim_folder(config), console or Console()
    torch.set_num_threads(config.threads)
    if config.data is None:
        data = collect(folder / "data", (TASK,), config.demonstrations, "train", 0) / TASK
    else:
        data = Path(config.data)
    cells = Cells(folder / "cells", console)
    for seed in range(config.seeds):
        _reproduce_seed(config, data, folder / f"seed-{seed}", seed, train, cells)
    return write_report(config, cells.read(), folder)


def _reproduce_seed(
    config: YayReproductionConfig, data: Path, folder: Path, seed: int, train: Train, cells: Cells
) -> None:
    low, flat, high, one_hot = (folder / name for name in ("low", FLAT, BASE, ONE_HOT))
    train_once(train, _low_words(config, data, seed, segments=True), low)
    train_once(train, _low_words(config, data, seed, segments=False), flat)
    _measure(config, cells, FLAT, seed, flat)
    new = [*_high_words(config, [data], config.high_steps, seed), f"policy.low={low / 'last'}"]
    train_once(train, [*new, "policy.one_hot=true"], one_hot)
    _measure(config, cells, ONE_HOT, seed, one_hot)
    train_once(train, new, high)
    _measure(config, cells, BASE, seed, high)
    key = {"policy": ORACLE, "seed": seed}
    cells.measure(key, lambda: _play_corrected(config, high))
    run, corrections = high, []
    for number in range(1, config.rounds + 1):
        said = folder / f"corrections-{number}"
        start = _FIRST_SCENE + seed * _SEED_SCENES + number * _ROUND_SCENES
        if _corrected_once(_help(config, run, "train"), said, config.corrections, start):
            corrections.append(said)
            words = _high_words(config, [data, *corrections], config.post_steps, seed)
            words += ["stage=post", f"start_from={run / 'last'}", f"newest={config.share}"]
            run = folder / tuned(number).replace(" ", "-")
            train_once(train, words, run)
        _measure(config, cells, tuned(number), seed, run)


def _low_words(config: YayReproductionConfig, data: Path, seed: int, segments: bool) -> list[str]:
    """The low level learns from segments, the flat policy from whole episodes; nothing else differs."""
    return [
        *training_words([data], config.low_steps, config.low_batch_size, seed, config.threads),
        f"policy={config.low}",
        f"segments={str(segments).lower()}",
        f"image_size={config.image_size}",
        *config.low_words,
    ]


def _high_words(config: YayReproductionConfig, datasets: Sequence[Path], steps: int, seed: int) -> list[str]:
    return [
        *training_words(datasets, steps, config.high_batch_size, seed, config.threads, longest_warmup=200),
        "policy=yay",
        f"image_size={config.image_size}",
        *config.high_words,
    ]


def _help(config: YayReproductionConfig, run: Path, split: str) -> Help:
    return Help(str(run / "last"), TASK, split, config.patience, processes=config.processes)


def _corrected_once(settings: Help, folder: Path, wanted: int, start: int) -> int:
    """Corrections in a dataset; they are collected once, also if there were none."""
    done = folder.with_name(folder.name + ".json")
    if not done.is_file():
        write_json({"corrections": collect_corrections(settings, folder, wanted, start)}, done)
    return int(json.loads(done.read_text(encoding="utf-8"))["corrections"])


def _measure(config: YayReproductionConfig, cells: Cells, name: str, seed: int, run: Path) -> None:
    cells.measure({"policy": name, "seed": seed}, lambda: _play(config, run, name))


def _play(config: YayReproductionConfig, run: Path, name: str) -> dict[str, Any]:
    """Success without anybody's help."""
    results = play(
        EvaluationConfig(
            policy=str(run / "last"),
            tasks=(TASK,),
            scenes=(0, config.episodes),
            output=str(run / f"evaluation-{name.replace(' ', '-')}"),
            processes=config.processes,
            videos=config.videos,
        )
    )
    episodes = [[e.scene, bool(e.success), int(e.reached), len(e.subgoals)] for e in results.episodes]
    held = read_header(run / "last")["config"].get("low", {})  # the flat policy has none
    return {
        "success": {"mean": results.overall.success_rate},
        "episodes": episodes,
        "low_sha256": held.get("sha256"),
    }


def _play_corrected(config: YayReproductionConfig, run: Path) -> dict[str, Any]:
    """Success with somebody who corrects, on the same scenes."""
    played = list(corrected_episodes(_help(config, run, "test"), range(config.episodes)))
    return {
        "success": {"mean": sum(episode.success for episode in played) / len(played)},
        "episodes": [[e.scene, e.success, e.reached, e.subgoals] for e in played],
        "corrections": sum(len(episode.corrections) for episode in played),
    }
