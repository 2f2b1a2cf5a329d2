"""The things that stand on the table: blocks, cylinders, bottles, cups, and units with two drawers or doors."""

from __future__ import annotations

from dataclasses import dataclass
from math import cos, pi, sin, sqrt
from typing import Literal

from robot.description import Body, Colour, Geom, Joint, Quaternion, Vector
from sim.splits import Pool

COLOURS: dict[str, Colour] = {
    "red": (0.80, 0.12, 0.12, 1.0),
    "green": (0.13, 0.58, 0.20, 1.0),
    "blue": (0.12, 0.28, 0.80, 1.0),
    "yellow": (0.95, 0.80, 0.10, 1.0),
    "purple": (0.48, 0.16, 0.60, 1.0),
    "white": (0.95, 0.95, 0.95, 1.0),
}
NOVEL_COLOURS: dict[str, Colour] = {
    "orange": (0.93, 0.42, 0.05, 1.0),
    "pink": (0.95, 0.45, 0.65, 1.0),
    "turquoise": (0.05, 0.65, 0.65, 1.0),
    "black": (0.06, 0.06, 0.07, 1.0),
}
"""Colours of the split `novel_object`; training never shows or names them."""
_PAINT = COLOURS | NOVEL_COLOURS
DRAWER_TRAVEL = 0.20
DRAWER_SPACING = 0.23
_DRAWER_HALF, _DRAWER_DEEP = DRAWER_SPACING / 2 - 0.012, 0.115
_WALL, _FLOOR = 0.004, 0.022
"""Half of a drawer's outer width and depth, half the thickness of its walls, height of the middle of its floor (m)."""
DOOR_TRAVEL = pi / 2
DOOR_REACH = 0.165
"""Distance in m from a door's hinge to the middle of its handle."""
HANDLE_STANDOFF = 0.066
HANDLE_HEIGHT = 0.105
Side = Literal["left", "right"]
_R = sqrt(0.5)
_BAR = -0.014 - HANDLE_STANDOFF
_HINGE: dict[Side, float] = {"left": 1.0, "right": -1.0}  # sign of y of the hinge
_GRIPPY: Vector = (1.0, 0.01, 0.0002)
_CARCASS: Colour = (0.46, 0.33, 0.24, 1.0)
_FRONT: Colour = (0.86, 0.80, 0.70, 1.0)
_INSIDE: Colour = (0.25, 0.20, 0.17, 1.0)
_STEEL: Colour = (0.20, 0.22, 0.25, 1.0)
_WHITE: Colour = (0.92, 0.92, 0.92, 1.0)
_STEP: Colour = (0.52, 0.54, 0.57, 1.0)
_WATER: Colour = (0.25, 0.55, 0.90, 1.0)


@dataclass(frozen=True)
class Look:
    """Colours of a piece of furniture: its sides, its fronts, its handles; and whether the handle bars are round."""

    carcass: Colour = _CARCASS
    front: Colour = _FRONT
    handle: Colour = _STEEL
    round_bars: bool = False


PLAIN = Look()
LOOKS: dict[Pool, tuple[Look, ...]] = {
    "seen": (
        PLAIN,
        Look((0.70, 0.62, 0.50, 1.0), (0.92, 0.90, 0.86, 1.0), (0.32, 0.33, 0.35, 1.0)),
        Look((0.38, 0.38, 0.40, 1.0), (0.66, 0.67, 0.68, 1.0), (0.16, 0.17, 0.19, 1.0)),
        Look((0.34, 0.24, 0.18, 1.0), (0.62, 0.47, 0.33, 1.0), (0.24, 0.22, 0.20, 1.0)),
    ),
    "novel": (
        Look((0.20, 0.28, 0.36, 1.0), (0.36, 0.46, 0.56, 1.0), (0.80, 0.62, 0.25, 1.0), True),
        Look((0.55, 0.55, 0.53, 1.0), (0.30, 0.42, 0.32, 1.0), (0.85, 0.85, 0.85, 1.0), True),
        Look((0.30, 0.16, 0.12, 1.0), (0.58, 0.30, 0.22, 1.0), (0.10, 0.10, 0.10, 1.0), True),
    ),
}
"""Looks of furniture in training and in the split `novel_object`."""
STEP_HEIGHT = 0.04
CUP_INSIDE, CUP_WALL, CUP_HEIGHT = 0.026, 0.007, 0.070
"""Half width of a cup's square opening, thickness of its walls and bottom, height (m)."""
BOWL_INSIDE, BOWL_HEIGHT = 0.040, 0.055
DROP_RADIUS = 0.0070
_DRAG = 15.0
"""Per second: how fast a drop would lose its speed. It keeps water that runs from a cup from leaving all at once."""
_PITCH = 0.0170
_GOLDEN = (sqrt(5.0) - 1.0) / 2.0


