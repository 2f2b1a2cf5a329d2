"""Paths between two poses as closely spaced poses: along a line, along an arc, turning on the spot.

Each leaves out the start and ends with the end. With s = 1/(n-1), 2/(n-1), ..., 1 for a `count` of n, as in ARNOLD's
`action_interpolation`.
"""

from __future__ import annotations

from math import pi

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation, Slerp

from robot.skills import Pose


def line(start: Pose, end: Pose, count: int) -> list[Pose]:
    """Positions along the straight line, all with the rotation of the end."""
    return [Pose(start.position + s * (end.position - start.position), end.rotation) for s in _shares(count)]


def arc(start: Pose, end: Pose, centre: NDArray[np.float64], count: int) -> list[Pose]:
    """Around the vertical axis through `centre` (3,), the shorter way; radius, angle and height change evenly, and so
    does the rotation (slerp)."""
    (x0, y0, z0), (x1, y1, z1) = start.position - centre, end.position - centre
    shares = _shares(count)
    angle = np.arctan2(y0, x0) + shares * ((np.arctan2(y1, x1) - np.arctan2(y0, x0) + pi) % (2 * pi) - pi)
    radius = np.hypot(x0, y0) + shares * (np.hypot(x1, y1) - np.hypot(x0, y0))
    offsets = np.stack([radius * np.cos(angle), radius * np.sin(angle), z0 + shares * (z1 - z0)], axis=1)
    return [Pose(centre + offset, turn) for offset, turn in zip(offsets, _turns(start, end, shares), strict=True)]


def turn(start: Pose, end: Pose, count: int) -> list[Pose]:
    """The rotations from that of the start to that of the end (slerp), all at the position of the end."""
    return [Pose(end.position, rotation) for rotation in _turns(start, end, _shares(count))]


def _shares(count: int) -> NDArray[np.float64]:
    return np.linspace(0.0, 1.0, max(count, 2))[1:]


def _turns(start: Pose, end: Pose, shares: NDArray[np.float64]) -> Rotation:
    return Slerp([0.0, 1.0], Rotation.concatenate([start.rotation, end.rotation]))(shares)
