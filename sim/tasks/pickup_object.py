"""Raise an object to a height above where it stood."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from robot.description import Body, Vector
from robot.skills import Pose, Skill, Skills, downward
from sim.engines.base import Engine
from sim.goals import GoalSet
from sim.language import Wording, centimetre_phrases, choose
from sim.objects import STEP_HEIGHT, block, cylinder, palette, puck, step
from sim.reference import Thing, call, unique
from sim.splits import Pool, Split
from sim.tasks.base import TWINS, Candidate, Goal, SceneSpec, Task, draw_colours, draw_sizes

if TYPE_CHECKING:
    from sim.world import World

_YAW = 0.7
_STEPPED = 0.2
"""Share of the scenes in which one of the things stands on a step."""
SHAPES: dict[Pool, tuple[str, str]] = {"seen": ("block", "cylinder"), "novel": ("bar", "puck")}
"""The kinds of small things in training and in the split `novel_object`."""


class PickupObject(Task):
    """Grasp the named one of two objects and hold it at the given height above where it stood.

    In some scenes they are alike but for size and place, in some one of them stands on a step.
    """

    name = "pickup_object"
    unit = "m"
    tolerance = 0.05
    goals = GoalSet(10, 40, (10, 20, 30, 40), held_out=20, margin=5, named=(15, 25, 35))
    speed_limit = 0.001 * 120
    scale = 0.40

    def draw(self, rng: np.random.Generator, split: Split) -> SceneSpec:
        twins, stepped = rng.random() < TWINS, rng.random() < _STEPPED
        colours = draw_colours(rng, palette(split.objects), twins)
        kinds = [str(kind) for kind in rng.choice(SHAPES[split.objects], 2)]
        kinds = [kinds[0], kinds[0]] if twins else kinds
        levels = [0.0, 0.0]
        levels[rng.integers(2)] = STEP_HEIGHT if stepped else 0.0
        places = [(x, y, level) for (x, y), level in zip(_spots(rng, stepped), levels, strict=True)]
        labels = unique([f"{colour}_{kind}" for colour, kind in zip(colours, kinds, strict=True)], places)
        bodies, things = [], []
        for label, colour, kind, place, grade in zip(labels, colours, kinds, places, draw_sizes(rng), strict=True):
            bodies.append(shape(rng, label, colour, kind, place, grade))
            things.append(Thing.of(bodies[-1], colour, kind, place[2]))
        candidates = []
        for thing, other, label in zip(things, reversed(things), labels, strict=True):
            goal = self.goals.draw(rng, split.goals)
            another = self.goals.another(rng, split.goals, goal, 12)
            candidates.append(Candidate(label, thing.names(other), goal / 100, another / 100))
        steps = [step((x, y, 0.0)) for x, y, level in places if level]
        return SceneSpec((*bodies, *steps), (candidates[0], candidates[1]))

    def instruct(self, rng: np.random.Generator, goal: Goal, wording: Wording) -> str:
        templates = {
            "seen": (
                "raise the {thing} {height} above where it is",
                "lift the {thing} by {height}",
                "pick up the {thing} and lift it {height}",
                "raise the {thing} {height}",
                "pick the {thing} up by {height}",
                "please lift the {thing} {height} high",
            ),
            "unseen": (
                "take the {thing} and bring it {height} up",
                "hoist the {thing} up to {height} above its place",
                "could you hold the {thing} up {height} higher?",
            ),
        }
        heights = centimetre_phrases(round(goal.value * 100), wording)
        return choose(rng, templates[wording], thing=call(rng, goal.words, wording), height=heights)

    def reference(self, engine: Engine, body: str) -> float:
        return engine.height(body)

    def value(self, engine: Engine, goal: Goal) -> float:
        return engine.height(goal.body) - goal.reference

    def speed(self, engine: Engine, goal: Goal) -> float:
        return engine.vertical_speed(goal.body)

    def grasp_pose(self, engine: Engine, goal: Goal) -> Pose:
        """From above at mid-height, fingers along the sides of a block; a cylinder is taken as it comes."""
        position, quaternion = engine.pose(goal.body)
        yaw = Rotation.from_quat(quaternion, scalar_first=True).as_euler("ZYX")[0]
        kind = goal.body.split("_")[1]
        if kind in ("cylinder", "puck"):
            yaw = 0.0
        turn = np.pi if kind == "bar" else np.pi / 2  # after which it looks the same
        yaw = (yaw + turn / 2) % turn - turn / 2
        return Pose(position, downward(float(yaw)))

    def remaining(self, engine: Engine, goal: Goal) -> NDArray[np.float64]:
        return np.array([0.0, 0.0, goal.value - self.value(engine, goal), 0.0, 0.0, 0.0])

    def demonstrate(self, world: World, skills: Skills, rng: np.random.Generator) -> Skill:
        engine, goal = world.engine, world.goal_spec
        yield from self.take(world, skills, rng)
        drift = np.array([*rng.uniform(-0.02, 0.02, 2), 0.0])
        while True:
            missing = self.remaining(engine, goal)[:3]
            if np.linalg.norm(missing) > 0.15 * self.tolerance:
                here = skills.pose()
                upright = downward(here.rotation.as_euler("ZYX")[0])
                target = Pose(here.position + missing + drift, upright)
                yield from skills.move(target, 0.0, patience=0.5)
                drift = np.zeros(3)
            yield from skills.hold(0.3, 0.0)


def _spots(rng: np.random.Generator, stepped: bool) -> list[tuple[float, float]]:
    """Two places on the table (x, y in m) that leave the hand room between them, more of it beside a step."""
    while True:
        spots = rng.uniform((0.38, -0.22), (0.62, 0.22), (2, 2))
        if np.linalg.norm(spots[0] - spots[1]) > (0.20 if stepped else 0.14):
            return [(float(x), float(y)) for x, y in spots]


def shape(rng: np.random.Generator, name: str, colour: str, kind: str, place: Vector, grade: float) -> Body:
    """A thing that stands on `place`; a grade from 0 to 1 says how big it is among its kind."""

    def between(low: float, high: float) -> float:
        return low + (high - low) * min(max(grade + float(rng.uniform(-0.15, 0.15)), 0.0), 1.0)

    x, y, level = place
    half_height, yaw = between(0.020, 0.035), float(rng.uniform(-_YAW, _YAW))
    if kind == "block":
        half = (between(0.018, 0.028), between(0.018, 0.026), half_height)
        return block(name, colour, half, (x, y, level + half_height), yaw)
    if kind == "bar":
        return block(name, colour, (0.040, 0.016, 0.7 * half_height), (x, y, level + 0.7 * half_height), yaw)
    if kind == "puck":
        return puck(name, colour, 0.029, 0.018, (x, y, level + 0.018))
    return cylinder(name, colour, between(0.018, 0.027), half_height, (x, y, level + half_height))
