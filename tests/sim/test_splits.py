"""A novel split differs from the others in exactly one factor, and nothing of it leaks into training."""

import re

import numpy as np
import pytest

from robot.errors import TongsError
from sim.objects import COLOURS, LOOKS, NOVEL_COLOURS
from sim.scenes import draw_scene
from sim.splits import SPLITS, find_split
from sim.surroundings import FLOORS, TABLES
from sim.tasks import PLANNING, SINGLE, TABLETOP, TASKS
from sim.world import World

SEEN = ("train", "val", "test")


def paints(scene):
    """Every colour of the scene's own bodies."""
    return {geom.colour for top in scene.bodies for body in top.walk() for geom in body.geoms}


def words(scene):
    names = (group for c in scene.candidates for groups in c.words.values() for group in groups)
    return set(re.findall("[a-z]+", " ".join(phrase for group in names for phrase in group)))


def is_usual(around):
    near = max(abs(shift) for shift in (*around.camera_shift, *around.target_shift)) <= 0.008
    return around.table in TABLES and around.floor in FLOORS and not around.furniture and not around.clutter and near


def asked(task, scene):
    """Every goal value of the scene's candidates, in whole steps."""
    grain = TASKS[task].grain
    return [round(value / grain) for c in scene.candidates for value in (c.goal, c.other_goal)]


@pytest.mark.parametrize("task", SINGLE)
def test_novel_splits_change_one_factor(task):
    novel_paint = {*NOVEL_COLOURS.values(), *(part for look in LOOKS["novel"] for part in (look.carcass, look.front))}
    goals = TASKS[task].goals

    def is_seen(value):
        return abs(value - goals.held_out) >= goals.margin

    for index in range(60):
        for split in SEEN:
            scene = draw_scene(task, split, index)
            assert is_usual(scene.surroundings)
            assert not paints(scene) & novel_paint and not words(scene) & set(NOVEL_COLOURS)
            assert all(is_seen(value) for value in asked(task, scene))
        thing = draw_scene(task, "novel_object", index)
        assert is_usual(thing.surroundings) and all(is_seen(value) for value in asked(task, thing))
        assert paints(thing) & novel_paint
        assert not words(thing) & (set(COLOURS) - {"white"})
        room = draw_scene(task, "novel_scene", index)
        assert not paints(room) & novel_paint and all(is_seen(value) for value in asked(task, room))
        other = room.surroundings
        assert other.table not in TABLES and other.floor not in FLOORS and other.furniture
        state = draw_scene(task, "novel_state", index)
        assert is_usual(state.surroundings) and not paints(state) & novel_paint
        assert {round(c.goal / TASKS[task].grain) for c in state.candidates} == {goals.held_out}
        any_state = draw_scene(task, "any_state", index)
        assert is_usual(any_state.surroundings) and not paints(any_state) & novel_paint


@pytest.mark.parametrize("task", SINGLE)
def test_any_state_has_every_value(task):
    values = {value for index in range(400) for value in asked(task, draw_scene(task, "any_state", index))}
    goals = TASKS[task].goals
    assert len(values) > 0.8 * len(goals.values("any"))
    assert any(abs(value - goals.held_out) < goals.margin for value in values)


@pytest.mark.parametrize("task", SINGLE)
def test_the_four_values_are_arnolds(task):
    four = {
        "pickup_object": (10, 20, 30, 40),
        "reorient_object": (0, 45, 135, 180),
        "open_drawer": (25, 50, 75, 100),
        "close_drawer": (0, 25, 50, 75),
        "open_cabinet": (25, 50, 75, 100),
        "close_cabinet": (0, 25, 50, 75),
        "pour_water": (25, 50, 75, 100),
        "transfer_water": (20, 40, 60, 80),
    }
    goals = TASKS[task].goals
    assert goals.four == four[task] and goals.held_out in goals.four
    assert goals.margin * TASKS[task].grain >= TASKS[task].tolerance
    assert set(goals.values("seen")) >= set(goals.four) - {goals.held_out}


def test_perturbed_scenes_are_those_of_test_shaken_more_and_more():
    scene = draw_scene("pickup_object", "test", 3)
    shifts = []
    for strength in (0.0, 0.3, 0.6, 1.0):
        shaken = draw_scene("pickup_object", f"perturbed:{strength}", 3)
        assert (shaken.bodies, shaken.candidates) == (scene.bodies, scene.candidates)
        moved = np.subtract(shaken.surroundings.camera_shift, scene.surroundings.camera_shift)
        shifts.append(np.linalg.norm(moved) + np.linalg.norm(shaken.arm_shift))
        assert len(shaken.surroundings.clutter) == round(4 * strength)
    assert draw_scene("pickup_object", "perturbed:0", 3) == scene
    assert shifts == sorted(shifts) and shifts[0] == 0.0 < shifts[1] < shifts[3]
    assert draw_scene("pickup_object", "perturbed", 3) == draw_scene("pickup_object", "perturbed:0.5", 3)


def test_a_perturbed_world_looks_and_starts_differently():
    world = World("open_drawer", {"front": (64, 64)})
    world.reset("test", 0)
    before, home = world.render("front", 64, 64).astype(int), world.observe(images=False).state[:3]
    world.reset("perturbed:1", 0)
    assert np.abs(world.render("front", 64, 64) - before).mean() > 8
    assert np.linalg.norm(world.observe(images=False).state[:3] - home) > 0.01
    world.close()


def test_clutter_stays_out_of_the_way():
    for task in TASKS:
        for index in range(40 if task not in (*TABLETOP, *PLANNING) else 5):
            scene = draw_scene(task, "perturbed:1", index)
            for thing in scene.surroundings.clutter:
                for body in scene.bodies:
                    assert np.linalg.norm(np.subtract(thing.position, body.position)[:2]) > 0.09


@pytest.mark.parametrize("name", ["dev", "test:0.5", "perturbed:2", "perturbed:much", "perturbed:-1"])
def test_unknown_splits_are_told(name):
    with pytest.raises(TongsError, match="split"):
        find_split(name)
    assert name not in SPLITS
