"""The table-top suite: forms that are held out, conditions on the state, commands one after another."""

import re

import numpy as np
import pytest

from sim.episode import run_episode
from sim.expert import ScriptedExpert
from sim.scenes import draw_scene
from sim.tasks import TABLETOP
from sim.tasks.tabletop.conditions import (
    At,
    Circle,
    CountIn,
    Each,
    EachIn,
    In,
    Kept,
    On,
    Pile,
    RegularPolygon,
    Row,
    polygon,
)
from sim.tasks.tabletop.forms import FORMS
from sim.tasks.tabletop.task import TabletopCandidate
from sim.world import World


def requests(task, split="test", count=60):
    for index in range(count):
        for candidate in draw_scene(task, split, index).candidates:
            assert isinstance(candidate, TabletopCandidate)
            for pool in ("seen", "unseen"):
                for request in candidate.requests[pool]:
                    yield pool, request


def bare(sentence):
    """A sentence without its names and numbers."""
    colours = "red|green|blue|yellow|purple|white|orange|pink|turquoise|black"
    return re.sub(rf"\b({colours})( block| cylinder| bowl)?\b|\d+", "*", sentence)


@pytest.mark.parametrize("task", TABLETOP)
def test_forms_of_the_two_pools_share_nothing(task):
    forms, sentences = {"seen": set(), "unseen": set()}, {"seen": set(), "unseen": set()}
    for pool, request in requests(task):
        forms[pool].add(request.form)
        sentences[pool] |= {bare(text) for command in request.commands[-1:] for text in command.sentences}
    assert not forms["seen"] & forms["unseen"] and not sentences["seen"] & sentences["unseen"]
    category = task.removeprefix("tabletop_")
    assert forms["seen"] | forms["unseen"] == {form.name for form in FORMS[category]}


def test_unseen_attributes_are_others():
    said = {
        split: {word for _, request in requests("tabletop_spatial", split, 40) for word in words(request)}
        for split in ("test", "novel_object")
    }
    assert {"red", "block"} <= said["test"] and not {"orange", "pink", "cylinder"} & said["test"]
    assert {"pink", "cylinder"} <= said["novel_object"] and not {"red", "block"} & said["novel_object"]


def words(request):
    return {word for command in request.commands for text in command.sentences for word in text.split()}


@pytest.mark.parametrize("wording", ["seen", "unseen"])
@pytest.mark.parametrize("task", TABLETOP)
def test_nothing_is_done_before_it_is_asked_for(task, wording):
    world = World(task, cameras={})
    for index in range(4):
        world.reset("test", index, wording=wording)
        goal = world.goal_spec
        assert world.value < goal.value and not world.task.holds(world.engine, goal)
    world.close()


@pytest.mark.parametrize("task", TABLETOP)
def test_the_expert_shows_that_unseen_forms_can_be_done(task):
    world = World(task, cameras={})
    assert all(run_episode(world, ScriptedExpert(world), "test", index, wording="unseen").success for index in (0, 1))
    world.close()


def test_a_later_command_is_said_when_the_one_before_is_done():
    world = World("tabletop_references", cameras={})
    result = run_episode(world, ScriptedExpert(world), "test", 0)
    first, second = result.instruction.split(" / ")
    assert result.success and result.subgoals and len(world.goals) == 2
    assert second in [text[0].upper() + text[1:] for text in world.goals[1].command.sentences]
    assert first != second
    world.close()


def test_moving_something_else_as_well_is_a_failure():
    world = World("tabletop_spatial", cameras={})
    for index in range(30):
        world.reset("test", index)
        goal = world.goal_spec
        others = [c for c in goal.command.conditions if isinstance(c, Kept) and not c.body.endswith("_bowl")]
        if others and isinstance(goal.command.conditions[0], At):
            break
    target, spoilt = goal.command.conditions[0], others[0]
    upright = np.array([1.0, 0, 0, 0])
    world.engine.set_pose(target.body, np.array([*target.point, 0.02]), upright)
    assert world.task.holds(world.engine, goal)
    world.engine.set_pose(spoilt.body, np.array([spoilt.point[0], spoilt.point[1] + 0.05, 0.02]), upright)
    assert not world.task.holds(world.engine, goal)
    world.close()


