"""How fast training samples come from disk: the decoded cache against LeRobotDataset, same dataset, same windows.

    taskset -c 0 python benchmarks/loading.py                                # on 24 demonstrations collected for this
    taskset -c 0 python benchmarks/loading.py outputs/demonstrations/open_drawer

A sample is two camera images and a window of ten actions, at random places of the dataset, in one process. LeRobot
decodes its videos with PyAV; both read the files that `tongs collect` wrote. Both measurements alternate, and the
medians are compared, since machines drift. Needs the extra `lerobot`.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
import torch
from numpy.typing import NDArray

from data.cache import open_cache
from data.features import ACTION, IMAGES, STATE
from data.reader import Dataset
from data.windows import Windows
from train.demonstrations import CollectConfig, collect

HORIZON = 10
BATCH = 64
ROUNDS = 5


def theirs(folder: Path, fps: int) -> Callable[[NDArray[np.int64]], object]:
    """LeRobot's samples, one after another as its data loader asks for them."""
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    times = {ACTION: [step / fps for step in range(HORIZON)]}
    dataset = LeRobotDataset("benchmark/loading", root=folder, delta_timestamps=times, video_backend="pyav")
    return lambda indices: [dataset[int(index)] for index in indices]


def ours(windows: Windows) -> Callable[[NDArray[np.int64]], object]:
    """A batch as the trainer takes it: pictures stay uint8 until they are on the device."""
    return lambda indices: windows.batch(indices)


def ours_as_float(windows: Windows) -> Callable[[NDArray[np.int64]], object]:
    """The same batch in LeRobot's form: float32 pictures (3, H, W) in 0..1."""

    def read(indices: NDArray[np.int64]) -> object:
        images = windows.batch(indices)["images"]
        return {name: torch.from_numpy(frames).permute(0, 1, 4, 2, 3).float() / 255 for name, frames in images.items()}

    return read


def rate(read: Callable[[NDArray[np.int64]], object], batches: list[NDArray[np.int64]]) -> float:
    """Samples per second."""
    began = time.perf_counter()
    for indices in batches:
        read(indices)
    return sum(map(len, batches)) / (time.perf_counter() - began)


def resident() -> float:
    """Memory of this process that is its own (anonymous pages), MB; pages of the disk's cache are not counted."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1]) / 1024
    return float("nan")


def compare(folder: Path) -> None:
    dataset = Dataset(folder)
    cameras = [key.removeprefix(IMAGES) for key in dataset.camera_keys]
    sizes = {name: dataset.features[IMAGES + name].shape[:2] for name in cameras}
    names = dataset.features[STATE].names or ()
    windows = Windows([open_cache(folder, sizes)], cameras, names, window=1, horizon=HORIZON)
    rng = np.random.default_rng(0)
    readers = {
        "LeRobotDataset (PyAV)": (theirs(folder, dataset.fps), 2),
        "ours": (ours(windows), 40),
        "ours, as float32 (3, H, W)": (ours_as_float(windows), 40),
    }
    rates: dict[str, list[float]] = {name: [] for name in readers}
    for _ in range(ROUNDS):
        for name, (read, count) in readers.items():
            rates[name].append(rate(read, [rng.integers(len(windows), size=BATCH) for _ in range(count)]))
    pictures = ", ".join(f"{name} {height}x{width}" for name, (height, width) in sizes.items())
    print(f"{dataset.total_frames} frames, {pictures}; {HORIZON} actions per sample; medians of {ROUNDS} rounds\n")
    print("| reader | samples/s | ratio |\n|---|---|---|")
    base = median(rates["LeRobotDataset (PyAV)"])
    for name, measured in rates.items():
        print(f"| {name} | {median(measured):.0f} | {median(measured) / base:.1f} |")
    before = resident()
    order = rng.permutation(len(windows))
    for first in range(0, len(order), BATCH):
        windows.batch(order[first : first + BATCH])
    print(f"\nmemory before an epoch {before:.1f} MB, after it {resident():.1f} MB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", nargs="?", help="a dataset folder")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.dataset:
        compare(Path(arguments.dataset))
        return
    with tempfile.TemporaryDirectory(prefix="tongs-loading-") as scratch:
        compare(*collect(CollectConfig(task=("open_drawer",), episodes=24, output=scratch, processes=1)))


if __name__ == "__main__":
    main()
