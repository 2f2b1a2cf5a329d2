"""A name means one thing: what it says is true of the target, plain to see, and not true of the other thing."""

import re

import numpy as np
import pytest

from robot.description import Body, Geom
from sim.objects import bottle, volume
from sim.reference import BIGGER, Thing, call, side_names, unique
from sim.scenes import draw_scene
from sim.splits import SPLITS
from sim.tasks import PLANNING, TABLETOP, TASKS
from sim.world import World

OBJECT_TASKS = ("pickup_object", "reorient_object", "pour_water", "transfer_water")
COLOURS = "red green blue yellow purple white orange pink turquoise black"
SPLIT_NAMES = [name for name in SPLITS if name != "perturbed"]


def phrases(names, wording):
    return [phrase for group in names[wording] for phrase in group]


def standing(scene, body):
    """Where a candidate stands (x, y, height of its lowest point) and its volume, from the scene's bodies alone."""
    thing = next(b for b in scene.bodies if b.name == body)
    half = thing.geoms[0].size[-1 if thing.geoms[0].shape == "cylinder" else 2]
    lying = abs(thing.quaternion[0]) < 0.9 and "bottle" in body
    return (*thing.position[:2], 0.0 if lying or "water" in body else thing.position[2] - half, volume(thing))


def true_of(phrase, colour, mine, its):
    """Whether a phrase fits the thing and not the other, read by its words (an independent reading)."""
    words = set(re.findall("[a-z]+", phrase))
    x, y, z, size = (a - b for a, b in zip(mine, its, strict=True))
    if words & set(COLOURS.split()):
        return colour in words
    if words & {"left", "leftmost"}:
        return y > 0.07
    if words & {"right", "rightmost"}:
        return y < -0.07
    if words & {"nearer", "closer", "nearest"} or "less far" in phrase:
        return x < -0.09
    if words & {"farther", "distance"} or "less close" in phrase:
        return x > 0.09
    if words & {"top", "upper", "topmost", "step"} or phrase.endswith("stands higher"):
        return z > 0.02
    if words & {"bottom", "lower", "lowest", "table"} or "less high" in phrase:
        return z < -0.02
    if words & {"bigger", "larger", "big", "biggest", "greater"}:
        return size > 0.3 * its[3]
    if words & {"smaller", "small", "little", "smallest", "lesser"}:
        return -size > 0.3 * mine[3]
    raise AssertionError(f"a phrase that this test cannot read: {phrase}")


@pytest.mark.parametrize("task", OBJECT_TASKS)
@pytest.mark.parametrize("split", ["train", "novel_object"])
def test_every_name_is_true_and_means_one_thing(task, split):
    kinds = set()
    for index in range(150):
        scene = draw_scene(task, split, index)
        first, second = scene.candidates
        for mine, its in ((first, second), (second, first)):
            places = standing(scene, mine.body), standing(scene, its.body)
            colours = mine.body.split("_")[0], its.body.split("_")[0]
            for wording in ("seen", "unseen"):
                said = phrases(mine.words, wording)
                assert said and not set(said) & set(phrases(its.words, wording))
                for phrase in said:
                    assert true_of(phrase, colours[0], *places), (index, phrase)
                    assert colours[0] != colours[1] or not set(phrase.split()) & set(COLOURS.split())
                kinds.add(len(mine.words[wording]))
    assert len(kinds) > 1


@pytest.mark.parametrize("task", OBJECT_TASKS)
def test_in_a_quarter_of_the_scenes_the_colour_says_nothing(task):
    scenes = [draw_scene(task, "train", index) for index in range(400)]
    twins = [scene for scene in scenes if len({c.body.split("_")[0] for c in scene.candidates}) == 1]
    assert 0.18 < len(twins) / len(scenes) < 0.32
    for scene in twins:
        assert len({c.body for c in scene.candidates}) == 2
    targets = [scene.candidates[0].body.rsplit("_", 1)[1] for scene in twins]
    assert 0.3 < targets.count("1") / len(targets) < 0.7


def test_every_relation_is_spoken_of():
    said = {
        phrase
        for index in range(300)
        for candidate in draw_scene("pickup_object", "train", index).candidates
        for phrase in phrases(candidate.words, "seen")
    }
    for word in ("left block", "right block", "nearer block", "farther block", "top block", "bottom block"):
        assert word in said
    assert {"bigger block", "smaller block", "bigger object", "red block"} <= said


@pytest.mark.parametrize("task", list(TASKS))
def test_demonstrations_never_use_the_held_out_names(task):
    pools = {"seen": set(), "unseen": set()}
    for split in SPLIT_NAMES:
        for index in range(6 if task in (*TABLETOP, *PLANNING) else 60):
            for candidate in draw_scene(task, split, index).candidates:
                for wording, pool in pools.items():
                    pool.update(phrases(candidate.words, wording))
    assert not pools["seen"] & pools["unseen"]
    words = {wording: {word for phrase in pool for word in phrase.split()} for wording, pool in pools.items()}
    assert words["unseen"] - words["seen"]


@pytest.mark.parametrize("task", ["open_drawer", "open_cabinet"])
def test_left_and_right_are_the_same_for_furniture_and_things(task):
    world = World(task, cameras={})
    world.reset("test", 0)
    sides = {c.body.split("_")[0]: world.engine.pose(c.body)[0][1] for c in world.scene.candidates}
    assert sides["left"] > sides["right"]
    left = Thing("red", "block", (0.5, 0.1, 0.0), 1e-4)
    assert left.relations(Thing("red", "block", (0.5, -0.1, 0.0), 1e-4)) == ["left"]
    assert "left block" in phrases(left.names(Thing("red", "block", (0.5, -0.1, 0.0), 1e-4)), "seen")
    assert "left drawer" in phrases(side_names("left", ["drawer"]), "seen")
    world.close()


def test_close_to_equal_is_not_said():
    here = Thing("red", "block", (0.5, 0.0, 0.0), 1.0e-4)
    assert here.relations(Thing("red", "block", (0.42, 0.07, 0.02), 1.5e-4)) == []
    assert here.relations(Thing("red", "block", (0.39, 0.09, 0.05), BIGGER * 1e-4)) == [
        *("right", "far", "bottom", "small"),
    ]


def test_volumes():
    body = Body("x", geoms=(Geom("box", (0.1, 0.2, 0.3)), Geom("cylinder", (0.1, 0.5))))
    assert volume(body) == pytest.approx(0.2 * 0.4 * 0.6 + np.pi * 0.01 * 1.0)
    thin, thick = (bottle("b", "red", half, 0.05, (0, 0, 0), (1, 0, 0, 0)) for half in (0.020, 0.026))
    assert volume(thick) > 1.5 * volume(thin)


def test_equal_names_are_numbered_from_left_to_right():
    places = [(0.5, -0.2, 0.0), (0.4, 0.1, 0.0)]
    assert unique(["red_block", "red_block"], places) == ["red_block_2", "red_block_1"]
    assert unique(["red_block", "blue_block"], places) == ["red_block", "blue_block"]


def test_every_way_of_telling_apart_is_as_likely():
    names = {"seen": (("red cup", "red one", "red thing"), ("left cup",)), "unseen": (("leftmost cup",),)}
    rng = np.random.default_rng(0)
    said = [call(rng, names, "seen") for _ in range(400)]
    assert 0.4 < said.count("left cup") / 400 < 0.6
    assert call(rng, names, "unseen") == "leftmost cup"
