"""Datasets made of other datasets' episodes: merged, split, without some of them, under other names."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np

from data.atomic import appearing
from data.export import copy_video
from data.features import SCENE, Feature
from data.reader import Dataset
from data.timing import MEASURED, TimingLimits
from data.writer import DatasetWriter
from robot.errors import TongsError

Advance = Callable[[], object]
ANY = TimingLimits(rate=math.inf, jitter=math.inf)
"""An episode that is in a dataset already has been accepted once."""


def merge(datasets: Sequence[Dataset], folder: Path | str, advance: Advance = lambda: None) -> None:
    """All episodes of several datasets, one after another, in a new one.

    Where a dataset uses numbers of scenes that one before it uses too, its numbers are moved up: those of different
    recordings are different scenes.

    Raises:
        TongsError: the datasets differ in rate, robot or columns, or the folder exists.
    """
    if not datasets:
        raise TongsError("merging needs at least one dataset, got none")
    first = datasets[0]
    for other in datasets[1:]:
        _require_same(first, other)
    with appearing(Path(folder)) as building, _writer(first, building, _language(datasets)) as writer:
        used: set[int] = set()
        for dataset in datasets:
            scenes = set(np.unique(dataset.columns[SCENE][:, 0]).tolist()) if SCENE in dataset.features else set()
            shift = max(used) + 1 - min(scenes) if used & scenes else 0
            used |= {scene + shift for scene in scenes}
            for episode in dataset.episodes:
                _copy(dataset, episode.index, writer, scene_shift=shift)
                advance()


def select(dataset: Dataset, episodes: Sequence[int], folder: Path | str, advance: Advance = lambda: None) -> None:
    """Some episodes, in this order, in a new dataset; raises TongsError if one does not exist or the folder does."""
    _require_episodes(dataset, episodes)
    with appearing(Path(folder)) as building, _writer(dataset, building, _language([dataset])) as writer:
        for episode in episodes:
            _copy(dataset, episode, writer)
            advance()


def delete(dataset: Dataset, episodes: Sequence[int], folder: Path | str, advance: Advance = lambda: None) -> None:
    """All episodes but these in a new dataset."""
    _require_episodes(dataset, episodes)
    gone = set(episodes)
    kept = [episode.index for episode in dataset.episodes if episode.index not in gone]
    if not kept:
        raise TongsError(f"nothing would be left of the {len(dataset.episodes)} episodes of {dataset.folder}")
    select(dataset, kept, folder, advance)


def split(
    dataset: Dataset, parts: Mapping[str, float], folder: Path | str, seed: int = 0, advance: Advance = lambda: None
) -> dict[str, list[int]]:
    """Episodes at random into `folder`/<part>, each with its fraction of them; episodes of one scene stay together.

    Returns the episodes of each part.

    Raises:
        TongsError: the fractions do not add up to 1, a part would be empty, or the folder exists.
    """
    if not parts or min(parts.values()) <= 0 or not math.isclose(sum(parts.values()), 1.0, abs_tol=1e-6):
        raise TongsError(f"the parts of a split must be positive and add up to 1, got {dict(parts)}")
    starts = [episode.start for episode in dataset.episodes]
    scenes = dataset.columns[SCENE][starts, 0] if SCENE in dataset.features else np.arange(len(starts))
    order = np.random.default_rng(seed).permutation(np.unique(scenes))
    ends = np.round(np.cumsum(list(parts.values())) * len(order)).astype(int)
    chosen = {name: order[first:end] for name, first, end in zip(parts, [0, *ends], ends, strict=False)}
    episodes = {name: np.flatnonzero(np.isin(scenes, some)).tolist() for name, some in chosen.items()}
    if empty := [name for name, some in episodes.items() if not some]:
        raise TongsError(
            f"{len(order)} scenes are too few for the parts {dict(parts)}: {', '.join(empty)} would be empty"
        )
    with appearing(Path(folder)) as building:
        for name, some in episodes.items():
            select(dataset, some, building / name, advance)
    return episodes


def rename(dataset: Dataset, names: Mapping[str, str], folder: Path | str, advance: Advance = lambda: None) -> None:
    """A copy in which columns or instructions have other names.

    Args:
        dataset: what to copy.
        names: {column or instruction: what it is called from now on}.
        folder: where to; must not exist.
        advance: called after each episode.
    """
    for old in names:
        if old not in dataset.features and old not in dataset.tasks:
            raise TongsError(
                f"{old!r} is neither an instruction nor a column; columns are: {', '.join(dataset.features)}"
            )
    columns = [names.get(key, key) for key in dataset.features]
    if twice := {name for name in columns if columns.count(name) > 1}:
        raise TongsError(f"two columns would be called {', '.join(sorted(twice))}")
    with appearing(Path(folder)) as building, _writer(dataset, building, _language([dataset]), names) as writer:
        for episode in dataset.episodes:
            _copy(dataset, episode.index, writer, names)
            advance()


def _writer(
    dataset: Dataset, folder: Path, language: str | None, names: Mapping[str, str] | None = None
) -> DatasetWriter:
    """For a new dataset with the columns of this one."""
    kinds = {dataset.features[key].dtype for key in dataset.camera_keys}
    if len(kinds) > 1:
        raise TongsError(f"{dataset.folder} keeps some cameras as videos and some as pictures, which cannot be copied")
    features: dict[str, Feature] = {(names or {}).get(key, key): value for key, value in dataset.features.items()}
    storage = "png" if kinds == {"image"} else "video"
    return DatasetWriter(folder, dataset.fps, features, dataset.robot_type, storage, language, ANY)  # type: ignore[arg-type]


def _copy(
    dataset: Dataset,
    episode: int,
    writer: DatasetWriter,
    names: Mapping[str, str] | None = None,
    scene_shift: int = 0,
) -> None:
    """Add an episode to another dataset, its compressed videos unchanged wherever that is possible."""
    names = names or {}
    span = dataset.episodes[episode]
    numeric = [key for key, feature in dataset.features.items() if not feature.is_image]
    columns = {key: dataset.columns[key][span.start : span.stop] for key in numeric}
    if (measured := dataset.measured_times(episode)) is not None:
        columns[MEASURED] = measured
    if scene_shift:
        columns[SCENE] = columns[SCENE] + scene_shift * (np.arange(columns[SCENE].shape[1]) == 0)
    columns = {names.get(key, key): values for key, values in columns.items()}
    tasks = [names.get(task, task) for task in dataset.frame_tasks(episode)]
    events = [
        event if event.camera is None else replace(event, camera=names.get(event.camera, event.camera))
        for event in dataset.events(episode)
    ]
    with ExitStack() as stack:
        videos = images = None
        if dataset.video_keys:
            scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tongs-edit-")))
            videos = {names.get(key, key): scratch / f"{n}.mp4" for n, key in enumerate(dataset.video_keys)}
            for key in dataset.video_keys:
                copy_video(dataset, episode, key, videos[names.get(key, key)])
        elif dataset.camera_keys:
            images = {names.get(key, key): dataset.images(episode, key) for key in dataset.camera_keys}
        writer.add_episode(columns, tasks, videos, images, events)


def _language(datasets: Sequence[Dataset]) -> str | None:
    """Where the copy keeps language events: in the data files if one of the originals does."""
    kinds = {dataset.language for dataset in datasets}
    return "frames" if "frames" in kinds else "episodes" if "episodes" in kinds else None


def _require_episodes(dataset: Dataset, episodes: Sequence[int]) -> None:
    if absent := [episode for episode in episodes if not 0 <= episode < len(dataset.episodes)]:
        raise TongsError(f"{dataset.folder} has episodes 0 to {len(dataset.episodes) - 1}, asked for {absent}")


def _require_same(first: Dataset, other: Dataset) -> None:
    for what in ("fps", "robot_type"):
        ours, its = getattr(first, what), getattr(other, what)
        if ours != its:
            raise TongsError(
                f"{first.folder} has {what} {ours}, and {other.folder} has {its}; they cannot be one dataset"
            )
    for key in {**first.features, **other.features}:
        ours, its = first.features.get(key), other.features.get(key)
        if ours != its:
            raise TongsError(f"{first.folder} and {other.folder} differ in column {key}: {ours} and {its}")
