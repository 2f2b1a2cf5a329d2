"""BESO's central claims on the pushing world: trained, measured, and put into tables and a figure.

Every training and every measurement is a cell with a file of its own, so that an interrupted reproduction goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from rich.console import Console

from eval.policies import choose_policy
from eval.pushing import PushEpisode, mean_interval, roll_out, seconds_per_action, summary
from eval.reproduction import Cells, Train, check, claim_folder, train_once, training_words
from sim.block_push.world import GOAL_NAMES

if TYPE_CHECKING:
    from policies.base import PolicyModule

Collect = Callable[[Path, int], Path]
"""(output folder, demonstrations) -> the dataset."""

PAPER = ("policy.sigma_min=0.05", "policy.sigma_max=1.0", "policy.noise_median=0.5", "policy.noise_samples=1")
"""BESO's noise in its block pushing; one noise level per sequence."""
POLICIES: dict[str, tuple[str, ...]] = {
    "C-BESO": ("policy=beso", *PAPER, "policy.goal_mask=0.0"),
    "CFG-BESO": ("policy=beso", *PAPER, "policy.goal_mask=0.1", "policy.goal_mask_per_element=true"),
    "GC-BC": ("policy=bc",),
    "BC-GMM": ("policy=gmm",),
    "C-BeT": ("policy=bet",),
    "DDPM": ("policy=ddpm", "policy.noise_samples=1"),
}
GUIDED = "CFG-BESO"
COVERED = ("CFG-BESO", "GC-BC", "BC-GMM", "C-BeT", "DDPM")
"""Policies that have learned to act without a goal too."""


@dataclass(frozen=True)
class ReproductionConfig:
    """What is trained and measured.

    Attributes:
        output: folder of everything; an unfinished reproduction in it goes on.
        demonstrations: of the pushing world.
        seeds: trainings of every policy.
        train_steps, batch_size: of every training.
        window, width, layers, heads: of every policy.
        rollouts: episodes per measurement of table (a), on test scenes from number 0 on.
        guidance: strengths of classifier-free guidance in table (a).
        samplers, sampler_steps, sampler_rollouts: the grid of table (b), with C-BESO of the first seed.
        coverage_rollouts: episodes per policy of table (c), all from one scene, without a goal.
        policies: which of `POLICIES`.
        threads: of torch.
    """

    output: str
    demonstrations: int = 1000
    seeds: int = 3
    train_steps: int = 6000
    batch_size: int = 256
    window: int = 5
    width: int = 120
    layers: int = 4
    heads: int = 12
    rollouts: int = 100
    guidance: Sequence[float] = (0.0, 1.0, 1.25, 2.0, 5.0)
    samplers: Sequence[str] = ()
    sampler_steps: Sequence[int] = (1, 2, 3, 5, 10, 30, 50)
    sampler_rollouts: int = 30
    coverage_rollouts: int = 100
    policies: Sequence[str] = tuple(POLICIES)
    threads: int = 2

    def __post_init__(self) -> None:
        from policies.beso.samplers import SAMPLERS

        if not self.samplers:
            object.__setattr__(self, "samplers", tuple(sorted(SAMPLERS)))
        check(
            self,
            ("guidance", "samplers", "sampler_steps", "policies"),
            ("demonstrations", "seeds", "train_steps", "rollouts", "sampler_rollouts", "coverage_rollouts"),
            (("policies", "policy", POLICIES), ("samplers", "sampler", SAMPLERS)),
        )


def reproduce(config: ReproductionConfig, collect: Collect, train: Train, console: Console | None = None) -> Path:
    """Everything that is not there yet, then `report.md` and `figure.png`; returns the report.

    Raises:
        TongsError: the folder holds a reproduction with other settings.
    """
    from eval.reproduce_beso_report import write_report

    folder, console = claim_folder(config), console or Console()
    torch.set_num_threads(config.threads)
    dataset = collect(folder, config.demonstrations)
    for seed in range(config.seeds):
        for name in config.policies:
            _train(config, train, dataset, _run_folder(folder, name, seed), name, seed)
    cells = Cells(folder / "cells", console)
    for seed in range(config.seeds):
        for name in config.policies:
            _table_a(config, cells, _run_folder(folder, name, seed), name, seed)
            if name in COVERED:
                _table_c(config, cells, _run_folder(folder, name, seed), name, seed)
    if "C-BESO" in config.policies:
        _table_b(config, cells, _run_folder(folder, "C-BESO", 0))
    return write_report(config, cells.read(), folder)


def _run_folder(folder: Path, name: str, seed: int) -> Path:
    return folder / "runs" / f"{name}-{seed}"


def _train(config: ReproductionConfig, train: Train, dataset: Path, run: Path, name: str, seed: int) -> None:
    words = [
        *training_words([dataset], config.train_steps, config.batch_size, seed, config.threads),
        "cameras=[]",
        "horizon=1",
        "goals.last=1.0",
        *POLICIES[name],
        "policy.observation=state",
        "policy.goal=state",
        "policy.goal_tokens=1",
        f"policy.goal_names={','.join(GOAL_NAMES)}",
        "policy.action_span=extremes",
        "policy.attention_dropout=0.05",
        "policy.residual_dropout=0.05",
        *(f"policy.{key}={getattr(config, key)}" for key in ("window", "width", "layers", "heads")),
    ]
    train_once(train, words, run)


def _load(run: Path, **sampling: Any) -> PolicyModule:
    policy = choose_policy(str(run / "last")).load(sampling)
    return policy  # type: ignore[return-value]


def _table_a(config: ReproductionConfig, cells: Cells, run: Path, name: str, seed: int) -> None:
    for strength in config.guidance if name == GUIDED else (None,):
        sampling = {} if strength is None else {"guidance": strength}

        def measure(sampling: dict[str, Any] = sampling) -> dict[str, Any]:
            policy = _load(run, **sampling)
            episodes = roll_out(policy, range(config.rollouts), seed=seed)
            return {**summary(episodes), "seconds": seconds_per_action(policy)}

        cells.measure({"table": "a", "policy": name, "guidance": strength, "seed": seed}, measure)


def _table_b(config: ReproductionConfig, cells: Cells, run: Path) -> None:
    for name in config.samplers:
        for steps in config.sampler_steps:

            def measure(name: str = name, steps: int = steps) -> dict[str, Any]:
                policy = _load(run, sampler=name, steps=steps)
                episodes = roll_out(policy, range(config.sampler_rollouts))
                return {**summary(episodes), "seconds": seconds_per_action(policy)}

            cells.measure({"table": "b", "sampler": name, "steps": steps}, measure)


def _table_c(config: ReproductionConfig, cells: Cells, run: Path, name: str, seed: int) -> None:
    def measure() -> dict[str, Any]:
        policy = _load(run)
        policy.goal_hidden = True  # type: ignore[assignment]
        return summary(roll_out(policy, [0] * config.coverage_rollouts, seed=seed))

    cells.measure({"table": "c", "policy": name, "seed": seed}, measure)


def pooled(cells: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Reward, result and their intervals over the episodes of several seeds together."""
    episodes = [PushEpisode(**episode) for cell in cells for episode in cell["episodes"]]
    return {
        "reward": mean_interval([episode.reward for episode in episodes]),
        "result": mean_interval([episode.result for episode in episodes]),
        "coverage": sum(cell["coverage"] for cell in cells) / len(cells),
        "seconds": sum(cell.get("seconds", 0.0) for cell in cells) / len(cells),
    }
