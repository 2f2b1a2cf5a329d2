"""OpenVLA's claim about adapters, at our scale: LoRA on few demonstrations is as good as training everything.

OpenVLA (Kim et al. 2024, section 5.3): LoRA reaches 68.2 % where full fine-tuning reaches 69.7 %, with 1.4 % of the
weights. Here a small VLA is pretrained on some tasks and adapted to others, or to objects it never saw. Every
collection, training and evaluation is a cell with a folder of its own, so that an interrupted reproduction goes on.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from eval.paired import PairedRates, paired_rates
from eval.protocol import EvaluationConfig
from eval.reproduction import Collect, Train, check, claim_folder, demonstrated, play, train_once, training_words
from eval.reproduction_report import Claims, shown_gap, shown_rate, write_report
from eval.results import write_json
from eval.results_file import read_results
from robot.errors import TongsError
from sim.splits import find_split
from sim.tasks import find_task

METHODS = ("lora", "full", "scratch")
CLOSE = 0.03
"""LoRA may be so much below full fine-tuning."""
SHARE = 0.05
"""And may train so much of the weights."""
NEW_SCENES = 100_000
"""Demonstrations of another split than train begin here, far from the scenes that are played."""


@dataclass(frozen=True)
class LoraReproductionConfig:
    """What is trained and measured.

    Attributes:
        output: folder of everything; an unfinished reproduction in it goes on.
        policy: a file of configs/policy.
        pretrain: tasks of the pretraining.
        targets: what is adapted to: tasks, or task:split for things that pretraining never shows.
        data: a folder with datasets of the pretraining tasks; None collects them.
        demonstrations: of each pretraining task, if they are collected.
        few: demonstrations of each target.
        pretrain_steps, adapt_steps, batch_size: of the trainings; from scratch takes the steps of adapting.
        rank: of the adapters.
        learning_rate: of adapters; the others have `full_learning_rate`.
        seeds: adaptations of every target.
        episodes: scenes per target.
        settings: further words of `tongs train` for the pretraining and from scratch, such as "image_size=96".
        threads, processes: of torch, and of collecting and playing.
    """

    output: str
    policy: str = "vla_oft"
    pretrain: Sequence[str] = ("open_drawer", "close_drawer", "open_cabinet", "pickup_object")
    targets: Sequence[str] = (
        "close_cabinet",
        "reorient_object",
        "open_drawer:novel_object",
        "pickup_object:novel_object",
    )
    data: str | None = None
    demonstrations: int = 500
    few: int = 50
    pretrain_steps: int = 20_000
    adapt_steps: int = 1000
    batch_size: int = 64
    rank: int = 8
    learning_rate: float = 5e-4
    full_learning_rate: float = 3e-4
    seeds: int = 1
    episodes: int = 100
    settings: Sequence[str] = ()
    threads: int = 2
    processes: int = 2

    def __post_init__(self) -> None:
        counted = ("few", "pretrain_steps", "adapt_steps", "batch_size", "rank", "seeds", "episodes")
        check(self, ("pretrain", "targets", "settings"), (*counted, "demonstrations", "threads", "processes"))
        for task in (*self.pretrain, *(target.partition(":")[0] for target in self.targets)):
            find_task(task)
        for target in self.targets:
            task, _, split = target.partition(":")
            find_split(split or "train")
            if not split and task in self.pretrain:
                raise TongsError(
                    f"{task} is pretrained on, so it is no target; give it a split such as {task}:novel_object"
                )


def reproduce(
    config: LoraReproductionConfig, collect: Collect, train: Train, finetune: Train, console: Console | None = None
) -> Path:
    """Everything that is not there yet, then `report.md` and `report.json`; returns the report.

    Raises:
        TongsError: the folder holds a reproduction with other settings.
        KeyboardInterrupt: an evaluation was interrupted.
    """
    folder, console = claim_folder(config), console or Console()
    pretraining = demonstrated(config, collect, folder / "data" / "pretrain", config.pretrain)
    datasets = [pretraining / task for task in config.pretrain]
    base = folder / "runs" / "pretrain"
    train_once(train, _from_scratch(config, datasets, config.pretrain_steps, 0), base)
    for target in config.targets:
        task, _, split = target.partition(":")
        start = NEW_SCENES if split else 0
        few = collect(folder / "data" / _name(target), (task,), config.few, split or "train", start)
        for seed in range(config.seeds):
            for method in METHODS:
                run = _run_folder(folder, target, method, seed)
                if method == "scratch":
                    words = _from_scratch(config, [few / task], config.adapt_steps, seed)
                    train_once(train, words, run)
                else:
                    train_once(finetune, _adapting(config, base, few / task, method, seed), run)
                _play(config, target, run, console)
    return _report(config, folder)


def _name(target: str) -> str:
    return target.replace(":", "-")


def _run_folder(folder: Path, target: str, method: str, seed: int) -> Path:
    return folder / "runs" / f"{_name(target)}-{method}-{seed}"


def _common(config: LoraReproductionConfig, datasets: Sequence[Path], steps: int, seed: int) -> list[str]:
    words = training_words(datasets, steps, config.batch_size, seed, config.threads)
    return [*words, f"train.log_every={min(50, steps)}"]


def _from_scratch(config: LoraReproductionConfig, datasets: Sequence[Path], steps: int, seed: int) -> list[str]:
    return [
        *_common(config, datasets, steps, seed),
        f"policy={config.policy}",
        f"train.learning_rate={config.full_learning_rate}",
        *config.settings,
    ]


def _adapting(config: LoraReproductionConfig, base: Path, data: Path, mode: str, seed: int) -> list[str]:
    rate = config.learning_rate if mode == "lora" else config.full_learning_rate
    return [
        *_common(config, [data], config.adapt_steps, seed),
        f"policy={base / 'last'}",
        f"mode={mode}",
        f"lora.r={config.rank}",
        f"train.learning_rate={rate}",
        "train.schedule=cosine",
    ]


def _play(config: LoraReproductionConfig, target: str, run: Path, console: Console) -> None:
    task, _, split = target.partition(":")
    play(
        EvaluationConfig(
            policy=str(run / "last"),
            tasks=(task,),
            scenes=(0, config.episodes),
            output=str(run / "eval"),
            split=split or "test",
            processes=config.processes,
            videos=0,
        ),
        console,
    )


def _successes(config: LoraReproductionConfig, folder: Path, target: str, method: str) -> list[bool]:
    found = []
    for seed in range(config.seeds):
        episodes = read_results(_run_folder(folder, target, method, seed) / "eval").episodes
        found += [bool(episodes[key]["success"]) for key in sorted(episodes)]
    return found


def claims(share: float, full: PairedRates, scratch: PairedRates) -> Claims:
    """Both pairs have LoRA second; `share` is its part of the trained weights."""
    return [
        (f"LoRA within 3 points of full fine-tuning: {_gap(full)}", full.difference >= -CLOSE),
        (f"with at most 5 % of the trained parameters: {100 * share:.2f} %", share <= SHARE),
        (f"and above training from scratch, interval above 0: {_gap(scratch)}", scratch.interval[0] > 0),
    ]


def _gap(rates: PairedRates) -> str:
    return shown_gap(100 * rates.difference, 100 * rates.interval[0], 100 * rates.interval[1])


def _report(config: LoraReproductionConfig, folder: Path) -> Path:
    trained = {
        method: json.loads(
            (_run_folder(folder, config.targets[0], method, 0) / "finetune.json").read_text(encoding="utf-8")
        )
        for method in ("lora", "full")
    }
    share = trained["lora"]["trained_parameters"] / trained["full"]["trained_parameters"]
    pooled: dict[str, list[bool]] = {method: [] for method in METHODS}
    lines = [
        f"{config.policy} pretrained on {', '.join(config.pretrain)} ({config.pretrain_steps} steps of "
        f"{config.batch_size}), adapted with {config.few} demonstrations and {config.adapt_steps} steps, rank "
        f"{config.rank}, {config.seeds} seeds, {config.episodes} scenes per target; the same scenes for all. Success "
        "in per cent and differences in points, with 95 % intervals.\n",
        "| target | LoRA | full | from scratch | LoRA - full | LoRA - scratch |",
        "|---|---|---|---|---|---|",
    ]
    for target in config.targets:
        rows = {method: _successes(config, folder, target, method) for method in METHODS}
        for method in METHODS:
            pooled[method] += rows[method]
        lines.append(_line(target, rows))
    lines.append(_line("all", pooled))
    full, scratch = (paired_rates(pooled[other], pooled["lora"]) for other in ("full", "scratch"))
    found = claims(share, full, scratch)
    lines += ["", "| method | trained parameters | memory GB | samples/s |", "|---|---|---|---|"]
    lines += [
        f"| {method} | {told['trained_parameters']:,} | {told['memory_gb']:.2f} | "
        f"{told['samples_per_second'] or 0:.1f} |"
        for method, told in trained.items()
    ]
    write_json({"share": share, "claims": [{"claim": t, "holds": h} for t, h in found]}, folder / "report.json")
    return write_report(folder, "LoRA against full fine-tuning", lines, found)


def _line(name: str, rows: Mapping[str, Sequence[bool]]) -> str:
    shown = [shown_rate(rows[method]) for method in METHODS]
    shown += [_gap(paired_rates(rows[other], rows["lora"])) for other in ("full", "scratch")]
    return f"| {name} | " + " | ".join(shown) + " |"
