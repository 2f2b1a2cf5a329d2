"""Writing episodes, one durable step at a time, as LeRobotDataset v3.0."""

from __future__ import annotations

import errno
import fcntl
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image

from data import layout, video
from data.atomic import SUFFIX, Staging
from data.features import AUTOMATIC, Feature, ImageStorage, check_column, from_info, with_storage
from data.reader import read_episode_rows, read_info
from data.statistics import (
    Statistics,
    column_statistics,
    from_json,
    image_statistics,
    load_statistics,
    merge,
    sample_frames,
    to_json,
)
from robot.errors import TongsError

NESTED = dict[str, NDArray[Any]]


class DatasetWriter:
    """Appends episodes to a dataset folder; opening a folder that holds one continues it.

    Each episode has its own parquet file and its own mp4 per camera, so that `add_episode` costs the same for the
    first and the five-thousandth, and an interrupted run loses at most the episode it was writing.

    Args:
        folder: the dataset folder, made if absent.
        fps: frames per second.
        features: the columns, without the automatic ones; cameras as `data.features.camera`.
        robot_type: free text kept in info.json.
        image_storage: `video` (mp4, H.264) or `png` (lossless, inside the table).
    """

    def __init__(
        self,
        folder: Path | str,
        fps: int,
        features: Mapping[str, Feature],
        robot_type: str,
        image_storage: ImageStorage = "video",
    ) -> None:
        if fps < 1 or int(fps) != fps:
            raise TongsError(f"fps must be a whole number of at least 1, got {fps}")
        if reserved := sorted(set(features) & set(AUTOMATIC)):
            raise TongsError(f"columns {', '.join(reserved)} are filled in by the writer and must not be declared")
        self.folder = Path(folder)
        self.fps = int(fps)
        self.features = with_storage(features, image_storage)
        self.robot_type = robot_type
        self.episodes = 0
        self.frames = 0
        self._tasks: dict[str, int] = {}
        self._statistics: dict[str, Statistics] = {}
        self._image_keys = [key for key, feature in self.features.items() if feature.is_image]
        self._video_keys = [key for key in self._image_keys if self.features[key].dtype == "video"]
        self._schema = _table_schema(self.features)
        self._lock = _lock(self.folder)
        if (self.folder / layout.INFO).exists():
            self._continue()
        self._remove_torn_episode()

    def add_episode(
        self,
        columns: Mapping[str, NDArray[Any]],
        tasks: Sequence[str],
        videos: Mapping[str, Path] | None = None,
        images: Mapping[str, NDArray[np.uint8]] | None = None,
    ) -> int:
        """Append one episode; when this returns it is on the disk.

        Args:
            columns: every numeric feature, shape (N, D).
            tasks: the instruction at each of the N frames; it may change within the episode.
            videos: finished mp4 files of N frames per camera feature; they are moved into the dataset.
            images: or the frames themselves, uint8 (N, H, W, 3) per camera feature.

        Returns:
            The index of the episode.

        Raises:
            TongsError: the episode does not fit the features, or the disk is full; the dataset is as before.
        """
        table_columns = self._check(columns, tasks, videos, images)
        tasks_then, statistics_then = dict(self._tasks), self._statistics
        staging = Staging()
        try:
            self._stage(staging, table_columns, tasks, videos, images)
            staging.commit()
        except BaseException as error:
            staging.discard()
            self._tasks, self._statistics = tasks_then, statistics_then
            if isinstance(error, OSError):
                raise self._write_error(error) from error
            raise
        self.episodes += 1
        self.frames += len(tasks)
        return self.episodes - 1

    def close(self) -> None:
        """Let another process write to the folder. Nothing is pending: each episode was complete when it was added."""
        self._lock.close()

    def __enter__(self) -> DatasetWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _stage(
        self,
        staging: Staging,
        columns: NESTED,
        tasks: Sequence[str],
        videos: Mapping[str, Path] | None,
        images: Mapping[str, NDArray[np.uint8]] | None,
    ) -> None:
        files = layout.episode_files(self.folder, self.episodes, self._video_keys)
        statistics: dict[str, Statistics] = {}
        for key in self._video_keys:
            if videos is not None:
                staging.move(videos[key], files[key])
                sample = video.decode_key_frames(staging.latest)
            else:
                assert images is not None
                video.encode_video(staging.path(files[key]), images[key], self.fps)
                sample = sample_frames(images[key])
            statistics[key] = image_statistics(sample)

        new_tasks = [task for task in dict.fromkeys(tasks) if task not in self._tasks]
        self._tasks |= {task: len(self._tasks) + number for number, task in enumerate(new_tasks)}
        columns = columns | self._automatic_columns(tasks)
        statistics |= {key: column_statistics(values) for key, values in columns.items()}
        arrays = {key: _to_arrow(values, self._schema.field(key).type) for key, values in columns.items()}
        for key in self._image_keys:
            if key not in self._video_keys:
                assert images is not None
                statistics[key] = image_statistics(sample_frames(images[key]))
                arrays[key] = _png_array(images[key])
        table = pa.table([arrays[name] for name in self._schema.names], schema=self._schema)
        pq.write_table(table, staging.path(files["data"]))

        if new_tasks or self.episodes == 0:
            layout.write_tasks(staging.path(self.folder / layout.TASKS), list(self._tasks))
        merged = {
            key: merge(self._statistics[key], entry) if key in self._statistics else entry
            for key, entry in statistics.items()
        }
        self._statistics = merged
        start, distinct = self.frames, list(dict.fromkeys(tasks))
        row = staging.path(files["meta"])
        layout.write_episode_row(
            row, self.episodes, start, len(tasks), self.fps, distinct, self._video_keys, statistics
        )
        staging.json(self.folder / layout.STATISTICS, to_json(merged))
        staging.json(self.folder / layout.INFO, self._info(self.episodes + 1, self.frames + len(tasks)))

    def _automatic_columns(self, tasks: Sequence[str]) -> NESTED:
        frame = np.arange(len(tasks), dtype=np.int64)
        automatic = {
            "timestamp": (frame / self.fps).astype(np.float32),
            "frame_index": frame,
            "episode_index": np.full_like(frame, self.episodes),
            "index": frame + self.frames,
            "task_index": np.array([self._tasks[task] for task in tasks], dtype=np.int64),
        }
        return {key: values[:, None] for key, values in automatic.items()}

    def _info(self, episodes: int, frames: int) -> dict[str, Any]:
        return layout.info_json(
            self.features, self.fps, self.robot_type, episodes, frames, len(self._tasks), video.CODEC
        )

    def _check(
        self,
        columns: Mapping[str, NDArray[Any]],
        tasks: Sequence[str],
        videos: Mapping[str, Path] | None,
        images: Mapping[str, NDArray[np.uint8]] | None,
    ) -> NESTED:
        numeric = {key: feature for key, feature in self.features.items() if not feature.is_image}
        _same_keys("columns", columns, numeric)
        checked = {key: check_column(key, feature, columns[key]) for key, feature in numeric.items()}
        length = len(tasks)
        if length == 0:
            raise TongsError("an episode needs at least one frame, got none")
        for key, values in checked.items():
            if len(values) != length:
                raise TongsError(f"column {key}: {len(values)} frames, but there are {length} tasks")
        if any(not isinstance(task, str) or not task for task in tasks):
            raise TongsError("every frame needs a task, a non-empty string")
        if (videos is None) == (images is None) and self._image_keys:
            raise TongsError("give the cameras either as videos or as images")
        if videos is not None:
            if len(self._video_keys) != len(self._image_keys):
                raise TongsError("this dataset stores PNG images; give the cameras as images, not as videos")
            _same_keys("videos", videos, self._video_keys)
            found = {key: video.video_shape(Path(path)) for key, path in videos.items()}
        else:
            _same_keys("images", images or {}, self._image_keys)
            found = {key: frames.shape[:3] for key, frames in (images or {}).items()}
        for key, shape in found.items():
            wanted = (length, *self.features[key].shape[:2])
            if tuple(shape) != wanted:
                raise TongsError(f"camera {key}: expected (frames, height, width) = {wanted}, got {tuple(shape)}")
        return checked

    def _continue(self) -> None:
        info = read_info(self.folder)
        mine = json.loads(json.dumps(self._info(0, 0)))
        for field in ("fps", "robot_type"):
            if info[field] != mine[field]:
                raise TongsError(f"dataset {self.folder} has {field} {info[field]!r}, asked for {mine[field]!r}")
        theirs = from_info(info["features"])
        if theirs != self.features:
            names = sorted(set(theirs) | set(self.features))
            name = next(name for name in names if theirs.get(name) != self.features.get(name))
            raise TongsError(
                f"dataset {self.folder} differs in feature {name}: it has {theirs.get(name)}, "
                f"asked for {self.features.get(name)}"
            )
        self.episodes, self.frames = int(info["total_episodes"]), int(info["total_frames"])
        if self.episodes:
            tasks = layout.read_tasks(self.folder / layout.TASKS)
            self._tasks = {task: number for number, task in enumerate(tasks)}
            self._statistics = self._read_statistics()

    def _read_statistics(self) -> dict[str, Statistics]:
        """From stats.json, or from the episodes where an interruption left stats.json one episode ahead."""
        statistics = load_statistics(self.folder / layout.STATISTICS)
        if int(statistics["index"]["count"][0]) == self.frames:
            return statistics
        merged: dict[str, Statistics] = {}
        for row in read_episode_rows(self.folder, with_statistics=True)[: self.episodes]:
            entries: dict[str, dict[str, Any]] = {}
            for name, value in row.items():
                if name.startswith("stats/"):
                    _, key, statistic = name.split("/")
                    entries.setdefault(key, {})[statistic] = value
            for key, entry in from_json(entries).items():
                merged[key] = merge(merged[key], entry) if key in merged else entry
        return merged

    def _remove_torn_episode(self) -> None:
        """Files that an interrupted run left beyond the last complete episode."""
        for path in layout.episode_files(self.folder, self.episodes, self._video_keys).values():
            path.unlink(missing_ok=True)
            path.with_name(path.name + SUFFIX).unlink(missing_ok=True)

    def _write_error(self, error: OSError) -> TongsError:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        reason = "the disk is full" if full else f"writing failed ({error})"
        return TongsError(
            f"{reason}: {self.episodes} episodes are safe in {self.folder}, episode {self.episodes} was not written"
        )


