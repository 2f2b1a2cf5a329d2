"""The same pinhole cameras in PyBullet's software renderer (TinyRenderer), which needs no OpenGL."""

from __future__ import annotations

from math import radians, tan

import numpy as np
from numpy.typing import NDArray

from sim.engines.bullet_bodies import Transform
from sim.engines.bullet_client import Client, pybullet
from sim.model import Light

_NEAR, _FAR = 0.01, 6.0
_NOTHING = 0.9999
"""Depth at which a pixel shows nothing; the floor ends before."""
_HEADLIGHT = 0.28
"""Brightness of the light that comes from the camera in sim/engines/mujoco.py."""


def draw(
    client: Client, pose: Transform, fovy: float, lamp: Light, height: int, width: int, shadow: bool
) -> NDArray[np.uint8]:
    """(height, width, 3) RGB, upright.

    The renderer has one light. Two lights a, b with directions towards them shade a surface of normal n with
    n.a + n.b = n.(a + b) wherever it faces both, so their sum is the one light.
    """
    towards = -np.asarray(lamp.direction) / np.linalg.norm(lamp.direction)
    light = lamp.brightness * towards + _HEADLIGHT * pose[1][:, 2]
    _, _, pixels, depth, _ = client.getCameraImage(
        width,
        height,
        viewMatrix=_view(pose),
        projectionMatrix=_projection(fovy, height, width),
        shadow=int(shadow),
        renderer=pybullet.ER_TINY_RENDERER,
        flags=pybullet.ER_NO_SEGMENTATION_MASK,
        lightDirection=light.tolist(),
        lightColor=(1.0, 1.0, 1.0),
        lightDistance=3.0,
        lightAmbientCoeff=lamp.ambient,
        lightDiffuseCoeff=float(np.linalg.norm(light)),
        lightSpecularCoeff=0.0,
    )
    image = np.asarray(pixels, np.uint8).reshape(height, width, 4)[..., :3].copy()
    image[np.reshape(depth, (height, width)) >= _NOTHING] = 0  # black as in MuJoCo, not white
    return image


def _view(pose: Transform) -> list[float]:
    """World to camera, columns one after another as OpenGL wants them."""
    matrix = np.eye(4)
    matrix[:3, :3] = pose[1].T
    matrix[:3, 3] = -matrix[:3, :3] @ pose[0]
    return matrix.T.ravel().tolist()


def _projection(fovy: float, height: int, width: int) -> list[float]:
    """The perspective matrix of OpenGL, columns one after another. The third column moves the picture by the half pixel
    that TinyRenderer is off: it draws at the corners of pixels what belongs to their centres."""
    focal = 1.0 / tan(radians(fovy) / 2)
    matrix = np.zeros((4, 4))
    matrix[0, 0], matrix[1, 1] = focal * height / width, focal
    matrix[0, 2], matrix[1, 2] = 1.0 / width, 1.0 / height
    matrix[2, 2], matrix[2, 3] = (_FAR + _NEAR) / (_NEAR - _FAR), 2 * _FAR * _NEAR / (_NEAR - _FAR)
    matrix[3, 2] = -1.0
    return matrix.T.ravel().tolist()
