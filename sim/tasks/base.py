"""What a task is: a scene drawn from a random generator, a goal variable, words, and how an expert does it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from robot.description import Body, Vector
from robot.skills import Pose, Skill, Skills
from sim.engines.base import Engine
from sim.goals import GoalSet
from sim.language import Wording
from sim.reference import Names
from sim.splits import Split
from sim.surroundings import Surroundings

if TYPE_CHECKING:
    from sim.world import World

HOLD = 2.0
"""Seconds for which the goal has to be held without a break (ARNOLD)."""
HORIZON = 20.0
"""Seconds per goal after which an episode has failed (ARNOLD: 2400 steps of 1/120 s)."""
STEPS_PER_SECOND = 120
"""ARNOLD's steps, of which its paths between key poses have one pose each."""
HELD_WITHIN = 0.03
"""Distance in m between tool and grasp pose within which fingers that are closed on something hold the thing."""

TWINS = 0.25
"""Share of the scenes whose two things look alike, so that only place or size tells them apart."""
_SIZED = 1 / 3


@dataclass(frozen=True)
class Goal:
    """What is asked for: bring `body` to `value` and keep it there for `hold` seconds without a break; `reference` is
    what the goal variable is measured against, read when the episode begins. It may take `patience` seconds."""

    body: str
    words: Names
    value: float
    reference: float = 0.0
    hold: float = HOLD
    patience: float = HORIZON


@dataclass(frozen=True, kw_only=True)
class Subgoal(Goal):
    """One step of a longer task, by the rules of a `task` of its own; `distractor` is what may be taken by mistake."""

    task: Task
    distractor: str


@dataclass(frozen=True)
class Candidate:
    """One of the things in a scene that the instruction may mean.

    Attributes:
        body: its body (or, for a drawer, also its joint).
        words: what it is called, see `sim.reference`.
        goal: the goal value if this is the target.
        other_goal: another goal value for the same thing, clearly different from `goal`.
        subgoals: of a longer task what has to be reached, in order.
        varied: which of the sub-goals `goal` and `other_goal` are values of.
    """

    body: str
    words: Names
    goal: float
    other_goal: float
    subgoals: tuple[Subgoal, ...] = ()
    varied: int = 0


@dataclass(frozen=True)
class SceneSpec:
    """A drawn scene: what stands where, and what each thing could be asked to do. The first candidate is the target.

    `arm_shift` (m) is how far the arm starts from its usual place.
    """

    bodies: tuple[Body, ...]
    candidates: tuple[Candidate, Candidate]
    joints: Mapping[str, float] = field(default_factory=dict)
    surroundings: Surroundings = Surroundings()
    arm_shift: Vector = (0.0, 0.0, 0.0)


Rehearse = Callable[[Pose], tuple[float, bool]]
"""Tells of a goal key pose the value with which the motion to it would end, and whether that is allowed (see `Task`);
it changes nothing."""