def palette(objects: Pool) -> dict[str, Colour]:
    """The colours that things have in training, or the others."""
    return COLOURS if objects == "seen" else NOVEL_COLOURS


def colour_word(paint: Colour) -> str:
    """The word for a paint of ours, "" for any other colour."""
    return next((word for word, colour in _PAINT.items() if colour == paint), "")


def yaw_quaternion(yaw: float) -> Quaternion:
    return (cos(yaw / 2), 0.0, 0.0, sin(yaw / 2))


def volume(body: Body) -> float:
    """Volume (m^3) of a body's boxes and cylinders."""
    shapes = {"box": lambda a, b, c: 8 * a * b * c, "cylinder": lambda radius, half: 2 * pi * radius**2 * half}
    return sum(shapes[geom.shape](*geom.size) for geom in body.geoms)


def block(name: str, colour: str, half: Vector, position: Vector, yaw: float) -> Body:
    """A free cuboid with half extents `half` (m)."""
    return Body(
        name=name,
        position=position,
        quaternion=yaw_quaternion(yaw),
        joint=Joint(name, "free"),
        geoms=(Geom("box", half, colour=_PAINT[colour], mass=0.12, friction=_GRIPPY),),
    )


def cylinder(name: str, colour: str, radius: float, half_height: float, position: Vector) -> Body:
    """A free upright cylinder."""
    return Body(
        name=name,
        position=position,
        joint=Joint(name, "free"),
        geoms=(Geom("cylinder", (radius, half_height), colour=_PAINT[colour], mass=0.12, friction=_GRIPPY),),
    )


def puck(name: str, colour: str, radius: float, half_height: float, position: Vector) -> Body:
    """A free flat cylinder with a knob on it."""
    shape = Geom("cylinder", (radius, half_height), colour=_PAINT[colour], mass=0.12, friction=_GRIPPY)
    knob = Geom("cylinder", (0.4 * radius, 0.005), (0.0, 0.0, half_height + 0.005), colour=_STEEL, collides="none")
    return Body(name, position, joint=Joint(name, "free"), geoms=(shape, knob))


def step(position: Vector) -> Body:
    """A fixed low step, STEP_HEIGHT high, that a thing can stand on; `position` is the middle of its bottom."""
    half = STEP_HEIGHT / 2
    return Body("step", position, geoms=(Geom("box", (0.045, 0.045, half), (0.0, 0.0, half), colour=_STEP),))


def bottle(
    name: str,
    colour: str,
    half_width: float,
    half_body: float,
    position: Vector,
    quaternion: Quaternion,
    flask: bool = False,
) -> Body:
    """A free square-bodied bottle; its own z axis runs from the bottom to the cap, its origin is where it balances.

    A flask has a longer neck and a white stopper.
    """
    half_neck, half_cap = (0.024, 0.012) if flask else (0.016, 0.010)
    neck, cap = half_body + half_neck, half_body + 2 * half_neck + half_cap - 0.004
    return Body(
        name=name,
        position=position,
        quaternion=quaternion,
        joint=Joint(name, "free"),
        geoms=(
            Geom("box", (half_width, half_width, half_body), colour=_PAINT[colour], mass=0.14, friction=_GRIPPY),
            Geom("cylinder", (0.013, half_neck), (0.0, 0.0, neck), colour=_PAINT[colour], mass=0.004, collides="none"),
            Geom("cylinder", (0.016, half_cap), (0.0, 0.0, cap), colour=_WHITE if flask else _STEEL, mass=0.004),
        ),
    )


def cup(name: str, colour: str, position: Vector, yaw: float) -> Body:
    """A free square cup, open above; its origin is the middle of its bottom, on the outside."""
    joint = Joint(name, "free")
    geoms = _box_walls(CUP_INSIDE, CUP_INSIDE, CUP_HEIGHT, CUP_WALL, _PAINT[colour], 0.20)
    return Body(name, position, yaw_quaternion(yaw), joint, geoms)


