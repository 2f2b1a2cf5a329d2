"""RT-H's central claims on several tasks: motions as a hierarchy, corrected at test time, and learned from.

Every training, every collection and every measurement is kept, so that an interrupted reproduction goes on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from rich.console import Console

from data.motions import label
from data.reader import Dataset
from eval.action_error import PREDICTED, TRUE, action_change, action_error
from eval.corrections import CorrectionsConfig, collect_corrections
from eval.corrector import DRIVING, MOTIONS
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
from robot.errors import TongsError
from robot.motions import TABLE, Vocabulary
from sim.tasks import SINGLE

if TYPE_CHECKING:
    from policies.rth.model import Rth

METHODS: dict[str, tuple[str, ...]] = {
    "flat": ("policy.variant=flat",),
    "RT-H": (),
    "RT-H-Joint": ("policy.variant=joint",),
    "RT-H-Cluster": ("policy.labels=clusters",),
    "RT-H-OneHot": ("policy.labels=ids",),
}
"""Words of `tongs train policy=rth`: all are configurations of the same code."""
FLAT, RTH = "flat", "RT-H"


@dataclass(frozen=True)
class Taught:
    """One way to learn from corrections.

    Attributes:
        base: the method that is corrected, and trained further.
        by: how it is corrected.
        words: of the second training.
    """

    base: str
    by: str
    words: tuple[str, ...]


TAUGHT: dict[str, Taught] = {
    "RT-H-Intervene": Taught(RTH, MOTIONS, ("stage=corrections",)),
    "RT-H-InterveneAction": Taught(RTH, MOTIONS, ("stage=interventions",)),
    "IWR": Taught(
        FLAT,
        DRIVING,
        ("stage=corrections", "corrections.weight=1.0", "corrections.uncorrected=1.0", "corrections.share=0.5"),
    ),
}
"""The last: teleoperated corrections, of which and of all else each give half of the samples (Mandlekar et al.
2020)."""


@dataclass(frozen=True)
class RthReproductionConfig:
    """What is trained and measured.

    Attributes:
        output: folder of everything; an unfinished reproduction in it goes on.
        data: folder of demonstrations of these tasks; None collects them.
        tasks: single tasks.
        demonstrations: of each task, if they are collected.
        methods: which of `METHODS`; "flat" and "RT-H" are what the claims are about.
        taught: which of `TAUGHT`.
        seeds: trainings of every method.
        train_steps, batch_size: of every training.
        teach_steps: of every training on corrections.
        teach_rate: their learning rate.
        corrections: corrected successes per task to learn from. The flat policy gets as many interventions as the
            other.
        corrector: how the simulated person corrects, fields of `eval.corrector.CorrectorConfig` but `by`.
        ahead: control steps between two queries, in training and in use.
        image_size: side in pixels of what the policy sees.
        episodes: test scenes of each task in every measurement.
        heldout: held-out demonstrations of each task, for the action error.
        videos: successes and failures of each task that are filmed in a measurement, that many of each.
        threads, processes: of training, and of evaluation.
        extra: further words for every training, such as policy.vla.prediction=parallel.
    """

    output: str
    data: str | None = None
    tasks: Sequence[str] = ("pickup_object", "open_drawer", "close_drawer", "open_cabinet", "close_cabinet")
    demonstrations: int = 600
    methods: Sequence[str] = (FLAT, RTH)
    taught: Sequence[str] = tuple(TAUGHT)
    seeds: int = 3
    train_steps: int = 12000
    batch_size: int = 128
    teach_steps: int = 1500
    teach_rate: float = 1e-4
    corrections: int = 30
    corrector: Any = None
    ahead: int = 4
    image_size: int = 96
    episodes: int = 34
    heldout: int = 20
    videos: int = 2
    threads: int = 2
    processes: int = 2
    extra: Sequence[str] = ()

    def __post_init__(self) -> None:
        counted = ("demonstrations", "seeds", "train_steps", "batch_size", "teach_steps", "corrections", "ahead")
        check(
            self,
            ("tasks", "methods", "taught", "extra"),
            (*counted, "image_size", "episodes", "heldout", "threads", "processes"),
            (("tasks", "task", SINGLE), ("methods", "method", METHODS), ("taught", "taught method", TAUGHT)),
        )
        object.__setattr__(self, "corrector", dict(self.corrector or {}))
        for name in self.taught:
            if TAUGHT[name].base not in self.methods:
                raise TongsError(f"{name} begins with {TAUGHT[name].base}, which must be among the methods")


def reproduce(config: RthReproductionConfig, collect: Collect, train: Train, console: Console | None = None) -> Path:
    """Everything that is not there yet, then `report.md`; returns the report.

    Raises:
        TongsError: the folder holds a reproduction with other settings.
        KeyboardInterrupt: Ctrl-C; the same call goes on.
    """
    from eval.reproduce_rth_report import write_report

    folder, console = claim_folder(config), console or Console()
    torch.set_num_threads(config.threads)
    data = demonstrated(config, collect, folder / "data", config.tasks)
    heldout = collect(folder / "heldout", config.tasks, config.heldout, "val", 0)
    datasets = _labelled([data / task for task in config.tasks], folder / "labelled", console)
    unseen = _labelled([heldout / task for task in config.tasks], folder / "labelled_heldout", console)
    cells = Cells(folder / "cells", console)
    for seed in range(config.seeds):
        for name in config.methods:
            run = folder / "runs" / f"{name}-{seed}"
            train_once(train, _words(config, datasets, METHODS[name], seed, config.train_steps), run)
            _measure(config, cells, run, name, seed, unseen)
        if RTH in config.methods:
            run = folder / "runs" / f"{RTH}-{seed}"
            key = {"measure": "helped", "method": RTH, "seed": seed}
            cells.measure(key, lambda run=run: _play(config, run, "helped", {**config.corrector, "by": MOTIONS}))
        for name in sorted(config.taught, key=lambda name: TAUGHT[name].by == DRIVING):
            _teach(config, cells, train, folder, name, seed, datasets, unseen)
    return write_report(config, cells.read(), folder)


def _measure(
    config: RthReproductionConfig, cells: Cells, run: Path, name: str, seed: int, unseen: Sequence[Path]
) -> None:
    """Success on test scenes, and the error on held-out demonstrations."""
    cells.measure({"measure": "success", "method": name, "seed": seed}, lambda: _play(config, run, "success"))
    for motions in (PREDICTED, TRUE) if name in (RTH, "RT-H-OneHot") else (PREDICTED,):
        key = {"measure": f"error-{motions}", "method": name, "seed": seed}
        cells.measure(key, lambda motions=motions: action_error(_load(run), unseen, motions))


def _teach(
    config: RthReproductionConfig,
    cells: Cells,
    train: Train,
    folder: Path,
    name: str,
    seed: int,
    datasets: Sequence[Path],
    unseen: Sequence[Path],
) -> None:
    """Correct a policy, train it on that beside the demonstrations, and see how it does alone."""
    taught = TAUGHT[name]
    base = folder / "runs" / f"{taught.base}-{seed}"
    corrected = folder / "corrections" / f"{taught.by}-{seed}"
    key = {"measure": "corrections", "method": taught.by, "seed": seed}
    cells.measure(key, lambda: _correct(config, base, corrected, taught.by, cells, seed))
    run = folder / "runs" / f"{name}-{seed}"
    found = [corrected / task for task in config.tasks if (corrected / task / "meta" / "info.json").is_file()]
    found = [dataset for dataset in found if Dataset(dataset).total_frames]
    own = (f"start_from={base / 'last'}", *taught.words, f"train.learning_rate={config.teach_rate}")
    words = _words(config, [*datasets, *found], (*METHODS[taught.base], *own), seed, config.teach_steps, 100)
    train_once(train, words, run)
    cells.measure({"measure": "success", "method": name, "seed": seed}, lambda: _play(config, run, "success"))
    if taught.base == RTH:
        key = {"measure": "change", "method": name, "seed": seed}
        cells.measure(key, lambda: dict(action_change(_load(base), _load(run), unseen)))


def _labelled(datasets: Sequence[Path], folder: Path, console: Console) -> list[Path]:
    """Copies of the datasets that say which motions their arms make, with the report of the vocabulary."""
    folder.mkdir(parents=True, exist_ok=True)
    reports: list[Vocabulary] = []
    for dataset in datasets:
        if not (folder / dataset.name).exists():
            reports.append(label(Dataset(dataset), folder / dataset.name, TABLE))
            console.print(f"{dataset.name}: {reports[-1].sentences()[0]}", highlight=False)
    return [folder / dataset.name for dataset in datasets]


def _words(
    config: RthReproductionConfig,
    datasets: Sequence[Path],
    method: Sequence[str],
    seed: int,
    steps: int,
    longest_warmup: int = 500,
) -> list[str]:
    return [
        *training_words(datasets, steps, config.batch_size, seed, config.threads, longest_warmup),
        "policy=rth",
        f"policy.ahead={config.ahead}",
        f"image_size={config.image_size}",
        *method,
        *config.extra,
    ]


def _load(run: Path) -> Rth:
    policy: Any = choose_policy(str(run / "last")).load()
    return policy


def _play(
    config: RthReproductionConfig, run: Path, name: str, corrector: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Success on test scenes, in wordings of the training."""
    results = play(
        EvaluationConfig(
            policy=str(run / "last"),
            tasks=tuple(config.tasks),
            scenes=(0, config.episodes),
            output=str(run / f"evaluation-{name}"),
            execute=config.ahead,
            corrector=corrector or {},
            processes=config.processes,
            videos=config.videos,
        )
    )
    return played(results) | {"corrections": sum(episode.corrections for episode in results.episodes)}


def _correct(
    config: RthReproductionConfig, base: Path, output: Path, by: str, cells: Cells, seed: int
) -> dict[str, Any]:
    """Corrected successes as datasets. Those of the flat policy are collected until it has had as many interventions in
    each task as the other one."""
    known = [cell for cell in cells.read() if cell["measure"] == "corrections" and cell["seed"] == seed]
    said = {cell["method"]: cell["tasks"] for cell in known}
    tasks: dict[str, dict[str, int]] = {}
    for task in config.tasks:
        most = said[MOTIONS][task]["corrections"] if by == DRIVING and MOTIONS in said else None
        (found,) = collect_corrections(
            CorrectionsConfig(
                policy=str(base / "last"),
                task=(task,),
                output=str(output),
                episodes=config.corrections,
                corrections=most,
                corrector={**config.corrector, "by": by},
                execute=config.ahead,
                processes=config.processes,
            )
        )
        tasks[task] = {"episodes": found.episodes, "attempts": found.attempts, "corrections": found.corrections}
    return {"tasks": tasks}
