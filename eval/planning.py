"""A planner on the simulated table-top: what it may say, what comes of it, and whether the request is fulfilled."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from math import dist
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from robot.interface import SceneObject
from robot.places import named_place
from sim.language import Wording
from sim.tasks.base import Goal
from sim.tasks.tabletop.conditions import At, In, On
from sim.tasks.tabletop.planning import PLACES, skills
from sim.tasks.tabletop.task import TabletopGoal
from sim.world import World

if TYPE_CHECKING:
    from policies.lmp.grounded import Plan
    from policies.lmp.grounded.planning import Choose

DONE = "done"
_REST = 1.0
"""Seconds after the last step in which things come to rest before the state is judged."""

State = Mapping[str, SceneObject]
"""What is on the table, by name."""


def options(state: State) -> list[str]:
    """All that a planner may say in a state."""
    return [*skills(list(state)), DONE]


def achieved(state: State, thing: str, target: str) -> bool:
    """Whether a thing is where a step was to bring it: in a bowl, on a block, at a place."""
    places = {name: _origin(state[name]) for name in (thing, target) if name in state}
    if target in PLACES:
        x, y = named_place(target)
        return bool(At(thing, (float(x), float(y))).met(places))
    return bool((In(thing, target) if target.endswith("bowl") else On(thing, target)).met(places))


def _origin(thing: SceneObject) -> NDArray[np.float64]:
    """The point (3,) in m that conditions speak of: the middle of a block, the bottom of a bowl."""
    bottom = thing.extent[2] / 2 if thing.name.endswith("bowl") else 0.0
    return thing.position - np.array([0.0, 0.0, bottom])


class PlannedTable:
    """The world of a planning task, in which steps are carried out by the skills that programs have too.

    Args:
        task: one of `sim.tasks.PLANNING`.
    """

    def __init__(self, task: str) -> None:
        from policies.lmp.api.api import make_api
        from policies.lmp.api.arm import Arm
        from policies.lmp.api.speech import Speech

        self.world = World(task, cameras={})
        arm = Arm(self.world.spec, lambda: self.world.observe(images=False), self.world.execute)
        self._api = make_api(arm, self.world, Speech())
        self.refused: list[str] = []

    def reset(self, split: str, scene: int, wording: Wording = "seen") -> None:
        self.world.reset(split, scene, wording=wording)
        self._api.reset()
        self.refused = []

    @property
    def request(self) -> str:
        """What is asked for, as the task of a plan."""
        said = self.world.instruction
        return said[0].lower() + said[1:]

    @property
    def forbidden(self) -> tuple[str, ...]:
        """Words for what a rule of safety forbids to touch."""
        return _planned(self.world.goal_spec).command.forbidden

    def observe(self) -> State:
        return self.world.objects()

    def execute(self, step: str) -> None:
        """Carry out a step; what cannot be done is noted in `refused` and leaves the table as far as it got."""
        from policies.lmp.errors import RequestError

        known = skills(list(self.observe()))
        if step not in known:
            self.refused.append(f"{step}: there is no such thing or place")
            return
        thing, target = known[step]
        self._api.begin()
        try:
            self._api.motion.put_first_on_second(thing, named_place(target) if target in PLACES else target)
        except RequestError as error:
            self.refused.append(f"{step}: {error}")
            self._let_go()

    def fulfilled(self) -> bool:
        """Whether all that was asked for holds now that the plan has ended, and nothing else has changed."""
        self._let_go()
        self._api.motion.wait(_REST)
        return bool(self.world.task.holds(self.world.engine, self.world.goal_spec))

    def _let_go(self) -> None:
        from policies.lmp.errors import RequestError

        if self._api.motion.arm.gripper < 0.5:
            with suppress(RequestError):  # a hand that is stuck: the state tells so
                self._api.motion.release()

    def close(self) -> None:
        self.world.close()


@dataclass(frozen=True)
class PlannedEpisode:
    """A plan that was carried out.

    Attributes:
        scene: its number.
        request: what was asked for.
        success: judged by the state after it.
        done: the planner ended it, not the limit of steps.
        steps: what was said, without "done".
        refused: of these, with the reason, what could not be done.
        choices: how often a step was chosen, "done" included.
        tokens: positions that the language model computed beyond the prompts.
    """

    scene: int
    request: str
    success: bool
    done: bool
    steps: tuple[str, ...]
    refused: tuple[str, ...]
    choices: int
    tokens: int


def play_plan(table: PlannedTable, scene: int, prompt: str, choose: Choose, most_steps: int) -> PlannedEpisode:
    """Plan and act in a scene that was just put up."""
    from policies.lmp.grounded import plan

    made: Plan = plan(prompt, choose, table.observe, table.execute, most_steps, done=DONE)
    request, refused = table.request, tuple(table.refused)
    steps = tuple(step.text for step in made.steps)
    choices = len(steps) + (len(steps) < most_steps)
    return PlannedEpisode(
        scene, request, table.fulfilled(), made.done, steps, refused, choices, int(made.scored_tokens)
    )


def _planned(goal: Goal) -> TabletopGoal:
    assert isinstance(goal, TabletopGoal)
    return goal


def nearest(state: State, point: NDArray[np.float64], without: str) -> float:
    """Distance in m, seen from above, from a point (2,) to the middle of the nearest other thing."""
    away = [dist(point, thing.position[:2]) for name, thing in state.items() if name != without]
    return min(away, default=1.0)
