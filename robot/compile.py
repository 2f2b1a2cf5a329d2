"""Turns our engine-neutral bodies into MuJoCo's: used for the arm's kinematics and for whole simulated worlds."""

from __future__ import annotations

from collections.abc import Sequence

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
_AT_ONCE = 12
# whose friction and stiffness count where two kinds meet; what the arm touches must not bounce between the fingers
_PRIORITY = {"arm": 1, "liquid": 2}
_SOFT, _STIFF = (0.02, 1.0), (0.01, 1.0)  # time constant in s and damping ratio


def add_bodies(spec: mujoco.MjSpec, bodies: Sequence[Body]) -> None:
    """Add bodies to the world. What one more element costs grows with the elements a specification has, so a crowd is
    put together in small ones that are joined: 72 drops of water in half the time."""
    for first in range(0, len(bodies), _AT_ONCE):
        part = mujoco.MjSpec()
        part.compiler.degree = spec.compiler.degree
        for body in bodies[first : first + _AT_ONCE]:
            add_body(part.worldbody, body)
        spec.attach(part, prefix="", frame=spec.worldbody.add_frame())


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
        elif joint.kind == "point":
            for letter, axis in zip("xyz", ((1, 0, 0), (0, 1, 0), (0, 0, 1)), strict=True):
                name = f"{joint.name}_{letter}"
                made.add_joint(name=name, type=_JOINTS["slide"], axis=axis, damping=joint.damping)
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
        priority=_PRIORITY.get(geom.collides, 0),
        solref=_STIFF if geom.collides == "arm" else _SOFT,
    )
