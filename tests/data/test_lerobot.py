"""Datasets that we write, as LeRobot reads them, and the other way round."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from data.features import ACTION, ENVIRONMENT_STATE, IMAGES, STATE
from data.reader import Dataset
from tests.data.episodes import ACTION_NAMES, CAMERAS, FPS, SIZE, STATE_NAMES, features, pictures, write_dataset

lerobot_dataset = pytest.importorskip("lerobot.datasets.lerobot_dataset")
pytestmark = pytest.mark.slow


@pytest.mark.parametrize("storage", ["video", "png"])
def test_lerobot_loads_every_value(tmp_path: Path, storage: str) -> None:
    episodes = write_dataset(tmp_path / "ours", storage=storage)
    theirs = lerobot_dataset.LeRobotDataset("tests/ours", root=tmp_path / "ours", video_backend="pyav")
    assert (theirs.num_episodes, theirs.num_frames, theirs.fps) == (3, 60, FPS)
    assert theirs.features[STATE]["names"] == list(STATE_NAMES)
    index = 0
    for number, episode in enumerate(episodes):
        for frame, task in enumerate(episode["tasks"]):
            item = theirs[index]
            for key in (STATE, ACTION, ENVIRONMENT_STATE):
                np.testing.assert_array_equal(item[key].numpy(), episode["columns"][key][frame])
            assert item["task"] == task
            assert (int(item["episode_index"]), int(item["frame_index"]), int(item["index"])) == (number, frame, index)
            assert float(item["timestamp"]) == pytest.approx(frame / FPS)
            for name in CAMERAS:
                picture = item[IMAGES + name].numpy()  # float32 (3, H, W) in 0..1
                wanted = episode["images"][IMAGES + name][frame].transpose(2, 0, 1) / 255
                assert np.abs(picture - wanted).mean() < (0.02 if storage == "video" else 1e-6)
            index += 1


def test_lerobot_cuts_action_chunks_from_ours(tmp_path: Path) -> None:
    episodes = write_dataset(tmp_path / "ours")
    theirs = lerobot_dataset.LeRobotDataset(
        "tests/ours",
        root=tmp_path / "ours",
        video_backend="pyav",
        delta_timestamps={"action": [step / FPS for step in range(4)]},
    )
    item = theirs[18]  # the second last frame of the first episode
    np.testing.assert_array_equal(item["action_is_pad"].numpy(), [False, False, True, True])
    np.testing.assert_array_equal(item["action"].numpy(), episodes[0]["columns"][ACTION][[18, 19, 19, 19]])


def test_merged_statistics_are_lerobots(tmp_path: Path) -> None:
    from lerobot.datasets.compute_stats import aggregate_stats

    from data.reader import read_episode_rows

    write_dataset(tmp_path / "ours")
    per_episode = []
    for row in read_episode_rows(tmp_path / "ours", with_statistics=True):
        entries: dict = {}
        for name, value in row.items():
            if name.startswith("stats/"):
                _, key, statistic = name.split("/")
                entries.setdefault(key, {})[statistic] = np.asarray(value)
        per_episode.append(entries)
    theirs, ours = aggregate_stats(per_episode), Dataset(tmp_path / "ours").statistics
    assert set(theirs) == set(ours)
    for key, entry in theirs.items():
        for name, value in entry.items():
            np.testing.assert_allclose(ours[key][name], value, rtol=1e-9, atol=1e-12, err_msg=f"{key} {name}")


def test_we_read_what_lerobot_writes(tmp_path: Path) -> None:
    table = {
        IMAGES + "front": {"dtype": "video", "shape": (*SIZE, 3), "names": ["height", "width", "channels"]},
        STATE: {"dtype": "float32", "shape": (4,), "names": list(STATE_NAMES)},
        ACTION: {"dtype": "float32", "shape": (3,), "names": list(ACTION_NAMES)},
    }
    theirs = lerobot_dataset.LeRobotDataset.create(
        "tests/theirs", FPS, table, root=tmp_path / "theirs", robot_type="arm", use_videos=True
    )
    random, written = np.random.default_rng(0), []
    for episode, length in enumerate((12, 9, 14)):
        frames = pictures(episode, length)
        for frame in range(length):
            state, action = random.normal(size=4).astype(np.float32), random.normal(size=3).astype(np.float32)
            task = f"task {(frame + episode) % 2}"
            theirs.add_frame({IMAGES + "front": frames[frame], STATE: state, ACTION: action, "task": task})
            written.append((state, action, task))
        theirs.save_episode()
    theirs.finalize()

    ours = Dataset(tmp_path / "theirs")
    assert [episode.length for episode in ours.episodes] == [12, 9, 14]
    assert len({episode.data_file for episode in ours.episodes}) == 1, "LeRobot keeps these episodes in one file"
    np.testing.assert_array_equal(ours.columns[STATE], np.stack([state for state, _, _ in written]))
    np.testing.assert_array_equal(ours.columns[ACTION], np.stack([action for _, action, _ in written]))
    assert sum((ours.frame_tasks(episode) for episode in range(3)), []) == [task for _, _, task in written]
    for episode, length in enumerate((12, 9, 14)):
        error = np.abs(ours.images(episode, IMAGES + "front").astype(int) - pictures(episode, length))
        assert error.mean() < 6, f"episode {episode} differs by {error.mean():.1f} levels"


def test_features_survive_lerobots_description(tmp_path: Path) -> None:
    write_dataset(tmp_path / "ours")
    meta = lerobot_dataset.LeRobotDatasetMetadata("tests/ours", root=tmp_path / "ours")
    assert meta.camera_keys == [IMAGES + name for name in CAMERAS]
    assert meta.shapes[STATE] == features()[STATE].shape
    assert meta.total_tasks == len(Dataset(tmp_path / "ours").tasks)
