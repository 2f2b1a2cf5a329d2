"""`tongs train` in two processes and in sweeps, through the command line on real demonstrations."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import numpy as np
import pytest

import tongs
from tests.test_pipeline import SMALL
from tests.train.test_distributed import ROOT, torchrun
from train.sweep import join_tasks

STEPS = ["train.steps=4", "train.heldout_every=2", "train.log_every=1", "train.warmup_steps=0", "train.device=cpu"]


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The settings of a small training of BESO on three demonstrations."""
    folder = tmp_path_factory.mktemp("sweep")
    assert tongs.main(["collect", "task=open_drawer", "episodes=3", "processes=1", f"output={folder}"]) == 0
    return [f"data={folder}", *SMALL, *STEPS]


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def losses(run: Path, table: str) -> list[list[float]]:
    names = ("loss", "diffusion", "state_head", "goal_head")
    return [[float(row[name]) for name in names] for row in rows(run / f"{table}.csv")]


@pytest.mark.slow
def test_torchrun_trains_like_one_process(words: list[str], tmp_path: Path) -> None:
    """The same command, masked goals included."""
    assert tongs.main(["train", *words, f"output={tmp_path / 'one'}"]) == 0
    done = torchrun("tongs", "train", *words, f"output={tmp_path / 'two'}")
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count(f"{tmp_path / 'two'}\n") == 1, "only the main process speaks"
    for table in ("train", "heldout"):
        one, two = losses(tmp_path / "one", table), losses(tmp_path / "two", table)
        assert len(one) == (4 if table == "train" else 2)
        np.testing.assert_allclose(two, one, rtol=1e-4, atol=1e-4)


def test_a_sweep_runs_every_combination(words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One of them impossible: the others run, and the command says so in the end."""
    sweep = [*words, "train.learning_rate=1e-3,-1", "policy.goal_mask=0.0,0.2", f"output={tmp_path}"]
    assert tongs.main(["train", "--multirun", *sweep]) == 2
    assert "learning_rate must be positive, got -1" in capsys.readouterr().err
    table = rows(tmp_path / "sweep.csv")
    assert [(row["train.learning_rate"], row["policy.goal_mask"]) for row in table] == [
        *(("0.001", "0.0"), ("0.001", "0.2"), ("-1", "0.0"), ("-1", "0.2")),
    ]
    for row in table[:2]:
        run = tmp_path / row["run"]
        assert float(row["heldout_loss"]) == losses(run, "heldout")[-1][0] and not row["error"]
        checkpoint = json.loads((run / "last/config.json").read_text())
        assert checkpoint["config"]["goal_mask"] == float(row["policy.goal_mask"])
    assert all("must be positive" in row["error"] and not row["loss"] for row in table[2:])


def test_a_mistake_is_told_before_a_sweep_begins(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tongs.main(["train", "--multirun", *words, "train.rate=1,2", f"output={tmp_path / 'no'}"]) == 2
    assert "unknown key 'train.rate'" in capsys.readouterr().err
    assert tongs.main(["train", "--multirun", *words, "train.seed=1,(", f"output={tmp_path / 'no'}"]) == 2
    assert "cannot read" in capsys.readouterr().err
    assert not (tmp_path / "no").exists()


@pytest.mark.slow
def test_submitit_launches_a_sweep_that_goes_on(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Submitit's executor on this machine stands for a Slurm cluster; started again, the sweep continues its runs."""
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    sweep = ["train", "--multirun", *words, "train.seed=5,6", f"output={tmp_path}"]
    assert tongs.main([*sweep, "hydra/launcher=submitit_local"]) == 0
    assert len(list(tmp_path.glob(".submitit/*/*_log.out"))) == 2
    before = [losses(tmp_path / row["run"], "train") for row in rows(tmp_path / "sweep.csv")]
    assert [len(run) for run in before] == [4, 4] and before[0] != before[1]
    assert tongs.main([*sweep, "train.steps=5"]) == 0
    after = [losses(tmp_path / row["run"], "train") for row in rows(tmp_path / "sweep.csv")]
    assert [len(run) for run in after] == [5, 5] and [run[:4] for run in after] == before


def test_the_tasks_of_a_job_find_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("submitit")
    join_tasks()
    assert "WORLD_SIZE" not in os.environ, "outside of a job nothing happens"
    job = {"EXECUTOR": "local", "LOCAL_JOB_ID": "7", "LOCAL_NTASKS": "2", "LOCAL_GLOBALID": "1", "LOCAL_LOCALID": "1"}
    for name, value in job.items():
        monkeypatch.setenv(f"SUBMITIT_{name}", value)
    for name in ("MASTER_ADDR", "MASTER_PORT", "RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"):
        monkeypatch.setenv(name, "")  # so that it is put back
        monkeypatch.delenv(name)
    join_tasks()
    assert (os.environ["RANK"], os.environ["LOCAL_RANK"], os.environ["WORLD_SIZE"]) == ("1", "1", "2")
    assert os.environ["MASTER_ADDR"] and os.environ["MASTER_PORT"]
