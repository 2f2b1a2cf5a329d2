"""What a numbered scene of the pushing world looks like, and its model in MuJoCo."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sim.scenes import generator

NAME = "block_push"
BLOCKS = ("red", "green")
HALF_BLOCK, PUSHER_RADIUS = 0.02, 0.01
SQUARES = ((0.14, 0.11), (0.14, -0.11))
"""Centres of the two squares (m), which never move; x points away from where the pusher begins."""
TOLERANCE = 0.05
"""A block is in a square if its centre is this near to the square's (m), along both axes."""
WORKSPACE = 0.24
"""The table reaches this far from its centre along both axes (m)."""
PERIOD, SUBSTEPS = 0.1, 10


@dataclass(frozen=True)
class PushScene:
    """Where everything begins, and what is asked.

    Attributes:
        blocks: x, y (m) and angle (rad) of both blocks.
        pusher: x, y (m).
        wanted: for each block the number of the square that it is to be pushed to.
    """

    blocks: tuple[tuple[float, float, float], tuple[float, float, float]]
    pusher: tuple[float, float]
    wanted: tuple[int, int]


def draw_scene(split: str, index: int) -> PushScene:
    """The scene with this number; the splits differ only in the numbers that are drawn."""
    rng = generator(NAME, split, index, "scene")
    sides = rng.permutation([-1.0, 1.0])
    first, second = (
        (float(rng.uniform(-0.11, -0.03)), float(side * rng.uniform(0.05, 0.11)), float(rng.uniform(-0.7, 0.7)))
        for side in sides
    )
    pusher = (float(rng.uniform(-0.22, -0.18)), float(rng.uniform(-0.05, 0.05)))
    chosen = int(rng.integers(2))
    return PushScene((first, second), pusher, (chosen, 1 - chosen))


def model_xml() -> str:
    """Blocks that slide and turn on the table with dry friction, and a round pusher that follows a commanded position.

    Friction with the table is that of the sliding and turning joints (0.3 of the weight of 0.1 kg), not of a contact:
    in the plane it is the same, and forty thousand steps fit into a second.
    """
    colours = {"red": "0.85 0.2 0.15 1", "green": "0.2 0.6 0.25 1"}
    blocks = "".join(
        f"""
    <body name="{name}" pos="0 0 {HALF_BLOCK}">
      <joint name="{name}_x" class="sliding" axis="1 0 0"/>
      <joint name="{name}_y" class="sliding" axis="0 1 0"/>
      <joint name="{name}_angle" type="hinge" axis="0 0 1" limited="false" frictionloss="0.0045" damping="0.0005"/>
      <geom type="box" size="{HALF_BLOCK} {HALF_BLOCK} {HALF_BLOCK}" mass="0.1" rgba="{colours[name]}"/>
    </body>"""
        for name in BLOCKS
    )
    squares = "".join(
        f'<geom type="box" pos="{x} {y} 0.0005" size="{TOLERANCE} {TOLERANCE} 0.0005" rgba="0.25 0.35 0.7 1" '
        'contype="0" conaffinity="0"/>'
        for x, y in SQUARES
    )
    actuators = "".join(
        f'<position joint="pusher_{axis}" kp="500" kv="32" ctrlrange="-{WORKSPACE} {WORKSPACE}"/>' for axis in "xy"
    )
    return f"""
<mujoco>
  <compiler autolimits="true" angle="radian"/>
  <option timestep="{PERIOD / SUBSTEPS}" gravity="0 0 0" integrator="implicitfast"/>
  <default>
    <geom friction="0.4 0.005 0.0001"/>
    <default class="sliding">
      <joint type="slide" range="-{WORKSPACE} {WORKSPACE}" frictionloss="0.3" damping="0.5"/>
    </default>
  </default>
  <worldbody>
    <light pos="0 0 1"/>
    <camera name="top" pos="0 0 0.62" fovy="46"/>
    <geom type="box" pos="0 0 -0.01" size="0.27 0.27 0.01" rgba="0.8 0.78 0.74 1" contype="0" conaffinity="0"/>
    {squares}{blocks}
    <body name="pusher" pos="0 0 0.03">
      <joint name="pusher_x" type="slide" axis="1 0 0" range="-{WORKSPACE} {WORKSPACE}"/>
      <joint name="pusher_y" type="slide" axis="0 1 0" range="-{WORKSPACE} {WORKSPACE}"/>
      <geom type="cylinder" size="{PUSHER_RADIUS} 0.03" mass="0.5" rgba="0.1 0.1 0.12 1"/>
    </body>
  </worldbody>
  <actuator>{actuators}</actuator>
</mujoco>"""


def square_of(position: np.ndarray) -> int | None:
    """The number of the square in which a block's centre (x, y) lies, or None."""
    for number, centre in enumerate(SQUARES):
        if (np.abs(position - np.array(centre)) <= TOLERANCE).all():
            return number
    return None
