"""Longer tasks: two or three sub-goals, one after another, such as "put the red block in the open drawer and close it".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from robot.description import Body
from robot.skills import Pose, Skill, Skills
from sim.engines.base import Engine
from sim.language import Wording, centimetre_phrases, choose, percent_phrases
from sim.objects import DRAWER_SPACING, DRAWER_TRAVEL, LOOKS, Side, drawer_unit, palette
from sim.splits import Goals, Split
from sim.tasks.base import Candidate, Goal, SceneSpec, Subgoal, Task
from sim.tasks.furniture import SIDES, CloseDrawer, OpenDrawer, another_closing
from sim.tasks.pickup_object import SHAPES, PickupObject, names, shape
from sim.tasks.put_in_drawer import PutInDrawer

if TYPE_CHECKING:
    from sim.world import World

SUBGOAL_HOLD = 1.0
"""Seconds for which a sub-goal before the last one has to be held. A thing that passes through its goal at just below
the speed limit is within the tolerance for 0.8 s."""
_OPEN, _CLOSE, _LIFT = OpenDrawer(), CloseDrawer(), PickupObject()
_PUT: Mapping[Side, PutInDrawer] = {side: PutInDrawer(side) for side in SIDES}
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
    def words(self) -> tuple[str, ...]:
        return names(self.kind, self.colour)


Things = tuple[Thing, Thing]
Program = Callable[[np.random.Generator, Goals, Side, Things], tuple[dict[str, int], list[Candidate]]]
"""Draws what is asked for: how far (percent) the drawers are open at the start, and the two candidates. It is given
the side of the drawer to use and the things on the table."""


def _put_close(
    rng: np.random.Generator, goals: Goals, side: Side, things: Things
) -> tuple[dict[str, int], list[Candidate]]:
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


def _open_put(
    rng: np.random.Generator, goals: Goals, side: Side, things: Things
) -> tuple[dict[str, int], list[Candidate]]:
    """Open a drawer so far, and put a thing in it."""
    candidates = []
    for thing in things:
        goal = _OPEN.goals.draw(rng, goals, least=_WIDE_ENOUGH)
        other = _OPEN.goals.another(rng, goals, goal, 25, least=_WIDE_ENOUGH)
        steps = (_drawer(_OPEN, side, goal), _put(thing, side))
        candidates.append(Candidate(thing.body, thing.words, goal / 100, other / 100, steps))
    return {}, candidates


def _open_put_close(
    rng: np.random.Generator, goals: Goals, side: Side, things: Things
) -> tuple[dict[str, int], list[Candidate]]:
    """Open a drawer so far, put a thing in it, and close it."""
    start, candidates = _open_put(rng, goals, side, things)
    closed = (_drawer(_CLOSE, side, 0),)
    return start, [replace(candidate, subgoals=candidate.subgoals + closed) for candidate in candidates]


def _open_close(
    rng: np.random.Generator, goals: Goals, side: Side, things: Things
) -> tuple[dict[str, int], list[Candidate]]:
    """Open one drawer so far and close the other one so far; at the start each of them could be either."""
    first, second = side, _opposite(side)
    starts = {f"{name}_drawer": 45 if goals == "held_out" else int(rng.integers(40, 46)) for name in (first, second)}
    candidates = []
    for opened, closed in ((first, second), (second, first)):
        body = f"{opened}_drawer"
        goal = _OPEN.goals.draw(rng, goals, least=starts[body] + 20)
        other = _OPEN.goals.another(rng, goals, goal, 20, least=starts[body] + 20)
        left_open = _CLOSE.goals.draw(rng, goals, most=starts[f"{closed}_drawer"] - 20)
        steps = (_drawer(_OPEN, opened, goal), _drawer(_CLOSE, closed, left_open))
        candidates.append(Candidate(body, (opened,), goal / 100, other / 100, steps))
    return starts, candidates


def _lift_put(
    rng: np.random.Generator, goals: Goals, side: Side, things: Things
) -> tuple[dict[str, int], list[Candidate]]:
    """Lift a thing so high, then put it in the open drawer."""
    candidates = []
    for thing in things:
        goal = _LIFT.goals.draw(rng, goals)
        other = _LIFT.goals.another(rng, goals, goal, 12)
        lifted = Subgoal(thing.body, thing.words, goal / 100, task=_LIFT, distractor=thing.other)
        candidates.append(
            Candidate(thing.body, thing.words, goal / 100, other / 100, (lifted, _put(thing, side)))
        )
    return {f"{side}_drawer": int(rng.integers(55, 101))}, candidates


PROGRAMS: tuple[Program, ...] = (_put_close, _open_put, _open_put_close, _open_close, _lift_put)


def _put(thing: Thing, side: Side) -> Subgoal:
    return Subgoal(thing.body, thing.words, 0.0, task=_PUT[side], distractor=thing.other)


def _drawer(task: OpenDrawer | CloseDrawer, side: Side, percent: int) -> Subgoal:
    return Subgoal(f"{side}_drawer", (side,), percent / 100, task=task, distractor=f"{_opposite(side)}_drawer")


def _opposite(side: Side) -> Side:
    return "right" if side == "left" else "left"


class Compose(Task):
    """Two or three sub-goals in order, each by the rules of a single task.

    A sub-goal counts once it was held for a second, the last one for two (ARNOLD). While it is held, those reached
    before have to hold as well, unless the same thing was to be moved on: the block lies in the drawer that is closed.
    The goal variable of the whole is the number of sub-goals reached.
    """

    name = "compose"
    unit = "subgoals"
    tolerance = 1.0

    @property
    def goal_range(self) -> tuple[float, float]:
        return 2.0, 3.0

    def draw(self, rng: np.random.Generator, split: Split) -> SceneSpec:
        looks = LOOKS[split.objects]
        unit = drawer_unit(
            (float(rng.uniform(0.64, 0.70)), float(rng.uniform(-0.06, 0.06)), 0.0),
            float(rng.uniform(-0.15, 0.15)),
            looks[rng.integers(len(looks))],
            hollow=True,
        )
        program = PROGRAMS[rng.integers(len(PROGRAMS))]
        side = SIDES[rng.integers(2)]
        colours = [str(colour) for colour in rng.permutation(list(palette(split.objects)))[:2]]
        kinds = [SHAPES[split.objects][rng.integers(2)] for _ in colours]
        bodies = [f"{colour}_{kind}" for colour, kind in zip(colours, kinds, strict=True)]
        things = (Thing(kinds[0], colours[0], bodies[1]), Thing(kinds[1], colours[1], bodies[0]))
        starts, (first, second) = program(rng, split.goals, side, things)
        standing: list[Body] = []
        if first.body in bodies:
            spots = _spots(rng, unit, _reach(starts, (first, second)))
            standing = [shape(rng, thing.kind, thing.colour, *spot) for thing, spot in zip(things, spots, strict=True)]
        joints = {f"{name}_drawer": starts.get(f"{name}_drawer", 0) / 100 * DRAWER_TRAVEL for name in SIDES}
        return SceneSpec((unit, *standing), (first, second), joints)

    def ask(self, engine: Engine, candidate: Candidate, value: float) -> tuple[Goal, ...]:
        steps = list(candidate.subgoals)
        steps[candidate.varied] = replace(steps[candidate.varied], value=value)
        briefly = [replace(step, hold=SUBGOAL_HOLD) for step in steps[:-1]]
        return tuple(
            replace(step, reference=step.task.reference(engine, step.body)) for step in (*briefly, steps[-1])
        )

    def tell(self, rng: np.random.Generator, goals: tuple[Goal, ...], wording: Wording) -> str:
        steps = {self.rules(goal).name: goal for goal in goals}
        templates = _TEMPLATES[tuple(steps)][wording]
        slots: dict[str, str | list[str] | tuple[str, ...]] = {}
        if (put := steps.get("put_in_drawer")) is not None:
            task = self.rules(put)
            assert isinstance(task, PutInDrawer)
            slots |= {"thing": put.words, "drawer": task.drawer.replace("_", " ")}
        if (lift := steps.get("pickup_object")) is not None:
            slots["height"] = centimetre_phrases(round(lift.value * 100), wording)
        if (opened := steps.get("open_drawer")) is not None:
            slots["drawer"] = opened.body.replace("_", " ")
            slots["percent"] = percent_phrases(round(opened.value * 100), wording)
        if (closed := steps.get("close_drawer")) is not None:
            what = "it" if put is not None else f"the {closed.body.removesuffix('_drawer')} one"
            slots["close"] = _closing_phrases(what, round(closed.value * 100), wording)
        return choose(rng, templates, **slots)

    def rules(self, goal: Goal) -> Task:
        assert isinstance(goal, Subgoal)
        return goal.task

    def instruct(self, rng: np.random.Generator, goal: Goal, wording: Wording) -> str:
        """A sentence for one sub-goal alone."""
        return self.rules(goal).instruct(rng, goal, wording)

    def value(self, engine: Engine, goal: Goal) -> float:
        return self.rules(goal).value(engine, goal)

    def speed(self, engine: Engine, goal: Goal) -> float:
        return self.rules(goal).speed(engine, goal)

    def holds(self, engine: Engine, goal: Goal) -> bool:
        return self.rules(goal).holds(engine, goal)

    def grasp_pose(self, engine: Engine, goal: Goal) -> Pose:
        return self.rules(goal).grasp_pose(engine, goal)

    def remaining(self, engine: Engine, goal: Goal) -> NDArray[np.float64]:
        return self.rules(goal).remaining(engine, goal)

    def distractor(self, engine: Engine, scene: SceneSpec, goal: Goal) -> Goal:
        assert isinstance(goal, Subgoal)
        return replace(goal, body=goal.distractor, reference=goal.task.reference(engine, goal.distractor))

    def imagine(self, rng: np.random.Generator, scene: SceneSpec) -> Goal:
        steps = [step for candidate in scene.candidates for step in candidate.subgoals]
        step = steps[rng.integers(len(steps))]
        return replace(step, value=float(rng.uniform(*step.task.goal_range)), reference=0.02)

    def demonstrate(self, world: World, skills: Skills, rng: np.random.Generator) -> Skill:
        while True:
            goal = world.goal_spec
            for action in self.rules(goal).demonstrate(world, skills, rng):
                yield action
                if world.goal_spec is not goal:
                    break
            if world.goal_spec.body != goal.body:
                yield from skills.release()


def _reach(starts: Mapping[str, int], candidates: tuple[Candidate, Candidate]) -> dict[Side, float]:
    """How far (m) each drawer may come out in any variant of the scene, handle, tolerance and all."""
    reach: dict[Side, float] = {}
    for side in SIDES:
        body = f"{side}_drawer"
        openings = [starts.get(body, 0) / 100]
        for candidate in candidates:
            openings += [step.value for step in candidate.subgoals if step.body == body]
            if candidate.subgoals[candidate.varied].body == body:
                openings.append(candidate.other_goal)
        reach[side] = max(openings) * DRAWER_TRAVEL + _HANDLE
    return reach


_HANDLE = 0.10
_ROOM_IN_FRONT, _ROOM_BESIDE = 0.07, 0.10
"""Least distance in m of a thing's middle from where a drawer may come, so that the hand has room around the thing."""
_APART = 0.14


