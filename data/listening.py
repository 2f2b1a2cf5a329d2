"""Do the words in training data say anything that the scene does not?"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from data.cache import EpisodeCache
from data.features import SCENE, SCENE_NAMES


def why_words_are_idle(caches: Sequence[EpisodeCache]) -> str | None:
    """One sentence for the user if no scene was given two instructions; None if some scene was.

    Then the scene alone tells what to do, and nothing in the data rewards a policy for listening. Episodes belong to
    the same scene if their dataset's column `scene` has the same index; a dataset without that column is taken for one
    scene. Two instructions differ if the column's variant does; where there is none, if the episodes' sets of wordings
    do.
    """
    told: dict[tuple[int, int | None], set[Hashable]] = {}
    for number, cache in enumerate(caches):
        for episode in range(len(cache.starts)):
            scene = None if cache.scenes is None else int(cache.scenes[episode])
            told.setdefault((number, scene), set()).add(_instruction(cache, episode))
    if any(len(instructions) > 1 for instructions in told.values()):
        return None
    episodes = sum(len(cache.starts) for cache in caches)
    recorded = sum(scene is not None for _, scene in told)
    whole = len(told) - recorded
    counted = [f"{recorded} scenes"] * bool(recorded) + [f"{whole} datasets that record no scenes"] * bool(whole)
    return (
        f"no scene in the training data has two instructions ({' and '.join(counted)}, {episodes} episodes), so a "
        "policy can learn to look and never to listen; record scenes with several instructions, as "
        "`tongs collect instructions=2` does, and measure the policy with `tongs eval sensitivity=true`"
    )


def _instruction(cache: EpisodeCache, episode: int) -> Hashable:
    """What an episode was asked for, so that two wordings of the same are equal wherever that is known."""
    start, end = cache.starts[episode], cache.ends[episode]
    if cache.names.get(SCENE) == SCENE_NAMES:
        return int(cache.columns[SCENE][start, SCENE_NAMES.index("variant")])
    return frozenset(cache.tasks[number] for number in cache.task_index[start:end])
