"""Scripted experts: policies that know the true poses and do the tasks with the robot's skills."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, TypeVar

import numpy as np

from robot.interface import ActionChunk, Observation, PolicySpec
from robot.skills import Manner, Skills
from sim.worlds import SimulatedWorld

SomeWorld = TypeVar("SomeWorld", bound=SimulatedWorld)


class ScriptedExpert(Generic[SomeWorld]):
    """A `Policy` of horizon 1 that solves the world it was made for. Speed, approach and via-points vary with the
    seed."""

    def __init__(self, world: SomeWorld) -> None:
        self._world = world
        self.spec = PolicySpec({}, (), world.spec.action_space, horizon=1)
        self.reset(0)

    def reset(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        manner = Manner(speed=self._rng.uniform(0.18, 0.32), turning=self._rng.uniform(1.2, 2.0))
        self._skills = Skills(self._world.spec, lambda: self._world.observe(images=False), manner)
        self.replan()

    def replan(self) -> None:
        """Begin the task again from wherever the arm and the things are now."""
        self._plan = self._world.demonstration(self._skills, self._rng)

    def act(self, observation: Observation) -> ActionChunk:
        return ActionChunk(next(self._plan)[None], np.array([observation.time]))

    def act_batch(self, observations: Sequence[Observation]) -> list[ActionChunk]:
        if len(observations) != 1:
            raise ValueError(f"an expert drives one world, got {len(observations)} observations")
        return [self.act(observations[0])]
