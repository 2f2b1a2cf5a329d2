"""A session's recorder: what it holds while an episode grows, and what it does with a frame that does not fit."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from data.reader import Dataset
from data.recorder import SessionRecorder
from robot.errors import TongsError
from robot.interface import EE_DELTA, Images, Observation, RobotSpec
from robot.session.recording import Frame

SIZE = (120, 160)


def frame(level: int, **images: np.ndarray) -> Frame:
    pictures: Images = {
        "front": np.full((*SIZE, 3), level, np.uint8),
        "wrist": np.full((*SIZE, 3), level // 2, np.uint8),
    }
    seen = Observation({**pictures, **images}, np.array([level], np.float32), "go", level / 10)
    return Frame(seen, np.zeros(7, np.float32), False, "go")


@pytest.fixture
def recorder(tmp_path: Path):
    made = SessionRecorder(tmp_path / "session", "an arm")
    made.begin(RobotSpec({"front": SIZE, "wrist": SIZE}, ("x",), EE_DELTA))
    yield made
    made.close()


def test_pictures_wait_on_disk(recorder: SessionRecorder) -> None:
    recorder.frame(frame(0))
    tracemalloc.start()
    for level in range(1, 50):
        recorder.frame(frame(4 * level))
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 4 * SIZE[0] * SIZE[1] * 3  # of 98 pictures
    recorder.save(True)
    for key, divisor in (("front", 1), ("wrist", 2)):
        pictures = Dataset(recorder.folder).images(0, f"observation.images.{key}")
        wanted = 4 * np.arange(50) // divisor
        assert pictures.mean(axis=(1, 2, 3)) == pytest.approx(wanted, abs=3)  # as far as the codec keeps it


def test_a_frame_that_does_not_fit_leaves_the_episode_as_it_was(recorder: SessionRecorder) -> None:
    recorder.frame(frame(40))
    recorder.frame(frame(80))
    with pytest.raises(TongsError, match=r"change their size from \(120, 160, 3\) to \(60, 80, 3\)"):
        recorder.frame(frame(120, wrist=np.zeros((60, 80, 3), np.uint8)))
    fits = frame(160)
    images = {"front": fits.observation.images["front"]}
    with pytest.raises(TongsError, match="no picture of observation.images.wrist"):
        recorder.frame(replace(fits, observation=replace(fits.observation, images=images)))
    recorder.frame(fits)
    recorder.save(None)
    front = Dataset(recorder.folder).images(0, "observation.images.front")
    assert front.mean(axis=(1, 2, 3)) == pytest.approx([40, 80, 160], abs=3)
