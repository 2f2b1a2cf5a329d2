"""Adapting a trained policy to new demonstrations: what it is fed, what of it is trained, what that took."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from data.windows import Windows
from policies.base import PolicyModule, load_policy
from policies.configuration import configuration
from robot.errors import TongsError, unknown
from robot.memory import peak_memory
from train.adaptation import LoraConfig, adapt, counted
from train.run import (
    DataSettings,
    action_space,
    data_statistics,
    goal_rules,
    open_windows,
    require_labels,
    robot_types,
)

if TYPE_CHECKING:
    from train.trainer import Trainer

AUGMENTATIONS = ("shift", "cut", "colour", "repaint", "saturation", "hue")
DATA = ("held_out", "hold_weight", "start_weight", "shares", "paraphrases", "seed")
"""Fields of `FinetuneSettings` that are those of `DataSettings`."""
REPORT = "finetune.json"


@dataclass(frozen=True)
class FinetuneSettings:
    """A fine-tuning; what is not said follows from the policy.

    Attributes:
        folder: checkpoint of the policy.
        data: dataset folders, or folders that hold datasets.
        mode: see `train.adaptation.adapt`.
        lora: fields of `LoraConfig`.
        augmentation: settings of the policy among `AUGMENTATIONS`; None where they stay as they are.
        statistics: `own`, the units of the policy, or `data`, those of the new dataset.
        held_out, hold_weight, start_weight, shares, goals, paraphrases: see `DataSettings`.
        seed: of the choice of held-out episodes.
    """

    folder: Path
    data: tuple[str, ...]
    mode: str = "lora"
    lora: Mapping[str, Any] = field(default_factory=dict)
    augmentation: Mapping[str, float | None] = field(default_factory=dict)
    statistics: str = "own"
    held_out: float = 0.03
    hold_weight: float = 0.3
    start_weight: float = 1.0
    shares: Mapping[str, float] = field(default_factory=dict)
    goals: Mapping[str, float] = field(default_factory=dict)
    paraphrases: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.statistics not in ("own", "data"):
            raise unknown("statistics", self.statistics, ("own", "data"))


def open_finetuning(settings: FinetuneSettings) -> tuple[PolicyModule, Windows, Windows]:
    """The policy with what of it is trained, and the training and held-out windows that it is fed.

    Raises:
        TongsError: policy and data do not fit each other, or a setting makes no sense.
    """
    policy = load_policy(settings.folder)
    lora = configuration(LoraConfig, settings.lora)
    told = {"family": policy.family, **asdict(policy.config)}
    goals = goal_rules(told, settings.goals)
    spec = policy.spec
    sides = {side for size in spec.cameras.values() for side in size} or {1}
    if len(sides) > 1:
        raise TongsError(
            f"fine-tuning needs cameras of one square size, and {settings.folder} has {dict(spec.cameras)}"
        )
    windows_train, windows_heldout = open_windows(
        DataSettings(
            settings.data,
            cameras=tuple(spec.cameras),
            image_size=sides.pop(),
            state=spec.state_names,
            horizon=spec.horizon,
            window=policy.window,
            goals=goals,
            goal_window=told["goal_tokens"] if goals else 1,
            **{name: getattr(settings, name) for name in DATA},
        )
    )
    require_labels(policy, windows_train)
    _require_same_actions(settings.folder, policy, windows_train)
    policy = _with_settings(policy, settings, windows_train)
    policy.trained_on = tuple(sorted({*policy.trained_on, *robot_types(settings.data)}))
    adapt(policy, settings.mode, lora, settings.folder)
    return policy, windows_train, windows_heldout


def write_report(trainer: Trainer, settings: FinetuneSettings) -> dict[str, Any]:
    """What was trained and what it took, as `finetune.json` in the run folder."""
    trained, total = counted(trainer.policy)
    on_gpu = trainer.device.type == "cuda"
    memory = torch.cuda.max_memory_allocated(trainer.device) / 1e9 if on_gpu else peak_memory() / 1e3
    with (trainer.folder / "train.csv").open(encoding="utf-8") as file:
        rates = [float(row["samples_per_second"]) for row in csv.DictReader(file)]
    report = {
        "base": str(settings.folder),
        "mode": settings.mode,
        "trained_parameters": trained,
        "parameters": total,
        "share": trained / total,
        "memory_gb": memory,
        "samples_per_second": sum(rates) / len(rates) if rates else None,
        "steps": trainer.step,
        "minutes": trainer.minutes,
    }
    (trainer.folder / REPORT).write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return report


def sentence(report: Mapping[str, Any]) -> str:
    """The report in one line."""
    rate = report["samples_per_second"]
    return (
        f"{report['mode']}: trained {report['trained_parameters']:,} of {report['parameters']:,} parameters "
        f"({100 * report['share']:.2f} %), {report['memory_gb']:.2f} GB at most, "
        f"{f'{rate:.1f} samples/s' if rate else 'too short a run for a rate'}"
    )


def _require_same_actions(folder: Path, policy: PolicyModule, windows: Windows) -> None:
    space = policy.spec.action_space
    there = action_space(windows.action_names, windows.fps)
    if differences := space.differences(there):
        raise TongsError(f"{folder} does not fit the data (policy here, data there): {'; '.join(differences)}")
    known = tuple(getattr(policy.config, "environment_names", ()))
    names = windows.environment_state_names
    if known and names and known != names:
        raise TongsError(f"{folder} learned to predict {', '.join(known)}, and the data has {', '.join(names)}")


def _with_settings(policy: PolicyModule, settings: FinetuneSettings, windows: Windows) -> PolicyModule:
    """The policy with other augmentations or statistics, if any are wanted."""
    wanted = {name: value for name, value in settings.augmentation.items() if value is not None}
    known = [field.name for field in fields(policy.config) if field.name in AUGMENTATIONS]
    for name in wanted:
        if name not in known:
            raise unknown(f"augmentation of a {policy.family} policy", name, known)
    return policy.changed(wanted, None if settings.statistics == "own" else data_statistics(windows))
