"""Making a damaged dataset whole again: what is intact is kept, what is not is moved aside, and all of it is told."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from data import events as language_events
from data import layout, video
from data.atomic import SUFFIX, Staging, flush, link, write_json
from data.features import AUTOMATIC, from_info
from data.reader import Dataset, VideoSpan, measure_statistics, read_info, read_rows, to_numpy
from data.salvage import salvage
from data.statistics import column_statistics, load_statistics, merge_all, to_json
from data.timing import MEASURED, measure
from data.writer import lock, table_schema
from robot.errors import TongsError

DAMAGED = "damaged"
"""Folder inside the dataset for the originals of everything that was removed or made anew."""
_JOURNAL = "unfinished.json"


@dataclass(frozen=True)
class Report:
    """What a repair found and did.

    Attributes:
        folder: the dataset.
        found: what was wrong, a sentence each; empty if the dataset was whole.
        dropped: episodes, by the number they had, that could not be kept, and why.
        rebuilt: files that were made anew, relative to the folder.
        moved: where the originals of removed and rebuilt files are now, relative to the folder.
        episodes, frames: what the dataset holds now.
    """

    folder: Path
    found: tuple[str, ...]
    dropped: tuple[str, ...]
    rebuilt: tuple[str, ...]
    moved: tuple[str, ...]
    episodes: int
    frames: int

    @property
    def was_whole(self) -> bool:
        return not self.found

    def __str__(self) -> str:
        if self.was_whole:
            return f"{self.folder} is whole: {self.episodes} episodes, {self.frames} frames"
        lines = [f"{self.folder} was damaged and is whole again: {self.episodes} episodes, {self.frames} frames"]
        for title, items in (("found", self.found), ("dropped", self.dropped), ("rebuilt", self.rebuilt)):
            lines += [f"  {title}: {item}" for item in items]
        if self.moved:
            place = "/".join(Path(self.moved[0]).parts[:2])
            lines.append(f"  the originals of {len(self.moved)} files are in {place}")
        return "\n".join(lines)


def repair(folder: Path | str) -> Report:
    """Check a LeRobotDataset v3.0, ours or LeRobot's, and mend what is broken.

    Kept is every episode whose rows are complete in its data file and whose frames are complete in its videos. The
    rest follows from those: numbers of episodes and frames without a gap, the episodes' metadata and statistics, the
    totals in info.json. Rows are also found in a data file that has lost its footer, as after LeRobot's recorder was
    killed before `finalize()`. Nothing is deleted: the original of every file that is removed or rewritten goes to
    `damaged/<number>/` inside the dataset. A repair that is itself interrupted is undone by the next.

    Returns:
        What was found and done; a dataset that is whole is not touched.

    Raises:
        TongsError: the folder is no v3.0 dataset, its info.json or tasks.parquet cannot be read (nothing else has what
            they say), another process writes to it, or the disk is full; the dataset is then as before.
    """
    folder = Path(folder)
    if not (folder / layout.INFO).exists() and not any((folder / DAMAGED).glob(f"*/{_JOURNAL}")):
        raise TongsError(f"{folder} is not a dataset: it has no {layout.INFO}")
    with lock(folder):
        for journal in sorted((folder / DAMAGED).glob(f"*/{_JOURNAL}")):
            undo(folder, journal.parent)
        return _Repair(folder).run()


@dataclass
class _Rows:
    """Rows of one episode in a data file: `start` to `stop` of the file's intact rows."""

    file: Path
    start: int
    stop: int
    number: int
    complete: bool
    tasks: tuple[int, ...]
    first_index: int
    row: dict[str, Any] | None = None
    spans: dict[str, VideoSpan] = field(default_factory=dict)

    @property
    def length(self) -> int:
        return self.stop - self.start


