"""Where LeRobotDataset v3.0 keeps things: file names, info.json and the two small metadata tables."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from data.events import EPISODE_TYPES
from data.features import Feature, to_info
from data.statistics import Statistics, from_json

VERSION = "v3.0"
INFO = "meta/info.json"
STATISTICS = "meta/stats.json"
TASKS = "meta/tasks.parquet"
EPISODES = "meta/episodes/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
DATA = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
VIDEO = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
CHUNK_SIZE = 1000
"""Files in one chunk folder."""


def file_position(number: int, chunk_size: int = CHUNK_SIZE) -> dict[str, int]:
    """Chunk and file index of the `number`-th file."""
    return {"chunk_index": number // chunk_size, "file_index": number % chunk_size}


def last_file(row: Mapping[str, Any], chunk_size: int) -> int:
    """The number of the last file that an episode, by its metadata, uses for anything."""
    chunks = {name: chunk for name, chunk in row.items() if name.endswith("/chunk_index") and chunk is not None}
    return max(chunk * chunk_size + row[name[: -len("chunk_index")] + "file_index"] for name, chunk in chunks.items())


def episode_files(folder: Path, position: Mapping[str, int], video_keys: Sequence[str]) -> dict[str, Path]:
    """Every file of an episode that has its files to itself: `data`, `meta` and one per video key."""
    files = {"data": folder / DATA.format(**position), "meta": folder / EPISODES.format(**position)}
    return files | {key: folder / VIDEO.format(video_key=key, **position) for key in video_keys}


def episode_tables(folder: Path) -> list[Path]:
    """The files of the episodes' metadata, in order."""
    return sorted((folder / "meta/episodes").glob("*/*.parquet"))


def metadata_files(folder: Path) -> list[Path]:
    """The files that describe the episodes in either version: the tables of v3.0, the lists of v2.1."""
    return episode_tables(folder) + sorted((folder / "meta").glob("*.jsonl"))


def info_json(features: Mapping[str, Feature], fps: int, robot_type: str, codec: str) -> dict[str, Any]:
    """The content of info.json of a dataset without episodes, keys in LeRobot's order."""
    has_videos = any(feature.dtype == "video" for feature in features.values())
    return {
        "codebase_version": VERSION,
        "robot_type": robot_type,
        "total_episodes": 0,
        "total_frames": 0,
        "total_tasks": 0,
        "chunks_size": CHUNK_SIZE,
        "data_files_size_in_mb": 100,
        "video_files_size_in_mb": 200,
        "fps": fps,
        "splits": {},
        "data_path": DATA,
        "video_path": VIDEO if has_videos else None,
        "features": to_info(features, fps, codec),
    }


def counted(info: Mapping[str, Any], episodes: int, frames: int, tasks: int) -> dict[str, Any]:
    """info.json with other totals and all else as it was."""
    totals = {"total_episodes": episodes, "total_frames": frames, "total_tasks": tasks}
    return {**info, **totals, "splits": {"train": f"0:{episodes}"}}


def write_tasks(path: Path, tasks: Sequence[str]) -> None:
    """tasks.parquet: the instruction as a pandas index called `task`, its number as the column `task_index`."""
    columns = [("task_index", "int64", "int64"), ("task", "unicode", "object")]
    described = [
        {"name": name, "field_name": name, "pandas_type": kind, "numpy_type": numpy_type, "metadata": None}
        for name, kind, numpy_type in columns
    ]
    pandas = {"index_columns": ["task"], "column_indexes": [], "columns": described, "pandas_version": "2.2.0"}
    table = pa.table({"task_index": pa.array(range(len(tasks)), pa.int64()), "task": pa.array(tasks, pa.string())})
    pq.write_table(table.replace_schema_metadata({"pandas": json.dumps(pandas)}), path)


def read_tasks(path: Path) -> list[str]:
    """Instructions in the order of their task_index; the index column may be named `task` or not at all."""
    table = pq.ParquetFile(path).read(use_threads=False)  # pq.read_table would import pandas: 2 s
    column = next(name for name in table.column_names if name != "task_index")
    numbers, names = table["task_index"].to_pylist(), table[column].to_pylist()
    if sorted(numbers) != list(range(len(numbers))):
        raise ValueError(f"task_index runs over {sorted(numbers)[:5]}..., not 0 to {len(numbers) - 1}")
    return [name for _, name in sorted(zip(numbers, names, strict=True))]


def episode_row(
    episode: int,
    start: int,
    length: int,
    fps: int,
    tasks: Sequence[str],
    position: Mapping[str, int],
    video_keys: Sequence[str],
    statistics: Mapping[str, Statistics],
    more: Mapping[str, Any],
) -> dict[str, Any]:
    """The metadata of an episode that has its files to itself, with `more` columns of our own."""
    row: dict[str, Any] = {"episode_index": episode, "tasks": list(tasks), "length": length}
    row |= {f"data/{name}": value for name, value in position.items()}
    row |= {"dataset_from_index": start, "dataset_to_index": start + length}
    for key in video_keys:
        row |= {f"videos/{key}/{name}": value for name, value in position.items()}
        row |= {f"videos/{key}/from_timestamp": 0.0, f"videos/{key}/to_timestamp": length / fps}
    row |= dict(more)
    for key, entry in statistics.items():
        row |= {f"stats/{key}/{name}": value.tolist() for name, value in entry.items()}
    return row | {f"meta/episodes/{name}": value for name, value in position.items()}


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Metadata of episodes; every row has the columns of the first."""
    columns = {name: pa.array([row[name] for row in rows], EPISODE_TYPES.get(name)) for name in rows[0]}
    # One row of many columns is mostly description; without the optional parts the file is half as large.
    pq.write_table(
        pa.table(columns), path, compression="none", use_dictionary=False, write_statistics=False, store_schema=False
    )


def row_statistics(row: Mapping[str, Any]) -> dict[str, Statistics]:
    """The statistics in an episode's metadata; what is empty is left out."""
    entries: dict[str, dict[str, Any]] = {}
    for name, value in row.items():
        if name.startswith("stats/") and value is not None:
            _, key, statistic = name.split("/")
            entries.setdefault(key, {})[statistic] = value
    return from_json(entries)
