"""Writing episodes: the files of LeRobotDataset v3.0, durability, resuming and refusals."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from data import atomic
from data.features import ACTION, ENVIRONMENT_STATE, IMAGES, STATE, camera
from data.reader import Dataset
from data.repair import repair
from data.video import encode_video
from data.writer import DatasetWriter
from robot.errors import TongsError
from tests.data.episodes import (
    CAMERAS,
    FPS,
    SIZE,
    STATE_NAMES,
    add_episode,
    features,
    images,
    numbers,
    tasks,
    write_dataset,
)


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_files_and_columns_are_lerobots(tmp_path: Path) -> None:
    episodes = write_dataset(tmp_path)
    info = json.loads((tmp_path / "meta/info.json").read_text())
    assert list(info) == [
        "codebase_version",
        "robot_type",
        "total_episodes",
        "total_frames",
        "total_tasks",
        "chunks_size",
        "data_files_size_in_mb",
        "video_files_size_in_mb",
        "fps",
        "splits",
        "data_path",
        "video_path",
        "features",
    ]
    assert (info["codebase_version"], info["total_episodes"], info["total_frames"]) == ("v3.0", 3, 60)
    assert info["splits"] == {"train": "0:3"}
    assert info["features"][STATE] == {"dtype": "float32", "shape": [4], "names": list(STATE_NAMES)}
    table = pq.read_table(tmp_path / "data/chunk-000/file-001.parquet")
    assert str(table.schema.field(STATE).type) == "fixed_size_list<element: float>[4]"
    assert str(table.schema.field("timestamp").type) == "float"
    np.testing.assert_array_equal(table["index"].to_pylist(), range(20, 35))
    np.testing.assert_array_equal(np.stack(table[ACTION].to_numpy()), episodes[1]["columns"][ACTION])
    row = pq.read_table(tmp_path / "meta/episodes/chunk-000/file-001.parquet").to_pylist()[0]
    assert (row["length"], row["dataset_from_index"], row["dataset_to_index"]) == (15, 20, 35)
    assert row[f"videos/{IMAGES}front/to_timestamp"] == 1.5
    assert np.shape(row[f"stats/{IMAGES}front/mean"]) == (3, 1, 1)


def test_pandas_reads_tasks_as_lerobot_does(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    episodes = write_dataset(tmp_path)
    table = pandas.read_parquet(tmp_path / "meta/tasks.parquet")
    assert set(table.index) == {task for episode in episodes for task in episode["tasks"]}
    assert table.iloc[2].name == table.index[2] and table["task_index"].tolist() == list(range(len(table)))


@pytest.mark.parametrize("storage", ["video", "png"])
def test_everything_comes_back(tmp_path: Path, storage: str) -> None:
    episodes = write_dataset(tmp_path, storage=storage)
    dataset = Dataset(tmp_path)
    for number, episode in enumerate(episodes):
        span = dataset.episodes[number]
        for key in (STATE, ACTION, ENVIRONMENT_STATE):
            np.testing.assert_array_equal(dataset.columns[key][span.start : span.stop], episode["columns"][key])
        assert dataset.frame_tasks(number) == episode["tasks"]
        for name in CAMERAS:
            decoded = dataset.images(number, IMAGES + name)
            if storage == "png":
                np.testing.assert_array_equal(decoded, episode["images"][IMAGES + name])
            else:
                assert np.abs(decoded.astype(int) - episode["images"][IMAGES + name]).mean() < 5


def test_videos_made_elsewhere_are_moved_in(tmp_path: Path) -> None:
    videos = encoded(tmp_path, 0, 12)
    with DatasetWriter(tmp_path / "set", FPS, features(), "arm") as writer:
        assert writer.add_episode(numbers(0, 12), tasks(0, 12), videos=videos) == 0
    assert not any(path.exists() for path in videos.values())
    assert Dataset(tmp_path / "set").images(0, IMAGES + "wrist").shape == (12, *SIZE, 3)


def test_statistics_equal_those_of_all_frames(tmp_path: Path) -> None:
    episodes = write_dataset(tmp_path)
    every = np.concatenate([episode["columns"][ACTION] for episode in episodes]).astype(np.float64)
    statistics = json.loads((tmp_path / "meta/stats.json").read_text())[ACTION]
    np.testing.assert_allclose(statistics["mean"], every.mean(axis=0), rtol=1e-9)
    np.testing.assert_allclose(statistics["std"], every.std(axis=0), rtol=1e-9)
    assert (statistics["min"], statistics["max"]) == (every.min(axis=0).tolist(), every.max(axis=0).tolist())


def test_writing_in_two_goes_gives_the_same_dataset(tmp_path: Path) -> None:
    write_dataset(tmp_path / "once", (20, 15, 25))
    write_dataset(tmp_path / "twice", (20,))
    with DatasetWriter(tmp_path / "twice", FPS, features(), "test_arm") as writer:
        assert (writer.episodes, writer.frames) == (1, 20)
        add_episode(writer, 1, 15)
        add_episode(writer, 2, 25)
    once, twice = snapshot(tmp_path / "once"), snapshot(tmp_path / "twice")
    assert once.keys() == twice.keys()
    assert [name for name in once if once[name] != twice[name]] == []


def test_continuing_with_another_shape_is_refused(tmp_path: Path) -> None:
    write_dataset(tmp_path)
    with pytest.raises(TongsError, match="has fps 10, asked for 20"):
        DatasetWriter(tmp_path, 20, features(), "test_arm")
    other = features() | {IMAGES + "front": camera(64, 64)}
    with pytest.raises(TongsError, match="differs in feature observation.images.front"):
        DatasetWriter(tmp_path, FPS, other, "test_arm")
    with pytest.raises(TongsError, match="robot_type"):
        DatasetWriter(tmp_path, FPS, features(), "another_arm")


def test_two_writers_at_once_are_refused(tmp_path: Path) -> None:
    with (
        DatasetWriter(tmp_path, FPS, features(), "arm"),
        pytest.raises(TongsError, match="being written by another process"),
    ):
        DatasetWriter(tmp_path, FPS, features(), "arm")


def encoded(folder: Path, seed: int, length: int) -> dict[str, Path]:
    """Finished videos of one episode."""
    paths = {key: folder / f"{key}.mp4" for key in images(seed, length)}
    for key, frames in images(seed, length).items():
        encode_video(paths[key], frames, FPS)
    return paths


def killed_after(count: int) -> Callable[[str | Path, str | Path], None]:
    """`os.replace` that stops the program after `count` renames."""
    done = 0
    real = os.replace

    def replace(source: str | Path, target: str | Path) -> None:
        nonlocal done
        if done == count:
            raise KeyboardInterrupt
        done += 1
        real(source, target)

    return replace


@pytest.mark.parametrize("renames", range(7))
def test_killed_at_any_rename_the_dataset_stays_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, renames: int
) -> None:
    """Renames of one episode: two videos, data, tasks, metadata row, stats.json; info.json would be the last."""
    write_dataset(tmp_path / "torn", (20,))
    write_dataset(tmp_path / "whole", (20, 15, 25))
    with DatasetWriter(tmp_path / "torn", FPS, features(), "test_arm") as writer:
        content = {"columns": numbers(1, 15), "tasks": tasks(1, 15), "videos": encoded(tmp_path, 1, 15)}
        with monkeypatch.context() as patch:
            patch.setattr(atomic.os, "replace", killed_after(renames))
            with pytest.raises(KeyboardInterrupt):
                writer.add_episode(**content)
    assert Dataset(tmp_path / "torn").columns[STATE].shape == (20, 4)
    with DatasetWriter(tmp_path / "torn", FPS, features(), "test_arm") as writer:
        assert writer.episodes == 1
        add_episode(writer, 1, 15)
        add_episode(writer, 2, 25)
    torn, whole = Dataset(tmp_path / "torn"), Dataset(tmp_path / "whole")
    for key, values in whole.columns.items():
        np.testing.assert_array_equal(torn.columns[key], values)
    for key, entry in whole.statistics.items():
        for name, value in entry.items():
            np.testing.assert_allclose(torn.statistics[key][name], value, rtol=1e-12, err_msg=f"{key} {name}")


def test_a_killed_process_leaves_complete_episodes(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from data.writer import DatasetWriter\n"
        "from tests.data.episodes import FPS, add_episode, features\n"
        "writer = DatasetWriter(Path(sys.argv[1]), FPS, features(), 'test_arm')\n"
        "for seed in range(1000):\n"
        "    add_episode(writer, seed, 20)\n"
        "    print(seed + 1, flush=True)\n"
    )
    root = Path(__file__).parents[2]
    process = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], cwd=root, stdout=subprocess.PIPE)
    assert process.stdout is not None
    promised = [process.stdout.readline() for _ in range(5)][-1]
    process.kill()
    process.wait()
    dataset = Dataset(tmp_path)
    assert len(dataset.episodes) >= int(promised) == 5
    assert dataset.images(4, IMAGES + "front").shape == (20, *SIZE, 3)
    with DatasetWriter(tmp_path, FPS, features(), "test_arm") as writer:
        add_episode(writer, 99, 20)
    assert len(Dataset(tmp_path).episodes) == len(dataset.episodes) + 1


def test_a_full_disk_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_dataset(tmp_path, (20, 15))
    before = snapshot(tmp_path)

    def full(path: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    with DatasetWriter(tmp_path, FPS, features(), "test_arm") as writer:
        with monkeypatch.context() as patch:
            patch.setattr(atomic, "flush", full)
            with pytest.raises(TongsError, match=r"the disk is full: 2 episodes are safe in .*, episode 2 was not"):
                add_episode(writer, 2, 25)
        assert snapshot(tmp_path) == before
        add_episode(writer, 2, 25)
    assert Dataset(tmp_path).columns[STATE].shape == (60, 4)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="mounting a small file system needs root")
def test_a_really_full_disk_loses_nothing(tmp_path: Path) -> None:
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(tmp_path)], capture_output=True)
    if mounted.returncode:
        pytest.skip("mounting is not permitted here")
    try:
        with DatasetWriter(tmp_path, FPS, features(), "test_arm") as writer:
            with pytest.raises(TongsError, match="the disk is full"):
                for seed in range(100):
                    add_episode(writer, seed, 20)
            count = writer.episodes
        assert count > 0
        dataset = Dataset(tmp_path)
        assert len(dataset.episodes) == count
        assert all(len(dataset.images(episode, IMAGES + "front")) == 20 for episode in range(count))
        assert not list(tmp_path.rglob("*.partial"))
    finally:
        subprocess.run(["umount", "-l", str(tmp_path)], check=True)


def test_bad_episodes_are_refused_by_name_and_value(tmp_path: Path) -> None:
    good = {"columns": numbers(0, 10), "tasks": tasks(0, 10), "images": images(0, 10)}
    bad_numbers = numbers(0, 10)
    bad_numbers[ACTION][3, 1] = np.nan
    cases = {
        r"NaN or infinity at frame 3": good | {"columns": bad_numbers},
        r"missing \['action'\], unknown \['actions'\]": good
        | {"columns": {"actions" if key == ACTION else key: value for key, value in numbers(0, 10).items()}},
        r"expected shape \(N, 4\), got \(10, 3\)": good | {"columns": numbers(0, 10) | {STATE: np.zeros((10, 3))}},
        r"expected dtype float32, got <U": good | {"columns": numbers(0, 10) | {STATE: np.full((10, 4), "a")}},
        r"10 frames, but there are 9 tasks": good | {"tasks": tasks(0, 9)},
        r"non-empty string": good | {"tasks": [""] * 10},
        r"at least one frame": good | {"tasks": []},
        r"either as videos or as images": good | {"images": None},
        r"\(10, 32, 48\), got \(11, 32, 48\)": good | {"images": images(0, 11)},
    }
    with DatasetWriter(tmp_path, FPS, features(), "test_arm") as writer:
        before = snapshot(tmp_path)
        for message, arguments in cases.items():
            with pytest.raises(TongsError, match=message):
                writer.add_episode(**arguments)
        assert snapshot(tmp_path) == before
    with pytest.raises(TongsError, match="whole number"):
        DatasetWriter(tmp_path / "b", 0, features(), "test_arm")
    with pytest.raises(TongsError, match="must not be declared"):
        DatasetWriter(tmp_path / "c", 10, {"timestamp": features()[STATE]}, "test_arm")


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(TongsError, match=r"file/set cannot be written to: .*Not a directory"):
        DatasetWriter(tmp_path / "file/set", FPS, features(), "test_arm")


def test_data_without_info_json_is_not_taken_for_a_new_dataset(tmp_path: Path) -> None:
    """Whoever lost info.json must not lose the episodes as well."""
    write_dataset(tmp_path, (20, 15))
    (tmp_path / "meta/info.json").unlink()
    before = snapshot(tmp_path)
    with pytest.raises(TongsError, match="holds data but no meta/info.json"):
        DatasetWriter(tmp_path, FPS, features(), "test_arm")
    assert snapshot(tmp_path) == before


def test_an_episode_never_takes_the_files_of_another(tmp_path: Path) -> None:
    """Where episodes were taken out, the number of the next episode is not the number of its files."""
    episodes = write_dataset(tmp_path, (20, 15, 25))
    (tmp_path / f"videos/{IMAGES}front/chunk-000/file-001.mp4").unlink()
    repair(tmp_path)
    with DatasetWriter(tmp_path, FPS, features(), "test_arm") as writer:
        assert add_episode(writer, 7, 10) and writer.episodes == 3
    dataset = Dataset(tmp_path)
    assert [episode.data_file.name for episode in dataset.episodes] == [
        f"file-00{number}.parquet" for number in (0, 2, 3)
    ]
    np.testing.assert_array_equal(dataset.columns[STATE][20:45], episodes[2]["columns"][STATE])
