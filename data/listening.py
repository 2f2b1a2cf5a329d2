"""Do the words in training data say anything that the scene does not?"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from data.cache import EpisodeCache
from data.features import SCENE, SCENE_NAMES
from data.reader import Dataset

Told = tuple[int | None, Hashable]
"""The scene an episode begins in, None where that was not recorded, and what was asked for there: two wordings of the
same are equal wherever the dataset tells."""


def told_in_cache(cache: EpisodeCache) -> list[Told]:
    """Of every episode, from its decoded cache."""
    wordings = [
        frozenset(cache.tasks[number] for number in np.unique(cache.task_index[start:end]))
        for start, end in zip(cache.starts, cache.ends, strict=True)
    ]
    return _told(wordings, cache.columns.get(SCENE), cache.names.get(SCENE), cache.starts)


def told_in_dataset(dataset: Dataset) -> list[Told]:
    """Of every episode, from its metadata."""
    feature = dataset.features.get(SCENE)
    scenes = dataset.columns[SCENE] if feature else None
    wordings = [frozenset(episode.tasks) for episode in dataset.episodes]
    return _told(wordings, scenes, feature.names if feature else None, [e.start for e in dataset.episodes])


def why_words_are_idle(datasets: Sequence[Sequence[Told]]) -> str | None:
    """One sentence for the user if no scene was given two instructions; None if some scene was.

    Then the scene alone tells what to do, and nothing in the data rewards a policy for listening. Episodes belong to
    the same scene if their dataset's column `scene` has the same index; a dataset without that column is taken for one
    scene. Two instructions differ if the column's variant does; where there is none, if the episodes' sets of wordings
    do.
    """
    told: dict[tuple[int, int | None], set[Hashable]] = {}
    for number, dataset in enumerate(datasets):
        for scene, instruction in dataset:
            told.setdefault((number, scene), set()).add(instruction)
    if any(len(instructions) > 1 for instructions in told.values()):
        return None
    episodes = sum(map(len, datasets))
    recorded = sum(scene is not None for _, scene in told)
    whole = len(told) - recorded
    counted = [_counted(recorded, "scene")] * bool(recorded)
    counted += [_counted(whole, "dataset") + " without recorded scenes"] * bool(whole)
    return (
        f"no scene in the data has two instructions ({' and '.join(counted)}, {_counted(episodes, 'episode')}), so a "
        "policy can learn to look and never to listen; record scenes with several instructions, as "
        "`tongs collect instructions=2` does, and measure the policy with `tongs eval sensitivity=true`"
    )


def _told(
    wordings: Sequence[Hashable], scenes: NDArray | None, names: Sequence[str] | None, starts: Iterable[int]
) -> list[Told]:
    """`scenes` is the whole column; `wordings` and `starts` have one entry per episode."""
    if scenes is None:
        return [(None, wording) for wording in wordings]
    knows_variant = names is not None and tuple(names) == SCENE_NAMES
    variant = SCENE_NAMES.index("variant")
    return [
        (int(scenes[start, 0]), int(scenes[start, variant]) if knows_variant else wording)
        for start, wording in zip(starts, wordings, strict=True)
    ]


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"
