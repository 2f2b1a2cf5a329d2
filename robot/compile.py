"""Turns our engine-neutral bodies into MuJoCo's: used for the arm's kinematics and for whole simulated worlds."""

from __future__ import annotations

import mujoco

from robot.description import Body, Geom

_SHAPES = {
    "box": mujoco.mjtGeom.mjGEOM_BOX,
    "cylinder": mujoco.mjtGeom.mjGEOM_CYLINDER,
    "capsule": mujoco.mjtGeom.mjGEOM_CAPSULE,
    "sphere": mujoco.mjtGeom.mjGEOM_SPHERE,
}
_JOINTS = {
    "hinge": mujoco.mjtJoint.mjJNT_HINGE,
    "slide": mujoco.mjtJoint.mjJNT_SLIDE,
    "free": mujoco.mjtJoint.mjJNT_FREE,
}
# (contype, conaffinity): two shapes touch when one's type meets the other's affinity
_CONTACT = {"world": (1, 3), "arm": (2, 1), "liquid": (1, 3), "none": (0, 0)}


def add_body(parent: mujoco.MjsBody, body: Body) -> None:
    """Add the body and everything below it to the parent."""
    made = parent.add_body(name=body.name, pos=body.position, quat=body.quaternion, gravcomp=float(body.weightless))
    if body.inertia is not None:
        made.explicitinertial = True
        made.mass, made.ipos, made.fullinertia = body.inertia.mass, body.inertia.centre, body.inertia.moments
    if body.joint is not None:
        joint = body.joint
        if joint.kind == "free":
            made.add_joint(name=joint.name, type=_JOINTS["free"], damping=joint.damping)
        else:
            made.add_joint(
                name=joint.name,
                type=_JOINTS[joint.kind],
                axis=joint.axis,
                range=(joint.low, joint.high),
                limited=True,
                damping=joint.damping,
                armature=joint.armature,
                frictionloss=joint.friction,
            )
    for geom in body.geoms:
        _add_geom(made, geom)
    for name, (position, quaternion) in body.sites.items():
        made.add_site(name=name, pos=position, quat=quaternion)
    for child in body.children:
        add_body(made, child)


def _add_geom(body: mujoco.MjsBody, geom: Geom) -> None:
    contype, conaffinity = _CONTACT[geom.collides]
    body.add_geom(
        type=_SHAPES[geom.shape],
        size=tuple(geom.size) + (0.0,) * (3 - len(geom.size)),
        pos=geom.position,
        quat=geom.quaternion,
        rgba=geom.colour,
        mass=geom.mass,
        friction=geom.friction,
        contype=contype,
        conaffinity=conaffinity,
        condim=1 if geom.collides == "liquid" else 4,
        priority=int(geom.collides == "liquid"),
    )
