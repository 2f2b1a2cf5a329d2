"""Raise an object to a height above where it stood."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from robot.description import Body
from robot.skills import Pose, Skill, Skills, downward
from sim.engines.base import Engine
from sim.goals import GoalSet
from sim.language import Wording, centimetre_phrases, choose
from sim.objects import block, cylinder, palette, puck
from sim.splits import Pool, Split
from sim.tasks.base import Candidate, Goal, SceneSpec, Task

if TYPE_CHECKING:
    from sim.world import World

_YAW = 0.7
SHAPES: dict[Pool, tuple[str, str]] = {"seen": ("block", "cylinder"), "novel": ("bar", "puck")}
"""The kinds of small things in training and in the split `novel_object`."""


class PickupObject(Task):
    """Grasp the named one of two objects of different colour and hold it at the given height."""

    name = "pickup_object"
    unit = "m"
    tolerance = 0.05
    goals = GoalSet(10, 40, (10, 20, 30, 40), held_out=20, margin=5, named=(15, 25, 35))
    speed_limit = 0.001 * 120
    scale = 0.40

    def draw(self, rng: np.random.Generator, split: Split) -> SceneSpec:
        colours = [str(colour) for colour in rng.permutation(list(palette(split.objects)))[:2]]
        spots = [rng.uniform((0.38, -0.22), (0.62, 0.22))]
        while len(spots) < 2:
            spot = rng.uniform((0.38, -0.22), (0.62, 0.22))
            if np.linalg.norm(spot - spots[0]) > 0.14:
                spots.append(spot)
        bodies, candidates = [], []
        for colour, (x, y) in zip(colours, spots, strict=True):
            kind = SHAPES[split.objects][rng.integers(2)]
            bodies.append(shape(rng, kind, colour, float(x), float(y)))
            goal = self.goals.draw(rng, split.goals)
            other = self.goals.another(rng, split.goals, goal, 12)
            candidates.append(Candidate(bodies[-1].name, names(kind, colour), goal / 100, other / 100))
        return SceneSpec(tuple(bodies), (candidates[0], candidates[1]))

    def instruct(self, rng: np.random.Generator, goal: Goal, wording: Wording) -> str:
        templates = {
            "seen": (
                "raise the {thing} {height} above the table",
                "lift the {thing} by {height}",
                "pick up the {thing} and lift it {height}",
                "raise the {thing} {height}",
                "pick the {thing} up by {height}",
                "please lift the {thing} {height} high",
            ),
            "unseen": (
                "take the {thing} and bring it {height} up",
                "hoist the {thing} {height} off the table",
                "could you hold the {thing} up {height} higher?",
            ),
        }
        return choose(
            rng, templates[wording], thing=goal.words, height=centimetre_phrases(round(goal.value * 100), wording)
        )

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
        if goal.body.endswith(("cylinder", "puck")):
            yaw = 0.0
        turn = np.pi if goal.body.endswith("bar") else np.pi / 2  # after which it looks the same
        yaw = (yaw + turn / 2) % turn - turn / 2
        return Pose(position, downward(float(yaw)))

    def remaining(self, engine: Engine, goal: Goal) -> NDArray[np.float64]:
        return np.array([0.0, 0.0, goal.value - self.value(engine, goal), 0.0, 0.0, 0.0])

    def demonstrate(self, world: World, skills: Skills, rng: np.random.Generator) -> Skill:
        engine, goal = world.engine, world.goal_spec
        yield from self.take(world, skills, rng, opening=1.0)
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


def shape(rng: np.random.Generator, kind: str, colour: str, x: float, y: float) -> Body:
    """A thing of one of the `SHAPES` and of random size that stands on the table at (x, y)."""
    name, half_height = f"{colour}_{kind}", float(rng.uniform(0.020, 0.035))
    if kind == "block":
        half = (float(rng.uniform(0.018, 0.028)), float(rng.uniform(0.018, 0.026)), half_height)
        return block(name, colour, half, (x, y, half_height), float(rng.uniform(-_YAW, _YAW)))
    if kind == "bar":
        half = (0.040, 0.016, 0.7 * half_height)
        return block(name, colour, half, (x, y, half[2]), float(rng.uniform(-_YAW, _YAW)))
    if kind == "puck":
        return puck(name, colour, 0.029, 0.018, (x, y, 0.018))
    return cylinder(name, colour, float(rng.uniform(0.018, 0.027)), half_height, (x, y, half_height))


def names(kind: str, colour: str) -> tuple[str, ...]:
    """What such a thing is called."""
    return (f"{colour} {kind}", f"{colour} {kind}", f"{colour} object")
