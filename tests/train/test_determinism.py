"""Deterministic mode repeats to the last digit, names what it cannot make so, and is over with the run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from policies.base import Batch
from policies.randomness import Randomness
from tests.train.small_policy import SmallPolicy, windows
from train.configuration import TrainConfig
from train.record import read_rows
from train.trainer import Trainer

CONFIG = TrainConfig(steps=3, batch_size=8, log_every=1, threads=1, device="cpu", deterministic=True)


class Pooled(SmallPolicy):
    """Uses an operation that torch has no deterministic implementation of, on the CPU either."""

    def loss(self, batch: Batch, generator: Randomness = None) -> dict[str, torch.Tensor]:
        assert torch.are_deterministic_algorithms_enabled()
        pooled, places = torch.nn.functional.max_pool2d(batch["state"][None, :, :, :2], 1, return_indices=True)
        torch.nn.functional.max_unpool2d(pooled, places, 1)
        return super().loss(batch, generator)


def test_a_run_repeats_to_the_last_digit(tmp_path: Path) -> None:
    parts = windows(tmp_path)
    for name in ("first", "second"):
        torch.rand(3)
        Trainer(SmallPolicy(), *parts, CONFIG, tmp_path / name).train()
    losses = [[row["loss"] for row in read_rows(tmp_path / name / "train.csv")] for name in ("first", "second")]
    assert losses[0] == losses[1] and len(set(losses[0])) == 3
    assert not torch.are_deterministic_algorithms_enabled()


def test_what_cannot_be_made_deterministic_is_named_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = replace(CONFIG, max_minutes=5.0)
    Trainer(Pooled(), *windows(tmp_path), config, tmp_path / "run").train()
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("not deterministic: ")]
    assert len(said) == 2 and "max_minutes" in said[0] and "max_unpooling2d" in said[1]
