"""What the runs of a sweep have come to, side by side."""

from __future__ import annotations

import csv
import json
import math
import os
from collections.abc import Sequence
from pathlib import Path

from data.atomic import Staging
from train.record import outcome

JOB = "job.json"
RESULTS = ("heldout_loss", "loss", "success")


def join_tasks() -> None:
    """Let the tasks that submitit has started for one run find each other, as torchrun would; else do nothing."""
    try:
        import submitit
    except ImportError:
        return
    try:
        tasks = submitit.JobEnvironment().num_tasks
    except RuntimeError:  # no job of submitit's
        return
    if tasks > 1:
        submitit.helpers.TorchDistributedEnvironment().export(set_cuda_visible_devices=False)


def finish(folder: Path, words: Sequence[str], error: str | None) -> float:
    """Write down what became of one run; the held-out loss (else the training loss) for a sweeper to make small.

    Args:
        folder: of the run.
        words: the settings of the run, key=value.
        error: why it failed, if it did.
    """
    results = outcome(folder) if error is None else {}
    if os.environ.get("RANK", "0") == "0":  # of several processes the main one
        staging = Staging()
        staging.json(folder / JOB, {"settings": dict(word.split("=", 1) for word in words), "error": error, **results})
        staging.commit()
    return results.get("heldout_loss", results.get("loss", math.inf))


def summarise(folder: Path) -> list[str]:
    """Write `folder`/sweep.csv, a row per run with the settings in which they differ, and show it.

    Returns:
        The numbers of the runs that failed.
    """
    from rich.console import Console
    from rich.table import Table

    found = sorted(folder.glob(f"*/{JOB}"), key=lambda path: (len(path.parent.name), path.parent.name))
    jobs = {path.parent.name: json.loads(path.read_text(encoding="utf-8")) for path in found}
    keys = dict.fromkeys(key for job in jobs.values() for key in job["settings"])
    varied = [key for key in keys if len({job["settings"].get(key) for job in jobs.values()}) > 1]
    columns = ["run", *varied, *RESULTS, "error"]
    rows = [
        [name, *(job["settings"].get(key, "") for key in varied), *(job.get(key, "") for key in RESULTS), job["error"]]
        for name, job in jobs.items()
    ]
    with (folder / "sweep.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([columns, *rows])
    table = Table(*columns)
    for row in rows:
        table.add_row(
            *("" if cell is None else f"{cell:.4f}" if isinstance(cell, float) else str(cell) for cell in row)
        )
    Console().print(table)
    return [name for name, job in jobs.items() if job["error"]]
