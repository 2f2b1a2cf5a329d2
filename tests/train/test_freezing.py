"""Frozen parameters stay as they are to the last bit; the others learn."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from policies.base import Batch
from policies.randomness import Randomness
from robot.errors import TongsError
from tests.train.small_policy import SmallPolicy, windows
from train.configuration import TrainConfig
from train.trainer import Trainer

CONFIG = TrainConfig(steps=3, batch_size=8, learning_rate=0.1, warmup_steps=0, threads=1, device="cpu")


class Normed(SmallPolicy):
    """With a batch norm on the state, which learns a scale and gathers running statistics."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(4)

    def loss(self, batch: Batch, generator: Randomness = None) -> dict[str, torch.Tensor]:
        state = batch["state"]
        return super().loss({**batch, "state": self.norm(state[:, -1])[:, None]}, generator)


def test_what_is_frozen_stays_and_the_rest_learns(tmp_path: Path) -> None:
    policy = Normed()
    before = {name: value.clone() for name, value in policy.state_dict().items()}
    config = replace(CONFIG, freeze=["network.0.*", "norm.*"])
    Trainer(policy, *windows(tmp_path), config, tmp_path / "run").train()
    moved = {name for name, value in policy.state_dict().items() if not torch.equal(value, before[name])}
    assert moved == {"network.3.weight", "network.3.bias"}, "running statistics of a frozen norm stay, too"


def test_a_frozen_part_stays_through_a_resume(tmp_path: Path) -> None:
    parts = windows(tmp_path)
    config = replace(CONFIG, freeze=["network.0.*"], log_every=1)
    Trainer(Normed(), *parts, replace(config, steps=2), tmp_path / "run").train()
    with pytest.raises(TongsError, match=r"freeze was \['network.0.\*'\] and is now \[\]"):
        Trainer(Normed(), *parts, replace(config, freeze=[]), tmp_path / "run").train(resume=True)
    resumed = Normed()
    frozen = resumed.network[0].weight.detach().clone()
    Trainer(resumed, *parts, config, tmp_path / "run").train(resume=True)
    assert torch.equal(resumed.network[0].weight, frozen)


@pytest.mark.parametrize(
    ("patterns", "message"),
    [
        (["network.0.*", "encoder.*"], r"no parameter is called encoder\.\*; the policy has: network\.\*"),
        ("*", "leaves nothing to train"),
    ],
)
def test_patterns_that_make_no_sense_are_told(patterns: list[str] | str, message: str, tmp_path: Path) -> None:
    with pytest.raises(TongsError, match=message):
        Trainer(SmallPolicy(), *windows(tmp_path), replace(CONFIG, freeze=patterns), tmp_path / "run")
