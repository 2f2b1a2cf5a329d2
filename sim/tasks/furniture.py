"""Open a drawer or a cabinet door, or close it, to a fraction of its way."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from math import pi
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from robot.description import Body
from robot.paths import arc, line
from robot.skills import Pose, Skill, Skills, downward
from sim.engines.base import Engine
from sim.goals import GoalSet
from sim.language import Wording, choose, percent_phrases
from sim.objects import (
    DOOR_TRAVEL,
    DRAWER_TRAVEL,
    LOOKS,
    Look,
    Side,
    cabinet_unit,
    door_bar,
    drawer_bar,
    drawer_unit,
)
from sim.reference import call, side_names
from sim.splits import Goals, Split
from sim.tasks.base import STEPS_PER_SECOND, Candidate, Goal, Rehearse, SceneSpec, Task, carried

if TYPE_CHECKING:
    from sim.world import World

_NAMED = (10, 20, 30, 33, 40, 60, 67, 70, 80, 90)
SIDES: tuple[Side, Side] = ("left", "right")
_LIFT = 0.004
_ARC = 0.12
"""Longest way between two waypoints, as a fraction of the joint's range."""

_SHUT: Mapping[int, Mapping[Wording, tuple[str, ...]]] = {
    0: {
        "seen": (
            "close the {part}",
            "close the {part} fully",
            "push the {part} all the way in",
            "close the {part} completely",
            "close the {part} until it is 0 percent open",
        ),
        "unseen": ("shut the {part} entirely", "push the {part} fully shut"),
    }
}
"""To close something fully, without a number."""

Openings = Callable[[np.random.Generator, GoalSet, Goals], tuple[float, int, int]]
"""Draws a part's opening at the start (fraction), and two goals for it in percent."""


def _to_open(rng: np.random.Generator, values: GoalSet, goals: Goals) -> tuple[float, int, int]:
    goal = values.draw(rng, goals)
    return 0.0, goal, values.another(rng, goals, goal, 30)


def _to_close(rng: np.random.Generator, values: GoalSet, goals: Goals) -> tuple[float, int, int]:
    least = max(55, values.held_out + 25) if goals == "held_out" else 55
    start = int(rng.integers(least, 101))
    goal = values.draw(rng, goals, most=start - 25)
    return start / 100, goal, another_closing(rng, values, goals, start, goal)


def another_closing(rng: np.random.Generator, values: GoalSet, goals: Goals, start: int, goal: int) -> int:
    """Another goal for a part that stands `start` percent open."""
    return values.another(rng, goals, goal, 30 if start >= 85 else 15, most=start - 20)


