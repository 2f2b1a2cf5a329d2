"""Reading datasets, also in LeRobot's own arrangement, and refusing damaged ones by file and episode."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data.features import ACTION, IMAGES, STATE
from data.reader import Dataset
from data.video import encode_video
from robot.errors import TongsError
from tests.data.episodes import CAMERAS, FPS, pictures, write_dataset

LENGTHS = (20, 15, 25)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_dataset(tmp_path / "set", LENGTHS)
    return tmp_path / "set"


def merge_into_one_file_each(folder: Path) -> None:
    """Rearrange as LeRobot writes: one parquet, one mp4 per camera, one metadata file, and tasks without a name."""
    for kind in ("data", "meta/episodes"):
        files = sorted((folder / kind).glob("*/*.parquet"))
        table = pa.concat_tables([pq.read_table(file) for file in files])
        if kind == "meta/episodes":
            rows = table.to_pylist()
            start = 0.0
            for row, length in zip(rows, LENGTHS, strict=True):
                for key in [key for key in row if key.endswith(("chunk_index", "file_index"))]:
                    row[key] = 0
                for name in CAMERAS:
                    row[f"videos/{IMAGES}{name}/from_timestamp"] = start
                    row[f"videos/{IMAGES}{name}/to_timestamp"] = start + length / FPS
                start += length / FPS
            table = pa.Table.from_pylist(rows)
        for file in files:
            file.unlink()
        pq.write_table(table, files[0])
    for name in CAMERAS:
        files = sorted((folder / "videos" / (IMAGES + name)).glob("*/*.mp4"))
        for file in files:
            file.unlink()
        parts = [pictures(seed + 7 * CAMERAS.index(name), length) for seed, length in enumerate(LENGTHS)]
        encode_video(files[0], np.concatenate(parts), FPS)
    tasks = pq.read_table(folder / "meta/tasks.parquet").rename_columns(["task_index", "__index_level_0__"])
    pq.write_table(tasks.replace_schema_metadata(None), folder / "meta/tasks.parquet")


def test_lerobots_arrangement_reads_the_same(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "merged")
    merge_into_one_file_each(tmp_path / "merged")
    ours, merged = Dataset(folder), Dataset(tmp_path / "merged")
    assert merged.tasks == ours.tasks
    for key, values in ours.columns.items():
        np.testing.assert_array_equal(merged.columns[key], values)
    for episode in range(3):
        assert merged.frame_tasks(episode) == ours.frame_tasks(episode)
        difference = merged.images(episode, IMAGES + "wrist").astype(int) - ours.images(episode, IMAGES + "wrist")
        assert np.abs(difference).mean() < 4, "only the compression may differ"


def cut(path: Path, part: float = 0.7) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * part)])


def test_a_cut_data_file_is_named(folder: Path) -> None:
    cut(folder / "data/chunk-000/file-001.parquet")
    with pytest.raises(TongsError, match=r"data/chunk-000/file-001.parquet of episode 1 is cut short"):
        Dataset(folder)


def test_a_cut_video_is_named(folder: Path) -> None:
    cut(folder / f"videos/{IMAGES}wrist/chunk-000/file-002.mp4")
    with pytest.raises(TongsError, match=r"file-002.mp4 of episode 2 is cut short"):
        Dataset(folder)


def test_a_missing_file_is_named(folder: Path) -> None:
    (folder / f"videos/{IMAGES}front/chunk-000/file-000.mp4").unlink()
    with pytest.raises(TongsError, match=r"front/chunk-000/file-000.mp4 of episode 0 is missing"):
        Dataset(folder)


def test_a_video_of_another_length_is_named(folder: Path) -> None:
    encode_video(folder / f"videos/{IMAGES}front/chunk-000/file-001.mp4", pictures(1, 14), FPS)
    with pytest.raises(TongsError, match=r"file-001.mp4: episode 1 should give \(15, 32, 48, 3\) .* got \(14,"):
        Dataset(folder).images(1, IMAGES + "front")


def test_damage_inside_a_parquet_is_named(folder: Path) -> None:
    path = folder / "data/chunk-000/file-002.parquet"
    content = bytearray(path.read_bytes())
    content[4 : len(content) // 2] = bytes(len(content) // 2 - 4)
    path.write_bytes(content)
    with pytest.raises(TongsError, match=r"file-002.parquet of episode 2 is damaged"):
        _ = Dataset(folder).columns


def test_frames_missing_from_a_parquet_are_named(folder: Path) -> None:
    path = folder / "data/chunk-000/file-001.parquet"
    pq.write_table(pq.read_table(path).slice(0, 11), path)
    with pytest.raises(TongsError, match=r"file-001.parquet holds 11 frames, .* from 1 on have 15"):
        _ = Dataset(folder).columns


def test_a_swapped_parquet_is_named(folder: Path) -> None:
    shutil.copy(folder / "data/chunk-000/file-000.parquet", folder / "data/chunk-000/file-001.parquet")
    path = folder / "data/chunk-000/file-001.parquet"
    pq.write_table(pq.read_table(path).slice(0, 15), path)
    with pytest.raises(TongsError, match=r"frames of episode 1 are marked as episode 0"):
        _ = Dataset(folder).columns


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("total_frames", 61, "declares 61 frames, but its 3 episodes have 60"),
        ("total_episodes", 4, "declares 4 episodes, the metadata describes 3"),
        ("codebase_version", "v2.0", "codebase_version 'v2.0'; only v3.0 and v2.1 can be read"),
    ],
)
def test_disagreeing_metadata_is_told(folder: Path, field: str, value: object, message: str) -> None:
    info = json.loads((folder / "meta/info.json").read_text())
    (folder / "meta/info.json").write_text(json.dumps(info | {field: value}))
    with pytest.raises(TongsError, match=message):
        Dataset(folder)


def test_metadata_that_is_missing_or_cut_is_told(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(TongsError, match="is not a dataset"):
        Dataset(tmp_path / "nothing")
    cut(folder / "meta/episodes/chunk-000/file-001.parquet")
    with pytest.raises(TongsError, match="meta/episodes/chunk-000/file-001.parquet is damaged or cut short"):
        Dataset(folder)
    (folder / "meta/tasks.parquet").unlink()
    with pytest.raises(TongsError, match="tasks.parquet is missing or damaged"):
        Dataset(folder)
    cut(folder / "meta/info.json")
    with pytest.raises(TongsError, match="info.json is damaged"):
        Dataset(folder)


def test_unknown_camera_and_episode_are_told(folder: Path) -> None:
    dataset = Dataset(folder)
    with pytest.raises(TongsError, match="no camera 'side'; it has: observation.images.front"):
        dataset.images(0, "side")
    with pytest.raises(TongsError, match="episodes 0 to 2, asked for 3"):
        dataset.images(3, IMAGES + "front")


def test_columns_that_we_do_not_know_are_left_alone(folder: Path) -> None:
    info = json.loads((folder / "meta/info.json").read_text())
    info["features"]["note"] = {"dtype": "string", "shape": [1], "names": None}
    info["features"][ACTION]["names"] = {"motors": ["a", "b", "c"]}
    (folder / "meta/info.json").write_text(json.dumps(info | {"tools": []}))
    dataset = Dataset(folder)
    assert "note" not in dataset.features and dataset.features[ACTION].names == ("a", "b", "c")
    assert dataset.columns[STATE].shape == (60, 4)
