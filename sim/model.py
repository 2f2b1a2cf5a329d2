"""A world as plain data: what stands on the table and who looks at it, before any physics engine reads it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from robot.description import Body, Colour, Geom, Vector


@dataclass(frozen=True)
class Camera:
    """A pinhole camera with square pixels.

    Attributes:
        name: what policies and datasets call it.
        position: m, in the base frame; ignored for a mounted camera.
        target: the point it looks at, with the world's z up; ignored for a mounted camera.
        mount: name of a site on the robot whose x points right and y up in the picture, or "" for a fixed camera.
        fovy: vertical field of view in degrees.
    """

    name: str
    position: Vector = (0.0, 0.0, 0.0)
    target: Vector = (0.0, 0.0, 0.0)
    mount: str = ""
    fovy: float = 45.0

    def rotation(self) -> NDArray[np.float64]:
        """(3, 3) of a fixed camera: x right and y up in its picture, z away from what it sees."""
        away = np.subtract(self.position, self.target)
        z = away / np.linalg.norm(away)
        x = np.cross((0.0, 0.0, 1.0), z)
        x /= np.linalg.norm(x)
        return np.stack([x, np.cross(z, x), z], axis=1)


@dataclass(frozen=True)
class Light:
    """A lamp far away, from above rather than from the camera, so that shading tells faces apart in every view.

    Attributes:
        direction: in which it shines.
        brightness, ambient: of the lamp and of what comes from everywhere, in parts of full.
    """

    direction: Vector = (0.12, 0.42, -0.9)
    brightness: float = 0.55
    ambient: float = 0.42


@dataclass(frozen=True)
class WorldModel:
    """Everything an engine needs to build a world around the arm: bodies and cameras in the base frame, a light."""

    bodies: tuple[Body, ...]
    cameras: tuple[Camera, ...]
    light: Light = Light()


CAMERAS = (
    Camera("front", position=(1.24, 0.0, 0.90), target=(0.47, 0.0, 0.15), fovy=42.0),
    Camera("wrist", mount="wrist_mount", fovy=66.0),
)
"""The two default views: `front` faces the robot from above the far side of the table, `wrist` sees the fingertips."""

WOOD: Colour = (0.78, 0.69, 0.58, 1.0)
FLOOR: Colour = (0.55, 0.57, 0.60, 1.0)

TABLE_MIDDLE: Vector = (0.45, 0.0, -0.02)
TABLE_HALF: Vector = (0.60, 0.75, 0.02)
"""Middle and half extents (m) of the table top."""


def table(colour: Colour = WOOD, floor: Colour = FLOOR) -> Body:
    """A table top whose surface is the plane z = 0 that the arm is bolted to."""
    return Body(
        name="table",
        geoms=(
            Geom("box", TABLE_HALF, TABLE_MIDDLE, colour=colour, friction=(0.9, 0.005, 0.0001)),
            Geom("box", (2.5, 2.5, 0.02), (0.6, 0.0, -0.72), colour=floor),
        ),
    )
