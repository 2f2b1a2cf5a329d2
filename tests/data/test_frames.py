"""Frames read one by one against the array that was written."""

import numpy as np
import pytest

from data.frames import FrameReader


def test_frames_are_those_of_the_array(tmp_path):
    wanted = np.random.default_rng(0).integers(0, 255, (50, 6, 7, 3), dtype=np.uint8)
    np.save(tmp_path / "frames.npy", wanted)
    reader = FrameReader(np.load(tmp_path / "frames.npy", mmap_mode="r"))
    indices = np.array([49, 0, 7, 7, 23])
    np.testing.assert_array_equal(reader.read(indices), wanted[indices])
    assert reader.read(np.array([], np.int64)).shape == (0, 6, 7, 3)


def test_a_file_cut_short_is_told(tmp_path):
    np.save(tmp_path / "frames.npy", np.ones((20, 4, 4, 3), np.uint8))
    mapped = np.load(tmp_path / "frames.npy", mmap_mode="r")
    with (tmp_path / "frames.npy").open("r+b") as file:
        file.truncate(600)
    with pytest.raises(OSError, match="beyond the end"):
        FrameReader(mapped).read(np.array([15]))


def test_a_part_of_a_file_is_refused(tmp_path):
    np.save(tmp_path / "frames.npy", np.ones((20, 4), np.uint8))
    with pytest.raises(ValueError, match="whole mapped file"):
        FrameReader(np.load(tmp_path / "frames.npy", mmap_mode="r")[:, ::2])
