"""What is around the task: table, floor, light, where the camera stands, and things that nobody asks for."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from robot.description import Body, Colour, Geom, Vector
from sim.model import CAMERAS, FLOOR, TABLE_HALF, TABLE_MIDDLE, WOOD, Camera, Light, table
from sim.objects import COLOURS, NOVEL_COLOURS, block

TABLES: tuple[Colour, ...] = (
    WOOD,
    (0.86, 0.80, 0.70, 1.0),  # birch
    (0.68, 0.56, 0.42, 1.0),  # oak
    (0.80, 0.80, 0.79, 1.0),  # grey laminate
    (0.72, 0.66, 0.62, 1.0),  # stone
)
FLOORS: tuple[Colour, ...] = (FLOOR, (0.45, 0.46, 0.48, 1.0), (0.62, 0.58, 0.52, 1.0))
NOVEL_TABLES: tuple[Colour, ...] = (
    (0.32, 0.22, 0.16, 1.0),  # walnut
    (0.40, 0.48, 0.56, 1.0),  # slate blue
    (0.62, 0.66, 0.58, 1.0),  # sage
    (0.30, 0.31, 0.33, 1.0),  # graphite
)
NOVEL_FLOORS: tuple[Colour, ...] = ((0.30, 0.24, 0.20, 1.0), (0.72, 0.70, 0.66, 1.0), (0.25, 0.33, 0.30, 1.0))
_MOST_CLUTTER = 4
_PAINT = 0.00015
"""Half thickness in m of what is painted on the table, so that it is seen."""


@dataclass(frozen=True)
class Surroundings:
    """Everything in a scene beside what the task is about.

    Attributes:
        table, floor: colours.
        light: the lamp.
        texture: what is painted on the table, without thickness to speak of.
        camera_shift, target_shift: how far (m) the front camera and the point it looks at are off their places.
        furniture: fixed bodies out of the arm's reach.
        clutter: free bodies at the table's sides.
    """

    table: Colour = WOOD
    floor: Colour = FLOOR
    light: Light = Light()
    texture: tuple[Geom, ...] = ()
    camera_shift: Vector = (0.0, 0.0, 0.0)
    target_shift: Vector = (0.0, 0.0, 0.0)
    furniture: tuple[Body, ...] = ()
    clutter: tuple[Body, ...] = ()

    @property
    def bodies(self) -> tuple[Body, ...]:
        top = table(self.table, self.floor)
        return (replace(top, geoms=(*top.geoms, *self.texture)), *self.furniture, *self.clutter)

    @property
    def cameras(self) -> tuple[Camera, ...]:
        return tuple(camera if camera.mount else self._moved(camera) for camera in CAMERAS)

    def _moved(self, camera: Camera) -> Camera:
        return replace(
            camera,
            position=_sum(camera.position, self.camera_shift),
            target=_sum(camera.target, self.target_shift),
        )


def seen_surroundings(rng: np.random.Generator) -> Surroundings:
    """A room as in training: one of five tables and three floors, the lamp a little turned and dimmed, the camera up to
    8 mm off."""
    return Surroundings(
        table=TABLES[rng.integers(len(TABLES))],
        floor=FLOORS[rng.integers(len(FLOORS))],
        light=_changed(Light(), rng, 0.4),
        camera_shift=_vector(rng.uniform(-0.008, 0.008, 3)),
        target_shift=_vector(rng.uniform(-0.005, 0.005, 3)),
    )


def novel_surroundings(rng: np.random.Generator) -> Surroundings:
    """A room that training never shows: another table and floor, a shelf and boxes around, other light,
    and a camera that was put up again by hand (up to 2 cm off)."""
    return Surroundings(
        table=NOVEL_TABLES[rng.integers(len(NOVEL_TABLES))],
        floor=NOVEL_FLOORS[rng.integers(len(NOVEL_FLOORS))],
        light=_changed(Light(), rng, 1.0),
        camera_shift=_vector(rng.uniform(-0.02, 0.02, 3)),
        target_shift=_vector(rng.uniform(-0.015, 0.015, 3)),
        furniture=_furniture(rng),
    )


def perturbed(around: Surroundings, rng: np.random.Generator, strength: float) -> Surroundings:
    """The same room changed by `strength` (0 to 1): camera up to 6 cm, light, table, clutter."""
    colour = _blend(around.table, rng, 0.8 * strength)
    light = _changed(around.light, rng, strength)
    shift, target = strength * rng.uniform(-0.06, 0.06, 3), strength * rng.uniform(-0.04, 0.04, 3)
    return replace(
        around,
        table=colour,
        light=light,
        texture=_stripes(rng, _blend(colour, rng, 0.5 * strength)) if strength else (),
        camera_shift=_sum(around.camera_shift, _vector(shift)),
        target_shift=_sum(around.target_shift, _vector(target)),
        clutter=_clutter(rng)[: round(strength * _MOST_CLUTTER)],
    )


def _blend(colour: Colour, rng: np.random.Generator, share: float) -> Colour:
    """The colour mixed with a share of a random one."""
    red, green, blue = (1.0 - share) * np.array(colour[:3]) + share * rng.uniform(0.1, 0.95, 3)
    return (float(red), float(green), float(blue), 1.0)


def _stripes(rng: np.random.Generator, colour: Colour) -> tuple[Geom, ...]:
    """Every second stripe of the table in another colour, along or across it, 4 to 12 cm wide."""
    across, width = bool(rng.integers(2)), float(rng.uniform(0.04, 0.12))
    (x, y, _), (half_x, half_y, _) = TABLE_MIDDLE, TABLE_HALF
    length = half_x if across else half_y
    middles = np.arange(width / 2 - length, length - width / 2, 2 * width)
    places = [(x + float(m), y) if across else (x, y + float(m)) for m in middles]
    size = (width / 2, half_y) if across else (half_x, width / 2)
    return tuple(Geom("box", (*size, _PAINT), (*place, 0.0), colour=colour, collides="none") for place in places)


def _changed(light: Light, rng: np.random.Generator, strength: float) -> Light:
    """The lamp turned and dimmed by up to `strength`."""
    direction = np.add(light.direction, strength * rng.uniform((-0.5, -0.8, -0.1), (0.5, 0.2, 0.1)))
    return Light(
        _vector(direction),
        light.brightness * float(1.0 + strength * rng.uniform(-0.35, 0.35)),
        light.ambient * float(1.0 + strength * rng.uniform(-0.25, 0.25)),
    )


def _furniture(rng: np.random.Generator) -> tuple[Body, ...]:
    """A shelf at the robot's side and boxes on the floor, behind the table's edge."""
    side = float(rng.choice([-1.0, 1.0]))
    tone = tuple(float(c) for c in rng.uniform(0.2, 0.8, 3))
    colour: Colour = (tone[0], tone[1], tone[2], 1.0)
    shelf = Geom("box", (0.12, 0.30, 0.25), (-0.35, side * 0.60, 0.10), colour=colour, collides="none")
    box = Geom("box", (0.20, 0.15, 0.20), (0.20, -side * 1.05, -0.50), colour=colour, collides="none")
    return (Body("furniture", geoms=(shelf, box)),)


def _clutter(rng: np.random.Generator) -> tuple[Body, ...]:
    """Blocks along the left and right edge of the table, where no task has anything."""
    colours = [*COLOURS, *NOVEL_COLOURS]
    things = []
    for i in range(_MOST_CLUTTER):
        half = float(rng.uniform(0.015, 0.03))
        side = 1.0 if i % 2 else -1.0
        place = (0.36 + 0.16 * (i // 2) + float(rng.uniform(-0.05, 0.05)), side * float(rng.uniform(0.37, 0.45)), half)
        colour = colours[rng.integers(len(colours))]
        things.append(block(f"clutter_{i}", colour, (half, half, half), place, float(rng.uniform(-0.7, 0.7))))
    return tuple(things)


def _vector(values: np.ndarray) -> Vector:
    x, y, z = (float(value) for value in values)
    return (x, y, z)


def _sum(a: Vector, b: Vector) -> Vector:
    return (a[0] + b[0], a[1] + b[1], a[2] + b[2])