def _spots(rng: np.random.Generator, unit: Body, reach: Mapping[Side, float]) -> list[tuple[float, float]]:
    """Places on the table for two things, clear of each other and of the drawers."""
    yaw = 2.0 * float(np.arctan2(unit.quaternion[3], unit.quaternion[0]))
    forward, left = np.array([np.cos(yaw), np.sin(yaw)]), np.array([-np.sin(yaw), np.cos(yaw)])

    def clear(spot: NDArray[np.float64]) -> bool:
        offset = spot - unit.position[:2]
        out, aside = -float(offset @ forward), float(offset @ left)
        return all(
            out > reach[side] + _ROOM_IN_FRONT
            or abs(aside - sign * DRAWER_SPACING / 2) > DRAWER_SPACING / 2 + _ROOM_BESIDE
            for side, sign in (("left", 1.0), ("right", -1.0))
        )

    while True:
        pair = rng.uniform((0.30, -0.26), (0.56, 0.26), (2, 2))
        if clear(pair[0]) and clear(pair[1]) and np.linalg.norm(pair[1] - pair[0]) > _APART:
            return [(float(x), float(y)) for x, y in pair]


def _closing_phrases(what: str, percent: int, wording: Wording) -> list[str]:
    """Ways to say that `what` ("it", "the left one") shall be closed until only `percent` are left open."""
    if percent == 0:
        fully = {
            "seen": ("close {what}", "close {what} fully", "push {what} all the way in"),
            "unseen": ("shut {what} entirely", "push {what} fully shut"),
        }
        return [template.format(what=what) for template in fully[wording]]
    partly = {
        "seen": ("close {what} until it is {percent} open", "push {what} in until it is {percent} open"),
        "unseen": ("shut {what} so that it stays {percent} open",),
    }
    return [
        template.format(what=what, percent=phrase)
        for template in partly[wording]
        for phrase in percent_phrases(percent, wording)
    ]


