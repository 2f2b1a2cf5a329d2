"""GRIF's central claims on scenes with two things to move: how much control from few labels, and what each part adds.

Every training and every measurement is kept, so that an interrupted reproduction goes on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from eval.goal_pictures import EXPERT, IMAGE, LANGUAGE
from eval.policies import choose_policy
from eval.protocol import EvaluationConfig
from eval.reproduction import (
    Cells,
    Collect,
    Train,
    check,
    claim_folder,
    demonstrated,
    play,
    played,
    train_once,
    training_words,
)
from eval.retrieval import BATCH, retrieval_accuracy
from robot.errors import TongsError
from sim.tasks import SINGLE


@dataclass(frozen=True)
class Method:
    """One way to learn from few labels.

    Attributes:
        words: of `tongs train`.
        goals: how it can be told its task: "language" and "image".
        labelled_only: leave out what has no words.
    """

    words: tuple[str, ...]
    goals: tuple[str, ...] = ("language", "image")
    labelled_only: bool = False


METHODS: dict[str, Method] = {
    "GRIF": Method(("policy=grif",)),
    "no-start": Method(("policy=grif", "policy.start=false")),
    "no-align": Method(("policy=grif", "policy.alignment=0.0")),
    "labelled-only": Method(("policy=grif",), labelled_only=True),
    "LCBC": Method(("policy=grif", "policy.goal=language"), ("language",), labelled_only=True),
    "goal-BC": Method(("policy=grif", "policy.goal=image"), ("image",)),
    "frozen": Method(("policy=grif", "policy.joint=false")),
    "GRIF-BESO": Method(("policy=grif_beso",)),
}
"""All of them configurations of the same code; the last one is a combination of ours."""
SWEPT = ("GRIF", "LCBC")
"""Methods that are trained at every part of labels, the others at `ablation_labels` only."""


@dataclass(frozen=True)
class GrifReproductionConfig:
    """What is trained and measured.

    Attributes:
        output: folder of everything; an unfinished reproduction in it goes on.
        data: folder of demonstrations of these tasks; None collects them.
        tasks: single tasks, each with two things that may be meant.
        demonstrations: of each task, if they are collected.
        labels: per cent of the trajectories that have an instruction.
        ablation_labels: those of them at which all methods are trained.
        methods: which of `METHODS`.
        seeds: trainings of every method, each with other labels.
        train_steps, align_steps, batch_size, align_batch_size: of every training, and of its first stage.
        labelled_share: least share of the samples that labelled trajectories give.
        image_size: side in pixels of what the policy sees.
        episodes: test scenes of each task in every measurement.
        retrieval_episodes: held-out demonstrations, of all tasks together, for retrieval.
        videos: successes and failures of each task that are filmed in a measurement, that many of each.
        threads, processes: of training, and of evaluation.
        extra: further words for every training, such as policy.keypoints=16.
    """

    output: str
    data: str | None = None
    tasks: Sequence[str] = ("pickup_object", "open_drawer", "close_drawer")
    demonstrations: int = 600
    labels: Sequence[float] = (2, 5, 10, 25, 100)
    ablation_labels: Sequence[float] = (10,)
    methods: Sequence[str] = ("GRIF", "no-start", "no-align", "labelled-only", "LCBC", "goal-BC")
    seeds: int = 1
    train_steps: int = 4000
    align_steps: int = 1000
    batch_size: int = 128
    align_batch_size: int = 256
    labelled_share: float = 0.25
    image_size: int = 96
    episodes: int = 50
    retrieval_episodes: int = 2 * BATCH
    videos: int = 2
    threads: int = 2
    processes: int = 2
    extra: Sequence[str] = ()

    def __post_init__(self) -> None:
        counted = ("demonstrations", "seeds", "train_steps", "batch_size", "align_batch_size", "episodes")
        check(
            self,
            ("tasks", "labels", "ablation_labels", "methods", "extra"),
            (*counted, "retrieval_episodes", "threads", "processes"),
            (("methods", "method", METHODS), ("tasks", "task", SINGLE)),
        )
        for percent in (*self.labels, *self.ablation_labels):
            if not 0 < percent <= 100:
                raise TongsError(f"labels are per cent, above 0 and at most 100, got {percent:g}")
        if not 0 <= self.labelled_share <= 1:
            raise TongsError(f"labelled_share must lie in 0..1, got {self.labelled_share}")

    @property
    def runs(self) -> list[tuple[str, float, int]]:
        """(method, per cent of labels, seed) of every training; goal-conditioned cloning has no use for labels."""
        found: list[tuple[str, float, int]] = []
        for seed in range(self.seeds):
            for percent in dict.fromkeys((*self.labels, *self.ablation_labels)):
                for name in self.methods:
                    wanted = name in SWEPT or percent in self.ablation_labels
                    if LANGUAGE not in METHODS[name].goals:
                        found.append((name, 0.0, seed))
                    elif wanted and not (percent == 100 and name == "labelled-only"):
                        found.append((name, percent, seed))
        return list(dict.fromkeys(found))


def reproduce(config: GrifReproductionConfig, collect: Collect, train: Train, console: Console | None = None) -> Path:
    """Everything that is not there yet, then `report.md` and `figure.png`; returns the report.

    Raises:
        TongsError: the folder holds a reproduction with other settings.
        KeyboardInterrupt: Ctrl-C; the same call goes on.
    """
    from eval.reproduce_grif_report import write_report

    folder, console = claim_folder(config), console or Console()
    torch.set_num_threads(config.threads)
    data = demonstrated(config, collect, folder / "data", config.tasks)
    each = -(-config.retrieval_episodes // len(config.tasks))
    heldout = collect(folder / "heldout", config.tasks, each, "val", 0)
    cells = Cells(folder / "cells", console)
    for name, percent, seed in config.runs:
        run = folder / "runs" / f"{name}-{percent:g}-{seed}"
        train_once(train, _words(config, [data / task for task in config.tasks], name, percent, seed), run)
        for goal in METHODS[name].goals:
            key = {"measure": goal, "method": name, "labels": percent, "seed": seed}
            cells.measure(key, lambda run=run, goal=goal: _play(config, run, goal))
        if METHODS[name].goals == ("language", "image"):
            key = {"measure": "retrieval", "method": name, "labels": percent, "seed": seed}
            cells.measure(key, lambda run=run: _retrieve(run, [heldout / task for task in config.tasks]))
    return write_report(config, cells.read(), folder)


def _words(config: GrifReproductionConfig, datasets: Sequence[Path], name: str, percent: float, seed: int) -> list[str]:
    method = METHODS[name]
    share = 1.0 if method.labelled_only else max(config.labelled_share, percent / 100)
    return [
        *training_words(datasets, config.train_steps, config.batch_size, seed, config.threads),
        *method.words,
        f"image_size={config.image_size}",
        f"labelled.fraction={percent / 100}",
        f"labelled.share={share if percent else 'null'}",
        f"labelled.seed={seed}",
        f"align.steps={config.align_steps}",
        f"align.batch_size={config.align_batch_size}",
        *config.extra,
    ]


def _play(config: GrifReproductionConfig, run: Path, goal: str) -> dict[str, Any]:
    """Success on test scenes, told in words and wordings that no training has, or by the expert's picture."""
    results = play(
        EvaluationConfig(
            policy=str(run / "last"),
            tasks=tuple(config.tasks),
            scenes=(0, config.episodes),
            output=str(run / f"evaluation-{goal}"),
            wording="unseen" if goal == LANGUAGE else "seen",
            goal=LANGUAGE if goal == LANGUAGE else IMAGE + EXPERT,
            processes=config.processes,
            videos=config.videos,
        )
    )
    return played(results) | {"wrong_object": sum(episode.failure == "wrong object" for episode in results.episodes)}


def _retrieve(run: Path, datasets: Sequence[Path]) -> dict[str, Any]:
    policy: Any = choose_policy(str(run / "last")).load()
    return retrieval_accuracy(policy, datasets)
