"""Open a drawer, or close it, to a fraction of its travel."""

from __future__ import annotations

from abc import abstractmethod
from math import pi
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from robot.skills import Pose, Skill, Skills, downward
from sim.engines.base import Engine
from sim.language import Wording, choose, percent_phrases
from sim.objects import DRAWER_TRAVEL, HANDLE_HEIGHT, HANDLE_STANDOFF, drawer_unit
from sim.tasks.base import Candidate, Goal, SceneSpec, Task, pick_goal

if TYPE_CHECKING:
    from sim.world import World

_NAMED = (0, 10, 20, 25, 30, 33, 40, 50, 60, 67, 70, 75, 80, 90, 100)
_SIDES = ("left", "right")
_FINGERS_APART = 0.62


class DrawerTask(Task):
    """What opening and closing share: the unit, the handle, the pull along the slide."""

    unit = "fraction"
    tolerance = 0.10
    goal_range = (0.0, 1.0)
    speed_limit = 0.05 * 120
    scale = 1.0

    @abstractmethod
    def openings(self, rng: np.random.Generator) -> tuple[float, int, int]:
        """A drawer's opening at the start, and two goals for it in percent."""

    def draw(self, rng: np.random.Generator) -> SceneSpec:
        position = (rng.uniform(0.60, 0.68), rng.uniform(-0.10, 0.10), 0.0)
        yaw = rng.uniform(-0.22, 0.22)
        order = [str(side) for side in rng.permutation(_SIDES)]
        candidates, joints = [], {}
        for side in order:
            start, goal, other = self.openings(rng)
            joints[f"{side}_drawer"] = start * DRAWER_TRAVEL
            candidates.append(Candidate(f"{side}_drawer", (side,), goal / 100, other / 100))
        return SceneSpec((drawer_unit(position, float(yaw)),), (candidates[0], candidates[1]), joints)

    def value(self, engine: Engine, goal: Goal) -> float:
        return min(max(engine.joint(goal.body) / DRAWER_TRAVEL, 0.0), 1.0)

    def speed(self, engine: Engine, goal: Goal) -> float:
        return engine.joint_velocity(goal.body) / DRAWER_TRAVEL

    def grasp_pose(self, engine: Engine, goal: Goal) -> Pose:
        """From above, one finger behind the handle bar and one before it."""
        position, quaternion = engine.pose(goal.body)
        turn = Rotation.from_quat(quaternion, scalar_first=True)
        bar = position + turn.apply([-0.014 - HANDLE_STANDOFF, 0.0, HANDLE_HEIGHT + 0.004])
        return Pose(bar, turn * downward(-pi / 2))

    def remaining(self, engine: Engine, goal: Goal) -> NDArray[np.float64]:
        outwards = self.grasp_pose(engine, goal).rotation.apply([0.0, 1.0, 0.0])  # the unit's -x
        return np.array([*outwards * (goal.value - self.value(engine, goal)) * DRAWER_TRAVEL, 0.0, 0.0, 0.0])

    def demonstrate(self, world: World, skills: Skills, rng: np.random.Generator) -> Skill:
        engine, goal = world.engine, world.goal_spec
        yield from self.take(world, skills, rng, opening=_FINGERS_APART)
        while True:
            missing = self.remaining(engine, goal)[:3]
            if np.linalg.norm(missing) > 0.15 * self.tolerance * DRAWER_TRAVEL:
                target = Pose(skills.pose().position + missing, self.grasp_pose(engine, goal).rotation)
                yield from skills.move(target, 0.0, patience=0.5)
            yield from skills.hold(0.3, 0.0)


class OpenDrawer(DrawerTask):
    """Pull a closed drawer open to the given fraction."""

    name = "open_drawer"

    def openings(self, rng: np.random.Generator) -> tuple[float, int, int]:
        goal = pick_goal(rng, 20, 100, _NAMED, None, 0)
        return 0.0, goal, pick_goal(rng, 20, 100, _NAMED, goal, 30)

    def instruct(self, rng: np.random.Generator, goal: Goal, wording: Wording) -> str:
        templates = {
            "seen": (
                "open the {side} drawer {percent}",
                "pull the {side} drawer {percent} open",
                "pull open the {side} drawer {percent}",
                "slide the {side} drawer {percent} out",
                "please open the drawer on the {side} {percent}",
                "I need the {side} drawer {percent} open",
            ),
            "unseen": (
                "could you get the {side} drawer {percent} open?",
                "draw the {side} drawer {percent} out",
                "the drawer to the {side} should end up {percent} open",
            ),
        }
        return choose(
            rng, templates[wording], side=goal.words, percent=percent_phrases(round(goal.value * 100), wording)
        )


class CloseDrawer(DrawerTask):
    """Push an open drawer in until only the given fraction is left open."""

    name = "close_drawer"

    def openings(self, rng: np.random.Generator) -> tuple[float, int, int]:
        start = int(rng.integers(55, 101))
        goal = pick_goal(rng, 0, start - 25, _NAMED, None, 0)
        gap = 30 if start >= 85 else 15
        return start / 100, goal, pick_goal(rng, 0, start - 20, _NAMED, goal, gap)

    def instruct(self, rng: np.random.Generator, goal: Goal, wording: Wording) -> str:
        percent = round(goal.value * 100)
        if percent == 0:
            closed = {
                "seen": (
                    "close the {side} drawer",
                    "close the {side} drawer fully",
                    "push the {side} drawer all the way in",
                    "close the {side} drawer completely",
                    "close the drawer on the {side} until it is 0 percent open",
                ),
                "unseen": ("shut the {side} drawer entirely", "push the drawer to the {side} fully shut"),
            }
            return choose(rng, closed[wording], side=goal.words)
        templates = {
            "seen": (
                "close the {side} drawer until it is {percent} open",
                "push the {side} drawer in until it is {percent} open",
                "close the {side} drawer and leave it {percent} open",
                "please close the drawer on the {side} to {percent} open",
                "push the {side} drawer to {percent} open",
            ),
            "unseen": (
                "shut the {side} drawer so that it stays {percent} open",
                "move the {side} drawer back in until just {percent} is open",
                "the drawer to the {side} should be pushed in to {percent} open",
            ),
        }
        return choose(rng, templates[wording], side=goal.words, percent=percent_phrases(percent, wording))
