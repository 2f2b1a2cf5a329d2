"""Longer tasks: sub-goals count in order, held, and last; drawers really hold things; every program can be done."""

from __future__ import annotations

import re
from itertools import count

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from robot.interface import EE_DELTA
from robot.skills import Skills
from sim.episode import run_episode
from sim.expert import ScriptedExpert
from sim.language import negate
from sim.objects import DRAWER_TRAVEL, NOVEL_COLOURS
from sim.outcome import Outcome
from sim.play import Play
from sim.scenes import asked_for, draw_scene
from sim.splits import SPLITS
from sim.tasks import TASKS
from sim.tasks.programs import PROGRAMS
from sim.world import World

STILL = np.array([0, 0, 0, 0, 0, 0, 1.0], np.float32)
PUT_CLOSE = ("put_in_drawer", "close_drawer")
OPEN_PUT = ("open_drawer", "put_in_drawer")
OPEN_PUT_CLOSE = ("open_drawer", "put_in_drawer", "close_drawer")
OPEN_CLOSE = ("open_drawer", "close_drawer")
LIFT_PUT = ("pickup_object", "put_in_drawer")
ALL = (PUT_CLOSE, OPEN_PUT, OPEN_PUT_CLOSE, OPEN_CLOSE, LIFT_PUT)


def steps(candidate):
    return tuple(step.task.name for step in candidate.subgoals)


def scene_of(program, split="test", skip=0):
    """The number of a scene with this program."""
    numbers = (n for n in count() if steps(draw_scene("compose", split, n).candidates[0]) == program)
    return next(n for i, n in enumerate(numbers) if i == skip)


@pytest.fixture(scope="module")
def world():
    world = World("compose", cameras={})
    yield world
    world.close()


def wait(world, seconds):
    for _ in range(round(seconds * EE_DELTA.rate)):
        world.execute(STILL)


def set_drawer(world, goal, fraction=None):
    world.engine.set_joint(goal.body, (goal.value if fraction is None else fraction) * DRAWER_TRAVEL)


def set_in_drawer(world, goal, drawer):
    """Put the thing of a goal 5 cm behind the front of a drawer, 4 mm above its floor."""
    position, quaternion = world.engine.pose(drawer)
    turn = Rotation.from_quat(quaternion, scalar_first=True)
    place = position + turn.apply((0.05, 0.0, 0.030 + goal.reference))
    world.engine.set_pose(goal.body, place, quaternion)


# --- counting


def test_subgoals_count_in_order_and_when_held(world):
    """One second for the first, two for the last; what comes second counts only after what comes first."""
    world.reset("test", scene_of(OPEN_CLOSE))
    first, last = world.goals
    assert (first.hold, last.hold) == (1.0, 2.0)
    set_drawer(world, last)
    wait(world, 3.0)
    assert world.reached == 0 and world.goal_spec == first
    set_drawer(world, first)
    wait(world, 1.0)
    assert world.reached == 0
    wait(world, 0.1)
    assert world.reached == 1 and world.goal_spec == last and not world.success
    wait(world, 1.9)
    assert not world.success
    wait(world, 0.2)
    assert world.reached == 2 and world.success


def test_what_was_reached_has_to_last(world):
    world.reset("test", scene_of(OPEN_CLOSE))
    first, last = world.goals
    set_drawer(world, first)
    wait(world, 1.1)
    set_drawer(world, first, 0.0)
    set_drawer(world, last)
    outcome = Outcome(world)
    wait(world, 3.0)
    outcome.look()
    assert world.reached == 1 and not world.success and not world.lasting()
    assert outcome.failure() == "undone"
    set_drawer(world, first)
    wait(world, 2.1)
    assert world.success and outcome.failure() is None


