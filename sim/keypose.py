"""ARNOLD's two-call protocol: a policy names a grasp pose and a goal pose, a motion planner does the rest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from robot.errors import ContractError
from robot.interface import KEYPOSE, ActionChunk, Observation, Policy, PolicySpec
from robot.skills import Manner, Pose, Skill, Skills
from sim.tasks.base import HORIZON
from sim.world import World
from sim.worlds import SimulatedWorld

MANNER = Manner(tolerance=0.005, turn_tolerance=0.1)
PRECISE = replace(MANNER, tolerance=0.001)
"""When a key pose counts as reached (ARNOLD: 0.5 cm and 0.1 rad; 0.1 cm for the grasp)."""


def keypose_actions(world: SimulatedWorld, policy: Policy) -> Skill:
    """The actions of an episode; never ends by itself.

    The policy is asked twice, with the first observation and with the one after the fingers have closed. Each time it
    gives one key pose (see `robot.interface.KEYPOSE`). A key pose that cannot be reached takes up the episode's time.

    Raises:
        ContractError: a chunk of another shape than (1, 7), a quaternion of zeros, or a world that is not ours.
    """
    if not isinstance(world, World):
        raise ContractError(f"key poses are for the tasks of our own table, {world.task.name} is not one of them")
    skills = planner(world)
    grasp = _ask(world, policy)
    yield from skills.move(world.task.before_grasp(grasp), world.task.opening, patience=HORIZON)
    yield from skills.move(grasp, world.task.opening, PRECISE, patience=HORIZON)
    yield from skills.fingers(0.0)
    yield from world.task.carry(world.engine, world.goal_spec, skills, grasp, _ask(world, policy))
    while True:
        yield from skills.hold(1.0, 0.0)


def planner(world: World) -> Skills:
    """What moves the arm between key poses."""
    return Skills(world.spec, lambda: world.observe(images=False), MANNER)


def _ask(world: World, policy: Policy) -> Pose:
    chunk = policy.act(world.observe(images=bool(policy.spec.cameras)))
    if chunk.actions.shape != (1, KEYPOSE.dimension):
        raise ContractError(f"a key pose has shape (1, {KEYPOSE.dimension}), the policy gave {chunk.actions.shape}")
    return Pose.from_vector(chunk.actions[0])


class Oracle:
    """A `Policy` that gives the true key poses of the world that it was made for."""

    def __init__(self, world: SimulatedWorld) -> None:
        if not isinstance(world, World):
            raise ContractError(f"the oracle knows the tasks of our own table, {world.task.name} is not one of them")
        self._world = world
        self._skills = planner(world)
        self.spec = PolicySpec({}, (), KEYPOSE, horizon=1)
        self.reset(0)

    def reset(self, seed: int) -> None:
        self._grasp: Pose | None = None

    def act(self, observation: Observation) -> ActionChunk:
        world = self._world
        if self._grasp is None:
            pose = self._grasp = world.task.grasp_pose(world.engine, world.goal_spec)
        else:
            pose = world.task.goal_pose(world.engine, world.goal_spec, self._skills.pose(), self.rehearse)
        return ActionChunk(pose.vector()[None], np.array([observation.time]))

    def act_batch(self, observations: Sequence[Observation]) -> list[ActionChunk]:
        if len(observations) != 1:
            raise ValueError(f"an oracle knows one world, got {len(observations)} observations")
        return [self.act(observations[0])]

    def rehearse(self, target: Pose) -> tuple[float, bool]:
        """How the motion to a goal key pose would end (see `sim.tasks.base.Rehearse`): done, and gone back in time."""
        world, grasp = self._world, self._grasp
        assert grasp is not None
        grasp, target = Pose.from_vector(grasp.vector()), Pose.from_vector(target.vector())
        before = world.snapshot()
        for action in world.task.carry(world.engine, world.goal_spec, self._skills, grasp, target):
            world.execute(action)
        end = world.value, world.task.allowed(world.engine, world.goal_spec)
        world.restore(before)
        return end
