"""The decoded cache: the same frames as the dataset, built once, built anew when the dataset changes."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.cache import open_cache
from data.features import ACTION, IMAGES, STATE
from data.reader import Dataset
from data.video import encode_video
from data.writer import DatasetWriter
from robot.errors import TongsError
from tests.data.episodes import ACTION_NAMES, FPS, SIZE, add_episode, features, pictures, write_dataset

HALF = (SIZE[0] // 2, SIZE[1] // 2)


def test_cache_holds_the_dataset(tmp_path: Path) -> None:
    episodes = write_dataset(tmp_path / "set", storage="png")
    cache = open_cache(tmp_path / "set", {"front": HALF, "wrist": SIZE}, tmp_path / "cache")
    assert isinstance(cache.images["front"], np.memmap) and cache.images["front"].shape == (60, *HALF, 3)
    assert (cache.starts.tolist(), cache.ends.tolist(), cache.fps) == ([0, 20, 35], [20, 35, 60], FPS)
    np.testing.assert_array_equal(cache.frame_episode, [0] * 20 + [1] * 15 + [2] * 25)
    for number, episode in enumerate(episodes):
        span = slice(cache.starts[number], cache.ends[number])
        np.testing.assert_array_equal(cache.images["wrist"][span], episode["images"][IMAGES + "wrist"])
        small = [Image.fromarray(frame).reduce(2) for frame in episode["images"][IMAGES + "front"]]
        assert np.abs(cache.images["front"][span].astype(int) - np.stack([np.asarray(s) for s in small])).max() <= 1
        np.testing.assert_array_equal(cache.columns[STATE][span], episode["columns"][STATE])
        assert [cache.tasks[index] for index in cache.task_index[span]] == episode["tasks"]


def test_parallel_decoding_gives_what_the_dataset_gives(tmp_path: Path) -> None:
    lengths = (6,) * 40
    write_dataset(tmp_path / "set", lengths)
    cache = open_cache(tmp_path / "set", {"front": SIZE}, tmp_path / "cache", processes=2)
    dataset = Dataset(tmp_path / "set")
    wanted = np.concatenate([dataset.images(episode, IMAGES + "front") for episode in range(len(lengths))])
    np.testing.assert_array_equal(cache.images["front"], wanted)


def test_built_once_and_anew_after_growth(tmp_path: Path) -> None:
    write_dataset(tmp_path / "set")
    first = open_cache(tmp_path / "set", {"front": HALF})
    assert first.folder.parent == tmp_path / ".cache"
    made = first.folder.stat().st_mtime_ns
    assert open_cache(tmp_path / "set", {"front": HALF}).folder.stat().st_mtime_ns == made
    assert open_cache(tmp_path / "set", {"front": SIZE}).folder != first.folder
    with DatasetWriter(tmp_path / "set", FPS, features(), "test_arm") as writer:
        add_episode(writer, 9, 12)
    assert len(open_cache(tmp_path / "set", {"front": HALF})) == 72


def test_a_copy_finds_the_cache_and_a_changed_value_does_not(tmp_path: Path) -> None:
    write_dataset(tmp_path / "set")
    first = open_cache(tmp_path / "set", {"front": HALF}, tmp_path / "cache")
    shutil.copytree(tmp_path / "set", tmp_path / "elsewhere/copy", copy_function=shutil.copyfile)  # with new dates
    copy = open_cache(tmp_path / "elsewhere/copy", {"front": HALF}, tmp_path / "cache")
    assert copy.folder == first.folder
    video = tmp_path / "set/videos" / (IMAGES + "front") / "chunk-000/file-000.mp4"
    changed = pictures(99, 20)
    encode_video(video, changed, FPS)
    again = open_cache(tmp_path / "set", {"front": HALF}, tmp_path / "cache")
    assert again.folder != first.folder
    assert not np.array_equal(again.images["front"], first.images["front"])


def test_two_programs_at_once_share_one_build(tmp_path: Path) -> None:
    write_dataset(tmp_path / "set")
    program = (
        "import sys; from data.cache import open_cache\n"
        "cache = open_cache(sys.argv[1], {'front': (16, 24)}, processes=1)\n"
        "print(cache.folder, int(cache.images['front'].sum()))\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "set")]
    root = Path(__file__).parents[2]
    both = [subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    answers = [process.communicate()[0].splitlines()[-1] for process in both]
    assert [process.returncode for process in both] == [0, 0] and answers[0] == answers[1]
    assert len([path for path in (tmp_path / ".cache").iterdir() if path.is_dir()]) == 1


def test_a_failed_build_leaves_no_cache(tmp_path: Path) -> None:
    write_dataset(tmp_path / "set")
    encode_video(tmp_path / "set/videos" / (IMAGES + "front") / "chunk-000/file-001.mp4", pictures(1, 14), FPS)
    with pytest.raises(TongsError, match="file-001.mp4: episode 1 should give"):
        open_cache(tmp_path / "set", {"front": HALF})
    assert not [path for path in (tmp_path / ".cache").iterdir() if path.is_dir()]


def test_entries_are_chosen_by_name(tmp_path: Path) -> None:
    episodes = write_dataset(tmp_path / "set")
    cache = open_cache(tmp_path / "set", {})
    chosen = cache.select(STATE, ("gripper", "x"))
    np.testing.assert_array_equal(chosen[:20], episodes[0]["columns"][STATE][:, [3, 0]])
    assert cache.names[ACTION] == ACTION_NAMES
    with pytest.raises(TongsError, match="no entry elbow; it has: x, y, z, gripper"):
        cache.select(STATE, ("elbow",))
    with pytest.raises(TongsError, match="no column 'velocity'"):
        cache.select("velocity", ("x",))
    with pytest.raises(TongsError, match="no camera side; it has: front, wrist"):
        open_cache(tmp_path / "set", {"side": HALF})