def test_what_is_moved_on_need_not_last(world):
    """The drawer that was opened may be closed once the thing is in it; the thing has to stay."""
    world.reset("test", scene_of(OPEN_PUT_CLOSE))
    opened, put, closed = world.goals
    set_drawer(world, opened)
    wait(world, 1.1)
    set_in_drawer(world, put, opened.body)
    wait(world, 1.3)
    assert world.reached == 2
    world.engine.set_pose(put.body, np.array([0.3, 0.0, 0.05]), np.array([1.0, 0, 0, 0]))
    set_drawer(world, closed)
    wait(world, 2.5)
    assert not world.success
    set_in_drawer(world, put, closed.body)
    wait(world, 2.5)
    assert world.success


def test_time_is_twenty_seconds_per_subgoal(world):
    for program in (OPEN_PUT_CLOSE, PUT_CLOSE):
        world.reset("test", scene_of(program))
        assert world.horizon == 200 * len(program)


def test_a_restored_episode_is_at_the_same_subgoal(world):
    world.reset("test", scene_of(OPEN_CLOSE))
    first, last = world.goals
    set_drawer(world, first)
    wait(world, 1.1)
    snapshot = world.snapshot()
    set_drawer(world, last)
    wait(world, 2.1)
    assert world.success
    world.restore(snapshot)
    assert (world.reached, world.goal_spec, world.success) == (1, last, False)
    set_drawer(world, first, 0.0)
    set_drawer(world, last)
    wait(world, 2.5)
    assert not world.success


# --- in the drawer


def test_a_thing_in_the_drawer_lies_on_its_floor_and_moves_with_it(world):
    world.reset("test", scene_of(PUT_CLOSE))
    put, _ = world.goals
    drawer = put.task.drawer
    half = world.engine.height(put.body)
    set_in_drawer(world, put, drawer)
    wait(world, 1.2)
    assert world.reached == 1
    assert world.engine.height(put.body) == pytest.approx(0.026 + half, abs=0.001)
    (x, y), z = world.engine.pose(put.body)[0][:2], world.engine.height(put.body)
    start = world.engine.joint(drawer)
    for _ in range(1000):  # pushed in by hand
        world.engine.data.joint(drawer).qvel[0] = -0.08
        world.engine.step(world.engine.arm(), np.zeros(7), 0.04)
    moved = world.engine.pose(put.body)[0][:2] - (x, y)
    assert world.engine.joint(drawer) < 0.01
    assert np.linalg.norm(moved) == pytest.approx(start - world.engine.joint(drawer), abs=0.05)
    assert world.engine.height(put.body) == pytest.approx(z, abs=0.001)
    assert world.task.value(world.engine, put) < put.task.tolerance


def test_only_the_named_drawer_and_an_empty_hand_count(world):
    world.reset("test", scene_of(PUT_CLOSE))
    put, _ = world.goals
    other = "right_drawer" if put.task.drawer == "left_drawer" else "left_drawer"
    start = world.task.value(world.engine, put)
    assert start > 0.05
    set_in_drawer(world, put, other)
    assert world.task.value(world.engine, put) > 0.10
    set_in_drawer(world, put, put.task.drawer)
    assert world.task.value(world.engine, put) == 0.0 and world.task.holds(world.engine, put)
    world.engine.set_pose(put.body, world.engine.tool()[0], np.array([1.0, 0, 0, 0]))
    assert not put.task.allowed(world.engine, put)


def test_moving_the_thing_by_what_remains_puts_it_in(world):
    world.reset("test", scene_of(PUT_CLOSE))
    body = world.goal_spec.body
    position, quaternion = world.engine.pose(body)
    value, goal, *_, x, y, z, rx, ry, rz = world.environment_state()[5:].astype(float)
    assert (value, goal) == (pytest.approx(world.value / 0.40, abs=1e-6), 0.0)
    assert (rx, ry, rz) == (0.0, 0.0, 0.0)
    world.engine.set_pose(body, position + (x, y, z), quaternion)
    assert world.value == 0.0
    np.testing.assert_array_equal(world.environment_state()[8:], 0.0)


# --- doing it


