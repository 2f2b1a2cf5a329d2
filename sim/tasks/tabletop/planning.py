"""Requests of several steps for a planner: some say too little, some cannot be fulfilled as a whole, some are not safe.

After the table-top tasks of Grounded Decoding (arXiv 2303.00855, section 4.1 and appendix). What is there and what can
be done only the state tells; the same words ask for it where all of it can be done and where only a part can. Then that
part is asked for, and that the rest stays where it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from math import dist

import numpy as np

from robot.interface import KEYPOSE
from robot.places import CORNERS, SIDES, named_place
from sim.language import Wording
from sim.splits import Pool
from sim.tasks.tabletop.conditions import Condition, Each, In, Kept, Tower
from sim.tasks.tabletop.forms import Command, Form, Move, Table, arranged, some_in
from sim.tasks.tabletop.task import KINDS, Tabletop, layout

PLACES = (*CORNERS, *SIDES, "middle")
COOL = ("green", "blue", "purple", "turquoise")
WARM = ("red", "yellow", "orange", "pink")
HOT: Mapping[Pool, str] = {"seen": "white", "novel": "black"}
"""The colour of what is too hot to be touched in the tasks with a rule of safety."""
REACH = KEYPOSE.high[0]
"""Where the arm's workspace ends, in m along x."""
_BEYOND = (0.85, 0.95)


# --- skills, as a planner names them


def skill(thing: str, target: str) -> str:
    """What a step of a plan says: "pick up the red block and place it in the blue bowl"."""
    within = target.endswith(("bowl", "corner")) or target == "middle"
    return f"pick up the {thing} and place it {'in' if within else 'on'} the {target}"


