"""What a longer task may be made of: programs of two or three sub-goals, drawn with their values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from sim.objects import Side
from sim.reference import Names, look_names, side_names
from sim.splits import Goals
from sim.tasks.base import Candidate, Subgoal
from sim.tasks.furniture import SIDES, CloseDrawer, OpenDrawer, another_closing
from sim.tasks.pickup_object import PickupObject
from sim.tasks.put_in_drawer import PutInDrawer

_OPEN, _CLOSE, _LIFT = OpenDrawer(), CloseDrawer(), PickupObject()
_PUT = {side: PutInDrawer(side) for side in SIDES}
_WIDE_ENOUGH = 50
"""Opening in percent from which on the hand can put something into a drawer."""


@dataclass(frozen=True)
class Thing:
    """One of the two small things: what it is, what its body is called, and the other one's."""

    kind: str
    colour: str
    other: str

    @property
    def body(self) -> str:
        return f"{self.colour}_{self.kind}"

    @property
    def words(self) -> Names:
        return look_names(self.colour, self.kind)


Things = tuple[Thing, Thing]
Drawn = tuple[dict[str, int], list[Candidate]]
Program = Callable[[np.random.Generator, Goals, Side, Things], Drawn]
"""Draws what is asked for: how far (percent) the drawers are open at the start, and the two candidates. It is given
the side of the drawer to use and the things on the table."""


def _put_close(rng: np.random.Generator, goals: Goals, side: Side, things: Things) -> Drawn:
    """Put a thing in the open drawer and close it, half the time fully."""
    start = int(rng.integers(55, 101))
    candidates = []
    for thing in things:
        fully = goals != "held_out" and rng.random() < 0.5
        goal = 0 if fully else _CLOSE.goals.draw(rng, goals, most=start - 25)
        other = another_closing(rng, _CLOSE.goals, goals, start, goal)
        steps = (_put(thing, side), _drawer(_CLOSE, side, goal))
        candidates.append(Candidate(thing.body, thing.words, goal / 100, other / 100, steps, varied=1))
    return {f"{side}_drawer": start}, candidates


def _open_put(rng: np.random.Generator, goals: Goals, side: Side, things: Things) -> Drawn:
    """Open a drawer so far, and put a thing in it."""
    candidates = []
    for thing in things:
        goal = _OPEN.goals.draw(rng, goals, least=_WIDE_ENOUGH)
        other = _OPEN.goals.another(rng, goals, goal, 25, least=_WIDE_ENOUGH)
        steps = (_drawer(_OPEN, side, goal), _put(thing, side))
        candidates.append(Candidate(thing.body, thing.words, goal / 100, other / 100, steps))
    return {}, candidates


def _open_put_close(rng: np.random.Generator, goals: Goals, side: Side, things: Things) -> Drawn:
    """Open a drawer so far, put a thing in it, and close it."""
    start, candidates = _open_put(rng, goals, side, things)
    closed = (_drawer(_CLOSE, side, 0),)
    return start, [replace(candidate, subgoals=candidate.subgoals + closed) for candidate in candidates]


def _open_close(rng: np.random.Generator, goals: Goals, side: Side, things: Things) -> Drawn:
    """Open one drawer so far and close the other one so far; at the start each of them could be either."""
    sides = (side, _opposite(side))
    starts = {f"{name}_drawer": 45 if goals == "held_out" else int(rng.integers(40, 46)) for name in sides}
    candidates = []
    for opened in sides:
        body, closed = f"{opened}_drawer", _opposite(opened)
        goal = _OPEN.goals.draw(rng, goals, least=starts[body] + 20)
        other = _OPEN.goals.another(rng, goals, goal, 15, least=starts[body] + 20)
        left_open = _CLOSE.goals.draw(rng, goals, most=starts[f"{closed}_drawer"] - 20)
        steps = (_drawer(_OPEN, opened, goal), _drawer(_CLOSE, closed, left_open))
        candidates.append(Candidate(body, side_names(opened, ("drawer",)), goal / 100, other / 100, steps))
    return starts, candidates


def _lift_put(rng: np.random.Generator, goals: Goals, side: Side, things: Things) -> Drawn:
    """Lift a thing so high, then put it in the open drawer."""
    candidates = []
    for thing in things:
        goal = _LIFT.goals.draw(rng, goals)
        other = _LIFT.goals.another(rng, goals, goal, 12)
        lifted = Subgoal(thing.body, thing.words, goal / 100, task=_LIFT, distractor=thing.other)
        candidates.append(Candidate(thing.body, thing.words, goal / 100, other / 100, (lifted, _put(thing, side))))
    return {f"{side}_drawer": int(rng.integers(55, 101))}, candidates


PROGRAMS: tuple[Program, ...] = (_put_close, _open_put, _open_put_close, _open_close, _lift_put)


def _put(thing: Thing, side: Side) -> Subgoal:
    return Subgoal(thing.body, thing.words, 0.0, task=_PUT[side], distractor=thing.other)


def _drawer(task: OpenDrawer | CloseDrawer, side: Side, percent: int) -> Subgoal:
    return Subgoal(
        f"{side}_drawer",
        side_names(side, ("drawer",)),
        percent / 100,
        task=task,
        distractor=f"{_opposite(side)}_drawer",
    )


def _opposite(side: Side) -> Side:
    return "right" if side == "left" else "left"
