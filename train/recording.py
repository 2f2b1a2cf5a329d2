"""A recorded demonstration on its way into a dataset."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data.events import LanguageEvent
from data.video import encode_video
from data.writer import DatasetWriter


@dataclass(frozen=True)
class Demonstration:
    """One recorded success: numeric columns (N, D), the wording at each frame, finished mp4 files as bytes, and what
    it was about from when on, if it has several parts."""

    columns: dict[str, NDArray]
    instructions: list[str]
    videos: dict[str, bytes] = field(default_factory=dict)
    events: list[LanguageEvent] = field(default_factory=list)


def add_episode(writer: DatasetWriter, demonstration: Demonstration) -> None:
    """Append an episode, whole or not at all."""
    with tempfile.TemporaryDirectory(prefix="tongs-collect-") as scratch:
        videos = {key: Path(scratch) / f"{key}.mp4" for key in demonstration.videos}
        for key, path in videos.items():
            path.write_bytes(demonstration.videos[key])
        writer.add_episode(
            demonstration.columns, demonstration.instructions, videos=videos, events=demonstration.events
        )


def encoded(images: Sequence[NDArray[np.uint8]], rate: float) -> bytes:
    """The mp4 file of pictures (H, W, 3) at so many per second."""
    with tempfile.TemporaryDirectory(prefix="tongs-collect-") as scratch:
        path = Path(scratch) / "episode.mp4"
        encode_video(path, np.stack(images), round(rate))
        return path.read_bytes()