class _Repair:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.info = read_info(folder)
        if self.info["codebase_version"] != layout.VERSION:
            raise TongsError(
                f"{folder} is of version {self.info['codebase_version']}; only {layout.VERSION} can be repaired"
            )
        try:
            self.tasks = layout.read_tasks(folder / layout.TASKS)
        except (OSError, pa.ArrowException, ValueError, KeyError, StopIteration) as error:
            raise TongsError(
                f"{folder / layout.TASKS} is missing or damaged ({error}), and nothing else says which instruction "
                f"has which number; restore it from a copy"
            ) from error
        self.fps = int(self.info["fps"])
        self.video_keys = [key for key, feature in self.info["features"].items() if feature["dtype"] == "video"]
        self.found: list[str] = []
        self.dropped: list[str] = []
        self._broken: dict[Path, list[pa.Table]] = {}
        self._rows_in: dict[Path, int] = {}
        self._row_count = 0
        self._columns: tuple[str, ...] = ()
        self._videos: dict[Path, int] = {}
        self._open: tuple[Path, pa.Table] | None = None
        self._rows: list[dict[str, Any]] | None = None

    def run(self) -> Report:
        episodes = self._read_data()
        rows, broken = self._read_rows()
        self._match(episodes, rows)
        kept = [episode for episode in episodes if self._has_all(episode, episodes)]
        changes = self._plan(kept, broken)
        frames = sum(episode.length for episode in kept)
        if not self.found:
            return Report(self.folder, (), (), (), (), len(kept), frames)
        moved = changes.carry_out()
        rebuilt = sorted(self._name(path) for path in changes.written)
        return Report(
            self.folder, tuple(self.found), tuple(self.dropped), tuple(rebuilt), tuple(moved), len(kept), frames
        )

    def _name(self, path: Path) -> str:
        return str(path.relative_to(self.folder))

    # --- what is there

    @cached_property
    def _schema(self) -> pa.Schema:
        for path in sorted((self.folder / "data").glob("*/*.parquet")):
            try:
                return pq.read_schema(path)
            except (OSError, pa.ArrowException):
                continue
        return table_schema(self.info["features"])

    def _read_data(self) -> list[_Rows]:
        """The episodes of all data files, in the order of files and rows."""
        episodes: list[_Rows] = []
        for path in sorted((self.folder / "data").glob("*/*.parquet")):
            groups, whole = self._intact(path)
            self._rows_in[path] = sum(group.num_rows for group in groups)
            if not whole:
                self._broken[path] = groups
                self.found.append(
                    f"{self._name(path)} is damaged or cut short; {self._rows_in[path]} rows of it are intact"
                )
            if groups:
                episodes += _episodes(path, pa.concat_tables([group.select(_KEYS) for group in groups]))
        return episodes

    def _intact(self, path: Path) -> tuple[list[pa.Table], bool]:
        """The row groups that can be read, and whether those are all; without rows kept in memory if they are."""
        try:
            file = pq.ParquetFile(path)
        except (OSError, pa.ArrowException):
            return salvage(path, self._schema), False
        groups, whole = [], True
        for number in range(file.num_row_groups):
            try:
                groups.append(file.read_row_group(number, use_threads=False))
            except (OSError, pa.ArrowException):
                whole = False
        return ([group.select(_KEYS) for group in groups] if whole else groups), whole

    def _read_rows(self) -> tuple[list[dict[str, Any]], list[Path]]:
        """The episodes' metadata, and the files of it that cannot be read."""
        rows: list[dict[str, Any]] = []
        broken = []
        for path in layout.episode_tables(self.folder):
            try:
                rows += read_rows(path, with_statistics=True)
            except TongsError:
                broken.append(path)
                self.found.append(f"{self._name(path)} is damaged or cut short")
        self._row_count = len(rows)
        self._columns = tuple(rows[0]) if rows else ()
        return rows, broken

    def _match(self, episodes: Sequence[_Rows], rows: Sequence[dict[str, Any]]) -> None:
        """Give each episode its metadata: by number, or by place where the numbers disagree."""
        by_file: dict[Path, list[dict[str, Any]]] = {}
        for row in sorted(rows, key=lambda row: row["dataset_from_index"]):
            place = {name: row[f"data/{name}"] for name in ("chunk_index", "file_index")}
            by_file.setdefault(self.folder / self.info["data_path"].format(**place), []).append(row)
        for path, described in by_file.items():
            present = [episode for episode in episodes if episode.file == path and episode.complete]
            for episode in present:
                wanted = (episode.number, episode.length)
                fitting = (row for row in described if (row["episode_index"], row["length"]) == wanted)
                episode.row = next(fitting, None)
            loose = [row for row in described if not any(episode.row is row for episode in present)]
            bare = [episode for episode in present if episode.row is None]
            if [row["length"] for row in loose] == [episode.length for episode in bare]:
                for episode, row in zip(bare, loose, strict=True):
                    episode.row, loose = row, []
            for row in loose:
                numbers = [episode.number for episode in episodes if episode.file == path]
                state = "are incomplete" if row["episode_index"] in numbers else "are missing"
                self._drop(row["episode_index"], row["length"], f"its rows in {self._name(path)} {state}")

    def _drop(self, number: int, length: int, reason: str) -> None:
        self.dropped.append(f"episode {number} ({length} frames): {reason}")
        self.found.append(f"episode {number}: {reason}")

    # --- videos

    def _frames(self, path: Path) -> int:
        """Frames that a video holds whole."""
        if path not in self._videos:
            self._videos[path] = len(video.frame_times(path))
            if not video.is_complete(path):
                self.found.append(
                    f"{self._name(path)} is damaged or cut short; {self._videos[path]} frames of it are whole"
                )
        return self._videos[path]

    def _has_all(self, episode: _Rows, episodes: Sequence[_Rows]) -> bool:
        """Whether rows and videos are complete; finds out where the videos are."""
        known = any(item.startswith(f"episode {episode.number} ") for item in self.dropped)
        if not episode.complete:
            if not known:
                self._drop(episode.number, episode.length, f"its rows in {self._name(episode.file)} are incomplete")
            return False
        if episode.tasks and max(episode.tasks) >= len(self.tasks):
            self._drop(episode.number, episode.length, f"its task_index {max(episode.tasks)} is not in {layout.TASKS}")
            return False
        for key in self.video_keys:
            span = self._span(key, episode) if episode.row else self._guess(key, episode, episodes)
            if span is None:
                self._drop(episode.number, episode.length, f"where its video of {key} begins is not known")
                return False
            if not span.path.is_file():
                self._drop(episode.number, episode.length, f"its video {self._name(span.path)} is missing")
                return False
            if round(span.to_timestamp * self.fps) > self._frames(span.path):
                self._drop(episode.number, episode.length, f"its video {self._name(span.path)} is incomplete")
                return False
            episode.spans[key] = span
        return True

    def _span(self, key: str, episode: _Rows) -> VideoSpan | None:
        """What the metadata says."""
        assert episode.row is not None
        row = episode.row
        if row.get(f"videos/{key}/from_timestamp") is None:
            return None
        place = {name: row[f"videos/{key}/{name}"] for name in ("chunk_index", "file_index")}
        path = self.folder / self.info["video_path"].format(video_key=key, **place)
        return VideoSpan(path, row[f"videos/{key}/from_timestamp"], row[f"videos/{key}/to_timestamp"])

    def _guess(self, key: str, episode: _Rows, episodes: Sequence[_Rows]) -> VideoSpan | None:
        """Where an episode without metadata must be: alone in the video that has its data file's number, or behind the
        episode before it, in the same video or at the beginning of the next."""
        seconds = episode.length / self.fps
        files = sorted((self.folder / "videos" / key).glob("*/*.mp4"))
        alone = self.folder / "videos" / key / episode.file.parent.name / (episode.file.stem + ".mp4")
        in_file = [other for other in episodes if other.file == episode.file]
        if len(in_file) == 1 and alone in files and self._frames(alone) == episode.length:
            return VideoSpan(alone, 0.0, seconds)
        before = [other for other in episodes if other.number == episode.number - 1]
        if episode.number == 0:
            return VideoSpan(files[0], 0.0, seconds) if files else None
        if len(before) != 1 or key not in before[0].spans:
            return None
        last = before[0].spans[key]
        if round((last.to_timestamp + seconds) * self.fps) <= self._frames(last.path):
            return VideoSpan(last.path, last.to_timestamp, last.to_timestamp + seconds)
        if round(last.to_timestamp * self.fps) < self._frames(last.path):
            return None
        following = files[files.index(last.path) + 1 :]
        return VideoSpan(following[0], 0.0, seconds) if following else None

    # --- what is to be done

    def _plan(self, kept: Sequence[_Rows], broken_tables: Sequence[Path]) -> _Changes:
        changes = _Changes(self.folder)
        starts = np.cumsum([0] + [episode.length for episode in kept]).tolist()
        moved = [
            (number, episode)
            for number, episode in enumerate(kept)
            if (episode.number, episode.first_index) != (number, starts[number])
        ]
        for number, episode in moved[:1]:
            self.found.append(
                f"episode {episode.number} follows {number} others and {starts[number]} frames, but its rows begin at "
                f"frame {episode.first_index}: {len(moved)} episodes get other numbers"
            )
        rewritten = set(self._broken) | {episode.file for _, episode in moved}
        for path, rows in self._rows_in.items():
            mine = [(number, starts[number], episode) for number, episode in enumerate(kept) if episode.file == path]
            if not mine:
                self.found.append(f"{self._name(path)} holds no complete episode")
                changes.removed.append(path)
            elif path in rewritten or sum(episode.length for _, _, episode in mine) != rows:
                changes.written[path] = partial(self._write_data, path, mine)
        for path in sorted(self.folder.rglob("*" + SUFFIX + "*")):
            if DAMAGED not in path.relative_to(self.folder).parts and path.is_file():
                self.found.append(f"{self._name(path)} is left over from an interrupted write")
                changes.leftovers.append(path)
        self._plan_videos(changes, kept)
        self._plan_metadata(changes, kept, starts, broken_tables)
        return changes

    def _plan_videos(self, changes: _Changes, kept: Sequence[_Rows]) -> None:
        ends: dict[Path, float] = {}
        for episode in kept:
            for span in episode.spans.values():
                ends[span.path] = max(ends.get(span.path, 0.0), span.to_timestamp)
        for key in self.video_keys:
            for path in sorted((self.folder / "videos" / key).glob("*/*.mp4")):
                if path not in ends:
                    self.found.append(f"{self._name(path)} holds no frame of a complete episode")
                    changes.removed.append(path)
                elif not video.is_complete(path):
                    changes.written[path] = partial(_write_video, path, ends[path], self.fps)

    def _plan_metadata(
        self, changes: _Changes, kept: Sequence[_Rows], starts: Sequence[int], broken: Sequence[Path]
    ) -> None:
        wanted = [self._places(number, starts[number], episode) for number, episode in enumerate(kept)]
        right = [
            episode.row is not None and all(episode.row.get(name) == value for name, value in places.items())
            for episode, places in zip(kept, wanted, strict=True)
        ]
        bare = [episode.number for episode in kept if episode.row is None]
        if bare:
            self.found.append(f"{len(bare)} complete episodes have no metadata, the first is {bare[0]}")
            if MEASURED in self.info["features"] or any(key in self._columns for key in language_events.COLUMNS):
                self.found.append("when they began on the robot's clock and what was said in them is lost with it")
        if self._row_count > len(kept) and all(right):
            self.found.append(f"the metadata describes {self._row_count} episodes, {len(kept)} are complete")
        tables = layout.episode_tables(self.folder)
        if broken or not all(right) or self._row_count != len(kept):
            if not (broken or bare) and not all(right):
                first = right.index(False)
                self.found.append(f"the metadata of episode {kept[first].number} does not say where it is")
            first_table = self.folder / layout.EPISODES.format(**layout.file_position(0))
            rows = partial(self._write_rows, kept, wanted)
            changes.removed += [path for path in tables if path != first_table or not kept]
            if kept:
                changes.written[first_table] = rows
        frames = starts[-1]
        totals = {"total_episodes": len(kept), "total_frames": frames, "total_tasks": len(self.tasks)}
        for name, value in totals.items():
            if self.info[name] != value:
                self.found.append(f"{layout.INFO} says {name} {self.info[name]}, there are {value}")
        if not self._statistics_fit(frames):
            self.found.append(f"{layout.STATISTICS} is not of these {frames} frames")
        if self.found:
            if kept:
                changes.written[self.folder / layout.STATISTICS] = partial(self._write_statistics, kept, wanted)
            counted = layout.counted(self.info, len(kept), frames, len(self.tasks))
            changes.written[self.folder / layout.INFO] = partial(write_json, counted)

    def _statistics_fit(self, frames: int) -> bool:
        try:
            statistics = load_statistics(self.folder / layout.STATISTICS)
            return not frames or int(statistics["index"]["count"][0]) == frames
        except (TongsError, KeyError):
            return not frames

    def _places(self, number: int, start: int, episode: _Rows) -> dict[str, Any]:
        """What the metadata of an episode has to say about where it is."""
        chunk, file = int(episode.file.parent.name[6:]), int(episode.file.stem[5:])
        places: dict[str, Any] = {
            "episode_index": number,
            "length": episode.length,
            "data/chunk_index": chunk,
            "data/file_index": file,
        }
        places |= {"dataset_from_index": start, "dataset_to_index": start + episode.length}
        for key, span in episode.spans.items():
            chunk, file = int(span.path.parent.name[6:]), int(span.path.stem[5:])
            places |= {f"videos/{key}/chunk_index": chunk, f"videos/{key}/file_index": file}
            places[f"videos/{key}/from_timestamp"] = span.from_timestamp
            places[f"videos/{key}/to_timestamp"] = span.to_timestamp
        return places

    # --- what is written

    def _table(self, path: Path) -> pa.Table:
        """The intact rows of a data file."""
        if self._open is None or self._open[0] != path:
            groups = self._broken.get(path)
            table = pq.ParquetFile(path).read(use_threads=False) if groups is None else pa.concat_tables(groups)
            self._open = path, table
        return self._open[1]

    def _write_data(self, path: Path, episodes: Sequence[tuple[int, int, _Rows]], target: Path) -> None:
        whole = self._table(path)
        with pq.ParquetWriter(target, whole.schema, compression="snappy") as writer:
            for number, start, episode in episodes:
                table = whole.slice(episode.start, episode.length)
                values = {"episode_index": np.full(episode.length, number), "index": start + np.arange(episode.length)}
                for name, value in values.items():
                    table = table.set_column(
                        table.schema.names.index(name), table.schema.field(name), [pa.array(value)]
                    )
                writer.write_table(table)

    def _complete_rows(self, kept: Sequence[_Rows], wanted: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """The metadata of all episodes, statistics included."""
        if self._rows is None:
            self._rows = []
            for episode, places in zip(kept, wanted, strict=True):
                row = dict(episode.row) if episode.row is not None else self._new_row(episode, places)
                row |= places | {"meta/episodes/chunk_index": 0, "meta/episodes/file_index": 0}
                number, start = places["episode_index"], places["dataset_from_index"]
                counts = {"index": start + np.arange(episode.length), "episode_index": np.full(episode.length, number)}
                for key, values in counts.items():
                    entry = column_statistics(values[:, None])
                    row |= {
                        f"stats/{key}/{name}": v.tolist() for name, v in entry.items() if f"stats/{key}/{name}" in row
                    }
                self._rows.append({name: row.get(name) for name in self._columns or row})
        return self._rows

    def _new_row(self, episode: _Rows, places: Mapping[str, Any]) -> dict[str, Any]:
        """The metadata of an episode that has none, from its frames. The column of events is empty."""
        table = self._table(episode.file).slice(episode.start, episode.length)
        features = {**from_info(self.info["features"]), **AUTOMATIC}
        statistics = measure_statistics(table, features, episode.spans)
        more: dict[str, Any] = {key: [] for key in language_events.COLUMNS}
        if MEASURED in features:
            times = to_numpy(table[MEASURED], features[MEASURED])
            more |= replace(measure(times), start=float("nan")).to_row()
        tasks = [self.tasks[number] for number in episode.tasks]
        row = layout.episode_row(
            places["episode_index"],
            places["dataset_from_index"],
            episode.length,
            self.fps,
            tasks,
            {},
            self.video_keys,
            statistics,
            more,
        )
        return row | dict(places)

    def _write_rows(self, kept: Sequence[_Rows], wanted: Sequence[dict[str, Any]], target: Path) -> None:
        layout.write_rows(target, self._complete_rows(kept, wanted))

    def _write_statistics(self, kept: Sequence[_Rows], wanted: Sequence[dict[str, Any]], target: Path) -> None:
        rows = self._complete_rows(kept, wanted)
        write_json(to_json(merge_all(layout.row_statistics(row) for row in rows)), target)


class _Changes:
    """Files to write anew and files to take away, carried out together or not at all.

    Attributes:
        written: {file: what writes it, given where to}, info.json last.
        removed: files to take away.
        leftovers: files of an interrupted write, whose names are needed again.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.written: dict[Path, Callable[[Path], None]] = {}
        self.removed: list[Path] = []
        self.leftovers: list[Path] = []

    def carry_out(self) -> list[str]:
        """Where the originals are now, relative to the folder.

        Raises TongsError, with the dataset as it was, if writing fails or the outcome cannot be read.
        """
        root = self.folder / DAMAGED
        number = 1 + max((int(path.name) for path in root.glob("[0-9]*")), default=-1)
        store = root / f"{number:03d}"
        store.mkdir(parents=True)
        originals = [path for path in dict.fromkeys([*self.written, *self.removed, *self.leftovers]) if path.exists()]
        journal = {
            "restore": [str(path.relative_to(self.folder)) for path in originals],
            "created": [str(path.relative_to(self.folder)) for path in self.written if path not in originals],
        }
        staging = Staging()
        try:
            for path in originals:
                link(path, store / path.relative_to(self.folder))
            (store / _JOURNAL).write_text(json.dumps(journal), encoding="utf-8")
            for path in sorted(store.rglob("*"), reverse=True):
                flush(path)
            for path in (store, root, self.folder):
                flush(path)
            for path in self.leftovers:
                path.unlink()
            for path, write in self.written.items():
                write(staging.path(path))
            staging.commit()
            for path in self.removed:
                path.unlink()
            if read_info(self.folder)["total_episodes"]:
                _ = Dataset(self.folder).columns
        except BaseException as error:
            staging.discard()
            undo(self.folder, store)
            if isinstance(error, OSError):
                full = error.errno in (errno.ENOSPC, errno.EDQUOT)
                reason = "the disk is full" if full else f"writing failed ({error})"
                raise TongsError(f"{reason}: {self.folder} was not repaired and is as it was") from error
            if isinstance(error, TongsError):
                raise TongsError(f"{self.folder} could not be repaired and is as it was: {error}") from error
            raise
        (store / _JOURNAL).unlink()
        flush(store)
        return [str((store / name).relative_to(self.folder)) for name in journal["restore"]]


def undo(folder: Path, store: Path) -> None:
    """Take back a repair that did not come to its end, by its journal if it got so far as to have one."""
    journal = store / _JOURNAL
    if journal.exists():
        names = json.loads(journal.read_text(encoding="utf-8"))
        for name in names["restore"]:
            again = (folder / name).with_name(Path(name).name + SUFFIX)
            again.unlink(missing_ok=True)
            link(store / name, again)
            os.replace(again, folder / name)
            again.unlink(missing_ok=True)  # renaming one name of a file to another of its names does nothing
        for name in names["created"]:
            (folder / name).unlink(missing_ok=True)
    shutil.rmtree(store)


_KEYS = ["episode_index", "frame_index", "index", "task_index"]


def _episodes(path: Path, table: pa.Table) -> list[_Rows]:
    """Runs of rows with one episode_index; complete if their frames count from 0."""
    numbers, frames, indices, tasks = (table[name].to_numpy() for name in _KEYS)
    borders = [0, *(np.flatnonzero((np.diff(numbers) != 0) | (np.diff(frames) < 0)) + 1).tolist(), len(numbers)]
    episodes = []
    for start, stop in zip(borders[:-1], borders[1:], strict=True):
        if start == stop:
            continue
        complete = bool((frames[start:stop] == np.arange(stop - start)).all())
        complete &= bool((np.diff(indices[start:stop]) == 1).all())
        distinct = tuple(dict.fromkeys(tasks[start:stop].tolist()))
        episodes.append(_Rows(path, start, stop, int(numbers[start]), complete, distinct, int(indices[start])))
    return episodes


def _write_video(path: Path, end: float, fps: int, target: Path) -> None:
    video.cut_video(path, target, 0.0, end, fps)
