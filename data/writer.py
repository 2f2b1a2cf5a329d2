"""Writing episodes, one durable step at a time, as LeRobotDataset v3.0."""

from __future__ import annotations

import errno
import fcntl
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image

from data import events as language_events
from data import layout, video
from data.atomic import SUFFIX, Staging
from data.events import LanguageEvent, LanguageStorage
from data.features import AUTOMATIC, Feature, ImageStorage, check_column, from_info, with_storage
from data.reader import read_episode_rows, read_info, read_rows
from data.statistics import (
    Statistics,
    column_statistics,
    image_statistics,
    load_statistics,
    merge_all,
    sample_frames,
    to_json,
)
from data.timing import LIMITS, MEASURED, Timing, TimingLimits, check_times
from robot.errors import TongsError

NESTED = dict[str, NDArray[Any]]


class DatasetWriter:
    """Appends episodes to a dataset folder; opening a folder that holds one continues it.

    Each episode has its own parquet file and its own mp4 per camera, so that `add_episode` costs the same for the
    first and the five-thousandth, and an interrupted run loses at most the episode it was writing.

    Args:
        folder: the dataset folder, made if absent.
        fps: frames per second.
        features: the columns, without the automatic ones; cameras as `data.features.camera`. With the column
            `data.timing.MEASURED` every episode is checked against `limits`.
        robot_type: free text kept in info.json.
        image_storage: `video` (mp4, H.264) or `png` (lossless, inside the table).
        language: where language events are kept: `episodes`, in the metadata, which every LeRobot can load, or
            `frames`, in the columns that LeRobot reads from 0.6 on and that older ones refuse. None: as the dataset
            has it, and nowhere if it is new.
        limits: how far achieved rate and jitter may be from what is declared.
    """

    def __init__(
        self,
        folder: Path | str,
        fps: int,
        features: Mapping[str, Feature],
        robot_type: str,
        image_storage: ImageStorage = "video",
        language: LanguageStorage | None = None,
        limits: TimingLimits = LIMITS,
    ) -> None:
        if fps < 1 or int(fps) != fps:
            raise TongsError(f"fps must be a whole number of at least 1, got {fps}")
        if reserved := sorted(set(features) & {*AUTOMATIC, *language_events.COLUMNS}):
            raise TongsError(f"columns {', '.join(reserved)} are filled in by the writer and must not be declared")
        self.folder = Path(folder)
        self.fps = int(fps)
        self.features = with_storage(features, image_storage)
        self.robot_type = robot_type
        self.language = language
        self.limits = limits
        self.episodes = 0
        self.frames = 0
        self._position = 0
        self._row_columns: list[str] | None = None
        self._tasks: dict[str, int] = {}
        self._statistics: dict[str, Statistics] = {}
        self._image_keys = [key for key, feature in self.features.items() if feature.is_image]
        self._video_keys = [key for key in self._image_keys if self.features[key].dtype == "video"]
        self._info = layout.info_json(self.features, self.fps, robot_type, video.CODEC)
        self._lock = lock(self.folder)
        try:
            if (self.folder / layout.INFO).exists():
                self._continue()
            else:
                self._begin()
            self._remove_torn_episode()
        except BaseException:
            self._lock.close()
            raise
        self._schema = table_schema(self._info["features"])

    def add_episode(
        self,
        columns: Mapping[str, NDArray[Any]],
        tasks: Sequence[str],
        videos: Mapping[str, Path] | None = None,
        images: Mapping[str, NDArray[np.uint8]] | None = None,
        events: Sequence[LanguageEvent] = (),
    ) -> int:
        """Append one episode; when this returns it is on the disk.

        Args:
            columns: every numeric feature, shape (N, D); that of real time stamps in s on the robot's clock.
            tasks: the instruction at each of the N frames; it may change within the episode.
            videos: finished mp4 files of N frames per camera feature; they are moved into the dataset.
            images: or the frames themselves, uint8 (N, H, W, 3) per camera feature.
            events: what was said, at times within the episode.

        Returns:
            The index of the episode.

        Raises:
            TongsError: the episode does not fit the features, was recorded at another rate than it declares, or the
                disk is full; the dataset is as before.
        """
        checked, timing = self._check(columns, tasks, videos, images, events)
        tasks_then, statistics_then = dict(self._tasks), self._statistics
        staging = Staging()
        try:
            self._stage(staging, checked, tasks, videos, images, events, timing)
            staging.commit()
        except BaseException as error:
            staging.discard()
            self._tasks, self._statistics = tasks_then, statistics_then
            if isinstance(error, OSError):
                raise self._write_error(error) from error
            raise
        self.episodes += 1
        self.frames += len(tasks)
        self._position += 1
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
        events: Sequence[LanguageEvent],
        timing: Timing | None,
    ) -> None:
        position = layout.file_position(self._position, self._info["chunks_size"])
        files = layout.episode_files(self.folder, position, self._video_keys)
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
        if self.language == "frames":
            arrays |= language_events.to_frames(events, len(tasks), self.fps)
        table = pa.table([arrays[name] for name in self._schema.names], schema=self._schema)
        pq.write_table(table, staging.path(files["data"]))

        if new_tasks or self.episodes == 0:
            layout.write_tasks(staging.path(self.folder / layout.TASKS), list(self._tasks))
        self._statistics = merge_all([self._statistics, statistics])
        more = {} if timing is None else timing.to_row()
        if self.language == "episodes":
            more |= language_events.to_episode_row(events)
        start, distinct = self.frames, list(dict.fromkeys(tasks))
        row = layout.episode_row(
            self.episodes, start, len(tasks), self.fps, distinct, position, self._video_keys, statistics, more
        )
        if self._row_columns is not None:
            row = {name: row.get(name) for name in self._row_columns}
        layout.write_rows(staging.path(files["meta"]), [row])
        staging.json(self.folder / layout.STATISTICS, to_json(self._statistics))
        episodes, frames = self.episodes + 1, start + len(tasks)
        staging.json(self.folder / layout.INFO, layout.counted(self._info, episodes, frames, len(self._tasks)))

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

    def _check(
        self,
        columns: Mapping[str, NDArray[Any]],
        tasks: Sequence[str],
        videos: Mapping[str, Path] | None,
        images: Mapping[str, NDArray[np.uint8]] | None,
        events: Sequence[LanguageEvent],
    ) -> tuple[NESTED, Timing | None]:
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
        self._check_events(events, length)
        if MEASURED not in checked:
            return checked, None
        names = self.features[MEASURED].names or tuple(map(str, range(checked[MEASURED].shape[1])))
        timing = check_times(checked[MEASURED], names, self.fps, self.limits)
        return checked | {MEASURED: checked[MEASURED] - timing.start}, timing

    def _check_events(self, events: Sequence[LanguageEvent], length: int) -> None:
        if events and self.language is None:
            raise TongsError(
                f"dataset {self.folder} keeps no language events; a new one does with language=episodes or frames"
            )
        for event in events:
            if event.time > length / self.fps:
                raise TongsError(
                    f"a language event at {event.time:g} s is beyond the end of its episode, {length / self.fps:g} s"
                )
            if event.camera is not None and event.camera not in self._image_keys:
                raise TongsError(f"a language event names camera {event.camera!r}, which the dataset does not have")

    def _begin(self) -> None:
        if any(layout.file_position(0) != place for place in _places(self.folder / "data")):
            raise TongsError(f"{self.folder} holds data but no {layout.INFO}; restore that file or take another folder")
        self._continue_language()

    def _continue(self) -> None:
        info = read_info(self.folder)
        for field in ("codebase_version", "fps", "robot_type"):
            if info[field] != self._info[field]:
                raise TongsError(f"dataset {self.folder} has {field} {info[field]!r}, asked for {self._info[field]!r}")
        theirs = from_info(info["features"])
        if theirs != self.features:
            names = sorted(set(theirs) | set(self.features))
            name = next(name for name in names if theirs.get(name) != self.features.get(name))
            raise TongsError(
                f"dataset {self.folder} differs in feature {name}: it has {theirs.get(name)}, "
                f"asked for {self.features.get(name)}"
            )
        written = {*theirs, *AUTOMATIC, *language_events.COLUMNS}
        if others := [key for key in info["features"] if key not in written]:
            raise TongsError(f"dataset {self.folder} has columns that cannot be continued: {', '.join(others)}")
        self._info = info
        self.episodes, self.frames = int(info["total_episodes"]), int(info["total_frames"])
        if self.episodes:
            tasks = layout.read_tasks(self.folder / layout.TASKS)
            self._tasks = {task: number for number, task in enumerate(tasks)}
            self._statistics = self._read_statistics()
            self._row_columns = list(read_rows(layout.episode_tables(self.folder)[0], with_statistics=True)[0])
            self._position = 1 + layout.last_file(self._last_row(), info["chunks_size"])
        self._continue_language()

    def _continue_language(self) -> None:
        """Events stay where the dataset has them: LeRobot wants the same columns in all files."""
        found: LanguageStorage | None = None
        if language_events.EVENTS in self._info["features"]:
            found = "frames"
        elif self._row_columns is not None and language_events.EVENTS in self._row_columns:
            found = "episodes"
        if self.language is not None and self.language != found and self.episodes:
            raise TongsError(
                f"dataset {self.folder} keeps language events in {found or 'no place'}, asked for {self.language}"
            )
        if self.episodes:
            self.language = found
        elif self.language == "frames":
            self._info["features"] |= language_events.FEATURES

    def _last_row(self) -> dict[str, Any]:
        """The metadata of the last episode."""
        for path in reversed(layout.episode_tables(self.folder)):
            for row in reversed(read_rows(path, with_statistics=False)):
                if row["episode_index"] == self.episodes - 1:
                    return row
        raise TongsError(f"{self.folder} has no metadata of episode {self.episodes - 1}; `repair` can rebuild it")

    def _read_statistics(self) -> dict[str, Statistics]:
        """From stats.json, or from the episodes where an interruption left stats.json one episode ahead."""
        statistics = load_statistics(self.folder / layout.STATISTICS)
        if int(statistics["index"]["count"][0]) == self.frames:
            return statistics
        rows = read_episode_rows(self.folder, with_statistics=True)[: self.episodes]
        return merge_all(layout.row_statistics(row) for row in rows)

    def _remove_torn_episode(self) -> None:
        """Files that an interrupted run left beyond the last complete episode."""
        position = layout.file_position(self._position, self._info["chunks_size"])
        for path in layout.episode_files(self.folder, position, self._video_keys).values():
            path.unlink(missing_ok=True)
            for left in path.parent.glob(path.name + SUFFIX + "*"):
                left.unlink()
        for left in (self.folder / "meta").glob("*" + SUFFIX):
            left.unlink()

    def _write_error(self, error: OSError) -> TongsError:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        reason = "the disk is full" if full else f"writing failed ({error})"
        return TongsError(
            f"{reason}: {self.episodes} episodes are safe in {self.folder}, episode {self.episodes} was not written"
        )


