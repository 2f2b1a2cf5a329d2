"""What a dataset holds, in words and numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np

from data import layout
from data.atomic import Staging
from data.reader import Dataset
from data.statistics import Statistics, column_statistics, to_json
from data.writer import lock
from robot.errors import TongsError

MOST_INSTRUCTIONS = 5


def describe(dataset: Dataset) -> Iterator[tuple[str, str]]:
    """(what, how much) lines, the most important first."""
    lengths = np.array([episode.length for episode in dataset.episodes]) / dataset.fps
    yield "robot", dataset.robot_type
    if len(lengths):
        yield (
            "episodes",
            f"{len(lengths)} of {lengths.min():.1f} to {lengths.max():.1f} s (median {np.median(lengths):.1f})",
        )
    yield (
        "frames",
        f"{dataset.total_frames} at {dataset.fps} per second, {dataset.total_frames / dataset.fps / 60:.1f} min",
    )
    for key, feature in dataset.features.items():
        if feature.is_image:
            yield key, f"{feature.dtype} {feature.shape[1]}x{feature.shape[0]}"
        else:
            names = f": {', '.join(feature.names)}" if feature.names else ""
            yield key, f"{feature.dtype}, {feature.shape[0]}{names}"
    told = Counter(task for episode in dataset.episodes for task in episode.tasks)
    yield "instructions", f"{len(told)} wordings"
    for task, count in told.most_common(MOST_INSTRUCTIONS):
        yield "", f"{task!r} in {count} episodes"
    if len(told) > MOST_INSTRUCTIONS:
        yield "", "..."


def entries(dataset: Dataset, statistics: dict[str, Statistics]) -> Iterator[tuple[str, str, Statistics]]:
    """(column, name of the entry, its statistics as numbers) of every numeric column that the user declared."""
    for key, feature in dataset.features.items():
        if feature.is_image or key not in statistics:
            continue
        names = feature.names or tuple(str(number) for number in range(feature.shape[0]))
        for number, name in enumerate(names):
            yield key, name, {what: np.ravel(v)[min(number, np.size(v) - 1)] for what, v in statistics[key].items()}


def rewrite_statistics(dataset: Dataset) -> dict[str, Statistics]:
    """Replace meta/stats.json by statistics of all frames; quantiles are then exact, and not means over episodes.

    Those of the cameras stay. Returns the new ones.

    Raises:
        TongsError: the dataset has version 2.1, which has no such file, or is being written.
    """
    if dataset.version != layout.VERSION:
        raise TongsError(f"{dataset.folder} has version {dataset.version}, which keeps statistics per episode only")
    statistics = dict(dataset.statistics)
    statistics |= {key: column_statistics(values) for key, values in dataset.columns.items()}
    with lock(dataset.folder):
        staging = Staging()
        staging.json(dataset.folder / layout.STATISTICS, to_json(statistics))
        staging.commit()
    return statistics