def bowl(
    name: str, colour: str, position: Vector, yaw: float, inside: float = BOWL_INSIDE, height: float = BOWL_HEIGHT
) -> Body:
    """A free square bowl, wider and heavier than a cup; its origin is the middle of its bottom, on the outside."""
    joint = Joint(name, "free")
    geoms = _box_walls(inside, inside, height, CUP_WALL, _PAINT[colour], 0.30)
    return Body(name, position, yaw_quaternion(yaw), joint, geoms)


def tray(position: Vector) -> Body:
    """A fixed flat tray that catches water."""
    return Body("tray", position, geoms=_box_walls(0.11, 0.13, 0.03, 0.006, (0.62, 0.64, 0.67, 1.0), 0.0))


def water(name: str, layers: int, position: Vector, yaw: float) -> tuple[Body, ...]:
    """Water in an upright cup that stands at `position`: `layers` of nine drops, packed so that they hardly move.

    A drop is a frictionless sphere; its mass is that of so much water. Their sizes differ by up to 18 %: equal ones
    would lie in rows and leave the cup all at once.
    """
    drops = []
    for i in range(9 * layers):
        radius = DROP_RADIUS * (1.0 + 0.18 * (2.0 * (i * _GOLDEN % 1.0) - 1.0))
        mass = 1000.0 * 4.0 / 3.0 * pi * radius**3
        shape = Geom("sphere", (radius,), colour=_WATER, mass=mass, collides="liquid")
        x, y = (i % 3 - 1) * _PITCH, (i // 3 % 3 - 1) * _PITCH
        z = CUP_WALL + 1.18 * DROP_RADIUS + i // 9 * 2.36 * DROP_RADIUS
        turned = (x * cos(yaw) - y * sin(yaw), x * sin(yaw) + y * cos(yaw), z)
        place = (position[0] + turned[0], position[1] + turned[1], position[2] + turned[2])
        joint = Joint(f"{name}_{i}", "point", damping=_DRAG * mass)
        drops.append(Body(f"{name}_{i}", place, joint=joint, geoms=(shape,)))
    return tuple(drops)


def _box_walls(
    half_x: float, half_y: float, height: float, wall: float, colour: Colour, mass: float
) -> tuple[Geom, ...]:
    """Bottom and four walls around an inside of the given half widths, shared mass; origin below the bottom."""
    x, y, share = half_x + wall / 2, half_y + wall / 2, mass / 5
    sides = (
        ((x, 0.0), (wall / 2, half_y + wall)),
        ((-x, 0.0), (wall / 2, half_y + wall)),
        ((0.0, y), (half_x, wall / 2)),
        ((0.0, -y), (half_x, wall / 2)),
    )
    return (
        Geom("box", (half_x, half_y, wall / 2), (0.0, 0.0, wall / 2), colour=colour, mass=share, friction=_GRIPPY),
        *(
            Geom("box", (*size, height / 2), (*place, height / 2), colour=colour, mass=share, friction=_GRIPPY)
            for place, size in sides
        ),
    )


def drawer_unit(position: Vector, yaw: float, look: Look = PLAIN, hollow: bool = False) -> Body:
    """A low cabinet whose two drawers, `left_drawer` and `right_drawer`, slide along its own -x towards the arm.

    `position` is the middle of its front at table height; left and right are as the robot sees them. Things can be put
    into `hollow` drawers, whose floor and walls are solid; of others they are only seen.
    """
    left = _drawer("left_drawer", DRAWER_SPACING / 2, look, hollow)
    right = _drawer("right_drawer", -DRAWER_SPACING / 2, look, hollow)
    return _unit("drawer_unit", position, yaw, (left, right), look)


def cabinet_unit(position: Vector, yaw: float, look: Look = PLAIN) -> Body:
    """The same cabinet with two doors, `left_cabinet` and `right_cabinet`, hinged at its outer edges."""
    return _unit("cabinet_unit", position, yaw, (_door("left", look), _door("right", look)), look)


def drawer_bar() -> Vector:
    """Middle of a drawer's handle bar in the drawer's frame."""
    return (_BAR, 0.0, HANDLE_HEIGHT)


def drawer_inside() -> tuple[Vector, Vector]:
    """Lowest and highest corner of the room in a hollow drawer, in the drawer's frame."""
    return (
        (-0.002, -_DRAWER_HALF + 2 * _WALL, _FLOOR + _WALL),
        (2 * _DRAWER_DEEP - 2 * _WALL, _DRAWER_HALF - 2 * _WALL, 0.092),
    )


def door_bar(side: Side) -> Vector:
    """Middle of a door's handle bar in the door's frame, whose origin is on the hinge."""
    return (_BAR, -_HINGE[side] * DOOR_REACH, HANDLE_HEIGHT)


def _unit(name: str, position: Vector, yaw: float, parts: tuple[Body, ...], look: Look) -> Body:
    depth, height, width = 0.27, 0.13, 2 * DRAWER_SPACING
    shell = (
        Geom("box", (depth / 2, width / 2, 0.006), (depth / 2, 0.0, height - 0.006), colour=look.carcass),
        Geom("box", (depth / 2, width / 2, 0.006), (depth / 2, 0.0, 0.006), colour=look.carcass),
        Geom("box", (0.006, width / 2, height / 2), (depth - 0.006, 0.0, height / 2), colour=look.carcass),
        *(
            Geom("box", (depth / 2, 0.006, height / 2), (depth / 2, side * width / 2, height / 2), colour=look.carcass)
            for side in (-1, 0, 1)
        ),
    )
    return Body(name=name, position=position, quaternion=yaw_quaternion(yaw), geoms=shell, children=parts)


def _drawer(name: str, y: float, look: Look, hollow: bool) -> Body:
    """A drawer whose origin is the middle of its front, at table height, while it is closed."""
    half, deep = _DRAWER_HALF, _DRAWER_DEEP
    inside = "world" if hollow else "none"
    back = Geom("box", (_WALL, half, 0.035), (2 * deep - _WALL, 0.0, 0.057), colour=look.front, mass=0.1)
    return Body(
        name=name,
        position=(0.0, y, 0.0),
        joint=Joint(name, "slide", (-1.0, 0.0, 0.0), 0.0, DRAWER_TRAVEL, damping=12.0, armature=0.2, friction=3.0),
        sites={f"{name}_handle": (drawer_bar(), (1.0, 0.0, 0.0, 0.0))},
        geoms=(
            Geom("box", (0.006, half, 0.055), (-0.008, 0.0, 0.065), colour=look.front, mass=0.3),
            Geom("box", (deep, half, _WALL), (deep, 0.0, _FLOOR), colour=_INSIDE, mass=0.3, collides=inside),
            *(
                Geom(
                    *("box", (deep, _WALL, 0.035), (deep, side * (half - _WALL), 0.057)),
                    colour=look.front,
                    mass=0.1,
                    collides=inside,
                )
                for side in (1, -1)
            ),
            *((back,) if hollow else ()),
            *_handle(0.0, look),
        ),
    )


def _door(side: Side, look: Look) -> Body:
    """A door whose origin is on its hinge, at table height; its joint angle grows as it opens towards the arm."""
    name, hinge = f"{side}_cabinet", _HINGE[side]
    half = DRAWER_SPACING / 2 - 0.004
    return Body(
        name=name,
        position=(0.0, hinge * DRAWER_SPACING, 0.0),
        joint=Joint(name, "hinge", (0.0, 0.0, -hinge), 0.0, DOOR_TRAVEL, damping=0.4, armature=0.01, friction=0.15),
        sites={f"{name}_handle": (door_bar(side), (1.0, 0.0, 0.0, 0.0))},
        geoms=(
            Geom("box", (0.006, half, 0.055), (-0.008, -hinge * (half + 0.004), 0.065), colour=look.front, mass=0.4),
            *_handle(-hinge * DOOR_REACH, look),
        ),
    )


def _handle(y: float, look: Look) -> tuple[Geom, ...]:
    """A bar along y, held off the front by two posts."""
    posts = (
        Geom(
            "box",
            (HANDLE_STANDOFF / 2, 0.005, 0.005),
            (-0.014 - HANDLE_STANDOFF / 2, y + side * 0.044, HANDLE_HEIGHT),
            colour=look.handle,
            mass=0.02,
        )
        for side in (-1, 1)
    )
    place = (_BAR, y, HANDLE_HEIGHT)
    bar = Geom("box", (0.008, 0.050, 0.010), place, colour=look.handle, mass=0.1, friction=_GRIPPY)
    if look.round_bars:
        along_y = (_R, _R, 0.0, 0.0)
        bar = Geom("cylinder", (0.009, 0.052), place, along_y, look.handle, 0.1, _GRIPPY)
    return (bar, *posts)
