"""What a thing is called so that it cannot be taken for the other one: by its look, its place or its size.

Left and right, near and far are the arm's own: y points to its left, x away from it, and it is "you" in a sentence.
The drawers are named the same way. The front camera faces the arm, so left things are on the right in its picture.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from robot.description import Body, Vector
from sim.language import Wording
from sim.objects import volume

Names = Mapping[Wording, tuple[tuple[str, ...], ...]]
"""Per wording, groups of phrases without an article; each group is one way of telling the thing apart."""

ASIDE, APART, HIGHER = 0.08, 0.10, 0.03
"""Least distance in m along y, x and z at which one thing may be called the left, the nearer, the top one."""
BIGGER = 1.6
"""Least ratio of the volumes at which one thing may be called the bigger one."""

_LOOKS: Mapping[Wording, tuple[str, ...]] = {
    "seen": ("{colour} {kind}", "{colour} {kind}", "{colour} one"),
    "unseen": ("{colour}-coloured {kind}", "{kind} that is {colour}", "{colour} thing"),
}
RELATIONS: Mapping[str, Mapping[Wording, tuple[str, ...]]] = {
    "left": {
        "seen": ("left {noun}", "{noun} on the left", "one on the left"),
        "unseen": ("leftmost {noun}", "{noun} to your left", "left-hand {noun}"),
    },
    "right": {
        "seen": ("right {noun}", "{noun} on the right", "one on the right"),
        "unseen": ("rightmost {noun}", "{noun} to your right", "right-hand {noun}"),
    },
    "near": {
        "seen": ("nearer {noun}", "closer {noun}", "{noun} closer to you"),
        "unseen": ("{noun} nearest to you", "{noun} less far away"),
    },
    "far": {
        "seen": ("farther {noun}", "{noun} farther away", "{noun} farther from you"),
        "unseen": ("{noun} at the greatest distance", "{noun} less close to you"),
    },
    "top": {
        "seen": ("top {noun}", "upper {noun}", "{noun} on the step"),
        "unseen": ("topmost {noun}", "{noun} that stands higher"),
    },
    "bottom": {
        "seen": ("bottom {noun}", "lower {noun}", "{noun} on the table"),
        "unseen": ("lowest {noun}", "{noun} that stands less high"),
    },
    "big": {
        "seen": ("bigger {noun}", "larger {noun}", "big {noun}"),
        "unseen": ("biggest {noun}", "{noun} of greater size"),
    },
    "small": {
        "seen": ("smaller {noun}", "small {noun}", "little {noun}"),
        "unseen": ("smallest {noun}", "{noun} of lesser size"),
    },
}


@dataclass(frozen=True)
class Thing:
    """What can be said about a thing: colour, kind ("block"), the point it stands on (m, base frame), volume (m^3)."""

    colour: str
    kind: str
    place: Vector
    volume: float

    @classmethod
    def of(cls, body: Body, colour: str, kind: str, level: float = 0.0) -> Thing:
        """A body of the scene that stands `level` m above the table."""
        return cls(colour, kind, (*body.position[:2], level), volume(body))

    def relations(self, other: Thing) -> list[str]:
        """How it stands to the other one, as far as that is plain to see: "left", "far", "big"."""
        x, y, z = np.subtract(self.place, other.place)
        found = []
        if abs(y) >= ASIDE:
            found.append("left" if y > 0 else "right")
        if abs(x) >= APART:
            found.append("far" if x > 0 else "near")
        if abs(z) >= HIGHER:
            found.append("top" if z > 0 else "bottom")
        if max(self.volume, other.volume) >= BIGGER * min(self.volume, other.volume):
            found.append("big" if self.volume > other.volume else "small")
        return found

    def names(self, other: Thing) -> Names:
        """Every name under which it cannot be taken for the other one; by its look only where the colours differ."""
        alike = self.kind == other.kind
        relations = self.relations(other)

        def groups(wording: Wording) -> tuple[tuple[str, ...], ...]:
            noun = self.kind if alike else {"seen": "object", "unseen": "thing"}[wording]
            look = _look(self.colour, self.kind, wording) if self.colour != other.colour else ()
            told = (tuple(phrase.format(noun=noun) for phrase in RELATIONS[r][wording]) for r in relations)
            return tuple(group for group in (look, *told) if group)

        return {"seen": groups("seen"), "unseen": groups("unseen")}


def look_names(colour: str, kind: str) -> Names:
    """The names of a thing of its own colour by nothing but its look."""
    return {"seen": (_look(colour, kind, "seen"),), "unseen": (_look(colour, kind, "unseen"),)}


def _look(colour: str, kind: str, wording: Wording) -> tuple[str, ...]:
    return tuple(phrase.format(colour=colour, kind=kind) for phrase in _LOOKS[wording])


def side_names(side: str, nouns: Sequence[str]) -> Names:
    """The names of the left or right one of two parts that share the given nouns."""

    def groups(wording: Wording) -> tuple[tuple[str, ...], ...]:
        return tuple(tuple(phrase.format(noun=noun) for phrase in RELATIONS[side][wording]) for noun in nouns)

    return {"seen": groups("seen"), "unseen": groups("unseen")}


def call(rng: np.random.Generator, names: Names, wording: Wording) -> str:
    """A random name: first what tells the thing apart, then one of its phrases."""
    groups = names[wording]
    group = groups[int(rng.integers(len(groups)))]
    return group[int(rng.integers(len(group)))]


def unique(names: Sequence[str], places: Sequence[Vector]) -> list[str]:
    """Body names; those that are given twice are numbered from left to right, so that no number tells the target."""
    order = sorted(range(len(names)), key=lambda i: -places[i][1])
    numbers = {i: sum(names[j] == names[i] for j in order[: order.index(i) + 1]) for i in order}
    return [f"{name}_{numbers[i]}" if names.count(name) > 1 else name for i, name in enumerate(names)]
