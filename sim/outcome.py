"""Why an episode failed, from the simulator's state while it ran: one of eight labels."""

from __future__ import annotations

from math import dist
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from sim.tasks.base import HELD_WITHIN, Goal

if TYPE_CHECKING:
    from sim.world import World

Failure = Literal[
    "did not reach", "did not grasp", "dropped", "overshot", "undershot", "wrong object", "timed out", "undone"
]
FAILURES: tuple[Failure, ...] = get_args(Failure)
REACHED_WITHIN = 0.05
"""Distance in m from the grasp point within which the tool has reached a thing."""


class Outcome:
    """Watches one episode: made after `World.reset`, it looks once after every control step.

    Let v be the goal variable, s its value at the start and g the goal. A thing is *taken* once it was held between
    the fingers, or once v went by more than the tolerance (of the target: from s towards g). Where several goals have
    to be reached, all of this is about the one that was not, from the moment the one before was reached. The first line
    that applies is the label of a failed episode:

    - undone: |v - g| < tolerance at the end, but an earlier goal that was to last did not hold any more;
    - timed out: |v - g| < tolerance at the end, which came before that had lasted for long enough (or at too high a
      speed);
    - wrong object: the distractor was taken (or given water) and the target never was;
    - did not reach: the target was never taken, and the tool never came within 5 cm of its grasp point;
    - did not grasp: the target was never taken, but reached;
    - overshot: v ended beyond g as seen from s, and had come there before the target was let go of, if it was;
    - dropped: the target was held, and is not at the end;
    - undershot: v ended short of g.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._begin()

    def _begin(self) -> None:
        """Watch for the present goal from now on."""
        world = self._world
        self._reached_before = world.reached
        self._goal, self._tolerance = world.goal, world.rules.tolerance
        self._target = _Thing(world, world.goal_spec)
        self._distractor = _Thing(world, world.task.distractor(world.engine, world.scene, world.goal_spec))
        self._towards = 1.0 if self._goal >= self._target.start else -1.0
        self._value = self._value_when_held = self._target.start
        self._reached = self._held = self._ever_held = self._moved = self._took_distractor = False

    def look(self) -> None:
        """Take note of one control step; costs about a hundredth of it."""
        if self._world.reached != self._reached_before and not self._world.success:
            self._begin()
        target, distractor = self._target, self._distractor
        self._value = target.value()
        self._moved = self._moved or (self._value - target.start) * self._towards > self._tolerance
        self._held = target.held()
        if self._held:
            self._ever_held, self._value_when_held = True, self._value
        self._reached = self._reached or target.distance() < REACHED_WITHIN
        moved = abs(distractor.value() - distractor.start) > self._tolerance
        taken = distractor.body != target.body and distractor.held()
        self._took_distractor = self._took_distractor or moved or taken

    def failure(self) -> Failure | None:
        """The label of the episode so far; None if it succeeded."""
        if self._world.success:
            return None
        if abs(self._value - self._goal) < self._tolerance:
            return "timed out" if self._world.lasting() else "undone"
        ours = self._ever_held and self._target.body != self._distractor.body
        if self._took_distractor and not (ours or self._moved):
            return "wrong object"
        if not (self._ever_held or self._moved):
            return "did not grasp" if self._reached else "did not reach"
        lost = self._ever_held and not self._held
        if self._beyond(self._value) and (not lost or self._beyond(self._value_when_held)):
            return "overshot"
        return "dropped" if lost else "undershot"

    def _beyond(self, value: float) -> bool:
        """Whether a value lies past the goal and outside the tolerance."""
        return (value - self._goal) * self._towards >= self._tolerance


class _Thing:
    """A thing that can be taken: its goal variable, and the point to grasp it at.

    The point is where the task's grasp pose is when the episode begins, fixed to the thing from then on. That is a
    tenth of the cost of a new grasp pose, and nowhere more than 1 cm from it.
    """

    def __init__(self, world: World, goal: Goal) -> None:
        self._world, self._goal, self.body = world, goal, world.task.held(goal)
        position, quaternion = world.engine.pose(self.body)
        offset = world.task.grasp_pose(world.engine, goal).position - position
        self._offset = Rotation.from_quat(quaternion, scalar_first=True).inv().apply(offset).tolist()
        self.start = self.value()

    def value(self) -> float:
        return self._world.task.value(self._world.engine, self._goal)

    def distance(self) -> float:
        """From the tool to the grasp point, in m."""
        position, quaternion = self._world.engine.pose(self.body)
        return dist(self._world.engine.tool()[0], position + _turned(quaternion.tolist(), self._offset))

    def held(self) -> bool:
        return self._world.gripping() and self.distance() < HELD_WITHIN


def _turned(quaternion: list[float], vector: list[float]) -> NDArray[np.float64]:
    """A vector turned by a unit quaternion w, x, y, z: v + 2 w (u x v) + 2 u x (u x v), in plain floats for speed."""
    w, x, y, z = quaternion
    a, b, c = vector
    p, q, r = 2 * (y * c - z * b), 2 * (z * a - x * c), 2 * (x * b - y * a)
    return np.array([a + w * p + y * r - z * q, b + w * q + z * p - x * r, c + w * r + x * q - y * p])
