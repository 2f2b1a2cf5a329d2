"""Scripted experts for robosuite's tasks, with the robot's skills and the true poses."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.spatial.transform import Rotation

from robot.interface import SceneObject
from robot.skills import Pose, Skill, Skills, downward

if TYPE_CHECKING:
    from sim.robosuite.world import RobosuiteWorld


def lift(world: RobosuiteWorld, skills: Skills, rng: np.random.Generator) -> Skill:
    """Take the cube and raise it; never ends by itself."""
    while True:
        yield from _take(world, skills, rng, "red cube")
        yield from skills.lift(rng.uniform(0.08, 0.14))


def stack(world: RobosuiteWorld, skills: Skills, rng: np.random.Generator) -> Skill:
    """Take the red cube and put it on the green one; never ends by itself."""
    while True:
        yield from _take(world, skills, rng, "red cube", beside="green cube")
        yield from skills.lift(rng.uniform(0.08, 0.14))
        red, green = world.objects()["red cube"], world.objects()["green cube"]
        held_at = skills.pose().position - red.position
        height = 0.5 * (red.extent[2] + green.extent[2]) + 0.003
        place = Pose(green.position + held_at + (0.0, 0.0, height), downward(_yaw(green)))
        yield from skills.place(place)
        yield from skills.hold(0.5, 1.0)


def _take(world: RobosuiteWorld, skills: Skills, rng: np.random.Generator, name: str, beside: str = "") -> Skill:
    """Approach a cube from above, by a varied way, and close the fingers on two of its sides, those that do not face
    the thing `beside` it."""
    yield from skills.lift(0.02, 1.0)
    cube = world.objects()[name]
    yaw = _yaw(cube)
    if beside:
        towards = world.objects()[beside].position - cube.position
        other = yaw - np.copysign(np.pi / 2, yaw)
        yaw = min((yaw, other), key=lambda angle: abs(downward(angle).apply([0.0, 1.0, 0.0]) @ towards))
    at = Pose(cube.position, downward(yaw))
    via = at.moved((*rng.uniform(-0.04, 0.04, 2), rng.uniform(0.10, 0.16)))
    yield from skills.grasp(at, via=via)


def _yaw(cube: SceneObject) -> float:
    """The cube's angle about the vertical; by quarter turns it looks the same, so within 45 degrees."""
    yaw = Rotation.from_quat(cube.quaternion, scalar_first=True).as_euler("ZYX")[0]
    return float((yaw + np.pi / 4) % (np.pi / 2) - np.pi / 4)
