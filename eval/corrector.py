"""A simulated person who corrects a policy: sees the truth, and says motions at a bounded rate, or drives instead.

It knows no more words than the table of motions, so what a policy gains by it, a person could have given it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from eval.results import write_text
from policies.configuration import configuration
from robot.errors import TongsError, unknown
from robot.interface import EE_DELTA, ActionChunk, Observation, PolicySpec
from robot.motions import GRIPPER, TABLE, TURNS, MotionTable, clauses, describe
from sim.episode import Companion
from sim.world import World
from sim.worlds import SimulatedWorld

MOTIONS, DRIVING = "motions", "driving"
_SPEED, _TURNING = 0.2, 0.8
"""m/s and rad/s at which the person thinks of the arm as moving, and drives it."""
_ABOVE = 0.07
"""m above a grasp at which the hand goes to it."""
_ASIDE = 0.03
"""m to the side of a grasp from which the hand is lifted before it goes there."""
_BESIDE, _TURNED, _LOW = 0.016, 0.12, 0.010
"""m to the side, rad and m above a grasp within which the hand goes down, and closes: no less than what has words, or
nothing could be said about it."""
_SHUT = 0.15
"""By how much less than it should the gripper may be open on the way down."""
_EMPTY = 0.05
"""Opening below which fingers have met."""
_DONE = 0.018
"""m (or rad / 10) from the goal within which there is nothing more to do."""


@dataclass(frozen=True)
class CorrectorConfig:
    """How a simulated person corrects.

    Attributes:
        by: "motions" says language motions to a policy that takes them; "driving" takes the arm for as long instead.
        interval: s between the beginnings of two corrections, at least.
        hold: s for which a correction is kept up, at most; it ends earlier once it is no longer right.
        patience: s for which the policy may be wrong before it is corrected.
        look: s between two looks at what it does.
        most: corrections in one episode, at most.
    """

    by: Literal["motions", "driving"] = MOTIONS
    interval: float = 1.0
    hold: float = 1.5
    patience: float = 0.5
    look: float = 0.2
    most: int = 20

    def __post_init__(self) -> None:
        if self.by not in (MOTIONS, DRIVING):
            raise unknown("corrector.by", self.by, (MOTIONS, DRIVING))
        for name in ("interval", "hold", "patience", "look", "most"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0:
                raise TongsError(f"corrector.{name} must be a number above 0, got {value!r}")


class MotionLog(Companion):
    """Keeps what is told, chosen and done at every control step.

    Attributes:
        steps: a line for each: step, time (s), task (what the robot is told), motion, source, action.
    """

    def __init__(self) -> None:
        self.steps: list[dict[str, object]] = []

    def begin(self, world: SimulatedWorld) -> None:
        self.steps = []

    def saw(self, observation: Observation, action: NDArray[np.float32], chunk: ActionChunk | None) -> None:
        self.steps.append(
            {
                "step": len(self.steps),
                "time": round(float(observation.time), 6),
                "task": observation.instruction,
                "motion": chunk.motion if chunk else "",
                "source": chunk.motion_source if chunk else "human",
                "action": np.asarray(action, np.float64).round(6).tolist(),
            }
        )

    @property
    def chose(self) -> bool:
        """Whether there was any motion, or anybody but the policy."""
        return any(step["motion"] or step["source"] == "human" for step in self.steps)

    def write(self, path: Path) -> None:
        """A JSON object per line."""
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text("".join(json.dumps(step, ensure_ascii=False) + "\n" for step in self.steps), path)


@dataclass(frozen=True)
class Way:
    """Where the tool should go now, (6,) m and rotation vector in rad in the base frame; the gripper's opening; and
    whether that has to change before anything else helps."""

    shift: NDArray[np.float64]
    opening: float
    grip: bool = False


class Teacher:
    """What would be right now, from the true poses: to the thing, take it, bring it to its goal. It remembers nothing,
    so it goes on from wherever a policy has brought the arm."""

    def __init__(self, world: World) -> None:
        self._world = world

    def way(self) -> Way:
        world, nowhere = self._world, np.zeros(6)
        goal = world.goal_spec
        if world.holding():
            way = world.task.remaining(world.engine, goal)
            near = np.linalg.norm(way[:3]) < _DONE and np.linalg.norm(way[3:]) < 10 * _DONE
            return Way(nowhere if near else way, 0.0)
        position, rotation = world.engine.tool()
        grasp = world.task.grasp_pose(world.engine, goal)
        offset = grasp.position - position
        turn = (grasp.rotation * Rotation.from_matrix(rotation).inv()).as_rotvec()
        aside, opening = float(np.linalg.norm(offset[:2])), world.rules.opening
        shut = world.commanded_opening < opening - _SHUT
        if aside > _ASIDE and offset[2] > -0.6 * _ABOVE:  # too low to pass over what stands there
            return Way(np.array([0.0, 0.0, offset[2] + _ABOVE, 0.0, 0.0, 0.0]), opening)
        if aside > _BESIDE or np.linalg.norm(turn) > _TURNED:
            return Way(np.array([*offset[:2], 0.0, *turn]), opening)
        if abs(offset[2]) > _LOW:
            return Way(nowhere, opening, True) if shut else Way(np.array([*offset, *turn]), opening)
        if world.commanded_opening < _EMPTY:  # they have closed on nothing
            return Way(np.array([0.0, 0.0, _ABOVE, 0.0, 0.0, 0.0]), opening)
        return Way(nowhere, 0.0, True)


class SimulatedCorrector(MotionLog):
    """Watches what the policy is about to do and, if that has been wrong for a while, says the right motion or drives.

    Args:
        config: see `CorrectorConfig`.
        table: the words that it has.

    Attributes:
        corrections: those of this episode, as (time in s, motion).
    """

    def __init__(self, config: CorrectorConfig, table: MotionTable = TABLE) -> None:
        super().__init__()
        self.config, self.table = config, table
        self.corrections: list[tuple[float, str]] = []

    def begin(self, world: SimulatedWorld) -> None:
        super().begin(world)
        if not isinstance(world, World):
            raise TongsError(
                f"a simulated corrector has to know where things are, which {world.task.name} does not tell"
            )
        self._world, self._teacher = world, Teacher(world)
        self._period = 1.0 / world.spec.action_space.rate
        self.corrections, self._held = [], ""
        self._looked = self._began = -np.inf
        self._wrong_since: float | None = None

    # --- what the episode asks

    def motion(self, chunk: ActionChunk | None) -> str:
        self._consider(chunk)
        return self._held if self.config.by == MOTIONS else ""

    def action(self, observation: Observation) -> NDArray[np.float32] | None:
        """While it drives: a step of the right way."""
        if self.config.by != DRIVING or not self._held:
            return None
        way = self._teacher.way()
        shift = _limited(way.shift[:3], _SPEED * self._period)
        turn = _limited(way.shift[3:], _TURNING * self._period)
        return EE_DELTA.clip(np.array([*shift, *turn, way.opening]))

    # --- inside

    def _consider(self, chunk: ActionChunk | None) -> None:
        """Begin a correction, go on with it or end it."""
        now, config = self._world.steps * self._period, self.config
        if now - self._looked < config.look - 1e-9:
            return
        self._looked = now
        right = self.right()
        if self._held:
            if now - self._began > config.hold - 1e-9 or clauses(right)[0] not in clauses(self._held):
                self._held, self._wrong_since = "", None
            return
        if chunk is None or clauses(right)[0] in clauses(self.planned(chunk)):
            self._wrong_since = None
            return
        if self._wrong_since is None:
            self._wrong_since = now
        waited = now - self._wrong_since > config.patience - 1e-9
        if waited and now - self._began > config.interval - 1e-9 and len(self.corrections) < config.most:
            self._held, self._began = right, now
            self.corrections.append((now, right))

    def right(self) -> str:
        """The motion that would be right now."""
        way = self._teacher.way()
        shift = _limited(way.shift[:3], _SPEED * self.table.horizon)
        turn = _limited(way.shift[3:], _TURNING * self.table.horizon)
        return self._words(shift, turn, way.opening - self._opening() if way.grip else 0.0)

    def planned(self, chunk: ActionChunk) -> str:
        """What the policy is about to do, in the same words."""
        steps = max(round(self.table.horizon / self._period), 1)
        actions = chunk.actions[:steps].astype(np.float64)
        turned = Rotation.identity()
        for action in actions:
            turned = Rotation.from_rotvec(action[3:6]) * turned
        return self._words(actions[:, :3].sum(axis=0), turned.as_rotvec(), float(actions[-1, 6]) - self._opening())

    def _words(self, shift: NDArray[np.float64], turn: NDArray[np.float64], opening: float) -> str:
        changes: dict[str, float] = dict(zip(("x", "y", "z", *TURNS, GRIPPER), [*shift, *turn, opening], strict=True))
        return describe(np.array([changes.get(axis.entry, 0.0) for axis in self.table.axes]), self.table)

    def _opening(self) -> float:
        return self._world.commanded_opening


def _limited(vector: Sequence[float] | NDArray[np.float64], most: float) -> NDArray[np.float64]:
    values = np.asarray(vector, np.float64)
    return values * min(1.0, most / max(float(np.linalg.norm(values)), 1e-9))


def corrector_config(settings: Mapping[str, Any]) -> CorrectorConfig:
    """From the settings `corrector.*` of a command."""
    return configuration(CorrectorConfig, settings)


def require_corrector(config: CorrectorConfig, spec: PolicySpec, name: str) -> None:
    """Raise a TongsError unless the policy takes what the person would say, and the person can drive it."""
    if config.by == MOTIONS and "motion" not in spec.goals:
        raise TongsError(
            f"policy {name!r} takes no motions, so it can only be corrected by driving (corrector.by={DRIVING})"
        )
    if spec.action_space != EE_DELTA:
        raise TongsError(
            f"a simulated corrector reads and gives ee_delta actions, {name!r} gives {spec.action_space.kind}"
        )
