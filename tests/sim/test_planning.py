"""Requests for a planner: what is asked for can be done, and what cannot or must not be done is left."""

import numpy as np
import pytest

from robot.places import named_place
from sim.episode import run_episode
from sim.expert import ScriptedExpert
from sim.language import Wording
from sim.scenes import draw_scene
from sim.tasks import PLANNING
from sim.tasks.tabletop.conditions import Kept, Tower
from sim.tasks.tabletop.forms import Move
from sim.tasks.tabletop.planning import COOL, HOT, PLACES, PLANNED_FORMS, REACH, WARM, skill, skills, spoken
from sim.tasks.tabletop.task import TabletopCandidate
from sim.world import World


def drawn(task, split="test", count=40, pool: Wording = "seen"):
    """(names and x of the blocks, form, command) of requests."""
    for index in range(count):
        scene = draw_scene(task, split, index)
        at = {body.name: body.position[0] for body in scene.bodies}
        for candidate in scene.candidates:
            assert isinstance(candidate, TabletopCandidate)
            for request in candidate.requests[pool]:
                (command,) = request.commands
                yield at, request.form, command


@pytest.mark.parametrize("task", PLANNING)
def test_every_form_comes_in_both_pools_and_shares_no_sentence(task):
    said: dict[Wording, set[str]] = {"seen": set(), "unseen": set()}
    for pool in said:
        forms = set()
        for _, form, command in drawn(task, pool=pool):
            forms.add(form)
            said[pool] |= set(command.sentences)
        assert forms == {form.name for form in PLANNED_FORMS[task.removeprefix("planning_")]}
    assert not said["seen"] & said["unseen"]
    assert not any("KIND" in text or "BOWL" in text for text in said["seen"] | said["unseen"])


def test_colours_are_meant_by_their_temperature_and_nothing_else_is_moved():
    for split in ("test", "novel_object"):
        for at, form, command in drawn("planning_ambiguous", split):
            if form != "two":
                colours = {"cool": COOL, "warm": WARM}[form]
                meant = {name for name in at if name.startswith(colours) and not name.endswith("bowl")}
                assert {move.body for move in command.moves} == meant
                kept = {condition.body for condition in command.conditions if isinstance(condition, Kept)}
                assert kept == set(at) - meant and any(not name.endswith("bowl") for name in kept)


def test_what_is_out_of_reach_or_has_no_bowl_stays():
    lacking = {"reach": 0, "bowl": 0}
    for at, form, command in drawn("planning_infeasible"):
        moved, kept = {move.body for move in command.moves}, {c.body for c in command.conditions if isinstance(c, Kept)}
        away = {name for name, x in at.items() if x > REACH}
        assert moved and not moved & away and away <= kept
        if form == "matching":
            without = {n for n in at if not n.endswith("bowl") and f"{n.split('_')[0]}_bowl" not in at}
            assert without <= kept
            lacking["bowl"] += bool(without)
        else:
            assert away
        lacking["reach"] += bool(away)
    assert min(lacking.values()) > 5


def test_what_is_hot_is_there_and_stays():
    for split, colour in (("test", HOT["seen"]), ("novel_object", HOT["novel"])):
        for at, _, command in drawn("planning_unsafe", split):
            hot = [name for name in at if name.startswith(colour)]
            assert len(hot) == 1 and not hot[0].endswith("bowl") and colour in command.forbidden
            assert hot[0] in {c.body for c in command.conditions if isinstance(c, Kept)}
            assert not any(word in text for word in command.forbidden for text in command.sentences)


def test_the_same_words_ask_where_all_and_where_less_can_be_done():
    plain = {form: {"matching", "all", "tower"} for form in ("planning_plain", "planning_infeasible")}
    for task, forms in plain.items():
        assert {form for _, form, _ in drawn(task)} >= forms


@pytest.mark.parametrize("task", PLANNING)
def test_the_expert_shows_that_it_can_be_done(task):
    world = World(task, cameras={})
    assert all(run_episode(world, ScriptedExpert(world), "test", index).success for index in (0, 1))
    world.close()


def test_towers_of_any_order():
    def places(**heights):
        return {name: np.array([0.5, 0.0, z]) for name, z in heights.items()}

    assert Tower(("a", "b", "c")).met(places(a=0.06, b=0.02, c=0.10))
    assert not Tower(("a", "b", "c")).met(places(a=0.06, b=0.02, c=0.02))
    assert not Tower(("a", "b")).met(places(a=0.06, b=0.10))  # nothing on the table
    aside = places(a=0.06, b=0.02) | {"a": np.array([0.53, 0.0, 0.06])}
    assert not Tower(("a", "b")).met(aside)


def test_skills_name_what_is_there():
    named = skills(["red block", "blue block", "green bowl"])
    assert len(named) == 2 * (2 + len(PLACES))
    assert named["pick up the red block and place it in the green bowl"] == ("red block", "green bowl")
    assert named["pick up the red block and place it on the blue block"] == ("red block", "blue block")
    assert skill("red block", "top left corner").endswith("in the top left corner")
    assert skill("red block", "left side").endswith("on the left side")
    for name in PLACES:
        x, y = named_place(name)
        assert spoken(Move("red_block", (float(x), float(y)))) == skill("red block", name)
    assert spoken(Move("red_block", "green_bowl")) == skill("red block", "green bowl")