def at(**places):
    return {name: np.array(place, float) for name, place in places.items()}


def test_conditions_by_hand():
    """Each is checked where it just holds and where it just does not."""
    assert At("a", (0.5, 0.0)).met(at(a=(0.529, 0, 0.02))) and not At("a", (0.5, 0.0)).met(at(a=(0.531, 0, 0.02)))
    assert not At("a", (0.5, 0.0)).met(at(a=(0.5, 0, 0.06)))  # on something
    assert On("a", "b").met(at(a=(0.5, 0.015, 0.06), b=(0.5, 0, 0.02)))
    assert not On("a", "b").met(at(a=(0.5, 0.025, 0.06), b=(0.5, 0, 0.02)))
    assert not On("a", "b").met(at(a=(0.5, 0, 0.02), b=(0.5, 0, 0.06)))
    assert In("a", "c").met(at(a=(0.53, 0.03, 0.03), c=(0.5, 0, 0))) and not In("a", "c").met(
        at(a=(0.56, 0, 0.03), c=(0.5, 0, 0))
    )
    bowls = at(a=(0.5, 0, 0.03), b=(0.3, 0, 0.02), d=(0.52, 0, 0.03), c=(0.5, 0, 0))
    assert [CountIn(("a", "b", "d"), "c", n).met(bowls) for n in (1, 2, 3)] == [False, True, False]
    corners = ((0.4, 0.0), (0.6, 0.0))
    assert Each(("a", "b"), corners).met(at(a=(0.6, 0, 0.02), b=(0.41, 0, 0.02)))
    assert not Each(("a", "b"), corners).met(at(a=(0.6, 0.02, 0.02), b=(0.6, -0.02, 0.02)))
    pairs = at(a=(0.4, 0, 0.03), b=(0.6, 0, 0.03), x=(0.4, 0, 0), y=(0.6, 0, 0))
    assert EachIn(("a", "b"), ("x", "y")).met(pairs)
    assert not EachIn(("a", "b"), ("x", "y"), (("a", "x"),)).met(pairs)
    assert Pile(("a", "b"), "c").met(at(a=(0.5, 0, 0.10), b=(0.5, 0, 0.06), c=(0.5, 0, 0.02)))
    assert not Pile(("a", "b"), "c").met(at(a=(0.5, 0, 0.06), b=(0.4, 0, 0.02), c=(0.5, 0, 0.02)))
    assert Row(("a", "b"), 0.1).met(at(a=(0.51, 0, 0.02), b=(0.4, 0.01, 0.02)))
    assert not Row(("a", "b"), 0.1).met(at(a=(0.54, 0, 0.02), b=(0.4, 0.01, 0.02)))


def test_shapes_however_they_are_turned():
    for angle in np.linspace(0, 2, 7):
        corners = polygon(3, 0.12, (0.5, 0.0), float(angle))
        assert np.linalg.norm(np.subtract(corners[0], corners[1])) == pytest.approx(0.12)
        places = {name: np.array([*corner, 0.02]) for name, corner in zip("abc", corners, strict=True)}
        assert RegularPolygon(("a", "b", "c"), 0.12, (0.5, 0.0)).met(places)
        assert not RegularPolygon(("a", "b", "c"), 0.16, (0.5, 0.0)).met(places)
        assert not RegularPolygon(("a", "b", "c"), 0.12, (0.5, 0.05)).met(places)
        assert Circle(("a", "b", "c"), 0.12 / 3**0.5, (0.5, 0.0)).met(places)
    crossed = [(0.5, 0.06), (0.5, -0.06), (0.6, 0.0), (0.4, 0.0)]  # a kite is no square
    places = {name: np.array([*corner, 0.02]) for name, corner in zip("abcd", crossed, strict=True)}
    assert not RegularPolygon(("a", "b", "c", "d"), 0.12, (0.5, 0.0)).met(places)
