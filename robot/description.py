"""Bodies, joints and primitive shapes as plain data, for arms and worlds alike, independent of any engine.

Lengths in m, angles in rad, masses in kg; quaternions are (w, x, y, z). A pose is relative to the parent body.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

Vector = tuple[float, float, float]
Quaternion = tuple[float, float, float, float]
Colour = tuple[float, float, float, float]

ORIGIN: Vector = (0.0, 0.0, 0.0)
IDENTITY: Quaternion = (1.0, 0.0, 0.0, 0.0)


@dataclass(frozen=True)
class Geom:
    """A primitive shape fixed to a body.

    Attributes:
        shape: `box` (half extents x, y, z), `cylinder` or `capsule` (radius, half length along z), `sphere` (radius).
        mass: kg, used only when the body has no `Inertia` of its own.
        friction: sliding, torsional (m), rolling (m) coefficients.
        collides: `world` touches everything, `arm` touches everything but the arm, `liquid` touches everything without
            any friction, `none` is only seen.
    """

    shape: Literal["box", "cylinder", "capsule", "sphere"]
    size: tuple[float, ...]
    position: Vector = ORIGIN
    quaternion: Quaternion = IDENTITY
    colour: Colour = (0.8, 0.8, 0.8, 1.0)
    mass: float = 0.0
    friction: Vector = (0.8, 0.005, 0.0001)
    collides: Literal["world", "arm", "liquid", "none"] = "world"


@dataclass(frozen=True)
class Joint:
    """How a body moves against its parent.

    A `free` joint floats and turns, a `point` floats without turning: for shapes whose turning nobody can see or feel,
    at half the cost. Both ignore everything but the name and the damping.

    Attributes:
        axis: direction of a hinge or slide.
        low, high: range in rad or m.
        damping: in N s/m along and N m s/rad about an axis.
        armature: of the drive, added to the inertia.
        friction: dry friction in N or N m.
    """

    name: str
    kind: Literal["hinge", "slide", "free", "point"]
    axis: Vector = (0.0, 0.0, 1.0)
    low: float = 0.0
    high: float = 0.0
    damping: float = 0.0
    armature: float = 0.0
    friction: float = 0.0

    @property
    def floats(self) -> bool:
        return self.kind in ("free", "point")


@dataclass(frozen=True)
class Inertia:
    """Mass (kg), centre of mass (m) and inertia about it (kg m^2) as xx, yy, zz, xy, xz, yz in the body's axes."""

    mass: float
    centre: Vector
    moments: tuple[float, float, float, float, float, float]


@dataclass(frozen=True)
class Body:
    """A rigid body, its place in the parent, its joint, its shapes and what hangs on it.

    `sites` are named points (position, quaternion) such as the tool centre point; `weightless` compensates gravity.
    """

    name: str
    position: Vector = ORIGIN
    quaternion: Quaternion = IDENTITY
    joint: Joint | None = None
    geoms: tuple[Geom, ...] = ()
    inertia: Inertia | None = None
    sites: dict[str, tuple[Vector, Quaternion]] = field(default_factory=dict)
    children: tuple[Body, ...] = ()
    weightless: bool = False

    def walk(self) -> Iterator[Body]:
        """This body and all below it, depth first."""
        yield self
        for child in self.children:
            yield from child.walk()
