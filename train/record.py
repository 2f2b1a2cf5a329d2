"""The record of a run: CSV files always, other loggers on request, and a picture of the curves."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

from robot.errors import TongsError
from train.loggers import Loggers

TABLES = ("train", "heldout", "evaluation")


def read_rows(path: Path) -> list[dict[str, float]]:
    """The rows of a CSV file of a run."""
    with path.open(newline="", encoding="utf-8") as file:
        return [{name: float(cell) for name, cell in row.items()} for row in csv.DictReader(file)]


class Table:
    """A CSV file that grows by a row at a time; every row has a `step`.

    Args:
        path: the file; rows already in it are kept up to `last_step`, so that a resumed run writes none twice.
        last_step: the step that the run continues from; 0 begins anew.
    """

    def __init__(self, path: Path, last_step: int) -> None:
        self._path = path
        self.rows: list[dict[str, float]] = []
        if path.exists():
            self.rows = [row for row in read_rows(path) if row["step"] <= last_step]
            path.unlink()
        for row in self.rows:
            self._write(row, first=row is self.rows[0])

    def append(self, row: Mapping[str, float]) -> None:
        if self.rows and list(row) != list(self.rows[0]):
            raise TongsError(f"{self._path} has columns {', '.join(self.rows[0])}, the new row has {', '.join(row)}")
        self.rows.append(dict(row))
        self._write(row, first=len(self.rows) == 1)

    def _write(self, row: Mapping[str, float], first: bool) -> None:
        with self._path.open("a", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            if first:
                writer.writerow(row)
            writer.writerow(row.values())


class Record:
    """Everything a run writes down about itself: train.csv, heldout.csv, evaluation.csv, curves.png, other loggers.

    Args:
        folder: the run folder.
        last_step: the step that the run continues from; 0 begins anew.
        loggers: where the same numbers go besides.
    """

    def __init__(self, folder: Path, last_step: int, loggers: Loggers) -> None:
        self._folder = folder
        self._loggers = loggers
        self.tables = {name: Table(folder / f"{name}.csv", last_step) for name in TABLES}

    def add(self, table: str, step: int, values: Mapping[str, float]) -> None:
        self.tables[table].append({"step": step, **values})
        self._loggers.add(step, {f"{table}/{name}": value for name, value in values.items()})

    def draw(self) -> None:
        """Write curves.png: training and held-out loss, and the success rate where there is one."""
        from matplotlib.figure import Figure

        evaluations = [row for row in self.tables["evaluation"].rows if "success" in row]
        figure = Figure(figsize=(7, 6 if evaluations else 4), layout="constrained")
        axes = figure.subplots(2 if evaluations else 1, 1, sharex=True, squeeze=False)[:, 0]
        for name, label in (("train", "training"), ("heldout", "held out, averaged weights")):
            rows = self.tables[name].rows
            if rows:
                axes[0].plot([row["step"] for row in rows], [row["loss"] for row in rows], label=label)
        axes[0].set(ylabel="loss", yscale="log")
        if axes[0].lines:
            axes[0].legend()
        if evaluations:
            steps, success = [row["step"] for row in evaluations], [row["success"] for row in evaluations]
            axes[1].plot(steps, success, marker="o")
            axes[1].set(ylabel="success rate", ylim=(0, 1))
        axes[-1].set(xlabel="step")
        for axis in axes:
            axis.grid(alpha=0.3)
        figure.savefig(self._folder / "curves.png", dpi=120)

    def close(self) -> None:
        self._loggers.close()


def outcome(folder: Path) -> dict[str, float]:
    """What a run has come to: its newest loss and heldout_loss, its highest success, as far as it has them."""
    files = {name: folder / f"{name}.csv" for name in TABLES}
    rows = {name: read_rows(path) if path.exists() else [] for name, path in files.items()}
    found = {}
    if rows["train"]:
        found["loss"] = rows["train"][-1]["loss"]
    if rows["heldout"]:
        found["heldout_loss"] = rows["heldout"][-1]["loss"]
    if rows["evaluation"]:
        found["success"] = max(row["success"] for row in rows["evaluation"])
    return found
