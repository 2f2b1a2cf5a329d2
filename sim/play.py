"""Play: the arm does one thing after another without being told to, so that many states are visited."""

from __future__ import annotations

from robot.skills import Pose, Skill, Skills, downward
from sim.expert import ScriptedExpert
from sim.world import World

PLAY_SECONDS = 30.0
"""Length of one episode of play."""


class Play(ScriptedExpert[World]):
    """An expert without a goal: it wanders, grasps either thing, brings it to some value, lets go, and goes on."""

    def replan(self) -> None:
        self._plan = self._wander()

    def _wander(self) -> Skill:
        world, rng, skills = self._world, self._rng, self._skills
        while True:
            choice = rng.random()
            if choice < 0.25:
                yield from skills.move(self._somewhere(), float(rng.choice([1.0, 0.6])), patience=1.0)
                continue
            world.pursue((world.task.imagine(rng, world.scene),))
            deadline = world.steps + int(rng.uniform(40, 90))
            for action in world.rules.demonstrate(world, skills, rng):
                yield action
                if world.steps >= deadline or abs(world.value - world.goal) < 0.3 * world.rules.tolerance:
                    break
            yield from self._let_go(skills)

    def _somewhere(self) -> Pose:
        position = self._rng.uniform((0.35, -0.25, 0.10), (0.60, 0.25, 0.40))
        return Pose(position, downward(float(self._rng.uniform(-1.2, 1.2))))

    def _let_go(self, skills: Skills) -> Skill:
        """Put what is held down (a drawer's handle is simply released) and back off."""
        if self._world.goal_spec.body not in self._world.scene.joints:
            here = skills.pose()
            yield from skills.move(here.moved((0.0, 0.0, 0.03 - here.position[2])), 0.0, patience=0.3)
        yield from skills.release()
