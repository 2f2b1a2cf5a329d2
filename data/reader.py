"""Reading and checking LeRobotDataset folders of version 3.0 and 2.1, ours and LeRobot's own."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image

from data import events, layout, layout_v21, video
from data.events import LanguageEvent, LanguageStorage
from data.features import AUTOMATIC, Feature, from_info
from data.statistics import (
    Statistics,
    column_statistics,
    image_statistics,
    load_statistics,
    merge_all,
    sample_frames,
)
from data.timing import MEASURED, Timing
from robot.errors import TongsError


@dataclass(frozen=True)
class VideoSpan:
    """Where an episode's frames are: seconds from_timestamp (included) to to_timestamp (excluded) of one mp4."""

    path: Path
    from_timestamp: float
    to_timestamp: float


@dataclass(frozen=True)
class Episode:
    """One episode: frames `start` to `stop` (excluded) of the dataset's columns, and the files that hold them.

    `timing` says how regularly it was recorded, if the dataset has real time stamps; `said` are the language events of
    its metadata (`Dataset.events` also finds those in the data files).
    """

    index: int
    start: int
    stop: int
    tasks: tuple[str, ...]
    data_file: Path
    videos: Mapping[str, VideoSpan]
    timing: Timing | None = None
    said: tuple[LanguageEvent, ...] = ()

    @property
    def length(self) -> int:
        return self.stop - self.start


