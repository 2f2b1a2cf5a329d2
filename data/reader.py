"""Reading and checking LeRobotDataset v3.0 folders, ours and LeRobot's own."""

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

from data import layout, video
from data.features import AUTOMATIC, Feature, from_info
from data.statistics import Statistics, load_statistics
from robot.errors import TongsError


@dataclass(frozen=True)
class VideoSpan:
    """Where an episode's frames are: seconds from_timestamp (included) to to_timestamp (excluded) of one mp4."""

    path: Path
    from_timestamp: float
    to_timestamp: float


@dataclass(frozen=True)
class Episode:
    """One episode: frames `start` to `stop` (excluded) of the dataset's columns, and the files that hold them."""

    index: int
    start: int
    stop: int
    tasks: tuple[str, ...]
    data_file: Path
    videos: Mapping[str, VideoSpan]

    @property
    def length(self) -> int:
        return self.stop - self.start


class Dataset:
    """A dataset folder, opened and checked.

    Raises TongsError, naming file and episode, if a file is missing or cut short or the counts disagree.

    Attributes:
        folder, fps, robot_type: as in info.json.
        features: {key: Feature}, automatic columns left out.
        tasks: the instructions, by task_index.
        episodes: one `Episode` per episode, in order.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        info = read_info(self.folder)
        self.fps = int(info["fps"])
        self.robot_type = str(info["robot_type"])
        self.features: dict[str, Feature] = from_info(info["features"])
        self.camera_keys = [key for key, feature in self.features.items() if feature.is_image]
        self._video_keys = [key for key in self.camera_keys if self.features[key].dtype == "video"]
        self._info = info
        self.tasks = self._read_tasks()
        self.episodes = self._read_episodes()
        self._check_counts()
        self._check_files()

    @property
    def total_frames(self) -> int:
        return int(self._info["total_frames"])

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
                parts[key].append(_to_numpy(table[key], feature))
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
        """What stats.json says."""
        return load_statistics(self.folder / layout.STATISTICS)

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
        table = _read_table(span.data_file, [camera_key, "episode_index"], span.index)
        rows = table.filter(pc.field("episode_index") == span.index)
        return np.stack(
            [np.asarray(Image.open(io.BytesIO(cell["bytes"])).convert("RGB")) for cell in rows[camera_key].to_pylist()]
        )

    def _read_tasks(self) -> list[str]:
        path = self.folder / layout.TASKS
        try:
            return layout.read_tasks(path)
        except (OSError, pa.ArrowException, ValueError, KeyError, StopIteration) as error:
            raise TongsError(f"{path} is missing or damaged ({error})") from error

    def _read_episodes(self) -> list[Episode]:
        rows = read_episode_rows(self.folder, with_statistics=False)
        rows = sorted(rows, key=lambda row: row["episode_index"])[: self._info["total_episodes"]]
        return [self._parse_row(row) for row in rows]

    def _parse_row(self, row: Mapping[str, Any]) -> Episode:
        try:
            videos = {}
            for key in self._video_keys:
                place = {name: row[f"videos/{key}/{name}"] for name in ("chunk_index", "file_index")}
                path = self.folder / self._info["video_path"].format(video_key=key, **place)
                times = row[f"videos/{key}/from_timestamp"], row[f"videos/{key}/to_timestamp"]
                videos[key] = VideoSpan(path, *times)
            place = {name: row[f"data/{name}"] for name in ("chunk_index", "file_index")}
            return Episode(
                index=row["episode_index"],
                start=row["dataset_from_index"],
                stop=row["dataset_to_index"],
                tasks=tuple(row["tasks"]),
                data_file=self.folder / self._info["data_path"].format(**place),
                videos=videos,
            )
        except KeyError as error:
            raise TongsError(
                f"{self.folder}: the metadata of episode {row.get('episode_index')} lacks {error}"
            ) from error

    def _check_counts(self) -> None:
        declared = self._info["total_episodes"], self._info["total_frames"]
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
    if info.get("codebase_version") != layout.VERSION:
        raise TongsError(
            f"{path} has codebase_version {info.get('codebase_version')!r}; only {layout.VERSION} can be read"
        )
    needed = ("robot_type", "total_episodes", "total_frames", "fps", "data_path", "video_path", "features")
    if missing := [key for key in needed if key not in info]:
        raise TongsError(f"{path} lacks {', '.join(missing)}")
    return info


def read_episode_rows(folder: Path, with_statistics: bool) -> list[dict[str, Any]]:
    """The metadata of all episodes, in the order of their files."""
    rows: list[dict[str, Any]] = []
    for path in sorted((folder / "meta/episodes").glob("*/*.parquet")):
        try:
            file = pq.ParquetFile(path)
            names = [name for name in file.schema_arrow.names if with_statistics or not name.startswith("stats/")]
            rows += file.read(columns=names, use_threads=False).to_pylist()
        except (OSError, pa.ArrowException) as error:
            raise TongsError(f"{path} is damaged or cut short ({error})") from error
    return rows


def _read_table(path: Path, columns: list[str], episode: int) -> pa.Table:
    try:
        return pq.ParquetFile(path).read(columns=columns, use_threads=False)
    except (OSError, pa.ArrowException) as error:
        raise TongsError(f"{path} of episode {episode} is damaged or cut short ({error})") from error


def _has_parquet_footer(path: Path) -> bool:
    size = path.stat().st_size
    if size < 12:
        return False
    with path.open("rb") as file:
        file.seek(size - 4)
        return file.read(4) == b"PAR1"


def _to_numpy(column: pa.ChunkedArray, feature: Feature) -> NDArray[Any]:
    array = column.combine_chunks()
    if isinstance(array, pa.ChunkedArray):
        array = pa.concat_arrays(array.chunks)
    if pa.types.is_nested(array.type):
        array = array.flatten()
    return array.to_numpy(zero_copy_only=False).astype(feature.dtype).reshape(-1, *feature.shape)
