"""Longer tasks: sub-goals one after another, such as "put the red block in the open left drawer and close it"."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from robot.description import Body
from robot.skills import Pose, Skill, Skills
from sim.engines.base import Engine
from sim.language import Wording
from sim.objects import DRAWER_SPACING, DRAWER_TRAVEL, LOOKS, Side, drawer_unit, palette
from sim.splits import Split
from sim.tasks.base import Candidate, Goal, SceneSpec, Subgoal, Task
from sim.tasks.furniture import SIDES
from sim.tasks.pickup_object import SHAPES, shape
from sim.tasks.program_words import program_sentence
from sim.tasks.programs import PROGRAMS, Thing

if TYPE_CHECKING:
    from sim.world import World

SUBGOAL_HOLD = 1.0
"""Seconds for which a sub-goal before the last one has to be held. A thing that passes through its goal at just below
the speed limit is within the tolerance for 0.8 s."""
_HANDLE = 0.10
"""From a drawer's front to where the hand is that holds its handle, and what may be pulled too far (m)."""
_TABLE = (0.30, -0.26), (0.56, 0.26)
_ROOM_IN_FRONT, _ROOM_BESIDE = 0.07, 0.10
"""Least distance in m of a thing's middle from where a drawer may come, so that the hand has room around the thing."""
_APART = 0.14


class Compose(Task):
    """Two or three sub-goals in order, each by the rules of a single task.

    A sub-goal counts once it was held for a second, the last one for two (ARNOLD). While it is held, those reached
    before have to hold as well, unless the same thing was to be moved on: the block lies in the drawer that is closed.
    The goal variable of the whole is the number of sub-goals reached.
    """

    name = "compose"
    unit = "subgoals"
    tolerance = 1.0

    @property
    def goal_range(self) -> tuple[float, float]:
        return 2.0, 3.0

    def draw(self, rng: np.random.Generator, split: Split) -> SceneSpec:
        looks = LOOKS[split.objects]
        unit = drawer_unit(
            (float(rng.uniform(0.64, 0.70)), float(rng.uniform(-0.06, 0.06)), 0.0),
            float(rng.uniform(-0.15, 0.15)),
            looks[rng.integers(len(looks))],
            hollow=True,
        )
        program = PROGRAMS[rng.integers(len(PROGRAMS))]
        side = SIDES[rng.integers(2)]
        colours = [str(colour) for colour in rng.permutation(list(palette(split.objects)))[:2]]
        kinds = [SHAPES[split.objects][rng.integers(2)] for _ in colours]
        bodies = [f"{colour}_{kind}" for colour, kind in zip(colours, kinds, strict=True)]
        things = (Thing(kinds[0], colours[0], bodies[1]), Thing(kinds[1], colours[1], bodies[0]))
        starts, (first, second) = program(rng, split.goals, side, things)
        standing: list[Body] = []
        if first.body in bodies:
            spots = _spots(rng, unit, _reach(starts, (first, second)))
            standing = [
                shape(rng, thing.body, thing.colour, thing.kind, (*spot, 0.0), float(rng.uniform()))
                for thing, spot in zip(things, spots, strict=True)
            ]
        joints = {f"{name}_drawer": starts.get(f"{name}_drawer", 0) / 100 * DRAWER_TRAVEL for name in SIDES}
        return SceneSpec((unit, *standing), (first, second), joints)

    def ask(self, engine: Engine, candidate: Candidate, value: float, wording: Wording = "seen") -> tuple[Goal, ...]:
        steps = list(candidate.subgoals)
        steps[candidate.varied] = replace(steps[candidate.varied], value=value)
        briefly = [replace(step, hold=SUBGOAL_HOLD) for step in steps[:-1]]
        return tuple(replace(step, reference=step.task.reference(engine, step.body)) for step in (*briefly, steps[-1]))

    def tell(self, rng: np.random.Generator, goals: tuple[Goal, ...], wording: Wording) -> str:
        return program_sentence(rng, tuple(goal for goal in goals if isinstance(goal, Subgoal)), wording)

    def rules(self, goal: Goal) -> Task:
        assert isinstance(goal, Subgoal)
        return goal.task

    def instruct(self, rng: np.random.Generator, goal: Goal, wording: Wording) -> str:
        """A sentence for one sub-goal alone."""
        return self.rules(goal).instruct(rng, goal, wording)

    def value(self, engine: Engine, goal: Goal) -> float:
        return self.rules(goal).value(engine, goal)

    def speed(self, engine: Engine, goal: Goal) -> float:
        return self.rules(goal).speed(engine, goal)

    def holds(self, engine: Engine, goal: Goal) -> bool:
        return self.rules(goal).holds(engine, goal)

    def held(self, goal: Goal) -> str:
        return self.rules(goal).held(goal)

    def grasp_pose(self, engine: Engine, goal: Goal) -> Pose:
        return self.rules(goal).grasp_pose(engine, goal)

    def remaining(self, engine: Engine, goal: Goal) -> NDArray[np.float64]:
        return self.rules(goal).remaining(engine, goal)

    def distractor(self, engine: Engine, scene: SceneSpec, goal: Goal) -> Goal:
        assert isinstance(goal, Subgoal)
        return replace(goal, body=goal.distractor, reference=goal.task.reference(engine, goal.distractor))

    def imagine(self, rng: np.random.Generator, scene: SceneSpec) -> Goal:
        steps = [step for candidate in scene.candidates for step in candidate.subgoals]
        step = steps[rng.integers(len(steps))]
        return replace(step, value=float(rng.uniform(*step.task.goal_range)), reference=0.02)

    def demonstrate(self, world: World, skills: Skills, rng: np.random.Generator) -> Skill:
        while True:
            goal = world.goal_spec
            for action in self.rules(goal).demonstrate(world, skills, rng):
                yield action
                if world.goal_spec is not goal:
                    break
            if world.goal_spec.body != goal.body:
                yield from skills.release()


