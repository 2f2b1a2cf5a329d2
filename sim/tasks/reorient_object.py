"""Turn a lying bottle to an angle between its axis and the vertical."""

from __future__ import annotations

from dataclasses import replace
from math import acos, degrees, pi, radians
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from robot.skills import Pose, Skill, Skills, downward
from sim.engines.base import Engine
from sim.goals import GoalSet
from sim.language import Wording, choose, degree_phrases
from sim.objects import bottle, palette
from sim.reference import Thing, call, unique
from sim.splits import Split
from sim.tasks.base import TWINS, Candidate, Goal, Rehearse, SceneSpec, Task, draw_colours, draw_sizes

if TYPE_CHECKING:
    from sim.world import World


_ASKEW = 0.5


class ReorientObject(Task):
    """Grasp the named one of two lying bottles (90 degrees from upright), lift and tilt it to the given angle.

    Bottles lie across the table, the cap to the left or to the right. The fingers then close along the table's length,
    and about that axis the arm can tilt its hand far to both sides.
    """

    name = "reorient_object"
    unit = "deg"
    tolerance = 20.0
    goals = GoalSet(0, 180, (0, 45, 135, 180), held_out=135, margin=20, step=5, start=90)
    grain = 1.0
    speed_limit = 0.001 * 120
    scale = 180.0

    def draw(self, rng: np.random.Generator, split: Split) -> SceneSpec:
        colours = draw_colours(rng, palette(split.objects), rng.random() < TWINS)
        sides = rng.permutation([-1.0, 1.0])
        places = [(float(rng.uniform(0.42, 0.57)), float(side * rng.uniform(0.13, 0.21)), 0.0) for side in sides]
        labels = unique([f"{colour}_bottle" for colour in colours], places)
        bodies, things = [], []
        for label, colour, (x, y, _), grade in zip(labels, colours, places, draw_sizes(rng), strict=True):
            half_width = 0.020 + 0.006 * grade
            yaw = float(rng.choice([-1.0, 1.0]) * pi / 2 + rng.uniform(-_ASKEW, _ASKEW))
            lying = Rotation.from_euler("ZY", [yaw, pi / 2])  # own z along the table
            quaternion = tuple(lying.as_quat(scalar_first=True))
            flask = split.objects == "novel"
            half_body = 0.048 if flask else 0.050 + 0.012 * grade
            bodies.append(bottle(label, colour, half_width, half_body, (x, y, half_width + 1e-4), quaternion, flask))
            things.append(Thing.of(bodies[-1], colour, "bottle"))
        candidates = []
        for thing, other, label in zip(things, reversed(things), labels, strict=True):
            goal = self.goals.draw(rng, split.goals)
            another = self.goals.another(rng, split.goals, goal, 40)
            candidates.append(Candidate(label, thing.names(other), float(goal), float(another)))
        return SceneSpec(tuple(bodies), (candidates[0], candidates[1]))

    def instruct(self, rng: np.random.Generator, goal: Goal, wording: Wording) -> str:
        angle = round(goal.value)
        named = {
            "seen": {
                0: ("put the {thing} upright", "stand the {thing} upright"),
                180: ("turn the {thing} upside down",),
            },
            "unseen": {0: ("set the {thing} up straight",), 180: ("flip the {thing} upside down",)},
        }
        templates = {
            "seen": (
                "reorient the {thing} {angle} away from the up axis",
                "turn the {thing} to {angle} from upright",
                "tilt the {thing} until it is {angle} from vertical",
                "rotate the {thing} to {angle} from the up axis",
                "please bring the {thing} to {angle} from upright",
            ),
            "unseen": (
                "make the {thing} lean by {angle} from upright",
                "hold the {thing} so that its cap is {angle} off vertical",
                "the {thing} should be at {angle} to the up axis",
            ),
        }
        pool = templates[wording] + named[wording].get(angle, ())
        return choose(rng, pool, thing=call(rng, goal.words, wording), angle=degree_phrases(angle, wording))

    def value(self, engine: Engine, goal: Goal) -> float:
        return degrees(acos(min(max(engine.uprightness(goal.body), -1.0), 1.0)))

    def speed(self, engine: Engine, goal: Goal) -> float:
        return engine.vertical_speed(goal.body)

    def grasp_pose(self, engine: Engine, goal: Goal) -> Pose:
        """Fingers across the body where it balances, whichever way the cap points."""
        position, quaternion = engine.pose(goal.body)
        axis = Rotation.from_quat(quaternion, scalar_first=True).apply([0.0, 0.0, 1.0])
        yaw = float(np.arctan2(axis[1], axis[0]))
        yaw %= pi
        return Pose(position + (0.0, 0.0, 0.004), downward(yaw))

    def remaining(self, engine: Engine, goal: Goal) -> NDArray[np.float64]:
        """Towards the vertical or away from it in the plane of both; nothing where that plane is not defined."""
        axis = Rotation.from_quat(engine.pose(goal.body)[1], scalar_first=True).apply([0.0, 0.0, 1.0])
        towards = np.cross(axis, (0.0, 0.0, 1.0))
        length = float(np.linalg.norm(towards))
        missing = radians(self.value(engine, goal) - goal.value)
        return np.array([0.0, 0.0, 0.0, *towards * (missing / length if length > 0.1 else 0.0)])

    def before_grasp(self, grasp: Pose) -> Pose:
        """15 cm above the table."""
        return replace(grasp, position=np.array([*grasp.position[:2], 0.15]))

    def goal_pose(self, engine: Engine, goal: Goal, tool: Pose, rehearse: Rehearse) -> Pose:
        """Turned to the goal, high above the middle of the table."""
        turned = super().goal_pose(engine, goal, tool, rehearse)
        return replace(turned, position=np.array([0.52, 0.0, 0.36]))

    def demonstrate(self, world: World, skills: Skills, rng: np.random.Generator) -> Skill:
        engine, goal = world.engine, world.goal_spec
        yield from self.take(world, skills, rng)
        here = skills.pose()
        if here.position[2] < 0.10:
            yield from skills.move(here.moved((0.0, 0.0, 0.10)), 0.0, patience=0.5)
        place = np.array([rng.uniform(0.48, 0.56), rng.uniform(-0.07, 0.07), rng.uniform(0.33, 0.40)])
        while True:
            turn = self.remaining(engine, goal)[3:]
            if np.linalg.norm(turn) > radians(0.15 * self.tolerance):
                rotation = Rotation.from_rotvec(turn) * skills.pose().rotation
                yield from skills.move(Pose(place, rotation), 0.0, patience=0.5)
            yield from skills.hold(0.3, 0.0)
