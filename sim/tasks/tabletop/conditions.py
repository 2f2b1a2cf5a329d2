"""What has to hold on the table for a command to count: conditions on the simulator's state, never on a program."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from math import dist, pi, sin

import numpy as np
from numpy.typing import NDArray

Places = Mapping[str, NDArray[np.float64]]
"""{body: (3,) m}: the middle of a block, the middle of the bottom of a bowl."""
BOWL_INSIDE, BOWL_HEIGHT = 0.050, 0.045
"""Half width inside, and height, in m of the bowls, in which there is room for four blocks."""
NEAR = 0.03
"""Distance in m within which a thing is where it was to be put; the reference takes 2 to 3 cm."""
_STACKED = 0.02
_PILE = 0.09
_LOW = 0.05
_SHAPE = 0.025


class Condition(ABC):
    """Something that may hold; plain data, so that equal scenes are equal."""

    @abstractmethod
    def met(self, places: Places) -> bool: ...


@dataclass(frozen=True)
class At(Condition):
    """A thing stands on the table at (x, y) in m, not further off than `NEAR`."""

    body: str
    point: tuple[float, float]

    def met(self, places: Places) -> bool:
        x, y, z = places[self.body]
        return dist((x, y), self.point) < NEAR and z < _LOW


@dataclass(frozen=True)
class On(Condition):
    """A block stands on another one."""

    body: str
    support: str
    height: float = 0.04

    def met(self, places: Places) -> bool:
        offset = places[self.body] - places[self.support]
        return float(np.hypot(offset[0], offset[1])) < _STACKED and abs(offset[2] - self.height) < 0.012


@dataclass(frozen=True)
class In(Condition):
    """A block is in a bowl, or on top of others in it."""

    body: str
    bowl: str

    def met(self, places: Places) -> bool:
        return inside(places[self.body], places[self.bowl])


@dataclass(frozen=True)
class CountIn(Condition):
    """Exactly so many of the blocks are in the bowl."""

    bodies: tuple[str, ...]
    bowl: str
    count: int

    def met(self, places: Places) -> bool:
        return sum(inside(places[body], places[self.bowl]) for body in self.bodies) == self.count


@dataclass(frozen=True)
class Each(Condition):
    """The blocks are at the points, one at each, no matter which."""

    bodies: tuple[str, ...]
    points: tuple[tuple[float, float], ...]

    def met(self, places: Places) -> bool:
        taken = set()
        for body in self.bodies:
            x, y, z = places[body]
            near = [i for i, point in enumerate(self.points) if dist((x, y), point) < NEAR]
            if z >= _LOW or not near or near[0] in taken:
                return False
            taken.add(near[0])
        return True


@dataclass(frozen=True)
class EachIn(Condition):
    """Every block is in one of the bowls, each bowl has one, and none is where it must not be: pairs (block, bowl)."""

    bodies: tuple[str, ...]
    bowls: tuple[str, ...]
    never: tuple[tuple[str, str], ...] = ()

    def met(self, places: Places) -> bool:
        pairs = [(a, b) for a in self.bodies for b in self.bowls if inside(places[a], places[b])]
        used = {bowl for _, bowl in pairs}
        return len(pairs) == len(self.bodies) == len(used) and not set(pairs) & set(self.never)


@dataclass(frozen=True)
class RegularPolygon(Condition):
    """The blocks are the corners of a regular polygon, however turned, with sides of `side` m around a centre."""

    bodies: tuple[str, ...]
    side: float
    centre: tuple[float, float]

    def met(self, places: Places) -> bool:
        points = np.array([places[body] for body in self.bodies])
        if (points[:, 2] >= _LOW).any() or dist(points[:, :2].mean(axis=0), self.centre) > NEAR:
            return False
        wanted = polygon(len(points), self.side, self.centre, 0.0)
        return bool((np.abs(_spans(points[:, :2]) - _spans(np.array(wanted))) < _SHAPE).all())


@dataclass(frozen=True)
class Circle(Condition):
    """The blocks stand on a circle around a centre, at least `apart` m from one another."""

    bodies: tuple[str, ...]
    radius: float
    centre: tuple[float, float]
    apart: float = 0.07

    def met(self, places: Places) -> bool:
        points = np.array([places[body] for body in self.bodies])
        radii = np.linalg.norm(points[:, :2] - self.centre, axis=1)
        close = float(_spans(points[:, :2])[0]) < self.apart
        return not close and bool((np.abs(radii - self.radius) < _SHAPE).all() and (points[:, 2] < _LOW).all())


@dataclass(frozen=True)
class Line(Condition):
    """The blocks stand in a straight line, evenly spaced, from one place to another, no matter in which order."""

    bodies: tuple[str, ...]
    start: tuple[float, float]
    end: tuple[float, float]

    def met(self, places: Places) -> bool:
        return Each(self.bodies, tuple(line(len(self.bodies), self.start, self.end))).met(places)


@dataclass(frozen=True)
class Row(Condition):
    """The blocks stand one behind the other as the arm sees them, `gap` m from each to the next."""

    bodies: tuple[str, ...]
    gap: float

    def met(self, places: Places) -> bool:
        points = np.array(sorted(tuple(places[body]) for body in self.bodies))
        even = np.abs(np.diff(points[:, 0]) - self.gap) < _SHAPE
        return bool(even.all() and np.ptp(points[:, 1]) < NEAR and (points[:, 2] < _LOW).all())


@dataclass(frozen=True)
class Kept(Condition):
    """A thing that nobody spoke of is where it was."""

    body: str
    point: tuple[float, float]

    def met(self, places: Places) -> bool:
        x, y, _ = places[self.body]
        return dist((x, y), self.point) < NEAR


@dataclass(frozen=True)
class Pile(Condition):
    """The blocks stand on one another in any order, the lowest of them on `base`."""

    bodies: tuple[str, ...]
    base: str

    def met(self, places: Places) -> bool:
        order = sorted(self.bodies, key=lambda body: places[body][2])
        return all(On(above, below).met(places) for below, above in zip([self.base, *order], order, strict=False))


@dataclass(frozen=True)
class Tower(Condition):
    """The blocks stand on one another in any order, the lowest of them on the table."""

    bodies: tuple[str, ...]

    def met(self, places: Places) -> bool:
        lowest, *others = sorted(self.bodies, key=lambda body: places[body][2])
        return bool(places[lowest][2] < _LOW) and Pile(tuple(others), lowest).met(places)


def inside(block: NDArray[np.float64], bowl: NDArray[np.float64]) -> bool:
    """Whether the middle of a block is within a bowl's walls, seen from above, and not carried over it."""
    offset = block - bowl
    return bool(np.hypot(offset[0], offset[1]) < BOWL_INSIDE and 0.0 < offset[2] < BOWL_HEIGHT + _PILE)


def polygon(count: int, side: float, centre: tuple[float, float], angle: float) -> list[tuple[float, float]]:
    """Corners of a regular polygon in m: the radius of the circle around it is side / (2 sin(pi / n))."""
    radius = side / (2 * sin(pi / count))
    turns = angle + 2 * pi * np.arange(count) / count
    return [(centre[0] + radius * float(np.cos(t)), centre[1] + radius * float(np.sin(t))) for t in turns]


def line(count: int, start: tuple[float, float], end: tuple[float, float]) -> list[tuple[float, float]]:
    """Evenly spaced points from one place to another, both included."""
    return [(float(x), float(y)) for x, y in np.linspace(start, end, count)]


def _spans(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """All distances between two of the points (n, 2), in order of size."""
    return np.sort([dist(a, b) for a, b in combinations(points, 2)])
