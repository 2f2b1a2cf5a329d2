"""Franka Emika Panda with its parallel gripper: exact kinematics and limits, drawn with primitives of our own.

Kinematics and joint limits: Franka Control Interface documentation (modified Denavit-Hartenberg parameters, flange at
0.107 m, hand turned by -45 degrees, tool centre point 0.1034 m beyond the hand). Masses, centres and inertias:
identified by Gaz et al., "Dynamic Identification of the Franka Emika Panda Robot With Retrieval of Feasible
Parameters Using Penalty-Based Optimization", RA-L 2019.
"""

from __future__ import annotations

from math import cos, pi, sin, sqrt

from robot.description import IDENTITY, Body, Colour, Geom, Inertia, Joint, Quaternion, Vector
from robot.interface import KEYPOSE
from robot.limits import Box, JointLimit, Limits, Rates

JOINTS = tuple(f"joint_{i}" for i in range(1, 8))
FINGERS = ("finger_left", "finger_right")
TCP = "tcp"
WRIST_MOUNT = "wrist_mount"
JOINT_LOW = (-2.8973, -1.7628, -2.8973, -3.0718, -2.8973, -0.0175, -2.8973)
JOINT_HIGH = (2.8973, 1.7628, 2.8973, -0.0698, 2.8973, 3.7525, 2.8973)
JOINT_VELOCITY = (2.175, 2.175, 2.175, 2.175, 2.61, 2.61, 2.61)
JOINT_ACCELERATION = (15.0, 7.5, 10.0, 12.5, 15.0, 20.0, 20.0)
JOINT_JERK = (7500.0, 3750.0, 5000.0, 6250.0, 7500.0, 10000.0, 10000.0)
JOINT_TORQUE = (87.0, 87.0, 87.0, 87.0, 12.0, 12.0, 12.0)
_R = sqrt(0.5)
FINGER_TRAVEL = 0.04
"""Travel of one finger in m; the gripper opens 0.08 m wide."""
FINGER_FORCE = 40.0
"""Force of one finger in N."""
GRIPPER_FORCE = 70.0
"""Force in N that the real hand holds with continuously."""
HOME = (0.0, 0.12, 0.0, -2.05, 0.0, 2.17, pi / 4)
"""Joint angles with the hand pointing straight down about 0.45 m in front of the base."""

LIMITS = Limits(
    joints={
        name: JointLimit(JOINT_LOW[i], JOINT_HIGH[i], Rates(JOINT_VELOCITY[i], JOINT_ACCELERATION[i], JOINT_JERK[i]))
        for i, name in enumerate(JOINTS)
    },
    translation=Rates(1.7, 13.0, 6500.0),
    rotation=Rates(2.5, 25.0, 12500.0),
    workspace=Box(KEYPOSE.low[:3], KEYPOSE.high[:3]),  # type: ignore[arg-type]
    gripper_force=GRIPPER_FORCE,
)
"""The arm's own limits (Franka Control Interface documentation) within the workspace of our table."""

_WHITE: Colour = (0.93, 0.94, 0.95, 1.0)
_GREY: Colour = (0.36, 0.39, 0.43, 1.0)
_DARK: Colour = (0.16, 0.17, 0.19, 1.0)
_RUBBER: Vector = (1.2, 0.02, 0.0005)
_WRIST_TILT = 0.27
"""Angle in rad by which the wrist camera looks from the approach direction towards the fingertips."""
_WRIST_VIEW: Quaternion = (
    _R * sin(_WRIST_TILT / 2),
    _R * cos(_WRIST_TILT / 2),
    _R * cos(_WRIST_TILT / 2),
    _R * sin(_WRIST_TILT / 2),
)

# position in the parent link, rotation about the parent's x axis in quarter turns, per joint
_FRAMES: tuple[tuple[Vector, int], ...] = (
    ((0.0, 0.0, 0.333), 0),
    ((0.0, 0.0, 0.0), -1),
    ((0.0, -0.316, 0.0), 1),
    ((0.0825, 0.0, 0.0), 1),
    ((-0.0825, 0.384, 0.0), -1),
    ((0.0, 0.0, 0.0), 1),
    ((0.088, 0.0, 0.0), 1),
)
_INERTIAS = (
    Inertia(4.970684, (0.003875, 0.002081, -0.04762), (0.70337, 0.70661, 0.009117, -0.000139, 0.006772, 0.019169)),
    Inertia(0.646926, (-0.003141, -0.02872, 0.003495), (0.007962, 0.02811, 0.025995, -0.003925, 0.010254, 0.000704)),
    Inertia(3.228604, (0.027518, 0.039252, -0.066502), (0.037242, 0.036155, 0.01083, -0.004761, -0.011396, -0.012805)),
    Inertia(3.587895, (-0.05317, 0.104419, 0.027454), (0.025853, 0.019552, 0.028323, 0.007796, -0.001332, 0.008641)),
    Inertia(1.225946, (-0.011953, 0.041065, -0.038437), (0.035549, 0.029474, 0.008627, -0.002117, -0.004037, 0.000229)),
    Inertia(1.666555, (0.060149, -0.014117, -0.010517), (0.001964, 0.004354, 0.005433, 0.000109, -0.001158, 0.000341)),
    Inertia(0.735522, (0.010517, -0.004252, 0.061597), (0.012516, 0.010027, 0.004815, -0.000428, -0.001196, -0.000741)),
)


