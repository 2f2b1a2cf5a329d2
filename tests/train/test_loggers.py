"""The same numbers in TensorBoard and Weights & Biases as in the CSV files, read back with the tools' own readers."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from robot.errors import TongsError
from tests.train.small_policy import SmallPolicy, windows
from train.configuration import TrainConfig
from train.progress import RunProgress
from train.record import read_rows
from train.trainer import Trainer

CONFIG = TrainConfig(steps=4, batch_size=8, log_every=1, heldout_every=2, threads=1, device="cpu")


def test_tensorboard_has_the_numbers_of_a_resumed_run_once(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    parts, config = windows(tmp_path), replace(CONFIG, loggers="tensorboard")
    Trainer(SmallPolicy(), *parts, replace(config, steps=2), tmp_path / "run").train()
    Trainer(SmallPolicy(), *parts, config, tmp_path / "run").train(resume=True)
    events = EventAccumulator(str(tmp_path / "run/tensorboard")).Reload()
    for table in ("train", "heldout"):
        rows = read_rows(tmp_path / f"run/{table}.csv")
        written = events.Scalars(f"{table}/loss")
        assert [event.step for event in written] == [row["step"] for row in rows]
        np.testing.assert_allclose([event.value for event in written], [row["loss"] for row in rows], rtol=1e-6)


def wandb_records(file: Path) -> list[Any]:
    """Every record of a .wandb file; its writer, a process of its own, may need a moment longer than the run."""
    from wandb.proto import wandb_internal_pb2
    from wandb.sdk.internal.datastore import DataStore

    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        store, records = DataStore(), []
        store.open_for_scan(str(file))
        while (data := store.scan_data()) is not None:
            records.append(wandb_internal_pb2.Record.FromString(data))
        if any(record.WhichOneof("record_type") == "exit" for record in records):
            return records
        time.sleep(0.2)
    raise AssertionError(f"{file} was not finished")


def test_weights_and_biases_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    parts, config = windows(tmp_path), replace(CONFIG, loggers=["wandb"])
    Trainer(SmallPolicy(), *parts, config, tmp_path / "run").train()
    (file,) = (tmp_path / "run/wandb").glob("offline-run-*/*.wandb")
    history: dict[int, dict[str, float]] = {}
    settings: dict[str, object] = {}
    for record in wandb_records(file):
        entries = {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}
        history.setdefault(record.history.step.num, {}).update(entries)
        settings |= {item.key: json.loads(item.value_json) for item in record.run.config.update}
    rows = read_rows(tmp_path / "run/train.csv")
    assert [history[step]["train/loss"] for step in (1, 2, 3, 4)] == pytest.approx([row["loss"] for row in rows])
    assert "heldout/loss" in history[4] and "heldout/loss" not in history[3]
    assert settings["batch_size"] == 8


def test_weights_and_biases_without_an_account_or_a_package_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wandb = pytest.importorskip("wandb")
    parts, config = windows(tmp_path), replace(CONFIG, loggers=["wandb"])

    def no_key(*_: object, **__: object) -> None:
        raise wandb.errors.UsageError("No API key configured.\nUse `wandb login`.")

    monkeypatch.setattr(wandb, "init", no_key)
    with pytest.raises(TongsError, match=r"did not begin \(No API key configured\.\); .*WANDB_MODE=offline"):
        Trainer(SmallPolicy(), *parts, config, tmp_path / "run").train()
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(TongsError, match=r"pip install 'tongs\[wandb\]'"):
        Trainer(SmallPolicy(), *parts, config, tmp_path / "run").train()


def test_an_unknown_logger_is_told() -> None:
    with pytest.raises(TongsError, match="unknown logger 'mlflow'; known are: tensorboard, wandb"):
        TrainConfig(loggers=["mlflow"])


def test_the_line_in_a_log_file_tells_speed_and_time_left(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = iter([100.0, 160.0, 160.0, 165.0, 165.0, 220.0, 220.0])
    monkeypatch.setattr("train.progress.time.monotonic", lambda: next(now))
    progress = RunProgress(True, spent=0.5)
    progress.update(0.6, 60, 0.25, 512.0)  # a tenth of the budget took a minute, four tenths are left
    progress.update(0.61, 61, 0.25, 512.0)  # too soon for another line
    assert capsys.readouterr().out == "step 60  loss 0.2500  512 samples/s  0:04:00 left\n"
    RunProgress(False, spent=0.5).say("nobody hears it")
    assert capsys.readouterr().out == ""
