"""Pictures of the wanted outcome of a scene, made by letting the scripted expert bring it about."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from robot.errors import TongsError
from sim.expert import ScriptedExpert
from sim.language import Wording
from sim.scenes import generator
from sim.worlds import SimulatedWorld

TRIES = 5


def expert_picture(
    world: SimulatedWorld,
    split: str,
    index: int,
    camera: str,
    size: tuple[int, int],
    variant: str = "original",
    wording: Wording = "seen",
) -> NDArray[np.uint8]:
    """What a camera sees, uint8 (height, width, 3), when the expert has done what a scene asks for.

    The world is left in that state; the picture depends on nothing but the arguments.

    Raises:
        TongsError: the expert fails again and again.
    """
    seeds = generator(world.task.name, split, index, f"goal picture {variant}")
    for _ in range(TRIES):
        world.reset(split, index, variant, wording)
        expert = ScriptedExpert(world)
        expert.reset(int(seeds.integers(2**31)))
        while not world.finished:
            world.execute(expert.act(world.observe(images=False)).actions[0])
        if world.success:
            return world.render(camera, *size)
    raise TongsError(
        f"no goal picture of {world.task.name} {split} {index}: the expert failed {TRIES} times; leave that scene out"
    )
