"""Puts trees of our bodies into a PyBullet simulation, and remembers what PyBullet calls them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import sqrt
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from robot.description import Body, Geom, Quaternion
from sim.engines.bullet_client import Client, pybullet
from sim.engines.urdf import write_urdf

Transform = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Position (3,) m and rotation matrix (3, 3)."""

_FLAGS = pybullet.URDF_USE_INERTIA_FROM_FILE | pybullet.URDF_MAINTAIN_LINK_ORDER | pybullet.URDF_USE_IMPLICIT_CYLINDER
# (group, mask): two links touch when each one's group is in the other's mask
_CONTACT = {"world": (1, 3), "arm": (2, 1), "liquid": (1, 3)}
_LINK_NAME, _JOINT_NAME = 12, 1


@dataclass(frozen=True)
class Link:
    """Which link of which multibody a body is (-1 is the root), and where its centre of mass is in its own frame."""

    multibody: int
    index: int
    centre: Transform

    @cached_property
    def frame(self) -> Transform:
        """Where the body's own frame is from its centre of mass, which is what PyBullet calls the pose of a root."""
        return inverse(self.centre)


@dataclass(frozen=True)
class Multibody:
    """A tree of bodies as PyBullet knows it.

    Attributes:
        number: PyBullet's name for it.
        free: whether its root floats.
        links: by body name.
        joints: index of each joint that moves, by joint name.
    """

    number: int
    free: bool
    links: dict[str, Link]
    joints: dict[str, int]


def add_body(client: Client, body: Body, folder: Path) -> Multibody:
    """Add the body and everything below it to the simulation of a client; `folder` takes the files that it reads."""
    free = body.joint is not None and body.joint.floats
    number = client.loadURDF(
        str(write_urdf(body, folder)),
        basePosition=body.position,
        baseOrientation=xyzw(body.quaternion),
        useFixedBase=not free,
        flags=_FLAGS,
    )
    infos = [client.getJointInfo(number, index) for index in range(client.getNumJoints(number))]
    indices = {body.name: -1} | {info[_LINK_NAME].decode(): info[0] for info in infos}
    named = {info[_JOINT_NAME].decode(): info[0] for info in infos}
    links, joints = {}, {}
    for part in body.walk():
        index = indices[part.name]
        links[part.name] = Link(number, index, _set_dynamics(client, number, index, part))
        if part is not body and part.joint is not None:
            joints[part.joint.name] = named[part.joint.name]
            # a motor that wants to stand still and has only so much force is dry friction
            client.setJointMotorControl2(
                number, indices[part.name], pybullet.VELOCITY_CONTROL, targetVelocity=0.0, force=part.joint.friction
            )
    return Multibody(number, free, links, joints)


def _set_dynamics(client: Client, number: int, index: int, body: Body) -> Transform:
    """Friction and contact filter of a link; returns where its centre of mass is.

    MuJoCo takes the larger of two sliding coefficients, Bullet their product, so each side gets the square root: the
    product is then their geometric mean. Torsional and rolling coefficients are summed, each times the other side's
    sliding one, so each side gives half. A link has one friction, that of its most frictious shape.
    """
    touching = [geom for geom in body.geoms if geom.collides != "none"]
    solid = [geom.friction for geom in touching if geom.collides != "liquid"]
    slide, twist, roll = max(solid, default=(0.0, 0.0, 0.0))
    client.changeDynamics(
        number,
        index,
        lateralFriction=sqrt(slide),
        spinningFriction=twist / 2,
        rollingFriction=roll / 2,
        linearDamping=_drag(body),
        angularDamping=0.0,
    )
    if touching:
        client.setCollisionFilterGroupMask(number, index, *_CONTACT[_kind(touching)])
    information = client.getDynamicsInfo(number, index)
    return transform(information[3], information[4])


def _drag(body: Body) -> float:
    """How fast (1/s) a floating body loses its speed; Bullet has no such thing for the other joints, URDF has."""
    if body.joint is None or not body.joint.floats or not body.joint.damping:
        return 0.0
    return body.joint.damping / sum(geom.mass for geom in body.geoms)


def _kind(geoms: list[Geom]) -> str:
    """Bullet filters by link: one that has a shape for the arm is the arm's."""
    return "arm" if any(geom.collides == "arm" for geom in geoms) else "world"


def xyzw(quaternion: Quaternion | NDArray[np.float64]) -> Quaternion:
    """Bullet's order of a (w, x, y, z) quaternion."""
    w, x, y, z = (float(c) for c in quaternion)
    return (x, y, z, w)


def transform(position: Sequence[float], quaternion: Sequence[float]) -> Transform:
    """From what PyBullet tells of a frame: position and (x, y, z, w) quaternion."""
    return np.array(position), np.array(pybullet.getMatrixFromQuaternion(quaternion)).reshape(3, 3)


def compose(outer: Transform, inner: Transform) -> Transform:
    return outer[0] + outer[1] @ inner[0], outer[1] @ inner[1]


def inverse(frame: Transform) -> Transform:
    return -frame[1].T @ frame[0], frame[1].T


def sites(body: Body) -> dict[str, tuple[str, Transform]]:
    """Every site in the tree: the name of its body and where it is on it."""
    return {
        name: (part.name, transform(position, xyzw(quaternion)))
        for part in body.walk()
        for name, (position, quaternion) in part.sites.items()
    }
