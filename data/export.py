"""Copies of a dataset in other layouts: LeRobotDataset v2.1, and v3.0 with language columns in the data files."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from data import events as language_events
from data import layout, layout_v21, video
from data.atomic import SUFFIX, appearing, link, write_json
from data.features import AUTOMATIC
from data.reader import Dataset, measure_statistics, read_episode_rows
from data.statistics import Statistics, to_json
from data.writer import table_schema
from robot.errors import TongsError

LEGACY_STATISTICS = ("min", "max", "mean", "std", "count")
"""What v2.1 keeps of each column, in LeRobot's order; it has no quantiles."""


def export_v21(dataset: Dataset, folder: Path | str) -> int:
    """Write a dataset as LeRobotDataset v2.1, which openpi and other programs around LeRobot 0.1 to 0.3 read.

    A video that is one episode's alone is copied as it is. Out of a video of several episodes the episode's compressed
    frames are copied, unchanged, where it begins with a key frame, as it does where LeRobot or we put episodes end to
    end; only a span that begins elsewhere, or that others' frames refer to, is compressed again (H.264). The numbers,
    the instructions and PNG images are the same to the last bit. Language events and how regularly an episode was
    recorded become further keys of its line in episodes.jsonl, which LeRobot ignores and `Dataset` reads.

    Args:
        dataset: what to export, of either version.
        folder: where to; must not exist. It appears when it is complete.

    Returns:
        How many videos had to be compressed again.

    Raises:
        TongsError: the folder exists, the dataset is damaged or empty, or the disk is full.
    """
    target = Path(folder)
    features = {key: value for key, value in dataset.info["features"].items() if value["dtype"] != "language"}
    compressed_again = 0
    with appearing(target) as building:
        episodes, statistics = [], []
        every = zip(dataset.episodes, _episode_statistics(dataset), _extras(dataset), strict=True)
        for episode, entries, extra in every:
            place = {"episode_chunk": episode.index // layout_v21.CHUNK_SIZE, "episode_index": episode.index}
            table = dataset.table(episode.index).drop_columns(_language_columns(dataset))
            pq.write_table(table, _made(building / layout_v21.DATA.format(**place)))
            for key in episode.videos:
                path = _made(building / layout_v21.VIDEO.format(video_key=key, **place))
                compressed_again += not copy_video(dataset, episode.index, key, path)
            line = {"episode_index": episode.index, "tasks": list(episode.tasks), "length": episode.length}
            episodes.append(line | extra)
            kept = {key: {name: entry[name] for name in LEGACY_STATISTICS} for key, entry in entries.items()}
            statistics.append({"episode_index": episode.index, "stats": to_json(kept)})
        tasks = [{"task_index": number, "task": task} for number, task in enumerate(dataset.tasks)]
        layout_v21.write_lines(_made(building / layout_v21.TASKS), tasks)
        layout_v21.write_lines(building / layout_v21.EPISODES, episodes)
        layout_v21.write_lines(building / layout_v21.STATISTICS, statistics)
        write_json(layout_v21.info_json(dataset.info, features), building / layout.INFO)
    return compressed_again


def export_language_columns(dataset: Dataset, folder: Path | str) -> None:
    """Copy a v3.0 dataset with its language events in the columns that LeRobot reads from 0.6 on.

    Videos are the same files (hard links where the file system allows), which nobody changes in place. LeRobot before
    0.6 cannot load the copy.

    Args:
        dataset: a dataset that keeps its events in the episodes' metadata.
        folder: where to; must not exist. It appears when it is complete.
    """
    if dataset.version != layout.VERSION:
        raise TongsError(f"{dataset.folder} is of version {dataset.version}; language columns need {layout.VERSION}")
    if _language_columns(dataset):
        raise TongsError(f"{dataset.folder} has its language events in columns already")
    target = Path(folder)
    info = {**dataset.info, "features": {**dataset.info["features"], **language_events.FEATURES}}
    with appearing(target) as building:
        written = {episode.data_file for episode in dataset.episodes}
        for path in sorted(path for path in dataset.folder.rglob("*") if path.is_file() and path not in written):
            if not path.name.startswith(".") and SUFFIX not in path.name:
                copy = link if path.suffix == ".mp4" else shutil.copyfile
                copy(path, _made(building / path.relative_to(dataset.folder)))
        for path in sorted(written):
            episodes = [episode for episode in dataset.episodes if episode.data_file == path]
            schema = table_schema(info["features"])
            with pq.ParquetWriter(_made(building / path.relative_to(dataset.folder)), schema) as writer:
                for episode in episodes:
                    columns = language_events.to_frames(dataset.events(episode.index), episode.length, dataset.fps)
                    table = dataset.table(episode.index)
                    for key, column in columns.items():
                        table = table.append_column(key, column)
                    writer.write_table(table.select(schema.names).cast(schema))
        write_json(info, building / layout.INFO)


def _language_columns(dataset: Dataset) -> list[str]:
    return [key for key in language_events.COLUMNS if key in dataset.info["features"]]


def _extras(dataset: Dataset) -> list[dict[str, Any]]:
    """Further keys of every episode: the same ones, for LeRobot's converter makes columns of them."""
    extras: list[dict[str, Any]] = []
    said = [dataset.events(episode.index) for episode in dataset.episodes]
    for episode, events in zip(dataset.episodes, said, strict=True):
        extra = {} if episode.timing is None else episode.timing.to_row()
        extras.append(extra | (language_events.to_episode_row(events) if any(said) else {}))
    return extras


def copy_video(dataset: Dataset, episode: int, camera_key: str, target: Path) -> bool:
    """Write one camera's video of an episode as a file of its own; whether its compressed frames could be copied."""
    span = dataset.episodes[episode].videos[camera_key]
    if span.from_timestamp == 0 and video.video_shape(span.path)[0] == dataset.episodes[episode].length:
        shutil.copyfile(span.path, target)
        return True
    return video.cut_video(span.path, target, span.from_timestamp, span.to_timestamp, dataset.fps)


def _episode_statistics(dataset: Dataset) -> Iterator[dict[str, Statistics]]:
    """Of each episode as the dataset has them, or measured where it lacks any."""
    if dataset.version == layout_v21.VERSION:
        known = list(layout_v21.read_statistics(dataset.folder))
    else:
        rows = sorted(read_episode_rows(dataset.folder, with_statistics=True), key=lambda row: row["episode_index"])
        known = [layout.row_statistics(row) for row in rows]
    features = {**dataset.features, **AUTOMATIC}
    for episode in dataset.episodes:
        entries = known[episode.index] if episode.index < len(known) else {}
        if any(set(LEGACY_STATISTICS) - set(entries.get(key, {})) for key in features):
            entries = measure_statistics(dataset.table(episode.index), features, episode.videos)
        yield entries


def _made(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path
