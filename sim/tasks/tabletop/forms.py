"""The forms of instructions on the table-top: what each asks for, in which words, and which are held out.

A form belongs to one pool: those of `seen` may be in prompts and in what a language model learns from, those of
`unseen` may not. The pools are fixed and share neither form nor wording.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import dist

import numpy as np
from num2words import num2words

from robot.places import CORNERS, SIDES, TABLE_HIGH, TABLE_LOW, named_place, nearest_place
from sim.language import Wording
from sim.tasks.tabletop.conditions import (
    NEAR,
    At,
    Circle,
    Condition,
    CountIn,
    Each,
    EachIn,
    In,
    Kept,
    Line,
    On,
    Pile,
    RegularPolygon,
    Row,
    line,
    polygon,
)

Point = tuple[float, float]
BLOCK_GAP, BOWL_GAP = 0.085, 0.125
"""Least distance in m of a block from another one, and from a bowl, so that fingers get between them."""
BOWLS_GAP = 0.15
_DIRECTIONS: Mapping[str, Point] = {
    "to the left of": (0.0, 1.0),
    "to the right of": (0.0, -1.0),
    "behind": (1.0, 0.0),
    "in front of": (-1.0, 0.0),
}
_LINES = (
    ("left side", "right side"),
    ("top left corner", "top right corner"),
    ("bottom left corner", "bottom right corner"),
    ("bottom left corner", "top right corner"),
    ("top left corner", "bottom right corner"),
)
_OPPOSITE = dict(zip(CORNERS, reversed(CORNERS), strict=True))
MARGIN = 0.06
"""Difference in m along an axis from which on a thing is further left, right, near or far than another."""


@dataclass(frozen=True)
class Move:
    """A step of the scripted expert: bring a block to a point (x, y) in m, or onto or into another thing; `slot` counts
    the blocks in the same bowl."""

    body: str
    to: Point | str
    slot: int = 0


@dataclass(frozen=True)
class Command:
    """One thing that is said, what has to hold for it to be done, and a way to do it.

    Attributes:
        sentences: ways to say it.
        conditions: all have to hold.
        moves: how the scripted expert does it.
        forbidden: words for what must not be touched by a rule of safety, which the sentences do not say.
    """

    sentences: tuple[str, ...]
    conditions: tuple[Condition, ...]
    moves: tuple[Move, ...]
    forbidden: tuple[str, ...] = ()


@dataclass
class Table:
    """Where the blocks and bowls stand (x, y in m), by body, and which blocks are in which bowl; changed by moves as a
    form plans its commands."""

    places: dict[str, Point]
    kind: str
    start: dict[str, Point] = field(init=False)
    held: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.start = dict(self.places)

    @property
    def blocks(self) -> list[str]:
        return [name for name in self.places if not name.endswith("_bowl")]

    @property
    def bowls(self) -> list[str]:
        return [name for name in self.places if name.endswith("_bowl")]

    def into(self, body: str, bowl: str) -> Move:
        """The move of a block into the next free place of a bowl."""
        slot = list(self.held.values()).count(bowl)
        self.held[body], self.places[body] = bowl, self.places[bowl]
        return Move(body, bowl, slot)

    def words(self, body: str) -> str:
        return body.replace("_", " ")

    def clear(self, point: Point, moved: Sequence[str] = ()) -> bool:
        """Whether a block can be put down there: on the table, and clear of everything but what is moved."""
        on_table = all(
            low - 1e-6 <= value <= high + 1e-6 for low, value, high in zip(TABLE_LOW, point, TABLE_HIGH, strict=True)
        )
        return on_table and all(
            dist(point, at) > (BOWL_GAP if name in self.bowls else BLOCK_GAP)
            for name, at in self.places.items()
            if name not in moved
        )

    def others(self, *moved: str) -> tuple[Condition, ...]:
        """That everything else stays where it is."""
        return tuple(
            In(name, self.held[name]) if name in self.held else Kept(name, at)
            for name, at in self.places.items()
            if name not in moved
        )


Draw = Callable[[np.random.Generator, Table], "list[Command] | None"]
"""Draws the commands of a form for a table; None if it does not fit the table."""


@dataclass(frozen=True)
class Form:
    """A form of instruction. `blocks` and `bowls` are how many of each the table has to have at least."""

    name: str
    pool: Wording
    draw: Draw
    blocks: int = 2
    bowls: int = 1


def _put(table: Table, body: str, to: Point | str, sentences: Sequence[str]) -> Command | None:
    """A command that moves one block."""
    if isinstance(to, str):
        condition: Condition = In(body, to) if to in table.bowls else On(body, to)
        spot = table.places[to]
    else:
        if not table.clear(to, (body,)) or dist(table.places[body], to) < 2 * NEAR:
            return None
        condition, spot = At(body, to), to
    others = table.others(body)
    move = table.into(body, to) if isinstance(to, str) and to in table.bowls else Move(body, to)
    table.places[body] = spot
    return Command(tuple(sentences), (condition, *others), (move,))


def _one(command: Command | None) -> list[Command] | None:
    return None if command is None else [command]


def _pick(rng: np.random.Generator, names: Sequence[str], count: int = 1) -> list[str]:
    return [str(name) for name in rng.permutation(list(names))[:count]]


def _place(name: str) -> Point:
    x, y = named_place(name)
    return (float(x), float(y))


# --- spatial


def _beside(rng: np.random.Generator, table: Table) -> list[Command] | None:
    (a,) = _pick(rng, table.blocks)
    (b,) = _pick(rng, [name for name in table.places if name != a])
    word = _pick(rng, list(_DIRECTIONS))[0]
    distance = int(rng.integers(9, 17))
    point = _shifted(table.places[b], _DIRECTIONS[word], distance / 100)
    x, y = table.words(a), table.words(b)
    return _one(
        _put(
            table,
            a,
            point,
            (f"put the {x} {distance} cm {word} the {y}", f"place the {x} {distance} cm {word} the {y}"),
        )
    )


def _to_corner(rng: np.random.Generator, table: Table) -> list[Command] | None:
    (a,), (name,) = _pick(rng, table.blocks), _pick(rng, [*CORNERS, *SIDES, "middle"])
    where = f"in the {name}" if "corner" in name or name == "middle" else f"on the {name}"
    x = table.words(a)
    return _one(_put(table, a, _place(name), (f"put the {x} {where}", f"move the {x} to the {name}")))


def _into(rng: np.random.Generator, table: Table) -> list[Command] | None:
    (a,), (b,) = _pick(rng, table.blocks), _pick(rng, table.bowls)
    x, y = table.words(a), table.words(b)
    return _one(_put(table, a, b, (f"put the {x} in the {y}", f"place the {x} in the {y}")))


def _onto(rng: np.random.Generator, table: Table) -> list[Command] | None:
    a, b = _pick(rng, table.blocks, 2)
    x, y = table.words(a), table.words(b)
    return _one(_put(table, a, b, (f"put the {x} on the {y}", f"stack the {x} on the {y}")))


def _nth(rng: np.random.Generator, table: Table) -> list[Command] | None:
    left = bool(rng.integers(2))
    order = sorted(table.blocks, key=lambda name: -table.places[name][1] if left else table.places[name][1])
    steps = [abs(table.places[a][1] - table.places[b][1]) for a, b in zip(order[:-1], order[1:], strict=True)]
    if min(steps) < MARGIN / 2:
        return None
    n, side = int(rng.integers(len(order))), "left" if left else "right"
    (bowl,) = _pick(rng, table.bowls)
    which = f"{num2words(n + 1, to='ordinal')} {table.kind} from the {side}"
    y = table.words(bowl)
    return _one(_put(table, order[n], bowl, (f"put the {which} in the {y}", f"place the {which} in the {y}")))


def _between(rng: np.random.Generator, table: Table) -> list[Command] | None:
    (a,) = _pick(rng, table.blocks)
    b, c = _pick(rng, [name for name in table.places if name != a], 2)
    (x0, y0), (x1, y1) = table.places[b], table.places[c]
    words = table.words(a), table.words(b), table.words(c)
    sentence = "put the {} halfway between the {} and the {}".format(*words)
    return _one(_put(table, a, ((x0 + x1) / 2, (y0 + y1) / 2), (sentence, sentence.replace("put", "set"))))


def _shift(rng: np.random.Generator, table: Table) -> list[Command] | None:
    (a,) = _pick(rng, table.blocks)
    word, way = [("to the left", (0.0, 1.0)), ("to the right", (0.0, -1.0)), ("away from you", (1.0, 0.0))][
        rng.integers(3)
    ]
    distance = int(rng.integers(9, 17))
    x = table.words(a)
    sentences = (f"move the {x} {distance} cm {word}", f"shift the {x} by {distance} cm {word}")
    return _one(_put(table, a, _shifted(table.places[a], way, distance / 100), sentences))


def _closest_corner(rng: np.random.Generator, table: Table) -> list[Command] | None:
    (a,) = _pick(rng, table.blocks)
    (b,) = _pick(rng, [name for name in table.places if name != a])
    gaps = sorted(dist(_place(name), table.places[b]) for name in CORNERS)
    if gaps[1] - gaps[0] < MARGIN:
        return None
    x, y = table.words(a), table.words(b)
    corner = _place(nearest_place(table.places[b], CORNERS))
    sentences = (
        f"put the {x} in the corner closest to the {y}",
        f"bring the {x} to the corner that is nearest to the {y}",
    )
    return _one(_put(table, a, corner, sentences))


# --- counting


def _number(count: int) -> str:
    return num2words(count)


def some_in(rng: np.random.Generator, table: Table, count: int, sentences: Sequence[str], bowl: str) -> list[Command]:
    moved = _pick(rng, table.blocks, count)
    kept = tuple(Kept(name, at) for name, at in table.places.items() if name in table.bowls)
    condition = CountIn(tuple(table.blocks), bowl, count)
    return [Command(tuple(sentences), (condition, *kept), tuple(table.into(name, bowl) for name in moved))]


def _count_in(rng: np.random.Generator, table: Table) -> list[Command] | None:
    count = int(rng.integers(1, min(3, len(table.blocks))))
    (bowl,) = _pick(rng, table.bowls)
    kinds = f"{table.kind}s"
    sentences = (f"put {_number(count)} of the {kinds} in the {table.words(bowl)}",)
    return some_in(rng, table, count, (*sentences, sentences[0].replace("put", "place")), bowl)


def _all_in(rng: np.random.Generator, table: Table) -> list[Command] | None:
    (bowl,) = _pick(rng, table.bowls)
    sentence = f"put all the {table.kind}s in the {table.words(bowl)}"
    return some_in(rng, table, len(table.blocks), (sentence, sentence.replace("put", "place")), bowl)


def _all_but(rng: np.random.Generator, table: Table) -> list[Command] | None:
    (bowl,) = _pick(rng, table.bowls)
    sentences = (
        f"put all the {table.kind}s but one in the {table.words(bowl)}",
        f"leave only one {table.kind} outside the {table.words(bowl)}",
    )
    return some_in(rng, table, len(table.blocks) - 1, sentences, bowl)


def _as_many(rng: np.random.Generator, table: Table) -> list[Command] | None:
    count = len(table.bowls)
    if not 1 <= count < len(table.blocks):
        return None
    (bowl,) = _pick(rng, table.bowls)
    sentences = (
        f"put as many {table.kind}s in the {table.words(bowl)} as there are bowls",
        f"let the {table.words(bowl)} hold one {table.kind} for every bowl on the table",
    )
    return some_in(rng, table, count, sentences, bowl)


# --- conditionals


def _if_more(rng: np.random.Generator, table: Table) -> list[Command] | None:
    (a,), (bowl,), (corner,) = _pick(rng, table.blocks), _pick(rng, table.bowls), _pick(rng, CORNERS)
    kinds = [f"{table.kind}s", "bowls"]
    counts = [len(table.blocks), len(table.bowls)]
    if rng.random() < 0.5:
        kinds, counts = kinds[::-1], counts[::-1]
    to: Point | str = bowl if counts[0] > counts[1] else _place(corner)
    x, y = table.words(a), table.words(bowl)
    sentence = f"if there are more {kinds[0]} than {kinds[1]} put the {x} in the {y}, otherwise put it in the {corner}"
    return _one(_put(table, a, to, (sentence, sentence.replace("otherwise", "else"))))


def _if_left(rng: np.random.Generator, table: Table) -> list[Command] | None:
    a, b = _pick(rng, table.blocks, 2)
    (bowl,) = _pick(rng, table.bowls)
    gap = table.places[a][1] - table.places[b][1]
    if abs(gap) < MARGIN:
        return None
    word = _pick(rng, ["left", "right"])[0]
    true = (gap > 0) == (word == "left")
    x, y, z = table.words(a), table.words(b), table.words(bowl)
    sentence = f"if the {x} is {word} of the {y} put the {x} in the {z}, otherwise put the {y} in the {z}"
    return _one(_put(table, a if true else b, bowl, (sentence, sentence.replace("otherwise", "else"))))


def _if_there(rng: np.random.Generator, table: Table) -> list[Command] | None:
    (a,), (bowl,), (side,) = _pick(rng, table.blocks), _pick(rng, table.bowls), _pick(rng, SIDES)
    colour = bowl.split("_")[0]
    to: Point | str = bowl
    if rng.random() < 0.5:
        absent = [name.split("_")[0] for name in table.blocks if f"{name.split('_')[0]}_bowl" not in table.bowls]
        if not absent:
            return None
        colour, to = _pick(rng, absent)[0], _place(side)
    x = table.words(a)
    sentences = (
        f"if you see a {colour} bowl put the {x} in it, and if not, on the {side}",
        f"the {x} belongs in the {colour} bowl if there is one, and on the {side} if there is none",
    )
    return _one(_put(table, a, to, sentences))


def _unless(rng: np.random.Generator, table: Table) -> list[Command] | None:
    (a,), (bowl,) = _pick(rng, table.blocks), _pick(rng, table.bowls)
    count = int(rng.integers(2, 5))
    to: Point | str = _place("middle") if len(table.blocks) < count else bowl
    x, y, kinds = table.words(a), table.words(bowl), f"{table.kind}s"
    sentences = (
        f"put the {x} in the {y} unless there are fewer than {_number(count)} {kinds}, in that case in the middle",
        f"with fewer than {_number(count)} {kinds} on the table the {x} goes in the middle, with more in the {y}",
    )
    if len(table.blocks) == count and "more" in sentences[1]:
        sentences = sentences[:1]
    return _one(_put(table, a, to, sentences))


# --- shapes


def arranged(
    table: Table, condition: Condition, points: Sequence[Point], sentences: Sequence[str], bodies: Sequence[str]
) -> list[Command] | None:
    """A command that puts blocks to points, in an order in which none is in the way."""
    left, moves = list(zip(bodies, points, strict=True)), []
    if not all(table.clear(point, bodies) for point in points):
        return None
    if min(dist(a, b) for i, a in enumerate(points) for b in points[:i]) < BLOCK_GAP:
        return None
    places = dict(table.places)
    while left:
        free = [
            (body, point)
            for body, point in left
            if all(dist(point, at) > BLOCK_GAP for name, at in places.items() if name != body and name in bodies)
        ]
        if not free:
            return None
        body, point = free[0]
        left.remove((body, point))
        places[body] = point
        moves.append(Move(body, point))
    command = Command(tuple(sentences), (condition, *table.others(*bodies)), tuple(moves))
    table.places.update(places)
    return [command]


def _regular(rng: np.random.Generator, table: Table, count: int, word: str) -> list[Command] | None:
    bodies = _pick(rng, table.blocks, count)
    if len(table.blocks) != count:
        return None
    side, centre = int(rng.integers(10, 17)), _place("middle")
    points = polygon(count, side / 100, centre, float(rng.uniform(0, 2 * np.pi)))
    sentence = f"make a {side} cm {word} of the {table.kind}s around the middle"
    sentences = (sentence, sentence.replace("make", "build"))
    return arranged(table, RegularPolygon(tuple(bodies), side / 100, centre), points, sentences, bodies)


def _triangle(rng: np.random.Generator, table: Table) -> list[Command] | None:
    return _regular(rng, table, 3, "triangle")


def _square(rng: np.random.Generator, table: Table) -> list[Command] | None:
    return _regular(rng, table, 4, "square")


def _in_line(rng: np.random.Generator, table: Table) -> list[Command] | None:
    start, end = _LINES[rng.integers(len(_LINES))]
    bodies = _pick(rng, table.blocks, len(table.blocks))
    points = line(len(bodies), _place(start), _place(end))
    sentence = f"put the {table.kind}s in a line from the {start} to the {end}"
    condition = Line(tuple(bodies), _place(start), _place(end))
    return arranged(table, condition, points, (sentence, sentence.replace("put", "place")), bodies)


def _row(rng: np.random.Generator, table: Table) -> list[Command] | None:
    bodies = _pick(rng, table.blocks, len(table.blocks))
    gap = int(rng.integers(9, 13 if len(bodies) < 4 else 10))
    start = (TABLE_LOW[0] + 0.01, float(rng.uniform(TABLE_LOW[1], TABLE_HIGH[1])))
    points = [(start[0] + gap / 100 * i, start[1]) for i in range(len(bodies))]
    sentences = (
        f"line the {table.kind}s up one behind the other with {gap} cm from each to the next",
        f"form a row of the {table.kind}s that leads away from you, their middles {gap} cm apart",
    )
    return arranged(table, Row(tuple(bodies), gap / 100), points, sentences, bodies)


def _circle(rng: np.random.Generator, table: Table) -> list[Command] | None:
    bodies = _pick(rng, table.blocks, len(table.blocks))
    (bowl,) = _pick(rng, table.bowls)
    radius, centre = int(rng.integers(13, 15)), table.places[bowl]
    turn = float(rng.uniform(0, 2 * np.pi))
    angles = turn + 2 * np.pi * np.arange(len(bodies)) / len(bodies)
    points = [
        (centre[0] + radius / 100 * float(np.cos(t)), centre[1] + radius / 100 * float(np.sin(t))) for t in angles
    ]
    y = table.words(bowl)
    sentences = (
        f"arrange the {table.kind}s on a circle with a radius of {radius} cm around the {y}",
        f"put the {table.kind}s evenly around the {y}, {radius} cm from its middle",
    )
    return arranged(table, Circle(tuple(bodies), radius / 100, centre), points, sentences, bodies)


# --- references to earlier commands


def _undo(rng: np.random.Generator, table: Table) -> list[Command] | None:
    first = (_onto if rng.random() < 0.5 else _to_corner)(rng, table)  # nothing can be taken out of a bowl
    if first is None:
        return None
    body = first[0].moves[0].body
    back = _put(table, body, table.start[body], ("undo that", "put it back where it was"))
    return None if back is None else [*first, back]


def _too(rng: np.random.Generator, table: Table) -> list[Command] | None:
    a, b = _pick(rng, table.blocks, 2)
    (bowl,) = _pick(rng, table.bowls)
    y = table.words(bowl)
    first = _put(table, a, bowl, (f"put the {table.words(a)} in the {y}", f"place the {table.words(a)} in the {y}"))
    then = _put(table, b, bowl, (f"now the {table.words(b)} too", f"do the same with the {table.words(b)}"))
    assert first and then
    return [first, then]


def _others(rng: np.random.Generator, table: Table) -> list[Command] | None:
    count = len(table.blocks)
    (bowl,) = _pick(rng, table.bowls)
    (a,) = _pick(rng, table.blocks)
    x, y = table.words(a), table.words(bowl)
    first = _put(table, a, bowl, (f"put the {x} in the {y}", f"place the {x} in the {y}"))
    rest = [name for name in table.blocks if name != a]
    kept = tuple(Kept(name, at) for name, at in table.places.items() if name in table.bowls)
    word = "the other one" if len(rest) == 1 else "the other ones"
    condition = CountIn(tuple(table.blocks), bowl, count)
    moves = tuple(table.into(name, bowl) for name in rest)
    then = Command((f"now put {word} there too", f"and {word} as well"), (condition, *kept), moves)
    return [first, then] if first else None


def _elsewhere(rng: np.random.Generator, table: Table) -> list[Command] | None:
    first = (_onto if rng.random() < 0.5 else _to_corner)(rng, table)
    if first is None:
        return None
    body, (corner,) = first[0].moves[0].body, _pick(rng, CORNERS)
    sentences = (f"take it away again and put it in the {corner}", f"no, it should rather be in the {corner}")
    then = _put(table, body, _place(corner), sentences)
    return None if then is None else [*first, then]


def _opposite(rng: np.random.Generator, table: Table) -> list[Command] | None:
    a, b = _pick(rng, table.blocks, 2)
    (corner,) = _pick(rng, CORNERS)
    x, y = table.words(a), table.words(b)
    first = _put(table, a, _place(corner), (f"put the {x} in the {corner}", f"move the {x} to the {corner}"))
    sentences = (f"and the {y} in the opposite corner", f"the {y} should go to the corner across from it")
    then = _put(table, b, _place(_OPPOSITE[corner]), sentences) if first else None
    return [first, then] if first and then else None


# --- many steps


def _matching(rng: np.random.Generator, table: Table) -> list[Command] | None:
    return _sorted_into_bowls(table, same=True)


def _mismatched(rng: np.random.Generator, table: Table) -> list[Command] | None:
    return _sorted_into_bowls(table, same=False)


def _sorted_into_bowls(table: Table, same: bool) -> list[Command] | None:
    blocks = {name.split("_")[0]: name for name in table.blocks}
    bowls = {name.split("_")[0]: name for name in table.bowls}
    if set(blocks) != set(bowls) or len(blocks) < 2:
        return None
    colours = list(blocks)
    targets = colours if same else colours[1:] + colours[:1]
    kept = tuple(Kept(name, table.places[name]) for name in table.bowls)
    moves = [table.into(blocks[a], bowls[b]) for a, b in zip(colours, targets, strict=True)]
    conditions: tuple[Condition, ...] = tuple(In(move.body, str(move.to)) for move in moves)
    kinds = f"{table.kind}s"
    sentences = (
        f"put the {kinds} in the bowls with matching colours",
        f"put each {table.kind} in the bowl of its colour",
    )
    if not same:
        never = tuple((blocks[colour], bowls[colour]) for colour in colours)
        conditions = (EachIn(tuple(blocks.values()), tuple(bowls.values()), never),)
        sentences = (
            f"put the {kinds} in the bowls with mismatched colours, one in each",
            f"give every bowl one {table.kind}, but none of its own colour",
        )
    return [Command(sentences, (*conditions, *kept), tuple(moves))]


def _stack(rng: np.random.Generator, table: Table) -> list[Command] | None:
    base, *rest = _pick(rng, table.blocks, len(table.blocks))
    moves, below = [], base
    for body in rest:
        moves.append(Move(body, below))
        below = body
    kinds = f"{table.kind}s"
    x = table.words(base)
    sentences = (f"stack all the {kinds} on the {x}", f"pile the other {kinds} up on the {x}")
    return [Command(sentences, (Pile(tuple(rest), base), *table.others(*rest)), tuple(moves))]


def _different_corners(rng: np.random.Generator, table: Table) -> list[Command] | None:
    bodies = _pick(rng, table.blocks, len(table.blocks))
    corners = [_place(name) for name in _pick(rng, CORNERS, len(bodies))]
    kinds = f"{table.kind}s"
    sentences = (f"put all the {kinds} in different corners", f"every {table.kind} shall have a corner of its own")
    every = Each(tuple(bodies), tuple(_place(name) for name in CORNERS))
    if not all(table.clear(_place(name), bodies) for name in CORNERS):
        return None
    return arranged(table, every, corners, sentences, bodies)


def _shifted(point: Point, way: Point, distance: float) -> Point:
    return (point[0] + way[0] * distance, point[1] + way[1] * distance)


FORMS: Mapping[str, tuple[Form, ...]] = {
    "spatial": (
        Form("beside", "seen", _beside),
        Form("to a place", "seen", _to_corner),
        Form("in a bowl", "seen", _into),
        Form("on a block", "seen", _onto),
        Form("the nth", "seen", _nth, blocks=3),
        Form("between", "unseen", _between, blocks=1),
        Form("a way", "unseen", _shift, blocks=1),
        Form("closest corner", "unseen", _closest_corner, blocks=1),
    ),
    "counting": (
        Form("so many", "seen", _count_in, blocks=3),
        Form("all", "seen", _all_in),
        Form("all but one", "unseen", _all_but, blocks=3),
        Form("as many as", "unseen", _as_many, blocks=3),
    ),
    "conditional": (
        Form("more than", "seen", _if_more),
        Form("left of", "seen", _if_left),
        Form("if there", "unseen", _if_there, blocks=1),
        Form("unless", "unseen", _unless),
    ),
    "shapes": (
        Form("triangle", "seen", _triangle, blocks=3, bowls=0),
        Form("line", "seen", _in_line, blocks=3, bowls=0),
        Form("square", "unseen", _square, blocks=4, bowls=0),
        Form("row", "unseen", _row, blocks=3, bowls=0),
        Form("circle", "unseen", _circle, blocks=3),
    ),
    "references": (
        Form("undo", "seen", _undo),
        Form("the same with", "seen", _too),
        Form("the others", "seen", _others),
        Form("rather there", "unseen", _elsewhere),
        Form("opposite corner", "unseen", _opposite),
    ),
    "long": (
        Form("matching bowls", "seen", _matching, bowls=2),
        Form("stack", "seen", _stack, blocks=3),
        Form("mismatched bowls", "unseen", _mismatched, bowls=2),
        Form("different corners", "unseen", _different_corners),
    ),
}
"""Categories of the suite, each a task, with forms of both pools."""
