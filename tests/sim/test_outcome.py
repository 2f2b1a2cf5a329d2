"""Every way to fail, provoked by an arm that fails in just this way, gets its label."""

from __future__ import annotations

import timeit
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from robot.interface import ActionChunk, Observation, PolicySpec
from robot.skills import Skill, Skills
from sim.episode import EpisodeResult, run_episode
from sim.outcome import FAILURES, Outcome
from sim.tasks.base import Goal
from sim.world import World

Script = Callable[[World, Skills], Skill]


class Scripted:
    """A `Policy` that follows a script."""

    def __init__(self, world: World, script: Script) -> None:
        self._world, self._script = world, script
        self.spec = PolicySpec({}, (), world.spec.action_space, horizon=1)

    def reset(self, seed: int) -> None:
        skills = Skills(self._world.spec, lambda: self._world.observe(images=False))
        self._actions = self._script(self._world, skills)

    def act(self, observation: Observation) -> ActionChunk:
        return ActionChunk(next(self._actions)[None], np.array([observation.time]))

    def act_batch(self, observations: Sequence[Observation]) -> list[ActionChunk]:
        return [self.act(observation) for observation in observations]


class Told:
    """The world as an expert sees it that was told another goal."""

    def __init__(self, world: World, goal: Goal) -> None:
        self._world, self.goal_spec = world, goal

    def __getattr__(self, name: str) -> Any:
        return getattr(self._world, name)

    def holding(self) -> bool:
        return World.holding(self)  # type: ignore[arg-type]


def demonstrate(world: World, skills: Skills) -> Skill:
    return world.task.demonstrate(world, skills, np.random.default_rng(0))


def stand_still(world: World, skills: Skills) -> Skill:
    while True:
        yield from skills.hold(1.0, 1.0)


def close_above_it(world: World, skills: Skills) -> Skill:
    """The fingers close 4.5 cm above the grasp pose, on nothing."""
    grasp = world.task.grasp_pose(world.engine, world.goal_spec)
    yield from skills.follow([grasp.moved((0, 0, 0.10)), grasp.moved((0, 0, 0.045))], 1.0)
    while True:
        yield from skills.hold(1.0, 0.0)


def let_go_halfway(world: World, skills: Skills) -> Skill:
    start = world.value
    for action in demonstrate(world, skills):
        if (world.value - start) / (world.goal - start) > 0.5:
            break
        yield action
    while True:
        yield from skills.hold(1.0, 1.0)


def go(part: float) -> Script:
    """Go this part of the way to the goal and stay there."""

    def script(world: World, skills: Skills) -> Skill:
        value = world.value + part * (world.goal - world.value)
        return demonstrate(Told(world, replace(world.goal_spec, value=value)), skills)  # type: ignore[arg-type]

    return script


def go_too_far_and_let_go(world: World, skills: Skills) -> Skill:
    start = world.value
    for action in go(1.8)(world, skills):
        if (world.value - start) / (world.goal - start) > 1.7:
            break
        yield action
    while True:
        yield from skills.hold(1.0, 1.0)


def take_the_other(world: World, skills: Skills) -> Skill:
    other = world.scene.candidates[1]
    goal = Goal(other.body, other.words, other.goal, world.task.reference(world.engine, other.body))
    return demonstrate(Told(world, goal), skills)  # type: ignore[arg-type]


def wait(steps: int) -> Script:
    """The expert, but later."""

    def script(world: World, skills: Skills) -> Skill:
        yield from skills.hold(steps / 10, 1.0)
        yield from demonstrate(world, skills)

    return script


def run(task: str, script: Script, index: int = 0) -> EpisodeResult:
    world = World(task, cameras={})
    try:
        return run_episode(world, Scripted(world, script), "test", index)
    finally:
        world.close()


@pytest.mark.parametrize(
    ("task", "index", "script", "label"),
    [
        ("pickup_object", 0, stand_still, "did not reach"),
        ("pickup_object", 0, close_above_it, "did not grasp"),
        ("open_drawer", 0, close_above_it, "did not grasp"),
        ("pickup_object", 1, let_go_halfway, "dropped"),
        ("reorient_object", 0, let_go_halfway, "dropped"),
        ("open_drawer", 0, let_go_halfway, "dropped"),
        ("pickup_object", 1, go(0.5), "undershot"),
        ("close_drawer", 0, go(0.3), "undershot"),
        ("pickup_object", 0, go(1.8), "overshot"),
        ("open_drawer", 6, go(1.8), "overshot"),
        ("open_drawer", 6, go_too_far_and_let_go, "overshot"),
        ("pickup_object", 0, go_too_far_and_let_go, "dropped"),
        ("pickup_object", 0, take_the_other, "wrong object"),
        ("close_drawer", 0, take_the_other, "wrong object"),
        ("transfer_water", 1, take_the_other, "wrong object"),
        ("transfer_water", 1, stand_still, "did not reach"),
        ("transfer_water", 1, go(0.4), "undershot"),
        ("pour_water", 1, go(0.4), "undershot"),
    ],
)
def test_each_way_to_fail_has_its_label(task: str, index: int, script: Script, label: str) -> None:
    result = run(task, script, index)
    assert label in FAILURES
    assert (result.success, result.failure) == (False, label)


def test_a_goal_that_is_reached_but_not_held_is_out_of_time() -> None:
    """The expert holds for 21 steps at the end; begun so late that 10 of them are missing, it fails."""
    prompt = run("open_drawer", demonstrate)
    assert (prompt.success, prompt.failure) == (True, None)
    late = run("open_drawer", wait(200 - prompt.length + 10))
    assert (late.success, late.failure) == (False, "timed out")


def test_the_tool_meets_the_grasp_point_of_what_it_holds() -> None:
    """The cheap grasp point agrees with the task's grasp pose, also after the thing was lifted and turned."""
    world = World("reorient_object", cameras={})
    world.reset("test", 1)
    outcome = Outcome(world)
    skills = Skills(world.spec, lambda: world.observe(images=False))
    actions = demonstrate(world, skills)
    while not world.finished:
        world.execute(next(actions))
        outcome.look()
        grasp = world.task.grasp_pose(world.engine, world.goal_spec)
        exact = float(np.linalg.norm(world.engine.tool()[0] - grasp.position))
        assert outcome._target.distance() == pytest.approx(exact, abs=0.009)
        if abs(exact - 0.03) > 0.009:
            assert outcome._target.held() == world.holding()
    assert world.success and abs(world.value - 90) > 20
    world.close()


def test_looking_costs_little() -> None:
    world = World("open_drawer", cameras={})
    world.reset("test", 0)
    outcome, still = Outcome(world), np.array([0, 0, 0, 0, 0, 0, 1.0], np.float32)
    look = min(timeit.repeat(outcome.look, number=20, repeat=5))
    step = min(timeit.repeat(lambda: world.execute(still), number=20, repeat=5))
    assert look < 0.03 * step
    world.close()
