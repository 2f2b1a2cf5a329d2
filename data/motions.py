"""Language motions in datasets: labelling every moment of an episode by what the arm did, and reading the labels."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from data import events as language_events
from data import layout
from data.atomic import SUFFIX, appearing, link, write_json
from data.events import EPISODE_TYPES, LanguageEvent, motion, to_episode_row
from data.features import STATE
from data.reader import Dataset
from data.recorder import INTERVENTION
from robot.errors import TongsError
from robot.motions import MotionTable, Vocabulary, label_motions, vocabulary

TABLE_FILE = "meta/motions.json"
"""The table of words that a dataset is labelled by, and how often each motion occurs."""
_MODEL, _PERSON = "assistant", "user"


def label(
    dataset: Dataset, folder: Path | str, table: MotionTable, advance: Callable[[], object] = lambda: None
) -> Vocabulary:
    """A copy whose episodes say at every moment which motion the arm makes, in their language columns.

    The labels follow from the proprioception alone. What a person said stays; labels from before are replaced. Videos
    and numbers are the same files (hard links where the file system allows).

    Args:
        dataset: v3.0, with its language events in the episodes' metadata or without any.
        folder: where to; must not exist. It appears when it is complete.
        table: the words.
        advance: called after each episode.

    Returns:
        How often each motion occurs.

    Raises:
        TongsError: the state lacks an entry of the table, or the dataset cannot hold the labels.
    """
    if dataset.version != layout.VERSION or dataset.language == "frames":
        kept = f"version {dataset.version}" if dataset.version != layout.VERSION else "its events in the data files"
        raise TongsError(f"{dataset.folder} has {kept}; motions are written to v3.0 with events in the metadata")
    names = dataset.features[STATE].names if STATE in dataset.features else None
    if names is None:
        raise TongsError(f"{dataset.folder} has no {STATE} with named entries, from which motions could be told")
    said: dict[int, dict[str, list[dict[str, Any]]]] = {}
    labels: list[str] = []
    for episode in dataset.episodes:
        states = dataset.columns[STATE][episode.start : episode.stop]
        motions = label_motions(states, names, dataset.fps, table)
        labels += motions
        said[episode.index] = to_episode_row(_replaced(dataset.events(episode.index), motions, dataset.fps))
        advance()
    report = vocabulary(labels, table)
    with appearing(Path(folder)) as building:
        tables = layout.episode_tables(dataset.folder)
        for path in sorted(path for path in dataset.folder.rglob("*") if path.is_file() and path not in tables):
            if not path.name.startswith(".") and SUFFIX not in path.name:
                copy = link if path.suffix in (".mp4", ".parquet") else _copy
                copy(path, building / path.relative_to(dataset.folder))
        for path in tables:
            target = building / path.relative_to(dataset.folder)
            target.parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(_with_events(pq.read_table(path), said), target)
        write_json({"table": table.to_json(), "motions": dict(report.counts)}, building / TABLE_FILE)
    return report


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def _replaced(events: Sequence[LanguageEvent], motions: Sequence[str], fps: int) -> list[LanguageEvent]:
    """Events with one for every moment at which the motion changes, instead of earlier labels."""
    kept = [event for event in events if event.style != "motion" or event.role == _PERSON]
    begins = [i for i, text in enumerate(motions) if i == 0 or text != motions[i - 1]]
    return kept + [motion(i / fps, motions[i]) for i in begins]


def _with_events(rows: pa.Table, said: dict[int, dict[str, list[dict[str, Any]]]]) -> pa.Table:
    """Episodes' metadata with the language columns of these episodes."""
    episodes = rows.column("episode_index").to_pylist()
    for key in language_events.COLUMNS:
        column = pa.array([said[episode][key] if episode in said else [] for episode in episodes], EPISODE_TYPES[key])
        field = pa.field(key, EPISODE_TYPES[key])
        place = rows.schema.get_field_index(key)
        rows = rows.append_column(field, column) if place < 0 else rows.set_column(place, field, column)
    return rows


def read_table(folder: Path | str) -> MotionTable | None:
    """The table that a dataset is labelled by; None if it is not."""
    path = Path(folder) / TABLE_FILE
    if not path.is_file():
        return None
    try:
        return MotionTable.from_json(json.loads(path.read_text(encoding="utf-8"))["table"])
    except (ValueError, KeyError) as error:
        raise TongsError(f"{path} is damaged: {error}") from error


def write_table(folder: Path | str, table: MotionTable) -> None:
    """Say by which table the motions of a dataset are meant that was not made by `label`."""
    (Path(folder) / "meta").mkdir(parents=True, exist_ok=True)
    write_json({"table": table.to_json()}, Path(folder) / TABLE_FILE)


def table_from_file(path: Path | str) -> MotionTable:
    """A table of your own, in a JSON file with the fields of `MotionTable`."""
    try:
        return MotionTable.from_json(json.loads(Path(path).read_text(encoding="utf-8")))
    except OSError as error:
        raise TongsError(f"the table of motions {path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise TongsError(f"the table of motions {path} is no JSON: {error}") from error


@dataclass(frozen=True)
class MotionTrack:
    """What holds at each of the N frames of a dataset.

    Attributes:
        motions: empty where none is known.
        corrected: bool (N,), whether a person chose the motion, or drove.
        table: that the motions are meant by; None if there are none.
    """

    motions: list[str]
    corrected: NDArray[np.bool_]
    table: MotionTable | None


def motion_track(dataset: Dataset) -> MotionTrack:
    """The motion in force at every frame, from the language columns; a person's goes before a label of the moment."""
    motions = [""] * dataset.total_frames
    corrected = np.zeros(dataset.total_frames, bool)
    for episode in dataset.episodes:
        said = [event for event in dataset.events(episode.index) if event.style == "motion" and event.text]
        said.sort(key=lambda event: (event.time, event.role == _PERSON))
        begins = [min(_frame(event.time, dataset.fps), episode.length) for event in said]
        for event, first, end in zip(said, begins, [*begins[1:], episode.length], strict=False):
            span = slice(episode.start + first, episode.start + end)
            motions[span] = [str(event.text)] * (end - first)
            corrected[span] = event.role == _PERSON
    if INTERVENTION in dataset.features:
        corrected |= dataset.columns[INTERVENTION][:, 0].astype(bool)
    return MotionTrack(motions, corrected, read_table(dataset.folder))


@dataclass(frozen=True)
class CorrectionWeights:
    """How much the frames of a training count in which a person corrected: those whose motion to be predicted a person
    chose, or in which a person drove.

    Attributes:
        weight: their sampling weight; that of a demonstration's frames is 1 (RT-H: 50).
        uncorrected: of all other frames of a dataset that has such.
        share: the part of all samples that corrected frames give, whatever their weight; None for as it comes.
    """

    weight: float = 50.0
    uncorrected: float = 0.0
    share: float | None = None

    def __post_init__(self) -> None:
        if min(self.weight, self.uncorrected) < 0 or not np.isfinite([self.weight, self.uncorrected]).all():
            raise TongsError(f"weights of corrections must be at least 0, got {self.weight} and {self.uncorrected}")
        if self.share is not None and not 0 <= self.share <= 1:
            raise TongsError(f"corrections.share must lie in 0..1, got {self.share}")


ALIKE = CorrectionWeights(1.0, 1.0)


def _frame(time: float, fps: int) -> int:
    """The first frame at or after a time (s)."""
    return int(np.ceil(time * fps - 1e-6))