@pytest.mark.parametrize("engine", ["mujoco", "bullet"])
@pytest.mark.parametrize("program", ALL, ids="-".join)
def test_the_expert_does_every_program(program, engine):
    if engine == "bullet":
        pytest.importorskip("pybullet")
    world = World("compose", cameras={}, engine=engine)
    result = run_episode(world, ScriptedExpert(world), "test", scene_of(program, skip=1))
    assert result.success and result.failure is None
    assert result.subgoals == program
    assert result.goal == result.reached == len(program)
    for goal in world.goals:
        if goal.task.name == "put_in_drawer":
            assert world.task.value(world.engine, goal) == 0.0
            assert world.engine.height(goal.body) < 0.092
    last = world.goals[-1]
    if last.body in world.scene.joints:
        assert abs(world.engine.joint(last.body) / DRAWER_TRAVEL - last.value) < 0.1
    if engine == "mujoco":
        assert max((-contact.dist for contact in world.engine.data.contact), default=0.0) < 0.003
    world.close()


@pytest.mark.parametrize("variant", ["other_target", "other_goal"])
@pytest.mark.parametrize("program", [PUT_CLOSE, OPEN_CLOSE], ids="-".join)
def test_the_expert_does_the_other_thing_when_asked(world, program, variant):
    result = run_episode(world, ScriptedExpert(world), "test", scene_of(program), variant=variant)
    assert result.success
    first, second = world.scene.candidates
    assert world.goals[first.varied].value == (second.goal if variant == "other_target" else first.other_goal)


def test_a_label_is_about_the_subgoal_that_was_missed(world):
    """The drawer is opened, then the other thing is put into it."""
    number = scene_of(OPEN_PUT)
    world.reset("test", number)
    outcome, skills = Outcome(world), Skills(world.spec, lambda: world.observe(images=False))
    assert outcome.failure() == "did not reach"
    while world.reached == 0:
        set_drawer(world, world.goal_spec)
        world.execute(STILL)
        outcome.look()
    assert outcome.failure() == "did not reach"
    wrong = world.task.distractor(world.engine, world.scene, world.goal_spec)
    assert wrong.body == world.scene.candidates[1].body
    world.pursue((wrong,))
    plan = world.task.demonstrate(world, skills, np.random.default_rng(0))
    while not world.success:
        world.execute(next(plan))
    taken = world.engine.pose(wrong.body)
    world.reset("test", number)
    while world.reached == 0:
        set_drawer(world, world.goal_spec)
        world.execute(STILL)
    outcome = Outcome(world)
    world.engine.set_pose(wrong.body, *taken)
    world.execute(STILL)
    outcome.look()
    assert outcome.failure() == "wrong object"


def test_play_moves_things_and_drawers(world):
    world.reset("train", scene_of(LIFT_PUT, "train"))
    play = Play(world)
    play.reset(3)
    bodies = [body for body in world.objects()]
    places = []
    for _ in range(500):
        world.execute(play.act(world.observe()).actions[0])
        places.append([world.engine.pose(body.replace(" ", "_"))[0] for body in bodies])
    moved = np.ptp(np.array(places), axis=0).max(axis=1)
    assert len(bodies) == 4 and (moved > 0.05).sum() >= 2


# --- scenes and words


def test_every_program_is_drawn_in_every_split():
    for split in SPLITS:
        drawn = {steps(draw_scene("compose", split, index).candidates[0]) for index in range(60)}
        assert drawn == set(ALL)
    assert len(ALL) == len(PROGRAMS)


def test_variants_differ_and_both_can_be_asked_for():
    for index in range(300):
        scene = draw_scene("compose", "any_state" if index % 2 else "train", index)
        first, second = scene.candidates
        assert first.body != second.body and steps(first) == steps(second)
        for candidate in scene.candidates:
            varied = candidate.subgoals[candidate.varied]
            low, high = varied.task.goal_range
            assert varied.value == candidate.goal
            assert low <= candidate.goal <= high and low <= candidate.other_goal <= high
            assert abs(candidate.goal - candidate.other_goal) > varied.task.tolerance
            for step in candidate.subgoals:
                if step.body in scene.joints and not any(s.task.name == "put_in_drawer" for s in candidate.subgoals):
                    assert abs(scene.joints[step.body] / DRAWER_TRAVEL - step.value) > 1.9 * step.task.tolerance


