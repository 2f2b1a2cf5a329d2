"""The scripted experts succeed, vary, and play reaches many states."""

import numpy as np
import pytest

from sim.episode import replay, run_episode
from sim.expert import ScriptedExpert
from sim.perturbation import disturb
from sim.play import Play
from sim.tasks import TASKS
from sim.world import World


@pytest.mark.parametrize("task", list(TASKS))
def test_experts_succeed_on_test_scenes(task):
    """A quick look; `docs/results.md` has the 200 scenes per task."""
    world = World(task, cameras={})
    results = [run_episode(world, ScriptedExpert(world), "test", index) for index in range(6)]
    assert all(result.success for result in results)
    assert all(abs(result.reached - result.goal) < TASKS[task].tolerance for result in results)
    assert len({result.length for result in results}) > 1
    world.close()


def test_an_episode_depends_on_nothing_but_its_number():
    world = World("open_drawer", cameras={})
    alone = run_episode(world, ScriptedExpert(world), "test", 5)
    run_episode(world, ScriptedExpert(world), "test", 6)
    again = run_episode(world, ScriptedExpert(world), "test", 5)
    np.testing.assert_array_equal(alone.states, again.states)
    world.close()


@pytest.mark.parametrize("variant", ["other_target", "other_goal"])
def test_experts_do_the_other_thing_when_asked(variant):
    world = World("close_drawer", cameras={})
    result = run_episode(world, ScriptedExpert(world), "test", 3, variant=variant)
    assert result.success and result.variant == variant
    world.close()


def test_experts_recover_from_a_push():
    world = World("open_drawer", cameras={})
    expert = ScriptedExpert(world)
    for index in range(4):
        world.reset("train", index)
        expert.reset(index)
        assert disturb(world, expert, np.random.default_rng(index))
        while not world.finished:
            world.execute(expert.act(world.observe()).actions[0])
        assert world.success
    world.close()


def test_play_visits_many_states():
    world = World("close_drawer", cameras={})
    play = Play(world)
    world.reset("train", 0)
    play.reset(0)
    values = {candidate.body: [] for candidate in world.scene.candidates}
    for _ in range(400):
        world.execute(play.act(world.observe()).actions[0])
        for body in values:
            values[body].append(world.engine.joint(body))
    assert all(np.ptp(series) > 0.05 for series in values.values())
    world.close()


def test_replay_shows_what_happened():
    world = World("pickup_object", {"front": (48, 48)})
    result = run_episode(world, ScriptedExpert(world), "test", 0)
    frames = list(replay(world, result, "front", 48, 48, every=10))
    assert len(frames) == len(range(0, result.length + 1, 10)) + (result.length % 10 != 0)
    np.testing.assert_array_equal(frames[-1], world.render("front", 48, 48))
    assert np.abs(frames[0].astype(int) - frames[-1]).mean() > 1
    world.close()
