"""Which checkpoints of a run stay: the newest few and the best, whatever happened in between."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from data.windows import Windows
from policies.base import PolicyModule
from robot.errors import TongsError
from tests.train.small_policy import SmallPolicy, windows
from train.checkpoints import Checkpoints
from train.configuration import TrainConfig
from train.trainer import Trainer

CONFIG = TrainConfig(steps=8, batch_size=8, log_every=1, heldout_every=0, save_every=1, threads=1, device="cpu", keep=2)


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> tuple[Windows, Windows]:
    return windows(tmp_path_factory.mktemp("checkpoints"))


def kept(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "checkpoints").iterdir())


def test_the_newest_and_the_best_stay(parts: tuple[Windows, Windows], tmp_path: Path) -> None:
    successes = iter([0.1, 0.6, 0.3, 0.6])

    def evaluate(policy: PolicyModule) -> dict[str, float]:
        return {"success": next(successes)}

    Trainer(SmallPolicy(), *parts, replace(CONFIG, evaluate_every=2), tmp_path, evaluate).train()
    assert kept(tmp_path) == ["step_000004", "step_000007", "step_000008"]
    assert os.readlink(tmp_path / "best") == "checkpoints/step_000004"
    assert os.readlink(tmp_path / "last") == "checkpoints/step_000008"
    assert not [path.name for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_a_checkpoint_from_beyond_the_point_of_resuming_goes(parts: tuple[Windows, Windows], tmp_path: Path) -> None:
    class Dies(SmallPolicy):
        calls = 0

        def loss(self, batch, generator=None):
            self.calls += self.training
            if self.calls == 8:
                raise MemoryError
            return super().loss(batch, generator)

    def evaluate(policy: PolicyModule) -> dict[str, float]:
        return {"success": next(successes)}

    config = replace(CONFIG, save_every=3, evaluate_every=7, keep=1)
    successes = iter([0.5])
    with pytest.raises(MemoryError):
        Trainer(Dies(), *parts, config, tmp_path, evaluate).train()
    assert kept(tmp_path) == ["step_000007"]
    Trainer(SmallPolicy(), *parts, replace(config, steps=6), tmp_path, evaluate).train(resume=True)
    assert kept(tmp_path) == ["step_000006", "step_000007"], "the best one stays"
    (tmp_path / "best").unlink()
    Trainer(SmallPolicy(), *parts, replace(config, steps=6), tmp_path, evaluate).train(resume=True)
    assert kept(tmp_path) == ["step_000006"]


def test_a_run_folder_may_be_moved(parts: tuple[Windows, Windows], tmp_path: Path) -> None:
    Trainer(SmallPolicy(), *parts, replace(CONFIG, steps=2), tmp_path / "run").train()
    (tmp_path / "run").rename(tmp_path / "elsewhere")
    assert (tmp_path / "elsewhere/last/model.safetensors").is_file()


def test_what_is_no_checkpoint_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "checkpoints/step_000001").mkdir(parents=True)
    (tmp_path / "checkpoints/step_000001/thesis.txt").touch()
    with pytest.raises(TongsError, match="exists and is not a checkpoint"):
        Checkpoints(tmp_path, keep=1).write(SmallPolicy(), 1)
    (tmp_path / "checkpoints/mine").mkdir()
    Checkpoints(tmp_path, keep=1).write(SmallPolicy(), 2)
    assert (tmp_path / "checkpoints/mine").is_dir()
