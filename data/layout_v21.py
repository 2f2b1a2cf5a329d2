"""Where LeRobotDataset v2.1 keeps things: a parquet and a video file per episode, and lists of JSON lines."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from data.statistics import Statistics, from_json
from robot.errors import TongsError

VERSION = "v2.1"
TASKS = "meta/tasks.jsonl"
EPISODES = "meta/episodes.jsonl"
STATISTICS = "meta/episodes_stats.jsonl"
DATA = "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet"
VIDEO = "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4"
CHUNK_SIZE = 1000
"""Episodes in one chunk folder."""


def info_json(info: Mapping[str, Any], features: Mapping[str, Any]) -> dict[str, Any]:
    """info.json for the same episodes as those of a v3.0 `info`, keys in LeRobot's order."""
    episodes = int(info["total_episodes"])
    videos = sum(feature["dtype"] == "video" for feature in features.values())
    return {
        "codebase_version": VERSION,
        "robot_type": info["robot_type"],
        "total_episodes": episodes,
        "total_frames": info["total_frames"],
        "total_tasks": info["total_tasks"],
        "total_videos": episodes * videos,
        "total_chunks": -(-episodes // CHUNK_SIZE),
        "chunks_size": CHUNK_SIZE,
        "fps": info["fps"],
        "splits": {"train": f"0:{episodes}"},
        "data_path": DATA,
        "video_path": VIDEO if videos else None,
        "features": dict(features),
    }


def read_tasks(folder: Path) -> list[str]:
    """Instructions in the order of their task_index."""
    lines = sorted(read_lines(folder / TASKS), key=lambda line: line["task_index"])
    if [line["task_index"] for line in lines] != list(range(len(lines))):
        raise TongsError(f"{folder / TASKS}: task_index does not run from 0 to {len(lines) - 1}")
    return [line["task"] for line in lines]


def read_episode_rows(folder: Path, fps: int, video_keys: Sequence[str]) -> list[dict[str, Any]]:
    """The metadata of all episodes in the columns of v3.0; every episode has its files to itself."""
    rows, start = [], 0
    for line in sorted(read_lines(folder / EPISODES), key=lambda line: line["episode_index"]):
        length = line["length"]
        row = dict(line) | {"dataset_from_index": start, "dataset_to_index": start + length}
        row |= {"data/chunk_index": 0, "data/file_index": line["episode_index"]}
        for key in video_keys:
            row |= {f"videos/{key}/chunk_index": 0, f"videos/{key}/file_index": line["episode_index"]}
            row |= {f"videos/{key}/from_timestamp": 0.0, f"videos/{key}/to_timestamp": length / fps}
        rows.append(row)
        start += length
    return rows


def read_statistics(folder: Path) -> Iterator[dict[str, Statistics]]:
    """The statistics of each episode."""
    for line in read_lines(folder / STATISTICS):
        yield from_json(line["stats"])


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a file of JSON lines. Raises TongsError if it is missing or a line is damaged."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise TongsError(f"{path} is missing") from error
    lines = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            lines.append(json.loads(line))
        except json.JSONDecodeError as error:
            raise TongsError(f"{path}, line {number}, is damaged: {error}") from error
    return lines


def write_lines(path: Path, lines: Sequence[Mapping[str, Any]]) -> None:
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    path.write_text(text, encoding="utf-8")