class Dataset:
    """A dataset folder of version 3.0 or 2.1, opened and checked.

    Raises TongsError, naming file and episode, if a file is missing or cut short or the counts disagree.

    Attributes:
        folder, fps, robot_type: as in info.json.
        info: all of info.json.
        version: `v3.0` or `v2.1`.
        features: {key: Feature}, automatic columns left out.
        tasks: the instructions, by task_index.
        episodes: one `Episode` per episode, in order.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        info = read_info(self.folder)
        self.version = str(info["codebase_version"])
        self.fps = int(info["fps"])
        self.robot_type = str(info["robot_type"])
        self.features: dict[str, Feature] = from_info(info["features"])
        self.camera_keys = [key for key, feature in self.features.items() if feature.is_image]
        self.video_keys = [key for key in self.camera_keys if self.features[key].dtype == "video"]
        self.info = info
        self.tasks = self._read_tasks()
        self.episodes = self._read_episodes()
        self._check_counts()
        self._check_files()

    @property
    def total_frames(self) -> int:
        return int(self.info["total_frames"])

    @cached_property
    def columns(self) -> dict[str, NDArray[Any]]:
        """Every numeric column of the whole dataset, shape (frames, D), automatic ones included."""
        numeric = {key: feature for key, feature in self.features.items() if not feature.is_image} | dict(AUTOMATIC)
        parts: dict[str, list[NDArray[Any]]] = {key: [] for key in numeric}
        for file, episodes in self._episodes_by_file().items():
            table = _read_table(file, list(numeric), episodes[0].index)
            expected = sum(episode.length for episode in episodes)
            if table.num_rows != expected:
                raise TongsError(
                    f"{file} holds {table.num_rows} frames, but its episodes from {episodes[0].index} on "
                    f"have {expected}"
                )
            for key, feature in numeric.items():
                parts[key].append(to_numpy(table[key], feature))
        columns = {key: np.concatenate(arrays) for key, arrays in parts.items()}
        order = np.repeat([e.index for e in self.episodes], [e.length for e in self.episodes])
        wrong = np.flatnonzero(columns["episode_index"][:, 0] != order)
        if len(wrong):
            episode = int(order[wrong[0]])
            raise TongsError(
                f"{self.episodes[episode].data_file}: frames of episode {episode} are marked as episode "
                f"{int(columns['episode_index'][wrong[0], 0])}"
            )
        return columns

    @cached_property
    def statistics(self) -> dict[str, Statistics]:
        """What stats.json says; of v2.1, the statistics of the episodes together, without quantiles."""
        if self.version == layout_v21.VERSION:
            return merge_all(layout_v21.read_statistics(self.folder))
        return load_statistics(self.folder / layout.STATISTICS)

    @property
    def language(self) -> LanguageStorage | None:
        """Where language events are kept, see `DatasetWriter`; None if there are none."""
        if events.EVENTS in self.info["features"]:
            return "frames"
        return "episodes" if any(episode.said for episode in self.episodes) else None

    def events(self, episode: int) -> list[LanguageEvent]:
        """What was said in an episode, in the order of time."""
        span = self._episode(episode)
        columns = [key for key in events.COLUMNS if key in self.info["features"]]
        if not columns:
            return list(span.said)
        table = self.table(episode)
        return events.from_frames({key: table[key].to_pylist() for key in columns}, self.fps)

    def measured_times(self, episode: int) -> NDArray[np.float64] | None:
        """The real time stamps (N, S) of an episode on the robot's clock, s; None if the dataset has none.

        The column itself counts from the start of the episode, `Episode.timing.start`.
        """
        span = self._episode(episode)
        if MEASURED not in self.features or span.timing is None:
            return None
        return self.columns[MEASURED][span.start : span.stop] + span.timing.start

    def table(self, episode: int) -> pa.Table:
        """The rows of an episode as they are in its data file, every column."""
        span = self._episode(episode)
        return _read_episode(span.data_file, None, episode)

    def frame_tasks(self, episode: int) -> list[str]:
        """The instruction at each frame of an episode."""
        span = self._episode(episode)
        numbers = self.columns["task_index"][span.start : span.stop, 0]
        if numbers.max() >= len(self.tasks) or numbers.min() < 0:
            raise TongsError(f"{span.data_file}: episode {episode} uses a task_index that tasks.parquet does not have")
        return [self.tasks[number] for number in numbers]

    def images(self, episode: int, camera_key: str) -> NDArray[np.uint8]:
        """The decoded frames of one camera in one episode, uint8 (N, H, W, 3)."""
        span = self._episode(episode)
        if camera_key not in self.camera_keys:
            raise TongsError(
                f"dataset {self.folder} has no camera {camera_key!r}; it has: {', '.join(self.camera_keys)}"
            )
        if self.features[camera_key].dtype == "video":
            clip = span.videos[camera_key]
            try:
                frames = video.decode_video(clip.path, clip.from_timestamp, clip.to_timestamp)
            except TongsError as error:
                raise TongsError(f"episode {episode}: {error}") from error
            source = clip.path
        else:
            frames, source = self._table_images(span, camera_key), span.data_file
        if frames.shape != (span.length, *self.features[camera_key].shape):
            raise TongsError(
                f"{source}: episode {episode} should give {(span.length, *self.features[camera_key].shape)} "
                f"of {camera_key}, got {frames.shape}"
            )
        return frames

    def _episode(self, index: int) -> Episode:
        if not 0 <= index < len(self.episodes):
            raise TongsError(f"dataset {self.folder} has episodes 0 to {len(self.episodes) - 1}, asked for {index}")
        return self.episodes[index]

    def _episodes_by_file(self) -> dict[Path, list[Episode]]:
        files: dict[Path, list[Episode]] = {}
        for episode in self.episodes:
            files.setdefault(episode.data_file, []).append(episode)
        return files

    def _table_images(self, span: Episode, camera_key: str) -> NDArray[np.uint8]:
        rows = _read_episode(span.data_file, [camera_key, "episode_index"], span.index)
        return decode_images(rows[camera_key])

    def _read_tasks(self) -> list[str]:
        if self.version == layout_v21.VERSION:
            return layout_v21.read_tasks(self.folder)
        path = self.folder / layout.TASKS
        try:
            return layout.read_tasks(path)
        except (OSError, pa.ArrowException, ValueError, KeyError, StopIteration) as error:
            raise TongsError(f"{path} is missing or damaged ({error})") from error

    def _read_episodes(self) -> list[Episode]:
        if self.version == layout_v21.VERSION:
            rows = layout_v21.read_episode_rows(self.folder, self.fps, self.video_keys)
        else:
            rows = read_episode_rows(self.folder, with_statistics=False)
        rows = sorted(rows, key=lambda row: row["episode_index"])[: self.info["total_episodes"]]
        return [self._parse_row(row) for row in rows]

    def _parse_row(self, row: Mapping[str, Any]) -> Episode:
        try:
            videos = {}
            for key in self.video_keys:
                times = row[f"videos/{key}/from_timestamp"], row[f"videos/{key}/to_timestamp"]
                videos[key] = VideoSpan(self._file("video_path", row, f"videos/{key}", video_key=key), *times)
            return Episode(
                index=row["episode_index"],
                start=row["dataset_from_index"],
                stop=row["dataset_to_index"],
                tasks=tuple(row["tasks"]),
                data_file=self._file("data_path", row, "data"),
                videos=videos,
                timing=Timing.from_row(row),
                said=tuple(events.from_episode_row(row)),
            )
        except KeyError as error:
            raise TongsError(
                f"{self.folder}: the metadata of episode {row.get('episode_index')} lacks {error}"
            ) from error

    def _file(self, template: str, row: Mapping[str, Any], column: str, **more: str) -> Path:
        """A file by info.json's template, which counts files in v3.0 and episodes in v2.1."""
        place = {name: row[f"{column}/{name}"] for name in ("chunk_index", "file_index")}
        episode = row["episode_index"]
        chunk = episode // self.info["chunks_size"]
        return self.folder / self.info[template].format(**place, episode_index=episode, episode_chunk=chunk, **more)

    def _check_counts(self) -> None:
        declared = self.info["total_episodes"], self.info["total_frames"]
        if len(self.episodes) != declared[0]:
            raise TongsError(
                f"{self.folder / layout.INFO} declares {declared[0]} episodes, the metadata describes "
                f"{len(self.episodes)}: the dataset is cut short"
            )
        start = 0
        for position, episode in enumerate(self.episodes):
            if (episode.index, episode.start) != (position, start) or episode.length < 1:
                raise TongsError(
                    f"{self.folder}: episode {position} should begin at frame {start}, the metadata has episode "
                    f"{episode.index} from frame {episode.start} to {episode.stop}"
                )
            start = episode.stop
        if start != declared[1]:
            raise TongsError(
                f"{self.folder / layout.INFO} declares {declared[1]} frames, but its {declared[0]} episodes "
                f"have {start}"
            )

    def _check_files(self) -> None:
        """A cheap look at every file: present, and ended properly. Damage inside a file shows when it is read."""
        seen: set[Path] = set()
        for episode in self.episodes:
            for path in (episode.data_file, *(span.path for span in episode.videos.values())):
                if path in seen:
                    continue
                seen.add(path)
                if not path.is_file():
                    raise TongsError(f"{path} of episode {episode.index} is missing")
                complete = video.is_complete(path) if path.suffix == ".mp4" else _has_parquet_footer(path)
                if not complete:
                    raise TongsError(f"{path} of episode {episode.index} is cut short")


