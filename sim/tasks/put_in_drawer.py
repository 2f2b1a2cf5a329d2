"""Put a small thing into an open drawer and let go of it: a step of longer tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from robot.skills import DOWN, Pose, Skill, Skills
from sim.engines.base import Engine
from sim.language import Wording, choose
from sim.objects import Side, drawer_inside
from sim.reference import call
from sim.splits import Split
from sim.tasks.base import HELD_WITHIN, Goal, SceneSpec, Task, carried
from sim.tasks.pickup_object import PickupObject

if TYPE_CHECKING:
    from sim.world import World

_PICKUP = PickupObject()
_MARGIN = 0.02
_LOW, _HIGH = np.array(drawer_inside())
_CARRY_HEIGHT = 0.24
_LOWEST = 0.060
"""Height in m of the tool at which the hand, which is as wide as a drawer, is just above the drawer's walls."""
_FALL = 0.010
_ASIDE = 0.03


class PutInDrawer(Task):
    """The thing lies in the drawer named, and the hand has let go of it.

    The goal variable is the distance in m from the thing's middle to the room in the drawer without its outermost 2 cm
    at the sides and at the top; within the tolerance of 2 cm the middle is between the walls. The goal is 0.
    """

    name = "put_in_drawer"
    unit = "m"
    tolerance = _MARGIN
    speed_limit = PickupObject.speed_limit
    scale = PickupObject.scale

    def __init__(self, side: Side) -> None:
        self.drawer = f"{side}_drawer"

    def __repr__(self) -> str:
        return f"PutInDrawer({self.drawer})"

    @property
    def goal_range(self) -> tuple[float, float]:
        return 0.0, 0.0

    def draw(self, rng: np.random.Generator, split: Split) -> SceneSpec:
        raise NotImplementedError("a step of longer tasks has no scenes of its own")

    def instruct(self, rng: np.random.Generator, goal: Goal, wording: Wording) -> str:
        templates = {
            "seen": ("put the {thing} in the {drawer}", "place the {thing} in the {drawer}"),
            "unseen": ("stow the {thing} in the {drawer}",),
        }
        return choose(
            rng, templates[wording], thing=call(rng, goal.words, wording), drawer=self.drawer.replace("_", " ")
        )

    def reference(self, engine: Engine, body: str) -> float:
        """The height of the thing's middle above its bottom, while it stands on the table."""
        return engine.height(body)

    def value(self, engine: Engine, goal: Goal) -> float:
        position, turn = self._frame(engine)
        place = turn.inv().apply(engine.pose(goal.body)[0] - position)
        low, high = _LOW + (_MARGIN, _MARGIN, 0.0), _HIGH - _MARGIN
        return float(np.linalg.norm(place - np.clip(place, low, high)))

    def speed(self, engine: Engine, goal: Goal) -> float:
        return engine.vertical_speed(goal.body)

    def allowed(self, engine: Engine, goal: Goal) -> bool:
        """The hand is gone."""
        return float(np.linalg.norm(engine.tool()[0] - engine.pose(goal.body)[0])) > HELD_WITHIN

    def grasp_pose(self, engine: Engine, goal: Goal) -> Pose:
        return _PICKUP.grasp_pose(engine, goal)

    def remaining(self, engine: Engine, goal: Goal) -> NDArray[np.float64]:
        """To the middle of the opening; nothing once it is inside."""
        if self.value(engine, goal) == 0.0:
            return np.zeros(6)
        return np.concatenate([self._place(engine, goal, 0.0).position - engine.pose(goal.body)[0], np.zeros(3)])

    def demonstrate(self, world: World, skills: Skills, rng: np.random.Generator) -> Skill:
        engine, goal = world.engine, world.goal_spec
        aside = float(rng.uniform(-_ASIDE, _ASIDE))
        while True:
            while self.value(engine, goal) > 0.0:
                yield from self.take(world, skills, rng)
                tool = skills.pose()
                target = carried(tool, self.grasp_pose(engine, goal), self._place(engine, goal, aside))
                target = target.moved((0.0, 0.0, max(_FALL, _LOWEST - target.position[2])))
                raised = tool.moved((0.0, 0.0, max(0.0, _CARRY_HEIGHT - tool.position[2])))
                above = target.moved((0.0, 0.0, _CARRY_HEIGHT - target.position[2]))
                yield from skills.follow([raised, above], 0.0, patience=1.0)
                yield from skills.place(target)
            yield from skills.hold(0.3, 1.0)

    def _frame(self, engine: Engine) -> tuple[NDArray[np.float64], Rotation]:
        position, quaternion = engine.pose(self.drawer)
        return position, Rotation.from_quat(quaternion, scalar_first=True)

    def _place(self, engine: Engine, goal: Goal, aside: float) -> Pose:
        """Where the thing stands in the middle of the opening, or `aside` m to the left of it, and the hand above it.

        The opening reaches from the drawer's front to that of the unit, which the drawer's own origin has left by as
        much as it is open.
        """
        position, turn = self._frame(engine)
        place = (engine.joint(self.drawer) / 2, aside, _LOW[2] + goal.reference)
        return Pose(position + turn.apply(place), turn * DOWN)