_TEMPLATES: Mapping[tuple[str, ...], Mapping[Wording, tuple[str, ...]]] = {
    ("put_in_drawer", "close_drawer"): {
        "seen": (
            "put the {thing} in the open {drawer} and {close}",
            "place the {thing} in the open {drawer}, then {close}",
            "first put the {thing} into the open {drawer}, then {close}",
            "drop the {thing} into the open {drawer} and then {close}",
            "please put the {thing} in the {drawer} and {close}",
        ),
        "unseen": (
            "stow the {thing} in the open {drawer} and after that {close}",
            "could you lay the {thing} in the {drawer} and {close}?",
        ),
    },
    ("open_drawer", "put_in_drawer"): {
        "seen": (
            "open the {drawer} {percent}, then put the {thing} in it",
            "open the {drawer} {percent} and put the {thing} in it",
            "first open the {drawer} {percent}, then put the {thing} into it",
            "pull the {drawer} {percent} open and place the {thing} inside",
            "please open the {drawer} {percent} and put the {thing} in",
        ),
        "unseen": (
            "draw the {drawer} {percent} out and after that lay the {thing} in it",
            "could you get the {drawer} {percent} open and stow the {thing} inside?",
        ),
    },
    ("open_drawer", "put_in_drawer", "close_drawer"): {
        "seen": (
            "open the {drawer} {percent}, put the {thing} in it and {close}",
            "open the {drawer} {percent}, then put the {thing} in it, then {close}",
            "first open the {drawer} {percent}, then put the {thing} inside and finally {close}",
            "pull the {drawer} {percent} open, place the {thing} inside and {close}",
            "please open the {drawer} {percent}, put the {thing} in it and {close}",
        ),
        "unseen": (
            "draw the {drawer} {percent} out, lay the {thing} in it and after that {close}",
            "could you get the {drawer} {percent} open, stow the {thing} inside and {close}?",
        ),
    },
    ("open_drawer", "close_drawer"): {
        "seen": (
            "open the {drawer} {percent} and {close}",
            "open the {drawer} {percent}, then {close}",
            "first open the {drawer} {percent}, then {close}",
            "pull the {drawer} {percent} open and {close}",
            "please open the {drawer} {percent} and then {close}",
        ),
        "unseen": (
            "draw the {drawer} {percent} out and after that {close}",
            "could you get the {drawer} {percent} open and then {close}?",
        ),
    },
    ("pickup_object", "put_in_drawer"): {
        "seen": (
            "lift the {thing} {height}, then put it in the open {drawer}",
            "lift the {thing} by {height} and put it in the open {drawer}",
            "first raise the {thing} {height} above the table, then put it into the open {drawer}",
            "pick up the {thing}, lift it {height} and place it in the open {drawer}",
            "please raise the {thing} {height} and then put it in the {drawer}",
        ),
        "unseen": (
            "hoist the {thing} {height} off the table and after that lay it in the open {drawer}",
            "could you hold the {thing} up {height} higher and then stow it in the {drawer}?",
        ),
    },
}
