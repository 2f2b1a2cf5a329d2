"""A novel split differs from the others in exactly one factor, and nothing of it leaks into training."""

import re

import numpy as np
import pytest

from robot.errors import TongsError
from sim.objects import COLOURS, NOVEL_COLOURS, NOVEL_LOOKS
from sim.scenes import draw_scene
from sim.splits import SPLITS, find_split
from sim.surroundings import Surroundings
from sim.tasks import TASKS
from sim.world import World

SEEN = ("train", "val", "test")
USUAL = Surroundings()


def paints(scene):
    """Every colour of the scene's own bodies."""
    return {geom.colour for top in scene.bodies for body in top.walk() for geom in body.geoms}


def words(scene):
    return set(re.findall("[a-z]+", " ".join(phrase for c in scene.candidates for phrase in c.words)))


@pytest.mark.parametrize("task", list(TASKS))
def test_novel_splits_change_one_factor(task):
    novel_paint = {*NOVEL_COLOURS.values(), *(part for look in NOVEL_LOOKS for part in (look.carcass, look.front))}
    for index in range(60):
        for split in SEEN:
            scene = draw_scene(task, split, index)
            assert scene.surroundings == USUAL
            assert not paints(scene) & novel_paint and not words(scene) & set(NOVEL_COLOURS)
        thing = draw_scene(task, "novel_object", index)
        assert thing.surroundings == USUAL
        assert paints(thing) & novel_paint
        assert not words(thing) & (set(COLOURS) - {"white"})
        room = draw_scene(task, "novel_scene", index)
        assert not paints(room) & novel_paint
        usual, other = USUAL, room.surroundings
        assert other.table != usual.table and other.floor != usual.floor and other.furniture
        assert other.camera_shift != usual.camera_shift and other.light != usual.light


def test_perturbed_scenes_are_those_of_test_shaken_more_and_more():
    scene = draw_scene("pickup_object", "test", 3)
    shifts = []
    for strength in (0.0, 0.3, 0.6, 1.0):
        shaken = draw_scene("pickup_object", f"perturbed:{strength}", 3)
        assert (shaken.bodies, shaken.candidates) == (scene.bodies, scene.candidates)
        shifts.append(np.linalg.norm(shaken.surroundings.camera_shift) + np.linalg.norm(shaken.arm_shift))
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
        for index in range(40):
            scene = draw_scene(task, "perturbed:1", index)
            for thing in scene.surroundings.clutter:
                for body in scene.bodies:
                    assert np.linalg.norm(np.subtract(thing.position, body.position)[:2]) > 0.09


@pytest.mark.parametrize("name", ["dev", "test:0.5", "perturbed:2", "perturbed:much", "perturbed:-1"])
def test_unknown_splits_are_told(name):
    with pytest.raises(TongsError, match="split"):
        find_split(name)
    assert name not in SPLITS
