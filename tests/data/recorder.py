"""A recorder for the tests of durability: told to on its standard input, it forks a child that records and kills it.

It imports only what recording needs, so that two hundred children cost little: each is a copy of this process.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from data.events import LanguageEvent
from data.features import ACTION, IMAGES, STATE, Feature, ImageStorage, robot_features
from data.timing import MEASURED, measured_times
from data.writer import DatasetWriter

FPS = 10
SIZE = (16, 16)


def features() -> dict[str, Feature]:
    columns = robot_features({"front": SIZE}, ("x", "y"), ("dx", "gripper"))
    return columns | {MEASURED: measured_times(columns)}


def episode(number: int) -> dict[str, Any]:
    """All that is recorded in an episode, by its number; pictures are of one level, which a codec keeps."""
    length = 3 + number % 4
    random = np.random.default_rng(number)
    level = np.array([(37 * number + 20 * frame) % 200 + 28 for frame in range(length)], dtype=np.uint8)
    return {
        "columns": {
            STATE: random.normal(size=(length, 2)).astype(np.float32),
            ACTION: random.normal(size=(length, 2)).astype(np.float32),
            MEASURED: 50.0 * number + np.arange(length)[:, None] / FPS + np.array([0.0, 0.01, 0.02]),
        },
        "tasks": [f"task {(number + frame) // 7}" for frame in range(length)],
        "images": {IMAGES + "front": np.broadcast_to(level[:, None, None, None], (length, *SIZE, 3)).copy()},
        "events": [LanguageEvent(0.2, f"more of {number}", "interjection")],
    }


def open_writer(folder: Path, storage: ImageStorage) -> DatasetWriter:
    return DatasetWriter(folder, FPS, features(), "arm", storage, language="episodes")


def record(folder: Path, storage: ImageStorage, progress: Path) -> None:
    """Record episodes until killed, and write down how many are done after each."""
    writer = open_writer(folder, storage)
    while True:
        writer.add_episode(**episode(writer.episodes))
        progress.write_text(str(writer.episodes))


def seconds_per_episode() -> float:
    """How long an episode takes when everything has been used once, which a child need not repeat."""
    with tempfile.TemporaryDirectory(prefix="tongs-recorder-") as scratch:
        for storage in ("png", "video"):
            with open_writer(Path(scratch) / storage, storage) as writer:
                writer.add_episode(**episode(0))
                begin = time.perf_counter()
                for number in range(1, 4):
                    writer.add_episode(**episode(number))
        return (time.perf_counter() - begin) / 3


def main() -> None:
    """The time that an episode takes; then lines of folder, storage, progress file and for how many episodes' time to
    live, separated by tabs, and `done` after each."""
    duration = seconds_per_episode()
    print(duration, flush=True)
    for line in sys.stdin:
        folder, storage, progress, episodes = line.rstrip("\n").split("\t")
        child = os.fork()
        if child == 0:
            record(Path(folder), storage, Path(progress))  # type: ignore[arg-type]
        time.sleep(float(episodes) * duration)
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        print("done" if os.WIFSIGNALED(status) else "failed", flush=True)


if __name__ == "__main__":
    main()
