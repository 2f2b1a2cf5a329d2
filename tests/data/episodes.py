"""Small made-up episodes for the tests of `data` and `train`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.events import LanguageEvent, motion, subtask
from data.features import ACTION, ENVIRONMENT_STATE, IMAGES, STATE, Feature, ImageStorage, robot_features
from data.writer import DatasetWriter

FPS = 10
STATE_NAMES = ("x", "y", "z", "gripper")
ACTION_NAMES = ("dx", "dy", "gripper")
TRUTH_NAMES = ("start", "goal")
SIZE = (32, 48)
CAMERAS = ("front", "wrist")


def features() -> dict[str, Feature]:
    return robot_features({name: SIZE for name in CAMERAS}, STATE_NAMES, ACTION_NAMES, TRUTH_NAMES)


def pictures(seed: int, length: int, size: tuple[int, int] = SIZE) -> NDArray[np.uint8]:
    """Smooth moving colour waves, uint8 (length, H, W, 3): what a video codec keeps nearly unchanged."""
    rows, columns = np.mgrid[: size[0], : size[1]]
    frames = []
    for time in range(length):
        waves = [np.sin((rows + seed + time) / 9), np.cos((columns - time) / 11), np.sin((rows + columns + seed) / 15)]
        frames.append(np.stack([128 + 100 * wave for wave in waves], axis=-1))
    return np.stack(frames).astype(np.uint8)


def numbers(seed: int, length: int) -> dict[str, NDArray[np.float32]]:
    """Every numeric column; the last five actions of an episode are a hold."""
    random = np.random.default_rng(seed)
    action = random.normal(scale=0.02, size=(length, 3)).astype(np.float32) + np.float32(0.01)
    action[:, 2] = np.where(np.arange(length) < length // 2, 1.0, 0.0)
    action[-5:, :2] = 0.0
    return {
        STATE: random.normal(size=(length, 4)).astype(np.float32),
        ENVIRONMENT_STATE: random.normal(size=(length, 2)).astype(np.float32),
        ACTION: action,
    }


def images(seed: int, length: int) -> dict[str, NDArray[np.uint8]]:
    return {IMAGES + name: pictures(seed + 7 * number, length) for number, name in enumerate(CAMERAS)}


def tasks(seed: int, length: int) -> list[str]:
    """Two wordings that alternate within an episode."""
    return [("open the drawer", "pull it open", f"open it by {seed}")[(frame + seed) % 3] for frame in range(length)]


def add_episode(writer: DatasetWriter, seed: int, length: int) -> dict[str, Any]:
    """Add one made-up episode; what was put in."""
    content: Mapping[str, Any] = {
        "columns": numbers(seed, length),
        "tasks": tasks(seed, length),
        "images": images(seed, length),
    }
    writer.add_episode(**content)
    return dict(content)


def write_dataset(folder: Path, lengths: tuple[int, ...] = (20, 15, 25), storage: ImageStorage = "video") -> list[dict]:
    """A dataset with one episode per length; what was put in."""
    with DatasetWriter(folder, FPS, features(), "test_arm", storage) as writer:
        return [add_episode(writer, seed, length) for seed, length in enumerate(lengths)]


def stamps(length: int, rate: float = FPS, start: float = 100.0) -> NDArray[np.float64]:
    """Real time stamps (length, 4) of two cameras, state and action: constant delays, some jitter."""
    random = np.random.default_rng(length)
    delays = np.array([0.0, 0.004, 0.011, 0.02])
    return start + np.arange(length)[:, None] / rate + delays + random.uniform(0, 5e-4, (length, 4))


def said(seed: int) -> list[LanguageEvent]:
    """What is said in the first 1.5 s of an episode; nothing in every second one."""
    if seed % 2:
        return []
    return [
        subtask(0.0, "grasp the handle"),
        motion(0.5, "move left"),
        LanguageEvent(0.72, "more to the left", "interjection"),
        subtask(1.2, "pull"),
    ]
