"""Training data in which the scene alone tells what to do is found out, whoever recorded it."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from data.cache import EpisodeCache, open_cache
from data.features import SCENE, SCENE_NAMES, vector
from data.listening import told_in_cache, told_in_dataset, why_words_are_idle
from data.reader import Dataset
from data.windows import Windows
from data.writer import DatasetWriter
from tests.data.episodes import FPS, STATE_NAMES, features, numbers

Told = Sequence[tuple[tuple[int, ...], str]]
"""Per episode what is in its column `scene` (empty for a dataset without one), and its instruction."""


def record(folder: Path, episodes: Told) -> EpisodeCache:
    columns = {key: feature for key, feature in features().items() if not feature.is_image}
    recorded = len(episodes[0][0])
    if recorded:
        columns[SCENE] = vector(SCENE_NAMES[:recorded], "int64")
    with DatasetWriter(folder, FPS, columns, "test_arm") as writer:
        for number, (scene, text) in enumerate(episodes):
            values = numbers(number, 8)
            if recorded:
                values[SCENE] = np.tile(np.array(scene, np.int64), (8, 1))
            writer.add_episode(values, [text if frame % 2 else f"please {text}" for frame in range(8)])
    return open_cache(folder, {})


IDLE: dict[str, Told] = {
    "one instruction for all, no scenes recorded": [((), "open it")] * 3,
    "each scene once": [((0,), "open it"), ((1,), "close it"), ((2,), "open it")],
    "each scene again in other words for the same": [((4, 0), "open it"), ((4, 0), "pull"), ((5, 0), "shut it")],
}
TELLING: dict[str, Told] = {
    "several instructions, no scenes recorded": [((), "open it"), ((), "close it")],
    "one scene of two with two instructions": [((0,), "open it"), ((0,), "close it"), ((1,), "open it")],
    "one scene in two variants": [((4, 0), "open it"), ((4, 2), "open it half"), ((5, 0), "open it")],
}


@pytest.mark.parametrize("episodes", IDLE.values(), ids=IDLE)
def test_words_that_say_nothing_are_found_out(tmp_path: Path, episodes: Told) -> None:
    sentence = why_words_are_idle([told_in_cache(record(tmp_path / "set", episodes))])
    assert sentence is not None and "3 episodes" in sentence and "sensitivity=true" in sentence
    scenes = {scene[0] for scene, _ in episodes if scene}
    assert (f"{len(scenes)} scene" if scenes else "1 dataset") in sentence


@pytest.mark.parametrize("episodes", TELLING.values(), ids=TELLING)
def test_words_that_matter_pass(tmp_path: Path, episodes: Told) -> None:
    assert why_words_are_idle([told_in_cache(record(tmp_path / "set", episodes))]) is None


@pytest.mark.parametrize("episodes", [*IDLE.values(), *TELLING.values()], ids=[*IDLE, *TELLING])
def test_the_metadata_tell_what_the_cache_tells(tmp_path: Path, episodes: Told) -> None:
    cache = record(tmp_path / "set", episodes)
    assert told_in_dataset(Dataset(tmp_path / "set")) == told_in_cache(cache)


def test_an_instruction_per_dataset_says_nothing_more_than_the_dataset(tmp_path: Path) -> None:
    kitchen, office = (record(tmp_path / name, [((), f"tidy the {name}")] * 2) for name in ("kitchen", "office"))
    sentence = why_words_are_idle([told_in_cache(kitchen), told_in_cache(office)])
    assert sentence is not None and "2 datasets" in sentence and "4 episodes" in sentence


def test_the_same_scene_number_in_two_datasets_is_two_scenes(tmp_path: Path) -> None:
    first, second = (record(tmp_path / name, [((7, 0), name)] * 2) for name in ("open", "close"))
    sentence = why_words_are_idle([told_in_cache(first), told_in_cache(second)])
    assert sentence is not None and "2 scenes" in sentence


def test_a_scene_is_never_in_both_parts(tmp_path: Path) -> None:
    told: Told = [((number // 2, number % 2), "open it") for number in range(20)]
    caches = [record(tmp_path / "a", told), record(tmp_path / "b", [((), "open it")] * 4)]
    windows = Windows(caches, [], STATE_NAMES)
    train, held_out = windows.split(0.25, np.random.default_rng(3))
    scenes = {int(episode): f"a {episode // 2}" if episode < 20 else f"b {episode}" for episode in windows.episodes}
    parts = [{scenes[int(episode)] for episode in part.episodes} for part in (train, held_out)]
    assert not parts[0] & parts[1] and parts[0] | parts[1] == set(scenes.values())
    assert len(held_out.episodes) in (6, 7) and len(train) + len(held_out) == len(windows)