def test_things_stand_clear_of_each_other_and_of_the_drawers():
    for index in range(200):
        scene = draw_scene("compose", "train", index)
        unit, *things = scene.bodies
        for thing in things:
            offset = np.subtract(thing.position, unit.position)
            assert Rotation.from_quat(unit.quaternion, scalar_first=True).inv().apply(offset)[0] < -0.17
            assert thing.position[0] >= 0.30
            assert abs(thing.position[1]) <= 0.26
        if things:
            assert np.linalg.norm(np.subtract(things[0].position, things[1].position)[:2]) > 0.14


def test_held_out_values_are_those_of_the_single_tasks():
    for index in range(150):
        for split in ("train", "novel_state"):
            for candidate in draw_scene("compose", split, index).candidates:
                varied = candidate.subgoals[candidate.varied]
                goals = varied.task.goals
                value = round(100 * candidate.goal)
                assert (value == goals.held_out) if split == "novel_state" else value in goals.values("seen")
                assert round(100 * candidate.other_goal) in goals.values("seen")
                if split == "train":
                    for step in candidate.subgoals:
                        if step.task.name != "put_in_drawer":
                            assert round(100 * step.value) in step.task.goals.values("seen")


def test_novel_objects_are_in_their_split_only():
    for index in range(40):
        for split, novel in (("train", False), ("novel_object", True)):
            scene = draw_scene("compose", split, index)
            for candidate in scene.candidates:
                if candidate.body not in scene.joints:
                    assert (candidate.body.split("_")[0] in NOVEL_COLOURS) is novel


class _Table:
    """Enough of an engine to ask."""

    def height(self, body):
        return 0.03


@pytest.mark.parametrize("wording", ["seen", "unseen"])
def test_sentences_name_the_thing_the_drawer_and_the_order(wording):
    task = TASKS["compose"]
    for index in range(200):
        scene = draw_scene("compose", "any_state", index)
        for variant in ("original", "other_target", "other_goal"):
            goals = task.ask(_Table(), *asked_for(scene, variant))
            sentence = task.tell(np.random.default_rng(index), goals, wording)
            assert len(sentence) < 200 and "{" not in sentence
            names = tuple(goal.task.name for goal in goals)
            verbs = {
                "open_drawer": "open the|pull the|get the|draw the",
                "put_in_drawer": "put (the|it)|place|drop|stow|lay",
                "close_drawer": r"\b(close|shut|push)",
                "pickup_object": "lift|raise|hoist|hold|pick",
            }
            places = [re.search(verbs[name], sentence, re.IGNORECASE).start() for name in names]
            assert places == sorted(places), sentence
            for goal in goals:
                if goal.body in scene.joints:
                    assert goal.body.split("_")[0] in sentence
                else:
                    assert any(phrase in sentence for group in goal.words[wording] for phrase in group)
            assert len(re.findall(r"\bnot\b", negate(sentence))) == 1
            assert re.match("(Do not|Please do not) (?!please|could|the)", negate(sentence))


def test_each_subgoal_has_words_of_its_own(world):
    world.reset("test", scene_of(OPEN_PUT_CLOSE))
    said = [world.task.instruct(np.random.default_rng(0), goal, "seen") for goal in world.goals]
    assert len(set(said)) == 3
    assert any(phrase in said[1] for group in world.goals[1].words["seen"] for phrase in group) and "drawer" in said[1]


def test_collected_state_follows_the_present_subgoal(world):
    """The privileged goal changes when a sub-goal is reached, from the opening to being inside."""
    world.reset("test", scene_of(OPEN_PUT))
    opened = world.goal_spec
    assert world.environment_state()[6] == pytest.approx(opened.value)
    set_drawer(world, opened)
    wait(world, 1.1)
    assert world.environment_state()[6] == 0.0
    np.testing.assert_allclose(world.environment_state()[:3], world.engine.pose(world.goal_spec.body)[0], atol=1e-6)
