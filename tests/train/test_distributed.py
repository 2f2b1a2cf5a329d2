"""Two processes train like one; FSDP like DDP; they stop, fail and resume together."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tests.train.small_policy import windows
from tests.train.two_processes import CONFIG, policy
from train.trainer import Trainer

ROOT = Path(__file__).resolve().parents[2]


def torchrun(*words: str) -> subprocess.CompletedProcess[str]:
    """Run a module in two processes on this machine."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", *words]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the runs of tests/train/two_processes.py, and "one", the same by one process."""
    folder = tmp_path_factory.mktemp("distributed")
    parts = windows(folder)
    done = torchrun("tests.train.two_processes", str(folder))
    assert done.returncode == 0, done.stderr[-3000:]
    Trainer(policy(), *parts, CONFIG, folder / "one").train()
    return folder


def column(folder: Path, name: str, table: str = "train") -> list[float]:
    with (folder / f"{table}.csv").open() as file:
        return [float(row[name]) for row in csv.DictReader(file)]


@pytest.mark.parametrize("name", ["ddp", "parts", "fsdp", "moved"])
def test_two_processes_learn_what_one_learns_from_the_same_batches(runs: Path, name: str) -> None:
    assert column(runs / name, "step") == [1, 2, 3, 4, 5, 6]
    for table in ("train", "heldout"):
        for loss in ("loss", "gripper_error"):
            np.testing.assert_allclose(column(runs / name, loss, table), column(runs / "one", loss, table), atol=1e-6)
    np.testing.assert_allclose(column(runs / name, "gradient_norm"), column(runs / "one", "gradient_norm"), rtol=1e-4)
    ours, theirs = (load_file(runs / run / "last/model.safetensors") for run in (name, "one"))
    assert ours.keys() == theirs.keys()
    for key in ours:
        np.testing.assert_allclose(ours[key], theirs[key], atol=1e-5)


def test_fsdp_gives_each_process_a_part(runs: Path) -> None:
    sizes = [json.loads((runs / f"sizes.{rank}.json").read_text()) for rank in (0, 1)]
    whole = {name: value.numel() for name, value in policy().state_dict().items()}
    assert {name: sizes[0][name] + sizes[1][name] for name in whole} == whole
    assert all(0.4 < sizes[0][name] / size < 0.6 for name, size in whole.items())


def test_the_loss_would_tell_if_rows_or_noise_were_mixed_up(runs: Path) -> None:
    """How far apart the losses of other noise are: the tolerance above is far below that."""
    parts = windows(runs)
    Trainer(policy(), *parts, replace(CONFIG, seed=1), runs / "other").train()
    difference = np.subtract(column(runs / "other", "loss"), column(runs / "one", "loss"))
    assert np.abs(difference).min() > 1e-4


@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_resuming_two_processes_is_exact(runs: Path, parallel: str) -> None:
    """With dropout, accumulation, and a stop between two lines of the log."""
    straight, halves = (runs / f"{parallel}_{name}" for name in ("straight", "halves"))
    assert column(halves, "step") == [4, 8]
    for name in ("loss", "gripper_error", "gradient_norm", "learning_rate"):
        assert column(halves, name) == column(straight, name), name
    first, second = (load_file(run / "last/model.safetensors") for run in (straight, halves))
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_processes_drop_out_differently(runs: Path) -> None:
    states = torch.load(runs / "ddp_straight/state/training.pt", weights_only=True)["random"]
    assert torch.equal(states[0]["generator"], states[1]["generator"])
    assert not torch.equal(states[0]["torch"], states[1]["torch"])


def test_one_asked_to_stop_stops_both(runs: Path) -> None:
    assert [(runs / f"interrupted.{rank}.txt").read_text() for rank in (0, 1)] == ["130", "130"]
    assert torch.load(runs / "interrupted/state/training.pt", weights_only=True)["step"] == 3


@pytest.mark.parametrize(("name", "step", "rank"), [("not_a_number", 3, 1), ("infinite", 2, 0)])
def test_whoever_sees_no_number_saves_its_rows_and_all_stop(runs: Path, name: str, step: int, rank: int) -> None:
    told = [(runs / f"{name}.{rank}.txt").read_text() for rank in (0, 1)]
    assert all(f"not finite at step {step}" in text for text in told)
    assert [path.name for path in (runs / name).glob("bad_batch*")] == [f"bad_batch_{rank}.npz"]
    assert f"bad_batch_{rank}.npz" in told[rank] and "bad_batch" not in told[1 - rank]
    with np.load(runs / name / f"bad_batch_{rank}.npz") as batch:
        assert batch["actions"].shape == (8, 4, 3)


def test_a_parameter_without_gradient_is_told_and_may_be_frozen(runs: Path) -> None:
    for rank in (0, 1):
        assert "idle.weight" in (text := (runs / f"unused.{rank}.txt").read_text()) and "train.freeze" in text
    assert column(runs / "frozen", "step") == [1, 2, 3, 4, 5, 6]


def test_a_batch_that_cannot_be_divided_is_told(runs: Path) -> None:
    assert "batch_size of 9 cannot be divided among 2 processes" in (runs / "indivisible.1.txt").read_text()


@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_the_main_process_plays_and_keeps_the_best(runs: Path, parallel: str) -> None:
    folder = runs / f"{parallel}_evaluated"
    assert column(folder, "success", "evaluation") == [0.5]
    assert (folder / "best").resolve().name == "step_000004" and (folder / "last").resolve().name == "step_000006"
    best, one = load_file(folder / "best/model.safetensors"), load_file(runs / "one/last/model.safetensors")
    assert {key: value.shape for key, value in best.items()} == {key: value.shape for key, value in one.items()}
