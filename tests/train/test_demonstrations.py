"""Collecting: the right number of successes, continued where it stopped, nothing lost when the disk is full."""

import errno
from pathlib import Path

import numpy as np
import pytest

from data.features import ACTION, ENVIRONMENT_STATE, SCENE, STATE
from data.reader import Dataset
from data.writer import DatasetWriter
from robot.errors import TongsError
from sim.world import ENVIRONMENT_STATE_NAMES, World
from train.demonstrations import CollectConfig, collect, demonstrate, play


def settings(folder: Path, episodes: int, **others) -> CollectConfig:
    return CollectConfig(["open_drawer"], episodes, str(folder), images=False, processes=1, **others)


@pytest.fixture(scope="module")
def collected(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("demonstrations")
    assert collect(settings(folder, 2)) == [folder / "open_drawer"]
    return folder


def test_demonstrations_reach_their_goal(collected):
    dataset = Dataset(collected / "open_drawer")
    assert len(dataset.episodes) == 2
    value, goal = (ENVIRONMENT_STATE_NAMES.index(name) for name in ("value", "goal"))
    for episode in dataset.episodes:
        last = dataset.columns[ENVIRONMENT_STATE][episode.stop - 1]
        assert abs(last[value] - last[goal]) < 0.1
        assert np.abs(dataset.columns[ACTION][episode.start : episode.stop, :6]).max() > 0.01
    assert np.isfinite(dataset.columns[STATE]).all()


def test_several_wordings_tell_one_demonstration(collected):
    dataset = Dataset(collected / "open_drawer")
    assert len(set(dataset.frame_tasks(0))) > 2
    assert all("left" in text or "right" in text for text in dataset.frame_tasks(0))


def test_a_collection_goes_on_with_the_next_scene(collected):
    collect(settings(collected, 3))
    dataset = Dataset(collected / "open_drawer")
    assert [tuple(dataset.columns[SCENE][e.start]) for e in dataset.episodes] == [(0, 0), (0, 1), (1, 0)]
    collect(settings(collected, 4))
    dataset = Dataset(collected / "open_drawer")
    assert tuple(dataset.columns[SCENE][-1]) == (1, 2)


def test_a_scene_is_demonstrated_with_two_instructions(collected):
    """The same picture, another thing or another value asked for: only the words say which."""
    dataset = Dataset(collected / "open_drawer")
    first, second = dataset.episodes[:2]
    state, truth = dataset.columns[STATE], dataset.columns[ENVIRONMENT_STATE]
    np.testing.assert_array_equal(state[first.start], state[second.start])
    assert np.abs(truth[first.start, :3] - truth[second.start, :3]).max() > 0.1  # the other drawer
    sides = [{word for text in e.tasks for word in text.split() if word in ("left", "right")} for e in (first, second)]
    assert [len(side) for side in sides] == [1, 1] and sides[0] != sides[1]


def test_a_full_disk_keeps_what_was_written(tmp_path, monkeypatch):
    written = DatasetWriter._stage
    calls = []

    def stage(self, *arguments):
        calls.append(1)
        if len(calls) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        written(self, *arguments)

    monkeypatch.setattr(DatasetWriter, "_stage", stage)
    with pytest.raises(TongsError, match="1 episode"):
        collect(settings(tmp_path, 3))
    monkeypatch.undo()
    assert len(Dataset(tmp_path / "open_drawer").episodes) == 1


def test_a_scene_gives_the_same_demonstration_again():
    world = World("pickup_object", {})
    first, second = (demonstrate(world, "train", 3, 1.0) for _ in range(2))
    assert first is not None and second is not None
    np.testing.assert_array_equal(first.columns[ACTION], second.columns[ACTION])
    assert first.instructions == second.instructions
    world.close()


def test_play_has_no_instruction():
    world = World("close_drawer", {})
    recorded = play(world, "train", 0)
    assert set(recorded.instructions) == {"play"} and len(recorded.instructions) == 300
    world.close()


def test_bad_settings_are_one_sentence(tmp_path):
    with pytest.raises(TongsError, match="unknown task 'fly'"):
        collect(CollectConfig(["fly"], 1, str(tmp_path)))
    with pytest.raises(TongsError, match="at least 1, got 0 and 1"):
        collect(settings(tmp_path, 0))
    with pytest.raises(TongsError, match="instructions must be from 1 to 3, got 4"):
        collect(settings(tmp_path, 1, instructions=4))
