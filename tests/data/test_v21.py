"""LeRobotDataset v2.1: read as v3.0 is, and written for those who still need it."""

from __future__ import annotations

import errno
import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data.cache import open_cache
from data.events import EVENTS, PERSISTENT
from data.export import export_v21
from data.features import ACTION, ENVIRONMENT_STATE, IMAGES, STATE
from data.reader import Dataset
from data.timing import MEASURED, measured_times
from data.video import decode_video, encode_video
from data.windows import Windows
from data.writer import DatasetWriter
from robot.errors import TongsError
from tests.data.episodes import (
    ACTION_NAMES,
    CAMERAS,
    FPS,
    SIZE,
    STATE_NAMES,
    TRUTH_NAMES,
    features,
    images,
    numbers,
    pictures,
    said,
    stamps,
    tasks,
    write_dataset,
)
from tests.data.test_reader import merge_into_one_file_each

LENGTHS = (20, 15, 25)


def lines(path: Path, *items: dict) -> None:
    path.write_text("".join(json.dumps(item) + "\n" for item in items))


def write_v21(folder: Path) -> None:
    """By hand, as LeRobot 0.3.3 writes it: the same episodes as `write_dataset`."""
    (folder / "meta").mkdir(parents=True)
    table: dict = {
        IMAGES + name: {"dtype": "video", "shape": [*SIZE, 3], "names": ["height", "width", "channels"], "info": {}}
        for name in CAMERAS
    }
    for key, names in ((STATE, STATE_NAMES), (ENVIRONMENT_STATE, TRUTH_NAMES), (ACTION, ACTION_NAMES)):
        table[key] = {"dtype": "float32", "shape": [len(names)], "names": list(names)}
    for key in ("timestamp", "frame_index", "episode_index", "index", "task_index"):
        table[key] = {"dtype": "float32" if key == "timestamp" else "int64", "shape": [1], "names": None}
    wordings: list[str] = []
    start = 0
    described, statistics = [], []
    for episode, length in enumerate(LENGTHS):
        wordings += [task for task in dict.fromkeys(tasks(episode, length)) if task not in wordings]
        frame = np.arange(length)
        columns = {
            key: pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), values.shape[1])
            for key, values in numbers(episode, length).items()
        }
        columns["timestamp"] = pa.array((frame / FPS).astype(np.float32))
        columns["frame_index"] = pa.array(frame)
        columns["episode_index"] = pa.array(np.full(length, episode))
        columns["index"] = pa.array(frame + start)
        columns["task_index"] = pa.array([wordings.index(task) for task in tasks(episode, length)])
        path = folder / f"data/chunk-000/episode_{episode:06d}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table(columns), path)
        for name, frames in images(episode, length).items():
            path = folder / f"videos/chunk-000/{name}/episode_{episode:06d}.mp4"
            path.parent.mkdir(parents=True, exist_ok=True)
            encode_video(path, frames, FPS)
        described.append(
            {"episode_index": episode, "tasks": list(dict.fromkeys(tasks(episode, length))), "length": length}
        )
        measured = {
            key: {
                "min": values.min(0).tolist(),
                "max": values.max(0).tolist(),
                "mean": values.mean(0, dtype=np.float64).tolist(),
                "std": values.std(0, dtype=np.float64).tolist(),
                "count": [length],
            }
            for key, values in numbers(episode, length).items()
        }
        statistics.append({"episode_index": episode, "stats": measured})
        start += length
    info = {
        "codebase_version": "v2.1",
        "robot_type": "test_arm",
        "total_episodes": 3,
        "total_frames": start,
        "total_tasks": len(wordings),
        "total_videos": 6,
        "total_chunks": 1,
        "chunks_size": 1000,
        "fps": FPS,
        "splits": {"train": "0:3"},
        "data_path": "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
        "video_path": "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4",
        "features": table,
    }
    (folder / "meta/info.json").write_text(json.dumps(info, indent=4))
    lines(folder / "meta/tasks.jsonl", *({"task_index": n, "task": task} for n, task in enumerate(wordings)))
    lines(folder / "meta/episodes.jsonl", *described)
    lines(folder / "meta/episodes_stats.jsonl", *statistics)


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same episodes in `v21`, made by hand, and in `v30`."""
    folder = tmp_path_factory.mktemp("both")
    write_v21(folder / "v21")
    write_dataset(folder / "v30", LENGTHS)
    return folder


def assert_same_episodes(one: Dataset, other: Dataset) -> None:
    assert (one.fps, one.features, one.tasks) == (other.fps, other.features, other.tasks)
    assert [episode.tasks for episode in one.episodes] == [episode.tasks for episode in other.episodes]
    for key, values in other.columns.items():
        np.testing.assert_array_equal(one.columns[key], values, err_msg=key)
    for episode in range(len(other.episodes)):
        assert one.frame_tasks(episode) == other.frame_tasks(episode)
        for key in other.camera_keys:
            np.testing.assert_array_equal(one.images(episode, key), other.images(episode, key))


def test_both_versions_read_the_same(both: Path) -> None:
    old, new = Dataset(both / "v21"), Dataset(both / "v30")
    assert (old.version, new.version) == ("v2.1", "v3.0")
    assert_same_episodes(old, new)
    for key in (STATE, ACTION):
        assert set(old.statistics[key]) == {"min", "max", "mean", "std", "count"}
        for name, value in old.statistics[key].items():
            np.testing.assert_allclose(value, new.statistics[key][name], rtol=1e-6, err_msg=f"{key} {name}")


def test_cache_and_windows_take_either_version(both: Path, tmp_path: Path) -> None:
    windows = []
    for version in ("v21", "v30"):
        cache = open_cache(both / version, {"front": SIZE}, tmp_path)
        windows.append(Windows([cache], ["front"], STATE_NAMES, window=2, horizon=4))
    old, new = (each.batch(np.arange(60)) for each in windows)
    assert old.keys() == new.keys() and len(old) > 3
    np.testing.assert_equal(old, new)


def test_the_writer_does_not_continue_v21(both: Path) -> None:
    with pytest.raises(TongsError, match="has codebase_version 'v2.1', asked for 'v3.0'"):
        DatasetWriter(both / "v21", FPS, features(), "test_arm")


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("meta/episodes.jsonl", None, "episodes.jsonl is missing"),
        ("meta/tasks.jsonl", '{"task_index": 0, "task"', "tasks.jsonl, line 1, is damaged"),
        ("meta/tasks.jsonl", '{"task_index": 1, "task": "a"}\n', "task_index does not run from 0 to 0"),
        ("data/chunk-000/episode_000001.parquet", None, "episode_000001.parquet of episode 1 is missing"),
    ],
)
def test_damage_is_named(both: Path, tmp_path: Path, file: str, content: str | None, message: str) -> None:
    shutil.copytree(both / "v21", tmp_path / "set")
    (tmp_path / "set" / file).unlink()
    if content is not None:
        (tmp_path / "set" / file).write_text(content)
    with pytest.raises(TongsError, match=message):
        Dataset(tmp_path / "set")


@pytest.mark.parametrize("storage", ["video", "png"])
def test_the_export_holds_the_same(tmp_path: Path, storage: str) -> None:
    write_dataset(tmp_path / "v30", LENGTHS, storage)  # type: ignore[arg-type]
    source = Dataset(tmp_path / "v30")
    assert export_v21(source, tmp_path / "v21") == 0, "no video had to be compressed again"
    assert_same_episodes(Dataset(tmp_path / "v21"), source)
    if storage == "video":
        name = f"{IMAGES}front/episode_000001.mp4"
        original = (tmp_path / f"v30/videos/{IMAGES}front/chunk-000/file-001.mp4").read_bytes()
        assert (tmp_path / "v21/videos/chunk-000" / name).read_bytes() == original


def test_the_export_is_laid_out_as_lerobot_did(both: Path, tmp_path: Path) -> None:
    export_v21(Dataset(both / "v30"), tmp_path / "set")

    def names(folder: Path) -> list[str]:
        return sorted(str(path.relative_to(folder)) for path in folder.rglob("[!.]*"))

    assert names(tmp_path / "set") == names(both / "v21")
    ours, theirs = (json.loads((folder / "meta/info.json").read_text()) for folder in (tmp_path / "set", both / "v21"))
    assert list(ours) == list(theirs)
    for fields in (ours, theirs):
        for name in CAMERAS:
            fields["features"][IMAGES + name].pop("info")
    assert ours == theirs
    for file in ("tasks.jsonl", "episodes.jsonl"):
        assert (tmp_path / "set/meta" / file).read_text() == (both / "v21/meta" / file).read_text()
    for line in (tmp_path / "set/meta/episodes_stats.jsonl").read_text().splitlines():
        for entry in json.loads(line)["stats"].values():
            assert list(entry) == ["min", "max", "mean", "std", "count"]


def test_an_export_of_an_export_is_the_same(both: Path, tmp_path: Path) -> None:
    export_v21(Dataset(both / "v30"), tmp_path / "first")
    export_v21(Dataset(tmp_path / "first"), tmp_path / "second")
    for path in sorted(path for path in (tmp_path / "first").rglob("*") if path.is_file()):
        other = tmp_path / "second" / path.relative_to(tmp_path / "first")
        if path.suffix == ".parquet":
            assert pq.read_table(path).equals(pq.read_table(other))
        else:
            assert path.read_bytes() == other.read_bytes(), path


def test_statistics_that_are_missing_are_measured(both: Path, tmp_path: Path) -> None:
    export_v21(Dataset(both / "v21"), tmp_path / "set")  # the hand-made one has none of its cameras
    measured, wanted = Dataset(tmp_path / "set").statistics, Dataset(both / "v30").statistics
    assert set(measured) == set(wanted)
    for key in ("index", ACTION, IMAGES + "front"):
        np.testing.assert_allclose(measured[key]["mean"], wanted[key]["mean"], atol=0.02)


def test_episodes_in_one_video_are_cut_apart(both: Path, tmp_path: Path) -> None:
    """One mp4 of three episodes, compressed as one: it is for the codec to say which of them begin with a key frame."""
    shutil.copytree(both / "v30", tmp_path / "v30")
    merge_into_one_file_each(tmp_path / "v30")
    source = Dataset(tmp_path / "v30")
    assert 0 < export_v21(source, tmp_path / "v21") < 6
    exported = Dataset(tmp_path / "v21")
    for episode, length in enumerate(LENGTHS):
        for key in source.camera_keys:
            frames = exported.images(episode, key)
            assert frames.shape == (length, *SIZE, 3)
            difference = np.abs(frames.astype(int) - source.images(episode, key))
            assert difference.max() == 0 or (episode > 0 and difference.mean() < 3)


def test_stamps_and_events_go_along(tmp_path: Path) -> None:
    timed = features() | {MEASURED: measured_times(features())}
    for language in ("episodes", "frames"):
        with DatasetWriter(tmp_path / language, FPS, timed, "arm", language=language) as writer:  # type: ignore[arg-type]
            for seed in range(2):
                columns = numbers(seed, 20) | {MEASURED: stamps(20)}
                writer.add_episode(columns, tasks(seed, 20), images=images(seed, 20), events=said(seed))
        source = Dataset(tmp_path / language)
        export_v21(source, tmp_path / f"{language}-v21")
        exported = Dataset(tmp_path / f"{language}-v21")
        assert [exported.events(number) for number in range(2)] == [source.events(number) for number in range(2)]
        np.testing.assert_array_equal(exported.measured_times(1), source.measured_times(1))
        table = pq.read_table(tmp_path / f"{language}-v21/data/chunk-000/episode_000000.parquet")
        assert not {EVENTS, PERSISTENT} & set(table.column_names)


def test_an_export_appears_whole_or_not_at_all(both: Path, tmp_path: Path) -> None:
    shutil.copytree(both / "v30", tmp_path / "v30")
    source = Dataset(tmp_path / "v30")
    encode_video(tmp_path / f"v30/videos/{IMAGES}wrist/chunk-000/file-002.mp4", pictures(0, 3), FPS)
    with pytest.raises(TongsError, match="file-002.mp4"):
        export_v21(source, tmp_path / "v21")
    assert not (tmp_path / "v21").exists() and not list(tmp_path.glob("*.partial"))
    with pytest.raises(TongsError, match="not there yet"):
        export_v21(source, tmp_path / "v30")
    assert len(decode_video(tmp_path / f"v30/videos/{IMAGES}front/chunk-000/file-002.mp4", 0, 2.5)) == 25


def test_a_full_disk_is_told(both: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("data.export.shutil.copyfile", full)
    with pytest.raises(TongsError, match="the disk is full: .*v21 was not written"):
        export_v21(Dataset(both / "v30"), tmp_path / "v21")
    assert list(tmp_path.iterdir()) == []
