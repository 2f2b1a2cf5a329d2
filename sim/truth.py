"""What a program may ask of a simulated table: its things with their true poses (the `Scene` protocol)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from robot.description import Body
from robot.interface import Articulation, Cavity, SceneObject
from sim.engines.base import Engine
from sim.objects import (
    BOWL_HEIGHT,
    BOWL_INSIDE,
    CUP_HEIGHT,
    CUP_INSIDE,
    CUP_WALL,
    colour_word,
    drawer_inside,
)
from sim.tasks.base import SceneSpec
from sim.tasks.furniture import part_grasp
from sim.tasks.water import inside

_VESSELS = {"cup": (CUP_INSIDE, CUP_HEIGHT), "bowl": (BOWL_INSIDE, BOWL_HEIGHT)}
_SLIGHT = 0.05
"""Shapes lighter than this share of a body do not count for its size: a cap, a knob, the posts of a handle."""


def scene_objects(engine: Engine, scene: SceneSpec) -> Mapping[str, SceneObject]:
    """Everything that can be moved, and the tray; not the clutter at the table's edge, which nobody speaks of."""
    found = {}
    for body in sorted(_things(scene), key=lambda body: body.name):
        position, quaternion = engine.pose(body.name)
        turn = Rotation.from_quat(quaternion, scalar_first=True)
        low, high = _box(body)
        joint = body.joint if body.name in scene.joints else None
        name = body.name.replace("_", " ")
        found[name] = SceneObject(
            name,
            position + turn.apply((low + high) / 2),
            quaternion,
            high - low,
            "" if joint else colour_word(body.geoms[0].colour),
            min(max(engine.joint(joint.name) / joint.high, 0.0), 1.0) if joint else None,
            _articulation(engine, body, turn) if joint else None,
            _cavity(engine, body, position, turn),
            _fill(engine, scene, body.name),
        )
    return found


def _things(scene: SceneSpec) -> Iterator[Body]:
    for top in scene.bodies:
        for body in top.walk():
            free = body.joint is not None and body.joint.kind == "free"
            if free or body.name in scene.joints or body.name == "tray":
                yield body


def _box(body: Body) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Lowest and highest corner (3,) of a body's shapes in its own axes, shapes taken as unrotated."""
    whole = sum(geom.mass for geom in body.geoms)
    low, high = np.full(3, np.inf), np.full(3, -np.inf)
    for geom in body.geoms:
        if whole and geom.mass < _SLIGHT * whole:
            continue
        half = {
            "box": lambda s: np.array(s),
            "sphere": lambda s: np.full(3, s[0]),
            "cylinder": lambda s: np.array([s[0], s[0], s[1]]),
            "capsule": lambda s: np.array([s[0], s[0], s[0] + s[1]]),
        }[geom.shape](geom.size)
        low, high = np.minimum(low, np.subtract(geom.position, half)), np.maximum(high, np.add(geom.position, half))
    return low, high


def _articulation(engine: Engine, body: Body, turn: Rotation) -> Articulation:
    joint = body.joint
    assert joint is not None
    kind: Literal["slide", "hinge"] = "hinge" if joint.kind == "hinge" else "slide"
    return Articulation(
        kind,
        turn.apply(joint.axis),
        engine.pose(body.name)[0],
        joint.high,
        part_grasp(engine, body.name).vector().astype(np.float64),
    )


def _cavity(engine: Engine, body: Body, position: NDArray[np.float64], turn: Rotation) -> Cavity | None:
    kind = _kind(body.name)
    if kind in _VESSELS:
        low, high = _box(body)
        walls = np.array([2 * CUP_WALL, 2 * CUP_WALL, CUP_WALL])
        return Cavity(position + turn.apply((0.0, 0.0, CUP_WALL)), high - low - walls)
    if kind == "drawer" and any(geom.collides == "world" and geom.size[0] > 0.1 for geom in body.geoms):
        low, high = np.array(drawer_inside())
        out = engine.joint(body.name)  # as far as it has come out from under the unit's top
        size = high - low
        size[0] = min(size[0], out)
        return Cavity(position + turn.apply((out / 2, 0.0, low[2])), size)
    return None


def _fill(engine: Engine, scene: SceneSpec, name: str) -> float | None:
    """The share of its water that a cup still holds, or of all the water that a bowl has received."""
    drops = tuple(body.name for body in scene.bodies if "_water_" in body.name)
    if not drops or _kind(name) not in _VESSELS:
        return None
    own = tuple(drop for drop in drops if drop.startswith(f"{name}_water_")) if _kind(name) == "cup" else drops
    return float(inside(engine, name, own, *_VESSELS[_kind(name)]).mean())


def _kind(name: str) -> str:
    """ "cup" of "red_cup_2"."""
    words = [word for word in name.split("_") if not word.isdecimal()]
    return words[-1]
