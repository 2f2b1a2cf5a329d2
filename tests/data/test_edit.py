"""Edited datasets hold the chosen episodes to the last bit, and mistakes leave nothing behind."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from data import edit
from data.features import ACTION, IMAGES, SCENE, SCENE_NAMES, STATE, ImageStorage, vector
from data.reader import Dataset
from data.timing import MEASURED, measured_times
from data.writer import DatasetWriter
from robot.errors import TongsError
from tests.data.episodes import FPS, features, images, numbers, said, stamps, tasks, write_dataset

LENGTHS = (20, 15, 25, 12)


def write(
    folder: Path, scenes: tuple[int, ...] = (0, 0, 1, 2), storage: ImageStorage = "video", first: int = 0
) -> Dataset:
    """A dataset with all there is: cameras, scenes, real time stamps and language events."""
    columns = features()
    columns |= {SCENE: vector(SCENE_NAMES, "int64"), MEASURED: measured_times(columns)}
    with DatasetWriter(folder, FPS, columns, "test_arm", storage, language="episodes") as writer:
        for number, (length, scene) in enumerate(zip(LENGTHS, scenes, strict=True)):
            seed = first + number
            values = numbers(seed, length) | {
                SCENE: np.tile([scene, number % 2], (length, 1)),
                MEASURED: stamps(length),
            }
            writer.add_episode(values, tasks(seed, length), images=images(seed, length), events=said(seed))
    return Dataset(folder)


def require_equal(
    copy: Dataset, episode: int, original: Dataset, its: int, names: Mapping[str, str] | None = None, scenes: int = 0
) -> None:
    names = names or {}
    for key, feature in original.features.items():
        new = names.get(key, key)
        if feature.is_image:
            np.testing.assert_array_equal(copy.images(episode, new), original.images(its, key))
        else:
            span, old = copy.episodes[episode], original.episodes[its]
            shift = [scenes, 0] if key == SCENE else 0
            values = original.columns[key][old.start : old.stop] + shift
            np.testing.assert_array_equal(copy.columns[new][span.start : span.stop], values)
    assert copy.frame_tasks(episode) == [names.get(task, task) for task in original.frame_tasks(its)]
    assert copy.events(episode) == original.events(its)
    np.testing.assert_allclose(copy.measured_times(episode), original.measured_times(its), rtol=0, atol=1e-9)


@pytest.mark.parametrize("storage", ["video", "png"])
def test_selected_episodes_are_the_same_to_the_last_bit(tmp_path: Path, storage: ImageStorage) -> None:
    original = write(tmp_path / "all", storage=storage)
    edit.select(original, [2, 0], tmp_path / "some")
    copy = Dataset(tmp_path / "some")
    assert len(copy.episodes) == 2 and copy.robot_type == "test_arm" and copy.features == original.features
    require_equal(copy, 0, original, 2)
    require_equal(copy, 1, original, 0)


def test_episodes_out_of_shared_videos(tmp_path: Path) -> None:
    """As LeRobot writes them: one mp4 for many episodes."""
    lerobot_dataset = pytest.importorskip("lerobot.datasets.lerobot_dataset")
    size = (32, 48, 3)
    declared = {
        "observation.images.front": {"dtype": "video", "shape": size, "names": ["height", "width", "channels"]},
        STATE: {"dtype": "float32", "shape": (4,), "names": ["x", "y", "z", "gripper"]},
        ACTION: {"dtype": "float32", "shape": (3,), "names": ["dx", "dy", "gripper"]},
    }
    theirs = lerobot_dataset.LeRobotDataset.create("tests/theirs", FPS, declared, root=tmp_path / "theirs")
    for seed, length in enumerate((11, 14, 9)):
        values, frames = numbers(seed, length), images(seed, length)[IMAGES + "front"]
        for frame in range(length):
            row = {
                "observation.images.front": frames[frame],
                STATE: values[STATE][frame],
                ACTION: values[ACTION][frame],
            }
            theirs.add_frame(row | {"task": "open it"})
        theirs.save_episode()
    theirs.finalize()
    original = Dataset(tmp_path / "theirs")
    assert len({episode.videos[IMAGES + "front"].path for episode in original.episodes}) == 1
    edit.delete(original, [1], tmp_path / "two")
    copy = Dataset(tmp_path / "two")
    for ours, its in ((0, 0), (1, 2)):
        frames, wanted = copy.images(ours, IMAGES + "front"), original.images(its, IMAGES + "front")
        np.testing.assert_array_equal(frames, wanted)
        span, old = copy.episodes[ours], original.episodes[its]
        np.testing.assert_array_equal(
            copy.columns[STATE][span.start : span.stop], original.columns[STATE][old.start : old.stop]
        )


def test_merging_keeps_everything_and_tells_scenes_apart(tmp_path: Path) -> None:
    first, second, third = (
        write(tmp_path / "a"),
        write(tmp_path / "b", first=4),
        write(tmp_path / "c", (7, 8, 8, 9), first=8),
    )
    advanced: list[None] = []
    edit.merge([first, second, third], tmp_path / "both", lambda: advanced.append(None))
    both = Dataset(tmp_path / "both")
    assert len(both.episodes) == len(advanced) == 12
    for number in range(4):
        require_equal(both, number, first, number)
        require_equal(both, 4 + number, second, number, scenes=3)  # 0, 1, 2 were taken
        require_equal(both, 8 + number, third, number)
    assert both.statistics[STATE]["count"] == 3 * sum(LENGTHS)
    np.testing.assert_allclose(both.statistics[STATE]["mean"], both.columns[STATE].mean(axis=0), atol=1e-6)


def test_only_datasets_of_one_kind_are_merged(tmp_path: Path) -> None:
    first = write(tmp_path / "a")
    write_dataset(tmp_path / "b")
    with pytest.raises(TongsError, match="differ in column scene"):
        edit.merge([first, Dataset(tmp_path / "b")], tmp_path / "both")
    with DatasetWriter(tmp_path / "c", FPS, features(), "other_arm") as writer:
        writer.add_episode(numbers(0, 8), ["open it"] * 8, images=images(0, 8))
    with pytest.raises(TongsError, match="has robot_type test_arm, and .* has other_arm"):
        edit.merge([first, Dataset(tmp_path / "c")], tmp_path / "both")
    assert not (tmp_path / "both").exists()


def test_a_split_keeps_scenes_whole_and_loses_nothing(tmp_path: Path) -> None:
    original = write(tmp_path / "all")
    parts = edit.split(original, {"train": 0.67, "val": 0.33}, tmp_path / "parts")
    assert sorted(parts["train"] + parts["val"]) == [0, 1, 2, 3]
    assert {0, 1} <= set(parts["train"]) or {0, 1} <= set(parts["val"])
    for name, episodes in parts.items():
        copy = Dataset(tmp_path / "parts" / name)
        assert len(copy.episodes) == len(episodes)
        for number, episode in enumerate(episodes):
            require_equal(copy, number, original, episode)
    assert edit.split(original, {"train": 0.67, "val": 0.33}, tmp_path / "again") == parts
    with pytest.raises(TongsError, match="add up to 1"):
        edit.split(original, {"train": 0.7}, tmp_path / "no")
    with pytest.raises(TongsError, match="3 scenes are too few"):
        edit.split(original, {"train": 0.9, "val": 0.1}, tmp_path / "no")
    assert not list(tmp_path.glob("no*"))


def test_columns_and_instructions_get_other_names(tmp_path: Path) -> None:
    original = write(tmp_path / "all")
    names = {IMAGES + "front": IMAGES + "top", "pull it open": "open, please", SCENE: "place"}
    edit.rename(original, names, tmp_path / "renamed")
    copy = Dataset(tmp_path / "renamed")
    assert list(copy.features) == [names.get(key, key) for key in original.features]
    for episode in range(4):
        require_equal(copy, episode, original, episode, names)
    with pytest.raises(TongsError, match="'wings' is neither an instruction nor a column"):
        edit.rename(original, {"wings": "x"}, tmp_path / "no")
    with pytest.raises(TongsError, match="two columns would be called action"):
        edit.rename(original, {STATE: ACTION}, tmp_path / "no")


def test_mistakes_leave_nothing_behind(tmp_path: Path) -> None:
    original = write(tmp_path / "all")
    with pytest.raises(TongsError, match=r"has episodes 0 to 3, asked for \[4\]"):
        edit.select(original, [1, 4], tmp_path / "no")
    with pytest.raises(TongsError, match="nothing would be left"):
        edit.delete(original, [0, 1, 2, 3], tmp_path / "no")
    with pytest.raises(TongsError, match="exists; give a folder that is not there yet"):
        edit.select(original, [1], tmp_path / "all")
    next((tmp_path / "all/videos").rglob("file-001.mp4")).write_bytes(b"no video")
    with pytest.raises(TongsError, match=r"file-001\.mp4"):
        edit.select(original, [0, 1], tmp_path / "no")
    assert [path.name for path in tmp_path.iterdir()] == ["all"]
