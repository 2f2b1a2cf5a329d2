"""Knocks the arm off its way, so that demonstrations also show how to get back."""

from __future__ import annotations

import numpy as np

from sim.expert import ScriptedExpert
from sim.world import World


def disturb(world: World, expert: ScriptedExpert, rng: np.random.Generator) -> bool:
    """Let the expert work for a random while, then push the arm a few centimetres and degrees aside for a moment, now
    and then with the fingers doing something else; the expert begins again from there.

    Returns False if the episode ended before or during it; the scene is then of no use for a demonstration.
    """
    for _ in range(int(rng.integers(3, round(0.24 * world.horizon)))):
        world.execute(expert.act(world.observe(images=False)).actions[0])
        if world.success:
            return False
    gripper = world.commanded_opening
    if rng.random() < 0.35:
        gripper = float(rng.choice([0.0, 0.6, 1.0]))
    direction = rng.normal(size=3)
    push = direction / np.linalg.norm(direction) * rng.uniform(0.005, 0.035)
    turn = rng.normal(size=3) * (0.02, 0.02, 0.06)
    for _ in range(int(rng.integers(2, 6))):
        world.execute(np.array([*push, *turn, gripper], np.float32))
        if world.success:
            return False
    world.restart_clock()
    expert.replan()
    return True