def _lock(folder: Path) -> IO[str]:
    """An open file whose lock says that this process writes to the folder."""
    path = folder / "meta" / ".lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.open("w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.close()
        raise TongsError(f"dataset {folder} is being written by another process") from error
    return file


def _same_keys(what: str, given: Mapping[str, Any], wanted: Mapping[str, Any] | Sequence[str]) -> None:
    if set(given) != set(wanted):
        missing, surplus = sorted(set(wanted) - set(given)), sorted(set(given) - set(wanted))
        raise TongsError(f"{what} do not match the features: missing {missing}, unknown {surplus}")


def _table_schema(features: Mapping[str, Feature]) -> pa.Schema:
    """The Arrow schema of a data file, with the description that Hugging Face `datasets` reads."""
    fields, described = [], {}
    for key, feature in {**features, **AUTOMATIC}.items():
        if feature.dtype == "video":
            continue
        if feature.dtype == "image":
            fields.append(pa.field(key, pa.struct({"bytes": pa.binary(), "path": pa.string()})))
            described[key] = {"_type": "Image"}
            continue
        scalar = pa.bool_() if feature.dtype == "bool" else pa.type_for_alias(feature.dtype)
        value = {"dtype": feature.dtype, "_type": "Value"}
        if feature.shape == (1,):
            fields.append(pa.field(key, scalar))
            described[key] = value
        else:
            fields.append(pa.field(key, pa.list_(scalar, feature.shape[0])))
            described[key] = {"feature": value, "length": feature.shape[0], "_type": "List"}
    return pa.schema(fields, metadata={"huggingface": json.dumps({"info": {"features": described}})})


def _to_arrow(values: NDArray[Any], kind: pa.DataType) -> pa.Array:
    flat = pa.array(values.ravel())
    if pa.types.is_fixed_size_list(kind):
        return pa.FixedSizeListArray.from_arrays(flat, type=kind)
    return flat


def _png_array(frames: NDArray[np.uint8]) -> pa.Array:
    rows = []
    for number, pixels in enumerate(frames):
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, format="PNG", compress_level=1)
        rows.append({"bytes": buffer.getvalue(), "path": f"frame-{number:06d}.png"})
    return pa.array(rows, pa.struct({"bytes": pa.binary(), "path": pa.string()}))