def _tube(a: Vector, b: Vector, radius: float, colour: Colour, collides: bool = False) -> Geom:
    """A capsule from point a to point b."""
    axis = tuple(end - start for start, end in zip(a, b, strict=True))
    length = sqrt(sum(c * c for c in axis))
    x, y, z = (c / length for c in axis)
    # the rotation that takes +z to the axis
    quaternion: Quaternion = (0.0, 1.0, 0.0, 0.0) if z < -0.9999 else _normalised((1.0 + z, -y, x, 0.0))
    middle = ((a[0] + b[0]) / 2, (a[1] + b[1]) / 2, (a[2] + b[2]) / 2)
    return Geom(
        "capsule", (radius, length / 2), middle, quaternion, colour, 0.0, collides="arm" if collides else "none"
    )


def _normalised(q: Quaternion) -> Quaternion:
    norm = sqrt(sum(c * c for c in q))
    return (q[0] / norm, q[1] / norm, q[2] / norm, q[3] / norm)


_LINK_GEOMS: tuple[tuple[Geom, ...], ...] = (
    (_tube((0, 0, -0.20), (0, 0, -0.03), 0.062, _WHITE),),
    (_tube((0, 0, -0.055), (0, 0, 0.055), 0.062, _WHITE), _tube((0, 0, 0), (0, -0.12, 0), 0.058, _WHITE)),
    (_tube((0, 0, -0.17), (0, 0, -0.06), 0.058, _WHITE), _tube((0, 0, -0.06), (0.0825, 0, 0), 0.052, _WHITE)),
    (_tube((0, 0, -0.055), (0, 0, 0.055), 0.058, _WHITE), _tube((0, 0, 0), (-0.0825, 0.095, 0), 0.052, _WHITE)),
    (
        _tube((0, 0, -0.27), (0, 0, -0.20), 0.056, _WHITE),
        _tube((0, 0.03, -0.20), (0, 0.055, -0.05), 0.040, _WHITE),
        _tube((0, 0.055, -0.05), (0, 0, 0), 0.046, _WHITE),
    ),
    (
        _tube((0, 0, -0.06), (0, 0, 0.02), 0.050, _WHITE),
        _tube((0, 0, 0), (0.088, 0, 0.0), 0.044, _WHITE, collides=True),
    ),
    (
        _tube((0, 0, -0.02), (0, 0, 0.05), 0.044, _WHITE, collides=True),
        Geom("cylinder", (0.040, 0.014), (0, 0, 0.093), colour=_GREY, collides="arm"),
    ),
)


def _finger(name: str, turn: Quaternion) -> Body:
    """A finger that slides along its own y axis, rubber pad facing -y."""
    return Body(
        name=name,
        position=(0.0, 0.0, 0.0584),
        quaternion=turn,
        joint=Joint(name, "slide", (0.0, 1.0, 0.0), 0.0, FINGER_TRAVEL, damping=10.0, armature=0.1),
        inertia=Inertia(0.05, (0.0, 0.015, 0.02), (2.4e-5, 2.4e-5, 7.5e-6, 0.0, 0.0, 0.0)),
        geoms=(
            Geom("box", (0.0100, 0.0075, 0.0170), (0.0, 0.0160, 0.0140), colour=_GREY, collides="arm"),
            Geom(
                "box", (0.0105, 0.0050, 0.0130), (0.0, 0.0050, 0.0405), colour=_DARK, friction=_RUBBER, collides="arm"
            ),
        ),
        weightless=True,
    )


def panda() -> Body:
    """The arm as a tree of bodies, base at the origin, with sites `tcp` and `wrist_mount` on the hand."""
    hand = Body(
        name="hand",
        position=(0.0, 0.0, 0.107),
        quaternion=(cos(-pi / 8), 0.0, 0.0, sin(-pi / 8)),
        inertia=Inertia(0.73, (-0.01, 0.0, 0.03), (0.001, 0.0025, 0.0017, 0.0, 0.0, 0.0)),
        geoms=(
            Geom("box", (0.020, 0.100, 0.029), (0.0, 0.0, 0.034), colour=_WHITE, collides="arm"),
            Geom("cylinder", (0.036, 0.012), (0.0, 0.0, 0.008), colour=_GREY, collides="none"),
            Geom("box", (0.014, 0.024, 0.012), (0.066, 0.0, 0.000), colour=_DARK, collides="none"),
        ),
        # x of a camera mount points right in its picture and z away from what it sees: here hand y and, mostly, -z
        sites={TCP: ((0.0, 0.0, 0.1034), IDENTITY), WRIST_MOUNT: ((0.066, 0.0, 0.012), _WRIST_VIEW)},
        children=(_finger(FINGERS[0], (1.0, 0.0, 0.0, 0.0)), _finger(FINGERS[1], (0.0, 0.0, 0.0, 1.0))),
        weightless=True,
    )
    link: Body = hand
    for i in reversed(range(7)):
        position, turns = _FRAMES[i]
        torque_damping = 1.0 if i < 4 else 0.5
        link = Body(
            name=f"link_{i + 1}",
            position=position,
            quaternion=(1.0, 0.0, 0.0, 0.0) if turns == 0 else (_R, turns * _R, 0.0, 0.0),
            joint=Joint(JOINTS[i], "hinge", (0, 0, 1), JOINT_LOW[i], JOINT_HIGH[i], torque_damping, armature=0.1),
            geoms=_LINK_GEOMS[i],
            inertia=_INERTIAS[i],
            children=(link,),
            weightless=True,
        )
    return Body(
        name="base",
        geoms=(
            Geom("cylinder", (0.075, 0.07), (0.0, 0.0, 0.07), colour=_WHITE, collides="none"),
            Geom("box", (0.070, 0.060, 0.045), (-0.07, 0.0, 0.045), colour=_GREY, collides="none"),
        ),
        children=(link,),
    )
