"""Mass, centre and inertia of a body from its shapes, for engines that do not work them out themselves."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from robot.description import ORIGIN, Body, Geom, Inertia


def inertia_of(body: Body) -> Inertia:
    """The body's own `Inertia`, or that of its shapes together (parallel axis theorem); all zeros without mass."""
    if body.inertia is not None:
        return body.inertia
    mass = sum(geom.mass for geom in body.geoms)
    if mass == 0.0:
        return Inertia(0.0, ORIGIN, (0.0, 0.0, 0.0, 0.0, 0.0, 0.0))
    centre = sum((geom.mass * np.asarray(geom.position) for geom in body.geoms), np.zeros(3)) / mass
    total = np.zeros((3, 3))
    for geom in body.geoms:
        turn = Rotation.from_quat(geom.quaternion, scalar_first=True).as_matrix()
        arm = np.asarray(geom.position) - centre
        total += turn @ np.diag(geom.mass * _principal(geom)) @ turn.T
        total += geom.mass * (arm @ arm * np.eye(3) - np.outer(arm, arm))
    x, y, z = centre.tolist()
    (xx, xy, xz), (_, yy, yz), (_, _, zz) = total.tolist()
    return Inertia(mass, (x, y, z), (xx, yy, zz, xy, xz, yz))


def _principal(geom: Geom) -> NDArray[np.float64]:
    """Moments of inertia (3,) of a shape of unit mass and even density about its centre, in m^2."""
    if geom.shape == "box":
        x, y, z = np.square(geom.size)
        return np.array([y + z, x + z, x + y]) / 3
    radius = geom.size[0]
    if geom.shape == "sphere":
        return np.full(3, 0.4 * radius**2)
    half = geom.size[1]
    tube = np.array([3 * radius**2 + 4 * half**2] * 2 + [6 * radius**2]) / 12
    if geom.shape == "cylinder":
        return tube
    # two half spheres, each with its centre of mass 3/8 of a radius beyond its end of the tube
    across = 0.4 * radius**2 + half**2 + 0.75 * half * radius
    caps = np.array([across, across, 0.4 * radius**2])
    share = 2 * half / (2 * half + 4 / 3 * radius)
    return share * tube + (1 - share) * caps
