"""What a training run is told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from robot.errors import TongsError, unknown

SCHEDULES = ("cosine", "constant")
DEVICES = ("auto", "cpu", "cuda")
PARALLEL = ("ddp", "fsdp")
LOGGERS = ("tensorboard", "wandb")


@dataclass(frozen=True)
class TrainConfig:
    """Settings of one run; it ends at `steps` or after `max_minutes`, whichever comes first.

    A budget in steps is reproducible. A budget in minutes fixes the time instead: the cosine schedule then follows the
    elapsed fraction of the minutes, so the learning rate of a given step depends on the machine's speed.

    Attributes:
        steps: optimiser steps, or None for no limit.
        max_minutes: wall-clock minutes of the whole run (evaluations included, pauses between resumes not), or None.
        batch_size: windows per step, all processes together.
        accumulate: parts in which each process works on its share of a batch, to save memory; the same gradient.
        parallel: how several processes train one policy: `ddp`, each with all of it, or `fsdp`, each with a part of its
            weights, gradients and optimiser state. How many there are is the launcher's business; one needs neither.
        freeze: patterns of parameter names, such as `observation_encoder.*`, that are not trained.
        learning_rate: peak of AdamW's learning rate.
        weight_decay: decoupled decay; biases and norms (parameters with fewer than two axes) are not decayed.
        warmup_steps: steps of linear growth from zero to the peak.
        schedule: `cosine` (to zero at the end of the budget) or `constant`.
        gradient_clip: largest norm of the whole gradient.
        ema_decay: upper limit of the decay of the averaged weights.
        bf16: compute in bfloat16 where autocast allows it.
        compile: compile the policy's heavy parts (torch.compile); takes a minute or two and needs a C++ compiler.
        seed: of sampling order, noise and dropout.
        deterministic: only operations that repeat to the last digit, where there are such; slower on a GPU.
        log_every, heldout_every, save_every, evaluate_every: periods in steps; 0 turns the last three off.
        heldout_batches: batches in one measurement of the held-out loss.
        keep: the newest checkpoints that stay, besides the best.
        threads: of torch on the CPU, per process.
        device: `auto` (a GPU if there is one), `cpu` or `cuda`.
        loggers: `tensorboard` and `wandb` (Weights & Biases), besides the CSV files.
    """

    steps: int | None = 20_000
    max_minutes: float | None = None
    batch_size: int = 256
    accumulate: int = 1
    parallel: Literal["ddp", "fsdp"] = "ddp"
    freeze: Sequence[str] = ()
    learning_rate: float = 3e-4
    weight_decay: float = 1e-2
    warmup_steps: int = 500
    schedule: Literal["cosine", "constant"] = "cosine"
    gradient_clip: float = 1.0
    ema_decay: float = 0.999
    bf16: bool = False
    compile: bool = False
    seed: int = 0
    deterministic: bool = False
    log_every: int = 50
    heldout_every: int = 500
    save_every: int = 1000
    evaluate_every: int = 0
    heldout_batches: int = 8
    keep: int = 3
    threads: int = 2
    device: Literal["auto", "cpu", "cuda"] = "auto"
    loggers: Sequence[str] = ()

    def __post_init__(self) -> None:
        for name in ("freeze", "loggers"):
            value = getattr(self, name)
            object.__setattr__(self, name, (value,) if isinstance(value, str) else tuple(value))
        if self.steps is None and self.max_minutes is None:
            raise TongsError("training needs a budget: give steps or max_minutes")
        if self.schedule not in SCHEDULES:
            raise unknown("schedule", self.schedule, SCHEDULES)
        if self.device not in DEVICES:
            raise unknown("device", self.device, DEVICES)
        if self.parallel not in PARALLEL:
            raise unknown("parallel", self.parallel, PARALLEL)
        for name in self.loggers:
            if name not in LOGGERS:
                raise unknown("logger", name, LOGGERS)
        for name in (
            *("steps", "max_minutes", "batch_size", "accumulate", "learning_rate", "gradient_clip", "log_every"),
            *("heldout_batches", "keep", "threads"),
        ):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise TongsError(f"{name} must be positive, got {value}")
        for name in ("weight_decay", "warmup_steps", "heldout_every", "save_every", "evaluate_every"):
            if getattr(self, name) < 0:
                raise TongsError(f"{name} must not be negative, got {getattr(self, name)}")
        if not 0 <= self.ema_decay < 1:
            raise TongsError(f"ema_decay must lie in 0..1 without 1, got {self.ema_decay}")

    def to_json(self) -> dict[str, Any]:
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}


MAY_CHANGE = frozenset(
    {
        *("steps", "max_minutes", "log_every", "heldout_every", "save_every", "evaluate_every", "heldout_batches"),
        *("accumulate", "parallel", "keep", "threads", "device", "deterministic", "loggers", "compile"),
    }
)
"""Settings that a resumed run may have otherwise than the run it continues."""


def require_same_run(saved: dict[str, Any], config: TrainConfig) -> None:
    """Raise TongsError unless `config` continues the run that was saved."""
    now = config.to_json()
    changed = [name for name in now if name not in MAY_CHANGE and saved.get(name) != now[name]]
    if changed:
        what = "; ".join(f"{name} was {saved.get(name)} and is now {now[name]}" for name in changed)
        raise TongsError(f"a run cannot be resumed with other settings: {what}")
