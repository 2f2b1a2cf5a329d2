"""How much of a training step is waiting for data: BESO trained from disk, and on one batch that lies in memory.

    python benchmarks/training.py outputs/demonstrations/open_drawer
    python benchmarks/training.py outputs/demonstrations --batch-size 256 --compile --bf16

Both train the same network with the same trainer, in turn; the medians of their samples per second are compared, since
machines drift. The first measured lines of each run are left out, while memory and compiled code settle.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from configs.composition import compose
from data.windows import Batch, Windows
from train.configuration import TrainConfig
from train.run import DataSettings, build_beso, open_windows
from train.trainer import Trainer

IMAGE_SIZE = 96
SETTLING = 2
"""Lines of the log, of ten steps each, that are not counted."""


class OneBatch(Windows):
    """The same windows, of which always the same batch is handed out, without reading anything."""

    def __init__(self, windows: Windows, batch_size: int) -> None:
        self.__dict__.update(windows.__dict__)
        rows = np.random.default_rng(0).integers(len(windows), size=batch_size)
        self._batch = windows.batch(rows)

    def batch(self, indices: Any, chances: Any = None) -> Batch:
        return self._batch


def rates(policy: Mapping[str, Any], windows: Windows, config: TrainConfig) -> list[float]:
    """Samples per second of each line of the log."""
    with tempfile.TemporaryDirectory(prefix="tongs-training-") as folder:
        Trainer(build_beso(policy, windows, IMAGE_SIZE), windows, None, config, folder).train()
        with (Path(folder) / "train.csv").open(newline="") as file:
            return [float(row["samples_per_second"]) for row in csv.DictReader(file)][SETTLING:]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+", help="dataset folders, or folders that hold datasets")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--steps", type=int, default=70)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--compile", action="store_true")
    arguments = parser.parse_args()
    settings = compose("train", [f"data={','.join(arguments.data)}"])
    names = ("cameras", "state", "horizon", "held_out", "hold_weight", "shares", "goals", "paraphrases")
    wanted = {name: settings[name] for name in names}
    windows, _ = open_windows(DataSettings(data=arguments.data, image_size=IMAGE_SIZE, window=1, seed=0, **wanted))
    config = TrainConfig(
        steps=arguments.steps,
        batch_size=arguments.batch_size,
        threads=arguments.threads,
        bf16=arguments.bf16,
        compile=arguments.compile,
        log_every=10,
        heldout_every=0,
        save_every=0,
    )
    kinds = {"from disk": windows, "one batch in memory": OneBatch(windows, arguments.batch_size)}
    measured: dict[str, list[float]] = {kind: [] for kind in kinds}
    for _ in range(arguments.rounds):
        for kind, source in kinds.items():
            measured[kind] += rates(settings["policy"], source, config)
    print(f"{len(windows)} windows, batches of {arguments.batch_size}, {arguments.threads} threads\n")
    print("| batches | samples/s | share |\n|---|---|---|")
    best = median(measured["one batch in memory"])
    for kind, values in measured.items():
        print(f"| {kind} | {median(values):.0f} | {100 * median(values) / best:.0f} % |")


if __name__ == "__main__":
    main()
