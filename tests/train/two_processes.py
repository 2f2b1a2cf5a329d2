"""What each of two processes does in tests/train/test_distributed.py, started by torchrun: several small trainings."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from policies.base import Batch, PolicyModule
from policies.randomness import Randomness
from robot.errors import TongsError
from tests.train.small_policy import SmallPolicy, windows
from train.configuration import TrainConfig
from train.trainer import Trainer

CONFIG = TrainConfig(
    steps=6,
    batch_size=16,
    learning_rate=1e-2,
    warmup_steps=2,
    schedule="constant",
    log_every=1,
    heldout_every=2,
    save_every=0,
    threads=1,
    device="cpu",
)
RANK = int(os.environ.get("RANK", "0"))
Change = Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]


class Parted(SmallPolicy):
    """FSDP parts its last layer by itself and the first one with the rest."""

    @property
    def heavy_parts(self) -> list[nn.Module]:
        return [self.network[3]]


def policy(dropout: float = 0.0) -> SmallPolicy:
    made = Parted()
    made.network[2].p = dropout
    return made


class AtStep(SmallPolicy):
    """Does something to the losses of one training step, in one process."""

    def __init__(self, step: int, rank: int, change: Change) -> None:
        super().__init__()
        self.where, self.change, self.calls = (step, rank), change, 0

    def loss(self, batch: Batch, generator: Randomness = None) -> dict[str, torch.Tensor]:
        self.calls += self.training
        losses = super().loss(batch, generator)
        return self.change(losses) if self.training and (self.calls, RANK) == self.where else losses


def interrupt(losses: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    os.kill(os.getpid(), signal.SIGINT)
    return losses


def main(folder: Path) -> None:
    parts = windows(folder)

    def run(name: str, made: PolicyModule, config: TrainConfig, resume: bool = False) -> None:
        try:
            Trainer(made, *parts, config, folder / name).train(resume)
        except (TongsError, SystemExit) as error:
            (folder / f"{name}.{RANK}.txt").write_text(str(error))

    run("ddp", policy(), CONFIG)
    run("parts", policy(), replace(CONFIG, accumulate=2))
    sharded = policy()
    run("fsdp", sharded, replace(CONFIG, parallel="fsdp"))
    sizes = {name: value.to_local().numel() for name, value in sharded.state_dict().items()}
    (folder / f"sizes.{RANK}.json").write_text(json.dumps(sizes))
    for parallel in ("ddp", "fsdp"):
        config = replace(CONFIG, accumulate=2, parallel=parallel, log_every=4, steps=8)
        run(f"{parallel}_straight", policy(0.3), config)
        run(f"{parallel}_halves", policy(0.3), replace(config, steps=3))
        run(f"{parallel}_halves", policy(0.3), config, resume=True)
    run("moved", policy(), replace(CONFIG, parallel="fsdp", steps=3))
    run("moved", policy(), CONFIG, resume=True)
    run("interrupted", AtStep(3, 1, interrupt), CONFIG)
    run("not_a_number", AtStep(3, 1, lambda losses: {**losses, "loss": losses["loss"] * float("nan")}), CONFIG)
    run("infinite", AtStep(2, 0, lambda losses: {**losses, "loss": losses["loss"] + float("inf")}), CONFIG)
    unused = policy()
    unused.idle = nn.Linear(2, 2)
    run("unused", unused, CONFIG)
    run("frozen", unused, replace(CONFIG, freeze=["idle.*"]))
    run("indivisible", policy(), replace(CONFIG, batch_size=9))

    def evaluate(played: PolicyModule) -> dict[str, float]:
        assert RANK == 0 and not played.training
        assert all(type(value) is torch.Tensor for value in played.state_dict().values())
        return {"success": 0.5}

    for parallel in ("ddp", "fsdp"):
        config = replace(CONFIG, parallel=parallel, evaluate_every=4)
        Trainer(policy(), *parts, config, folder / f"{parallel}_evaluated", evaluate).train()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
    torch.distributed.destroy_process_group()