def lock(folder: Path) -> IO[str]:
    """An open file whose lock says that this process writes to the folder."""
    path = folder / "meta" / ".lock"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("w")
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise TongsError(f"{folder} cannot be written to: {'the disk is full' if full else error}") from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.close()
        raise TongsError(f"dataset {folder} is being written by another process") from error
    return file


def _places(folder: Path) -> Iterator[dict[str, int]]:
    """Chunk and file index of every data file."""
    for path in folder.glob("chunk-*/file-*.parquet"):
        yield {"chunk_index": int(path.parent.name[6:]), "file_index": int(path.stem[5:])}


def _same_keys(what: str, given: Mapping[str, Any], wanted: Mapping[str, Any] | Sequence[str]) -> None:
    if set(given) != set(wanted):
        missing, surplus = sorted(set(wanted) - set(given)), sorted(set(given) - set(wanted))
        raise TongsError(f"{what} do not match the features: missing {missing}, unknown {surplus}")


def table_schema(features: Mapping[str, Mapping[str, Any]]) -> pa.Schema:
    """The Arrow schema of a data file by info.json, with the description that Hugging Face `datasets` reads."""
    fields, described = [], {}
    for key, feature in features.items():
        dtype, shape = feature["dtype"], tuple(feature["shape"])
        if dtype == "video":
            continue
        if dtype == "language":
            fields.append(pa.field(key, language_events.FRAME_TYPES[key]))
            described = None  # from the Arrow types then: older `datasets` have no name for JSON
            continue
        if dtype == "image":
            fields.append(pa.field(key, pa.struct({"bytes": pa.binary(), "path": pa.string()})))
            entry: dict[str, Any] = {"_type": "Image"}
        else:
            scalar = pa.bool_() if dtype == "bool" else pa.type_for_alias(dtype)
            entry = {"dtype": dtype, "_type": "Value"}
            if shape != (1,):
                entry = {"feature": entry, "length": shape[0], "_type": "List"}
            fields.append(pa.field(key, scalar if shape == (1,) else pa.list_(scalar, shape[0])))
        if described is not None:
            described[key] = entry
    metadata = None if described is None else {"huggingface": json.dumps({"info": {"features": described}})}
    return pa.schema(fields, metadata=metadata)


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