def read_info(folder: Path) -> dict[str, Any]:
    """info.json, checked for the version and the keys that are needed."""
    path = folder / layout.INFO
    try:
        info = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise TongsError(f"{folder} is not a dataset: it has no {layout.INFO}") from error
    except json.JSONDecodeError as error:
        raise TongsError(f"{path} is damaged: {error}") from error
    if info.get("codebase_version") not in (layout.VERSION, layout_v21.VERSION):
        raise TongsError(
            f"{path} has codebase_version {info.get('codebase_version')!r}; "
            f"only {layout.VERSION} and {layout_v21.VERSION} can be read"
        )
    needed = (
        "robot_type",
        "total_episodes",
        "total_frames",
        "chunks_size",
        "fps",
        "data_path",
        "video_path",
        "features",
    )
    if missing := [key for key in needed if key not in info]:
        raise TongsError(f"{path} lacks {', '.join(missing)}")
    return info


def read_episode_rows(folder: Path, with_statistics: bool) -> list[dict[str, Any]]:
    """The metadata of all episodes of v3.0, in the order of their files."""
    return [row for path in layout.episode_tables(folder) for row in read_rows(path, with_statistics)]


def read_rows(path: Path, with_statistics: bool) -> list[dict[str, Any]]:
    """The metadata in one file of v3.0. Raises TongsError if the file is damaged."""
    try:
        file = pq.ParquetFile(path)
        names = [name for name in file.schema_arrow.names if with_statistics or not name.startswith("stats/")]
        return file.read(columns=names, use_threads=False).to_pylist()
    except (OSError, pa.ArrowException) as error:
        raise TongsError(f"{path} is damaged or cut short ({error})") from error


