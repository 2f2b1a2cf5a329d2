"""Collecting: the right number of successes, continued where it stopped, nothing lost when the disk is full."""

import errno
from pathlib import Path

import numpy as np
import pytest

from data.features import ACTION, ENVIRONMENT_STATE, SCENE, STATE
from data.reader import Dataset
from data.writer import DatasetWriter
from robot.errors import TongsError
from robot.interface import EE_DELTA, ActionChunk, PolicySpec
from sim.expert import ScriptedExpert
from sim.perturbation import disturb
from sim.world import ENVIRONMENT_STATE_NAMES, STATE_NAMES, World
from train.demonstrations import CollectConfig, begin, collect, demonstrate, play


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


class Riser:
    """A learner that does nothing but lift the empty hand."""

    spec = PolicySpec({}, (), EE_DELTA, 4)

    def reset(self, seed):
        self.calls = 0

    def act(self, observation):
        self.calls += 1
        rise = np.array([0.0, 0.0, 0.002, 0.0, 0.0, 0.0, 1.0], np.float32)
        return ActionChunk(np.tile(rise, (4, 1)), observation.time + np.arange(4) / EE_DELTA.rate)

    def act_batch(self, observations):
        return [self.act(observation) for observation in observations]


def test_the_expert_takes_over_from_a_learner():
    world, learner = World("open_drawer", {}), Riser()
    plain, taken = demonstrate(world, "train", 0, 0.0), demonstrate(world, "train", 0, 0.0, learner=learner)
    assert plain is not None and taken is not None
    height = STATE_NAMES.index("z")
    risen = taken.columns[STATE][0, height] - plain.columns[STATE][0, height]
    assert risen > 0.004 * learner.calls, "what the learner did is where the recording begins"
    value, goal = (taken.columns[ENVIRONMENT_STATE][-1, ENVIRONMENT_STATE_NAMES.index(n)] for n in ("value", "goal"))
    assert abs(value - goal) < 0.1
    world.close()


def test_a_learner_that_succeeds_leaves_nothing_to_show():
    world = World("open_drawer", {})
    world.reset("train", 0)
    expert = ScriptedExpert(world)

    class Longest(np.random.Generator):
        def integers(self, high, *_, **__):
            return high - 1

    assert not begin(world, expert, Longest(np.random.PCG64(0)))
    world.close()


def test_an_episode_begins_where_the_expert_stopped_for_another_value():
    world = World("open_drawer", {})
    recorded = [demonstrate(world, "train", scene, 0.0, midway=1.0) for scene in range(3)]
    value, goal = (ENVIRONMENT_STATE_NAMES.index(name) for name in ("value", "goal"))
    begins = []
    for demonstration in recorded:
        assert demonstration is not None
        truth = demonstration.columns[ENVIRONMENT_STATE]
        begins.append(truth[0, value] / truth[0, goal])
        assert abs(truth[-1, value] - truth[-1, goal]) < 0.1
        assert np.all(truth[:, goal] == truth[0, goal])
    assert all(0.1 < begin < 1.1 for begin in begins) and np.std(begins) > 0.05
    world.close()


def test_what_succeeds_while_it_is_pushed_leaves_nothing_to_show():
    world = World("open_drawer", {})
    world.reset("train", 0)
    expert = ScriptedExpert(world)

    class Last(np.random.Generator):
        """Pushes one step before the goal was held for long enough, and that softly."""

        def integers(self, low, high):
            return steps if high > 10 else high - 1

        def normal(self, size):
            return np.full(size, 1e-9)

        def uniform(self, low, high):
            return 0.0

        def random(self):
            return 1.0

    while not world.success:
        world.execute(expert.act(world.observe(images=False)).actions[0])
    steps = world.steps - 1
    world.reset("train", 0)
    expert.reset(0)
    assert not disturb(world, expert, Last(np.random.PCG64(0)))
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
    with pytest.raises(TongsError, match="is not a checkpoint"):
        collect(settings(tmp_path, 1, dagger=str(tmp_path)))
    with pytest.raises(TongsError, match="dagger needs demonstrations of a task"):
        collect(settings(tmp_path, 1, dagger=str(tmp_path), play=True))
