"""Every world that an episode can run in, by the engine that a user names: our table in MuJoCo or PyBullet, and
robosuite's tasks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from robot.errors import TongsError, unknown
from robot.interface import Observation, RobotSpec
from robot.skills import Skill, Skills
from sim.engines import ENGINES, require_engine
from sim.language import Wording
from sim.outcome import Failure
from sim.robosuite import tasks as robosuite_tasks
from sim.robosuite.package import require_robosuite
from sim.scenes import VARIANTS
from sim.splits import SPLITS, find_split
from sim.tasks import SINGLE, TASKS

ROBOSUITE = "robosuite"
SIMULATORS = (*ENGINES, ROBOSUITE)


class TaskFacts(Protocol):
    """What is told of a task beside its worlds: the unit of its goal variable, within which distance of the goal value
    it counts as reached, and the smallest and largest goal."""

    @property
    def name(self) -> str: ...
    @property
    def unit(self) -> str: ...
    @property
    def tolerance(self) -> float: ...
    @property
    def goal_range(self) -> tuple[float, float]: ...


class Watch(Protocol):
    """Watches one episode: made after `reset`, it looks once after every control step."""

    def look(self) -> None: ...

    def failure(self) -> Failure | None:
        """The label of the episode so far; None if it succeeded."""
        ...


class SimulatedWorld(Protocol):
    """A `Robot` with numbered scenes and a goal: what an episode needs."""

    instruction: str
    steps: int
    success: bool
    spec: RobotSpec

    @property
    def task(self) -> TaskFacts: ...
    @property
    def goal(self) -> float: ...
    @property
    def value(self) -> float: ...
    @property
    def subgoals(self) -> tuple[str, ...]:
        """What a longer task asks for one after another; empty for a single one."""
        ...

    @property
    def reached(self) -> int:
        """How many of the sub-goals are reached."""
        ...

    @property
    def finished(self) -> bool: ...

    def reset(self, split: str, index: int, variant: str = "original", wording: Wording = "seen") -> None: ...
    def observe(self, images: bool = True) -> Observation: ...
    def execute(self, action: NDArray[np.float32]) -> None: ...
    def stop(self) -> None: ...
    def demonstration(self, skills: Skills, rng: np.random.Generator) -> Skill: ...
    def watch(self) -> Watch: ...
    def state(self) -> NDArray[np.float64]: ...
    def set_state(self, state: NDArray[np.float64]) -> None: ...
    def render(self, camera: str, height: int, width: int) -> NDArray[np.uint8]: ...
    def close(self) -> None: ...


def tasks_of(engine: str) -> Mapping[str, TaskFacts]:
    """The tasks that an engine has, by the names that users type. Raises TongsError for an unknown engine."""
    if engine not in SIMULATORS:
        raise unknown("engine", engine, SIMULATORS)
    return robosuite_tasks.TASKS if engine == ROBOSUITE else TASKS


def all_tasks(engine: str) -> tuple[str, ...]:
    """What `all` stands for: ARNOLD's eight tasks, which ask for one thing each, or every one of robosuite's."""
    return tuple(tasks_of(engine)) if engine == ROBOSUITE else SINGLE


def splits_of(engine: str) -> tuple[str, ...]:
    """The splits that an engine has scenes of."""
    return robosuite_tasks.SPLITS if engine == ROBOSUITE else tuple(SPLITS)


def require_scenes(engine: str, split: str, variant: str) -> None:
    """Raise a TongsError unless the engine has scenes of that split, and instructions of that variant."""
    if engine == ROBOSUITE:
        robosuite_tasks.require_scenes(split, variant)
    else:
        find_split(split)
        if variant not in VARIANTS:
            raise unknown("variant", variant, VARIANTS)


def require_simulator(engine: str) -> None:
    """Raise a TongsError unless the engine is known and installed."""
    if engine == ROBOSUITE:
        require_robosuite()
    else:
        tasks_of(engine)
        require_engine(engine)


def make_world(
    task: str, cameras: Mapping[str, tuple[int, int]] | None, quality: str, engine: str, tell_goal: bool = False
) -> SimulatedWorld:
    """A world without a scene yet; `cameras` as {name: (height, width)}, None for all; `tell_goal` as in `World`.

    Raises:
        TongsError: an unknown name, an engine that is not installed, or a goal that cannot be told.
    """
    require_simulator(engine)
    if engine == ROBOSUITE:
        if tell_goal:
            raise TongsError(f"engine={ROBOSUITE} does not tell the goal in numbers; mujoco and bullet do")
        from sim.robosuite.world import RobosuiteWorld

        return RobosuiteWorld(task, cameras, quality)
    from sim.world import World

    return World(task, cameras, quality, engine, tell_goal)