class Task(ABC):
    """A task with a continuous goal state, after ARNOLD.

    Attributes:
        name: as users type it.
        unit: of the goal variable: "m", "deg" or "fraction".
        tolerance: the goal counts as met while |value - goal| < tolerance.
        goals: the values that it may be asked for.
        speed_limit: and while the speed is below this (m/s or fraction/s; ARNOLD's limits per 1/120 s step).
        grain: one step of `goals` in the task's unit.
        scale: the value that is 1 in the normalised goal variable of a dataset.
        opening: of the gripper (0 to 1) when it comes to grasp.
        one_by_one: of several goals each is told when the one before is reached, and replaces it.
    """

    name: str
    unit: str
    tolerance: float
    goals: GoalSet
    speed_limit: float
    grain: float = 0.01
    scale: float
    opening: float = 1.0
    one_by_one: bool = False

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"

    @abstractmethod
    def draw(self, rng: np.random.Generator, split: Split) -> SceneSpec:
        """A random scene with the things and the goals of the split."""

    @property
    def goal_range(self) -> tuple[float, float]:
        """Smallest and largest goal value in the task's unit."""
        return self.goals.low * self.grain, self.goals.high * self.grain

    @abstractmethod
    def instruct(self, rng: np.random.Generator, goal: Goal, wording: Wording) -> str:
        """A random sentence that asks for the goal."""

    @abstractmethod
    def value(self, engine: Engine, goal: Goal) -> float:
        """The goal variable now."""

    @abstractmethod
    def speed(self, engine: Engine, goal: Goal) -> float:
        """How fast the goal's thing moves, for the speed limit."""

    @abstractmethod
    def grasp_pose(self, engine: Engine, goal: Goal) -> Pose:
        """Where the tool holds the thing, from its true pose."""

    @abstractmethod
    def remaining(self, engine: Engine, goal: Goal) -> NDArray[np.float64]:
        """(6,) how the thing still has to move to the goal: along x, y, z (m), then as a rotation vector (rad)."""

    @abstractmethod
    def demonstrate(self, world: World, skills: Skills, rng: np.random.Generator) -> Skill:
        """Do the task from wherever the arm is, with knowledge of the true poses; never ends by itself."""

    def take(self, world: World, skills: Skills, rng: np.random.Generator) -> Skill:
        """Approach from above by a varied way and close the fingers, again and again until the thing is held."""
        engine, goal = world.engine, world.goal_spec
        while not world.holding():
            grasp = self.grasp_pose(engine, goal)
            if not world.near(grasp, 0.06):
                yield from skills.follow([vary(rng, grasp, 0.04), grasp.moved((0, 0, 0.06))], self.opening)
            yield from skills.move(self.grasp_pose(engine, goal), self.opening)
            yield from skills.fingers(0.0, 0.5)

    def ask(self, engine: Engine, candidate: Candidate, value: float, wording: Wording = "seen") -> tuple[Goal, ...]:
        """What has to be reached in an episode that asks for this candidate and value, in order.

        It is the same in any wording, unless whole forms of instruction are held out.
        """
        return (Goal(candidate.body, candidate.words, value, self.reference(engine, candidate.body)),)

    def tell(self, rng: np.random.Generator, goals: tuple[Goal, ...], wording: Wording) -> str:
        """A random sentence that asks for all the goals of an episode."""
        return self.instruct(rng, goals[0], wording)

    def rules(self, goal: Goal) -> Task:
        """The task whose unit, tolerance and scale a goal has."""
        return self

    def distractor(self, engine: Engine, scene: SceneSpec, goal: Goal) -> Goal:
        """What may be taken by mistake, as a goal."""
        other = next(candidate for candidate in scene.candidates if candidate.body != goal.body)
        return Goal(other.body, other.words, other.goal, self.reference(engine, other.body))

    def imagine(self, rng: np.random.Generator, scene: SceneSpec) -> Goal:
        """A goal that nobody asked for, for play."""
        candidate = scene.candidates[rng.integers(2)]
        return Goal(candidate.body, candidate.words, float(rng.uniform(*self.goal_range)), reference=0.02)

    def before_grasp(self, grasp: Pose) -> Pose:
        """Where the tool stops before it goes to a grasp key pose: 5 cm back along its own axis."""
        return grasp.moved(-0.05 * grasp.rotation.apply([0.0, 0.0, 1.0]))

    def goal_pose(self, engine: Engine, goal: Goal, tool: Pose, rehearse: Rehearse) -> Pose:
        """The true goal key pose: where a tool that holds the thing, now at `tool`, has to be for the goal."""
        way = self.remaining(engine, goal)
        return Pose(tool.position + way[:3], Rotation.from_rotvec(way[3:]) * tool.rotation)

    def carry(self, engine: Engine, goal: Goal, skills: Skills, grasp: Pose, target: Pose) -> Skill:
        """The motion planner's way with the held thing from the grasp key pose to the goal key pose: straight."""
        yield from skills.move(target, 0.0, patience=HORIZON)

    def held(self, goal: Goal) -> str:
        """The body that is taken: the goal's own, unless it is something else that is brought to it."""
        return goal.body

    def reference(self, engine: Engine, body: str) -> float:
        """What the goal variable is measured against, read when the episode begins."""
        return 0.0

    def allowed(self, engine: Engine, goal: Goal) -> bool:
        """What else has to hold at a physics step for the goal to count, such as a cup that is upright."""
        return True

    def holds(self, engine: Engine, goal: Goal) -> bool:
        """Whether a goal is met at this physics step."""
        met = self.met(self.value(engine, goal), self.speed(engine, goal), goal.value)
        return met and self.allowed(engine, goal)

    def met(self, value: float, speed: float, goal: float) -> bool:
        """ARNOLD's condition at one physics step; both limits are strict."""
        return abs(value - goal) < self.tolerance and abs(speed) < self.speed_limit


def carried(tool: Pose, held: Pose, there: Pose) -> Pose:
    """Where the tool goes when what it holds goes from `held` to `there` and it keeps its place on that, squarely."""
    turn = there.rotation * held.rotation.inv()
    return Pose(there.position + turn.apply(tool.position - held.position), there.rotation)


def vary(rng: np.random.Generator, pose: Pose, spread: float) -> Pose:
    """A via-point above a pose: somewhere within `spread` m to the side and 8 to 16 cm higher, slightly turned."""
    offset = np.array([*rng.uniform(-spread, spread, 2), rng.uniform(0.08, 0.16)])
    return Pose(pose.position + offset, Rotation.from_rotvec(rng.uniform(-0.12, 0.12, 3)) * pose.rotation)


def draw_colours(rng: np.random.Generator, colours: Iterable[str], twins: bool) -> list[str]:
    """The colours of two things: twice the same one for twins."""
    first, second = (str(colour) for colour in rng.permutation(list(colours))[:2])
    return [first, first if twins else second]


def draw_sizes(rng: np.random.Generator) -> list[float]:
    """How big two things are among their kind, 0 to 1; in a third of the scenes one is small and the other big."""
    if rng.random() < _SIZED:
        return [float(grade) for grade in rng.permutation([rng.uniform(0.0, 0.15), rng.uniform(0.85, 1.0)])]
    return [float(grade) for grade in rng.uniform(0.0, 1.0, 2)]