class FurnitureTask(Task):
    """What opening and closing share: a unit with two movable parts, their handles, the way along the joint.

    Attributes:
        kind: "drawer" or "cabinet"; the parts are called `left_<kind>` and `right_<kind>`.
        nouns: what a part is called.
        travel: the joint's range in m or rad.
        openings: draws a part's opening at the start, and two goals for it in percent.
        wordings: templates with {part} and {percent}.
        extremes: templates with {part} for goal values in percent that also go without a number.
    """

    unit = "fraction"
    tolerance = 0.10
    speed_limit = 0.05 / 100 * 120
    scale = 1.0
    opening = 0.62
    kind: str
    nouns: tuple[str, ...]
    travel: float
    openings: Openings
    wordings: Mapping[Wording, tuple[str, ...]]
    extremes: Mapping[int, Mapping[Wording, tuple[str, ...]]] = {}

    @abstractmethod
    def furniture(self, rng: np.random.Generator, look: Look) -> Body:
        """The unit, somewhere within reach."""

    @abstractmethod
    def grasp_at(self, engine: Engine, body: str, fraction: float) -> Pose:
        """Where the tool would hold the handle if the part stood at `fraction` of its way."""

    def draw(self, rng: np.random.Generator, split: Split) -> SceneSpec:
        looks = LOOKS[split.objects]
        unit = self.furniture(rng, looks[rng.integers(len(looks))])
        order = [str(side) for side in rng.permutation(SIDES)]
        candidates, joints = [], {}
        for side in order:
            start, goal, other = self.openings(rng, self.goals, split.goals)
            joints[f"{side}_{self.kind}"] = start * self.travel
            candidates.append(Candidate(f"{side}_{self.kind}", side_names(side, self.nouns), goal / 100, other / 100))
        return SceneSpec((unit,), (candidates[0], candidates[1]), joints)

    def instruct(self, rng: np.random.Generator, goal: Goal, wording: Wording) -> str:
        percent, part = round(goal.value * 100), call(rng, goal.words, wording)
        if percent in self.extremes:
            return choose(rng, self.extremes[percent][wording], part=part)
        return choose(rng, self.wordings[wording], part=part, percent=percent_phrases(percent, wording))

    def value(self, engine: Engine, goal: Goal) -> float:
        return min(max(engine.joint(goal.body) / self.travel, 0.0), 1.0)

    def speed(self, engine: Engine, goal: Goal) -> float:
        return engine.joint_velocity(goal.body) / self.travel

    def grasp_pose(self, engine: Engine, goal: Goal) -> Pose:
        """From above, one finger behind the handle bar and one before it."""
        return self.grasp_at(engine, goal.body, engine.joint(goal.body) / self.travel)

    def remaining(self, engine: Engine, goal: Goal) -> NDArray[np.float64]:
        here, there = self.grasp_pose(engine, goal), self.grasp_at(engine, goal.body, goal.value)
        turn = (there.rotation * here.rotation.inv()).as_rotvec()
        return np.concatenate([there.position - here.position, turn])

    def goal_pose(self, engine: Engine, goal: Goal, tool: Pose, rehearse: Rehearse) -> Pose:
        return carried(tool, self.grasp_pose(engine, goal), self.grasp_at(engine, goal.body, goal.value))

    def demonstrate(self, world: World, skills: Skills, rng: np.random.Generator) -> Skill:
        engine, goal = world.engine, world.goal_spec
        yield from self.take(world, skills, rng)
        while True:
            value = self.value(engine, goal)
            if abs(goal.value - value) > 0.15 * self.tolerance:
                steps = max(1, round(abs(goal.value - value) / _ARC))
                here, held = skills.pose(), self.grasp_pose(engine, goal)
                way = [self.grasp_at(engine, goal.body, f) for f in np.linspace(value, goal.value, steps + 1)[1:]]
                yield from skills.follow([carried(here, held, there) for there in way], 0.0, patience=0.5)
            yield from skills.hold(0.3, 0.0)


class DrawerTask(FurnitureTask):
    """Two drawers side by side that slide towards the arm."""

    kind = "drawer"
    nouns = ("drawer",)
    travel = DRAWER_TRAVEL

    def furniture(self, rng: np.random.Generator, look: Look) -> Body:
        position = (rng.uniform(0.60, 0.68), rng.uniform(-0.10, 0.10), 0.0)
        return drawer_unit(position, float(rng.uniform(-0.22, 0.22)), look)

    def carry(self, engine: Engine, goal: Goal, skills: Skills, grasp: Pose, target: Pose) -> Skill:
        """Along a straight line, 0.06 cm a step."""
        steps = int(100 / 0.06 * float(np.linalg.norm(target.position - grasp.position)))
        yield from skills.track(line(grasp, target, steps), STEPS_PER_SECOND, 0.0)

    def grasp_at(self, engine: Engine, body: str, fraction: float) -> Pose:
        position, quaternion = engine.pose(body)
        turn = Rotation.from_quat(quaternion, scalar_first=True)
        slid = (engine.joint(body) - fraction * self.travel, 0.0, 0.0)
        bar = position + turn.apply(np.add(drawer_bar(), slid)) + (0.0, 0.0, _LIFT)
        return Pose(bar, turn * downward(-pi / 2))