def _reach(starts: Mapping[str, int], candidates: tuple[Candidate, Candidate]) -> dict[Side, float]:
    """How far (m) each drawer may come out in any variant of the scene, handle, tolerance and all."""
    reach: dict[Side, float] = {}
    for side in SIDES:
        body = f"{side}_drawer"
        openings = [starts.get(body, 0) / 100]
        for candidate in candidates:
            openings += [step.value for step in candidate.subgoals if step.body == body]
            if candidate.subgoals[candidate.varied].body == body:
                openings.append(candidate.other_goal)
        reach[side] = max(openings) * DRAWER_TRAVEL + _HANDLE
    return reach


def _spots(rng: np.random.Generator, unit: Body, reach: Mapping[Side, float]) -> list[tuple[float, float]]:
    """Places on the table for two things, clear of each other and of the drawers."""
    yaw = 2.0 * float(np.arctan2(unit.quaternion[3], unit.quaternion[0]))
    forward, left = np.array([np.cos(yaw), np.sin(yaw)]), np.array([-np.sin(yaw), np.cos(yaw)])
    while True:
        spots = rng.uniform(*_TABLE, (200, 2))
        offsets = spots - unit.position[:2]
        out, aside = -offsets @ forward, offsets @ left
        clear = np.ones(len(spots), dtype=bool)
        for side, middle in zip(SIDES, (DRAWER_SPACING / 2, -DRAWER_SPACING / 2), strict=True):
            beside = np.abs(aside - middle) > DRAWER_SPACING / 2 + _ROOM_BESIDE
            clear &= beside | (out > reach[side] + _ROOM_IN_FRONT)
        for first, second in combinations(spots[clear], 2):
            if np.linalg.norm(second - first) > _APART:
                return [(float(x), float(y)) for x, y in (first, second)]