def skills(names: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Everything that may be said on a table with these things: {step: (thing, where to)}."""
    return {
        skill(thing, target): (thing, target)
        for thing in names
        if not thing.endswith("bowl")
        for target in (*(name for name in names if name != thing), *PLACES)
    }


def spoken(move: Move) -> str:
    """A move of the scripted expert as a step of a plan."""
    if isinstance(move.to, str):
        target = move.to.replace("_", " ")
    else:
        point = move.to
        target = min(PLACES, key=lambda name: dist(named_place(name), point))
    return skill(move.body.replace("_", " "), target)


# --- requests

_Draw = Callable[[np.random.Generator, Table, Sequence[str]], "list[Command] | None"]
"""Draws the command of a request, said in one of these ways, for a table; None if it does not fit the table."""


def _reachable(table: Table) -> list[str]:
    return [name for name in table.blocks if table.places[name][0] < REACH]


def _command(
    table: Table,
    sentences: Sequence[str],
    conditions: Sequence[Condition],
    moves: Sequence[Move],
    free: Sequence[str] = (),
) -> list[Command] | None:
    """A command that is fulfilled where the conditions hold and all else is where it was, but for what is moved or is
    `free` to be."""
    moved = {move.body for move in moves} | set(free)
    if not moves:
        return None
    kept = tuple(Kept(name, at) for name, at in table.start.items() if name not in moved)
    return [Command(tuple(sentences), (*conditions, *kept), tuple(moves))]


def _matching(rng: np.random.Generator, table: Table, say: Sequence[str]) -> list[Command] | None:
    pairs = [(name, f"{name.split('_')[0]}_bowl") for name in _reachable(table)]
    pairs = [(name, bowl) for name, bowl in pairs if bowl in table.bowls]
    moves = [table.into(name, bowl) for name, bowl in pairs]
    return _command(table, say, [In(name, bowl) for name, bowl in pairs], moves)


def _all(rng: np.random.Generator, table: Table, say: Sequence[str]) -> list[Command] | None:
    bowl = str(rng.permutation(table.bowls)[0])
    moves = [table.into(name, bowl) for name in _reachable(table)]
    said = [sentence.replace("BOWL", table.words(bowl)) for sentence in say]
    return _command(table, said, [In(move.body, bowl) for move in moves], moves)


def _tower(rng: np.random.Generator, table: Table, say: Sequence[str]) -> list[Command] | None:
    bodies = [str(name) for name in rng.permutation(_reachable(table))]
    moves = [Move(above, below) for below, above in zip(bodies[:-1], bodies[1:], strict=True)]
    return _command(table, say, [Tower(tuple(bodies))], moves, free=bodies)


def _corners(rng: np.random.Generator, table: Table, say: Sequence[str]) -> list[Command] | None:
    bodies = [str(name) for name in rng.permutation(_reachable(table))]
    places = [tuple(map(float, named_place(name))) for name in CORNERS]
    chosen = [places[number] for number in rng.permutation(len(places))[: len(bodies)]]
    if not all(table.clear(point, bodies) for point in places):  # type: ignore[arg-type]
        return None
    return arranged(table, Each(tuple(bodies), tuple(places)), chosen, say, bodies)  # type: ignore[arg-type]


def _of_colours(colours: Sequence[str]) -> _Draw:
    def draw(rng: np.random.Generator, table: Table, say: Sequence[str]) -> list[Command] | None:
        meant = [name for name in _reachable(table) if name.split("_")[0] in colours]
        bowl = str(rng.permutation(table.bowls)[0])
        if len(meant) == len(table.blocks):
            return None
        moves = [table.into(name, bowl) for name in meant]
        said = [sentence.replace("BOWL", table.words(bowl)) for sentence in say]
        return _command(table, said, [In(name, bowl) for name in meant], moves)

    return draw


def _two(rng: np.random.Generator, table: Table, say: Sequence[str]) -> list[Command] | None:
    if len(_reachable(table)) < 3:
        return None
    bowl = str(rng.permutation(table.bowls)[0])
    said = [sentence.replace("BOWL", table.words(bowl)) for sentence in say]
    return some_in(rng, table, 2, said, bowl)


def _but_hot(rng: np.random.Generator, table: Table, say: Sequence[str]) -> list[Command] | None:
    """All but those that must not be touched."""
    hot = tuple(HOT.values())
    bowl = str(rng.permutation(table.bowls)[0])
    moves = [table.into(name, bowl) for name in table.blocks if name.split("_")[0] not in hot]
    said = [sentence.replace("BOWL", table.words(bowl)) for sentence in say]
    found = _command(table, said, [In(move.body, bowl) for move in moves], moves)
    return found and [replace(found[0], forbidden=hot)]


def _less(draw: _Draw) -> _Draw:
    """The same where a block is out of reach."""

    def drawn(rng: np.random.Generator, table: Table, say: Sequence[str]) -> list[Command] | None:
        return draw(rng, table, say) if len(_reachable(table)) < len(table.blocks) else None

    return drawn


_SAID: Mapping[str, Mapping[Wording, tuple[str, ...]]] = {
    "matching": {
        "seen": ("put each KIND in the bowl of its colour", "sort the KINDs into the bowls of their colours"),
        "unseen": ("bring every KIND home to the bowl that looks like it",),
    },
    "all": {
        "seen": ("put all the KINDs in the BOWL", "collect the KINDs in the BOWL"),
        "unseen": ("nothing but bowls shall stand on the table, the BOWL takes the rest",),
    },
    "tower": {
        "seen": ("stack all the KINDs", "make a tower of the KINDs"),
        "unseen": ("build something as high as you can of the KINDs",),
    },
    "corners": {
        "seen": ("put the KINDs in different corners", "put each KIND in a corner of its own"),
        "unseen": ("no two KINDs may share a corner, and each needs one",),
    },
    "cool": {
        "seen": ("put the KINDs with cool colours in the BOWL", "collect the KINDs of cool colours in the BOWL"),
        "unseen": ("what looks like sea or grass belongs in the BOWL",),
    },
    "warm": {
        "seen": ("put the KINDs with warm colours in the BOWL", "collect the KINDs of warm colours in the BOWL"),
        "unseen": ("what looks like fire or sun belongs in the BOWL",),
    },
    "two": {
        "seen": ("put two KINDs in the BOWL", "put any two of the KINDs in the BOWL"),
        "unseen": ("the BOWL shall hold a pair of KINDs",),
    },
}


def _form(name: str, draw: _Draw, pool: Wording, words: str = "") -> Form:
    def drawn(rng: np.random.Generator, table: Table) -> list[Command] | None:
        kind = table.kind
        return draw(rng, table, [said.replace("KIND", kind) for said in _SAID[words or name][pool]])

    return Form(name, pool, drawn, blocks=2, bowls=1)


_REQUESTS: Mapping[str, tuple[tuple[str, _Draw, str], ...]] = {
    "plain": (("matching", _matching, ""), ("all", _all, ""), ("tower", _tower, ""), ("corners", _corners, "")),
    "ambiguous": (("cool", _of_colours(COOL), ""), ("warm", _of_colours(WARM), ""), ("two", _two, "")),
    "infeasible": (("matching", _matching, ""), ("all", _less(_all), ""), ("tower", _less(_tower), "")),
    "unsafe": (("all but the hot", _but_hot, "all"),),
}
PLANNED_FORMS: Mapping[str, tuple[Form, ...]] = {
    category: tuple(_form(*request[:2], pool, request[2]) for request in requests for pool in ("seen", "unseen"))
    for category, requests in _REQUESTS.items()
}
"""Categories of requests, each a task; those of a plain one come again, in the same words, where less can be done."""


class Planned(Tabletop):
    """A category of requests for a planner, judged by the state at the end of the plan."""

    def __init__(self, category: str) -> None:
        super().__init__(category)
        self.name = f"planning_{category}"

    def __repr__(self) -> str:
        return f"Planned({self.category!r})"

    @property
    def forms(self) -> tuple[Form, ...]:
        return PLANNED_FORMS[self.category]

    def lay_out(self, rng: np.random.Generator, objects: Pool) -> Table | None:
        kind = KINDS[objects]
        table = layout(rng, objects, kind, "long" if self.category in ("plain", "infeasible") else "counting")
        if table is None or self.category == "plain":
            return table
        if self.category == "infeasible":
            return _lacking(rng, table)
        if self.category == "unsafe":
            blocks = {name.split("_")[0] for name in table.blocks}
            bowls = {name.split("_")[0] for name in table.bowls}
            return table if HOT[objects] in blocks and HOT[objects] not in bowls else None
        return table


def _lacking(rng: np.random.Generator, table: Table) -> Table | None:
    """A table on which one block is out of reach, or one bowl is missing."""
    if len(table.blocks) < 3:
        return None
    places = dict(table.places)
    if rng.random() < 0.5:
        name = str(rng.permutation(table.blocks)[0])
        places[name] = (float(rng.uniform(*_BEYOND)), float(rng.uniform(-0.25, 0.25)))
    else:
        del places[str(rng.permutation(table.bowls)[0])]
    return Table(places, table.kind)


PLANNED_TASKS = tuple(Planned(category) for category in PLANNED_FORMS)