class CabinetTask(FurnitureTask):
    """Two doors side by side, hinged at the outer edges; the handle goes along an arc and turns with the door."""

    kind = "cabinet"
    nouns = ("cabinet", "cabinet door")
    travel = DOOR_TRAVEL

    def furniture(self, rng: np.random.Generator, look: Look) -> Body:
        position = (rng.uniform(0.60, 0.66), rng.uniform(-0.06, 0.06), 0.0)
        return cabinet_unit(position, float(rng.uniform(-0.15, 0.15)), look)

    def carry(self, engine: Engine, goal: Goal, skills: Skills, grasp: Pose, target: Pose) -> Skill:
        """Along an arc around the hinge, 0.1 cm of the straight way a step."""
        hinge = engine.pose(goal.body)[0]
        steps = int(1000 * float(np.linalg.norm(target.position - grasp.position)))
        yield from skills.track(arc(grasp, target, hinge, steps), STEPS_PER_SECOND, 0.0)

    def grasp_at(self, engine: Engine, body: str, fraction: float) -> Pose:
        position, quaternion = engine.pose(body)
        side: Side = "left" if body.startswith("left") else "right"
        outwards = -1.0 if side == "left" else 1.0  # how a door turns about z when it opens
        angle = fraction * self.travel - engine.joint(body)
        turn = Rotation.from_rotvec([0.0, 0.0, outwards * angle]) * Rotation.from_quat(quaternion, scalar_first=True)
        bar = position + turn.apply(door_bar(side)) + (0.0, 0.0, _LIFT)
        return Pose(bar, turn * downward(-outwards * pi / 2))  # so that the wrist turns towards its middle


class OpenDrawer(DrawerTask):
    """Pull a closed drawer open to the given fraction."""

    name = "open_drawer"
    openings = staticmethod(_to_open)
    goals = GoalSet(20, 100, (25, 50, 75, 100), held_out=75, margin=10, named=_NAMED)
    wordings = {
        "seen": (
            "open the {part} {percent}",
            "pull the {part} {percent} open",
            "pull open the {part} {percent}",
            "slide the {part} {percent} out",
            "please open the {part} {percent}",
            "I need the {part} {percent} open",
        ),
        "unseen": (
            "could you get the {part} {percent} open?",
            "draw the {part} {percent} out",
            "the {part} should end up {percent} open",
        ),
    }


class OpenCabinet(CabinetTask):
    """Swing a closed cabinet door open to the given fraction of a right angle."""

    name = "open_cabinet"
    openings = staticmethod(_to_open)
    goals = GoalSet(20, 100, (25, 50, 75, 100), held_out=50, margin=10, named=_NAMED)
    wordings = {
        "seen": (
            "open the {part} {percent}",
            "pull the {part} {percent} open",
            "swing the {part} {percent} open",
            "swing open the {part} {percent}",
            "please open the {part} {percent}",
            "I need the {part} {percent} open",
        ),
        "unseen": (
            "could you get the {part} {percent} open?",
            "turn the {part} {percent} outwards",
            "the {part} should end up {percent} open",
        ),
    }


class CloseDrawer(DrawerTask):
    """Push an open drawer in until only the given fraction is left open."""

    name = "close_drawer"
    openings = staticmethod(_to_close)
    goals = GoalSet(0, 75, (0, 25, 50, 75), held_out=25, margin=10, named=_NAMED)
    wordings = {
        "seen": (
            "close the {part} until it is {percent} open",
            "push the {part} in until it is {percent} open",
            "close the {part} and leave it {percent} open",
            "please close the {part} to {percent} open",
            "push the {part} to {percent} open",
        ),
        "unseen": (
            "shut the {part} so that it stays {percent} open",
            "move the {part} back in until just {percent} is open",
            "the {part} should be pushed in to {percent} open",
        ),
    }
    extremes = _SHUT


class CloseCabinet(CabinetTask):
    """Push an open cabinet door until only the given fraction of a right angle is left open."""

    name = "close_cabinet"
    openings = staticmethod(_to_close)
    goals = GoalSet(0, 75, (0, 25, 50, 75), held_out=50, margin=10, named=_NAMED)
    wordings = {
        "seen": (
            "close the {part} until it is {percent} open",
            "push the {part} until it is {percent} open",
            "close the {part} and leave it {percent} open",
            "please close the {part} to {percent} open",
            "swing the {part} back to {percent} open",
        ),
        "unseen": (
            "shut the {part} so that it stays {percent} open",
            "move the {part} back until just {percent} is open",
            "the {part} should be pushed to {percent} open",
        ),
    }
    extremes = _SHUT


_PARTS: Mapping[str, FurnitureTask] = {"drawer": OpenDrawer(), "cabinet": OpenCabinet()}


def part_grasp(engine: Engine, body: str) -> Pose:
    """Where the tool holds the handle of a drawer or door, wherever that stands now."""
    part = _PARTS[body.split("_")[1]]
    return part.grasp_at(engine, body, engine.joint(body) / part.travel)