def _read_table(path: Path, columns: list[str] | None, episode: int) -> pa.Table:
    try:
        return pq.ParquetFile(path).read(columns=columns, use_threads=False)
    except (OSError, pa.ArrowException) as error:
        raise TongsError(f"{path} of episode {episode} is damaged or cut short ({error})") from error


def _read_episode(path: Path, columns: list[str] | None, episode: int) -> pa.Table:
    """The rows of one episode, without reading row groups that hold only others."""
    try:
        file = pq.ParquetFile(path)
        leaf = next(i for i in range(len(file.schema)) if file.schema.column(i).path == "episode_index")
        groups = []
        for number in range(file.num_row_groups):
            known = file.metadata.row_group(number).column(leaf).statistics
            if known is None or not known.has_min_max or known.min <= episode <= known.max:
                groups.append(number)
        table = file.read_row_groups(groups, columns=columns, use_threads=False)
    except (OSError, pa.ArrowException) as error:
        raise TongsError(f"{path} of episode {episode} is damaged or cut short ({error})") from error
    return table.filter(pc.field("episode_index") == episode)


def measure_statistics(
    table: pa.Table, features: Mapping[str, Feature], videos: Mapping[str, VideoSpan]
) -> dict[str, Statistics]:
    """The statistics of every column of an episode, from its rows and its videos."""
    result = {}
    for key, feature in features.items():
        if feature.dtype == "video":
            span = videos[key]
            frames = video.decode_video(span.path, span.from_timestamp, span.to_timestamp)
            result[key] = image_statistics(sample_frames(frames))
        elif feature.dtype == "image":
            result[key] = image_statistics(sample_frames(decode_images(table[key])))
        else:
            result[key] = column_statistics(to_numpy(table[key], feature))
    return result


def _has_parquet_footer(path: Path) -> bool:
    size = path.stat().st_size
    if size < 12:
        return False
    with path.open("rb") as file:
        file.seek(size - 4)
        return file.read(4) == b"PAR1"


def decode_images(column: pa.ChunkedArray) -> NDArray[np.uint8]:
    """The PNG images of a column, uint8 (N, H, W, 3)."""
    opened = (Image.open(io.BytesIO(cell["bytes"])) for cell in column.to_pylist())
    return np.stack([np.asarray(image.convert("RGB")) for image in opened])


def to_numpy(column: pa.ChunkedArray, feature: Feature) -> NDArray[Any]:
    """A numeric column of a data file as an array (N, D) of the feature's dtype."""
    array = column.combine_chunks()
    if isinstance(array, pa.ChunkedArray):
        array = pa.concat_arrays(array.chunks)
    if pa.types.is_nested(array.type):
        array = array.flatten()
    return array.to_numpy(zero_copy_only=False).astype(feature.dtype).reshape(-1, *feature.shape)
