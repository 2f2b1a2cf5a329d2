"""The tasks of the table-top suite: one per category, with scenes of blocks and bowls."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import dist
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from robot.description import Body
from robot.places import TABLE_HIGH, TABLE_LOW, named_place
from robot.skills import Pose, Skill, Skills, downward
from sim.engines.base import Engine
from sim.language import Wording
from sim.objects import block, bowl, cylinder, palette
from sim.reference import look_names
from sim.splits import Pool, Split
from sim.tasks.base import Candidate, Goal, SceneSpec, Task
from sim.tasks.tabletop.conditions import BOWL_HEIGHT, BOWL_INSIDE, Condition, Kept, inside
from sim.tasks.tabletop.forms import BLOCK_GAP, BOWL_GAP, BOWLS_GAP, FORMS, Command, Form, Move, Table

if TYPE_CHECKING:
    from sim.world import World

KINDS: Mapping[Pool, str] = {"seen": "block", "novel": "cylinder"}
"""What the small things are; with the colours of the split, the attributes that are as in prompts or not."""
_HALF, _RADIUS = 0.02, 0.024
_YAW = 0.5
_PATIENCE = 14.0
"""Seconds for one thing to be moved, and as many for the command itself."""
_CARRY = 0.24
_CENTRAL = 0.3
"""How much nearer to the middle of the table, from left to right, bowls stand where corners have to be free."""
_OPENING = 0.85
"""Of the gripper (0 to 1) around a block; no wider than need be, for there are things beside it."""
_FALL = 0.006
_SLOTS = ((-1.0, -1.0), (1.0, 1.0), (-1.0, 1.0), (1.0, -1.0))
_SLOT = 0.0245
"""Where blocks are let into a bowl, in m from its middle along its own x and y."""
_FREE = 0.04
"""Distance in m from the hand at which a block counts as let go of."""


@dataclass(frozen=True, kw_only=True)
class TabletopGoal(Goal):
    """That a command is done: `value` is the number of its conditions."""

    command: Command


@dataclass(frozen=True, kw_only=True)
class Request:
    """The commands of one instruction, one after another, and its form's name."""

    form: str
    commands: tuple[Command, ...]


@dataclass(frozen=True, kw_only=True)
class TabletopCandidate(Candidate):
    """What may be asked for: two requests of each pool of forms; `goal` and `other_goal` count which."""

    requests: Mapping[Wording, tuple[Request, Request]]


class Tabletop(Task):
    """A category of instructions on blocks and bowls.

    Here not only words but whole forms of instruction are held out: an episode with unseen wording asks for something
    else than one with seen wording in the same scene. A request may be several commands, of which each is said when the
    one before is done. The goal variable is how many of the command's conditions hold.
    """

    unit = "conditions"
    tolerance = 0.5
    speed_limit = 0.12
    scale = 1.0
    one_by_one = True

    def __init__(self, category: str) -> None:
        self.category = category
        self.name = f"tabletop_{category}"

    def __repr__(self) -> str:
        return f"Tabletop({self.category!r})"

    @property
    def goal_range(self) -> tuple[float, float]:
        return 1.0, 9.0

    def draw(self, rng: np.random.Generator, split: Split) -> SceneSpec:
        kind = KINDS[split.objects]
        while True:
            table = self.lay_out(rng, split.objects)
            candidates = [self._candidate(rng, table, kind) for _ in range(2)] if table else []
            if len(candidates) == 2 and None not in candidates:
                first, second = candidates
                assert table and first and second
                return SceneSpec(tuple(_bodies(rng, table)), (first, second))

    @property
    def forms(self) -> tuple[Form, ...]:
        """What may be asked for."""
        return FORMS[self.category]

    def lay_out(self, rng: np.random.Generator, objects: Pool) -> Table | None:
        """Where things stand in a random scene; None if they did not fit."""
        return layout(rng, objects, KINDS[objects], self.category)

    def _candidate(self, rng: np.random.Generator, table: Table, kind: str) -> TabletopCandidate | None:
        requests: dict[Wording, tuple[Request, Request]] = {}
        for pool in ("seen", "unseen"):
            drawn = [_request(rng, table, [form for form in self.forms if form.pool == pool]) for _ in range(2)]
            one, other = drawn
            if one is None or other is None:
                return None
            requests[pool] = (one, other)
        body = requests["seen"][0].commands[0].moves[0].body
        words = look_names(body.split("_")[0], kind)
        return TabletopCandidate(body, words, 0.0, 1.0, requests=requests)

    def ask(self, engine: Engine, candidate: Candidate, value: float, wording: Wording = "seen") -> tuple[Goal, ...]:
        assert isinstance(candidate, TabletopCandidate)
        request = candidate.requests[wording][round(value)]
        return tuple(
            TabletopGoal(
                command.moves[0].body,
                look_names(*command.moves[0].body.split("_")[:2]),
                float(len(command.conditions)),
                command=command,
                patience=_PATIENCE * (1 + len(command.moves)),
            )
            for command in request.commands
        )

    def tell(self, rng: np.random.Generator, goals: tuple[Goal, ...], wording: Wording) -> str:
        return self.instruct(rng, goals[0], wording)

    def instruct(self, rng: np.random.Generator, goal: Goal, wording: Wording) -> str:
        sentences = _command(goal).sentences
        sentence = sentences[rng.integers(len(sentences))]
        return sentence[0].upper() + sentence[1:]

    def distractor(self, engine: Engine, scene: SceneSpec, goal: Goal) -> Goal:
        """A block that the command leaves alone; its variable is 1 until it is moved."""
        moved = {move.body for move in _command(goal).moves}
        bodies = [body for body in scene.bodies if body.name not in moved and not body.name.endswith("_bowl")]
        body = bodies[0].name if bodies else goal.body
        x, y, _ = engine.pose(body)[0]
        command = Command((), (Kept(body, (float(x), float(y))),), (Move(body, (float(x), float(y))),))
        return replace(goal, body=body, value=1.0, command=command)  # type: ignore[call-arg]

    def imagine(self, rng: np.random.Generator, scene: SceneSpec) -> Goal:
        candidate = scene.candidates[rng.integers(2)]
        assert isinstance(candidate, TabletopCandidate)
        command = candidate.requests["seen"][rng.integers(2)].commands[0]
        return TabletopGoal(command.moves[0].body, candidate.words, float(len(command.conditions)), command=command)

    def value(self, engine: Engine, goal: Goal) -> float:
        places = _places(engine, goal)
        return float(sum(condition.met(places) for condition in _command(goal).conditions))

    def holds(self, engine: Engine, goal: Goal) -> bool:
        places = _places(engine, goal)
        return all(condition.met(places) for condition in _command(goal).conditions) and self.allowed(engine, goal)

    def allowed(self, engine: Engine, goal: Goal) -> bool:
        """The hand has let go of everything."""
        tool = engine.tool()[0]
        moved = tuple(move.body for move in _command(goal).moves)
        return bool((np.linalg.norm(engine.positions(moved) - tool, axis=1) > _FREE).all())

    def speed(self, engine: Engine, goal: Goal) -> float:
        return engine.vertical_speed(goal.body)

    def grasp_pose(self, engine: Engine, goal: Goal) -> Pose:
        return _grasp(engine, goal.body)

    def remaining(self, engine: Engine, goal: Goal) -> NDArray[np.float64]:
        """To where the first thing that is not in its place has to be; nothing once everything is."""
        move = self._next(engine, goal)
        if move is None:
            return np.zeros(6)
        return np.concatenate([_target(engine, move).position - engine.pose(move.body)[0], np.zeros(3)])

    def demonstrate(self, world: World, skills: Skills, rng: np.random.Generator) -> Skill:
        engine = world.engine
        while True:
            move = self._next(engine, world.goal_spec)
            if move is None:
                yield from skills.hold(0.3, 1.0)
                continue
            grasp = _grasp(engine, move.body)
            above = grasp.moved((*rng.uniform(-0.01, 0.01, 2), 0.10))
            raised = skills.pose()
            raised = raised.moved((0.0, 0.0, max(0.0, 0.16 - raised.position[2])))
            yield from skills.follow([raised, above], _OPENING)
            yield from skills.move(_grasp(engine, move.body), _OPENING)
            yield from skills.fingers(0.0)
            here = skills.pose()
            target = _target(engine, move, here.rotation)
            up = here.moved((0.0, 0.0, _CARRY - here.position[2]))
            yield from skills.follow([up, replace(target, position=np.array([*target.position[:2], _CARRY]))], 0.0)
            yield from skills.move(target, 0.0)
            yield from skills.fingers(_OPENING)
            yield from skills.move(skills.pose().moved((0.0, 0.0, 0.12)), _OPENING)
            yield from skills.hold(0.3, _OPENING)

    def _next(self, engine: Engine, goal: Goal) -> Move | None:
        """The first of the moves that is not done; None if the command is, as it may be in another way."""
        command = _command(goal)
        if all(condition.met(_places(engine, goal)) for condition in command.conditions):
            return None
        for move in command.moves:
            offset = engine.pose(move.body)[0] - _target(engine, move).position
            if np.linalg.norm(offset[:2]) > 0.02 or abs(offset[2]) > (0.03 if _in_bowl(move) else 0.015):
                if _in_bowl(move) and inside(engine.pose(move.body)[0], engine.pose(str(move.to))[0]):
                    continue
                return move
        return None


def _command(goal: Goal) -> Command:
    assert isinstance(goal, TabletopGoal)
    return goal.command


def _places(engine: Engine, goal: Goal) -> dict[str, NDArray[np.float64]]:
    names = _mentioned(_command(goal).conditions)
    return dict(zip(names, engine.positions(names), strict=True))


def _mentioned(conditions: tuple[Condition, ...]) -> tuple[str, ...]:
    """The bodies that conditions are about."""
    names: dict[str, None] = {}
    for condition in conditions:
        for key in ("body", "support", "bowl", "base"):
            if hasattr(condition, key):
                names[getattr(condition, key)] = None
        for key in ("bodies", "bowls"):
            names |= dict.fromkeys(getattr(condition, key, ()))
    return tuple(names)


def _in_bowl(move: Move) -> bool:
    return isinstance(move.to, str) and move.to.endswith("_bowl")


def _grasp(engine: Engine, body: str) -> Pose:
    position, quaternion = engine.pose(body)
    yaw = float(Rotation.from_quat(quaternion, scalar_first=True).as_euler("ZYX")[0])
    yaw = 0.0 if body.endswith("_cylinder") else (yaw + np.pi / 4) % (np.pi / 2) - np.pi / 4
    return Pose(position, downward(yaw))


def _target(engine: Engine, move: Move, rotation: Rotation | None = None) -> Pose:
    """Where the middle of the block, and so the tool, lets go."""
    rotation = rotation or downward(0.0)
    if not isinstance(move.to, str):
        return Pose(np.array([*move.to, _HALF + _FALL]), rotation)
    place, quaternion = engine.pose(move.to)
    if _in_bowl(move):
        yaw = float(Rotation.from_quat(quaternion, scalar_first=True).as_euler("ZYX")[0])
        x, y = _SLOTS[move.slot]
        aside = Rotation.from_euler("z", yaw).apply((x * _SLOT, y * _SLOT, 0.0))
        return Pose(
            place + aside + (0.0, 0.0, BOWL_HEIGHT + 0.015), downward((yaw + np.pi / 4) % (np.pi / 2) - np.pi / 4)
        )
    return Pose(place + (0.0, 0.0, 2 * _HALF + _FALL), rotation)


# --- scenes


def layout(rng: np.random.Generator, objects: Pool, kind: str, category: str) -> Table | None:
    """Two to four blocks and up to three bowls, of as many colours, apart from one another; None if it did not fit."""
    most = 4 if objects == "seen" else 3
    blocks = int(rng.integers(3 if category in ("counting", "shapes", "long") else 2, most + 1))
    bowls = int(rng.integers(1, 4 if objects == "seen" else 3))
    if category == "shapes":
        blocks, bowls = int(rng.integers(3, most + 1)), int(rng.integers(2))
    if category == "long":
        bowls = blocks = int(rng.integers(2, 4))
    central = category == "long" and rng.random() < 0.6  # so that the corners are free
    colours = list(palette(objects))
    names = [f"{colour}_{kind}" for colour in rng.permutation(colours)[:blocks]]
    same = category == "long" or rng.random() < 0.3
    bowl_colours = [name.split("_")[0] for name in names[:bowls]] if same else rng.permutation(colours)[:bowls]
    names = [*(f"{colour}_bowl" for colour in bowl_colours), *names]
    places: dict[str, tuple[float, float]] = {}
    for name in names:
        for _ in range(60):
            x, y = rng.uniform(np.add(TABLE_LOW, 0.01), np.subtract(TABLE_HIGH, 0.01))
            if category == "shapes" and name.endswith("_bowl"):  # room for a circle around it
                x, y = named_place("middle") + rng.uniform(-0.02, 0.02, 2)
            if central and name.endswith("_bowl"):
                y *= _CENTRAL
            if all(dist((x, y), at) > _apart(name, other) for other, at in places.items()):
                places[name] = (float(x), float(y))
                break
        else:
            return None
    return Table(places, kind)


def _apart(name: str, other: str) -> float:
    """Least distance in m between two things."""
    bowls = name.endswith("_bowl") + other.endswith("_bowl")
    return (BLOCK_GAP, BOWL_GAP, BOWLS_GAP)[bowls]


def _request(rng: np.random.Generator, table: Table, forms: list[Form]) -> Request | None:
    """A request that is not fulfilled already, of a random form that fits; None if none was found."""
    for _ in range(20):
        form = forms[rng.integers(len(forms))]
        if len(table.blocks) < form.blocks or len(table.bowls) < form.bowls:
            continue
        planned = Table(dict(table.places), table.kind)
        commands = form.draw(rng, planned)
        if commands and not _done(commands[0], table):
            return Request(form=form.name, commands=tuple(commands))
    return None


def _done(command: Command, table: Table) -> bool:
    places = {name: np.array([*at, 0.0 if name.endswith("_bowl") else _HALF]) for name, at in table.places.items()}
    return all(condition.met(places) for condition in command.conditions)


def _bodies(rng: np.random.Generator, table: Table) -> list[Body]:
    bodies = []
    for name, (x, y) in table.places.items():
        colour, yaw = name.split("_")[0], float(rng.uniform(-_YAW, _YAW))
        if name.endswith("_bowl"):
            bodies.append(bowl(name, colour, (x, y, 0.0), yaw, BOWL_INSIDE, BOWL_HEIGHT))
        elif table.kind == "cylinder":
            bodies.append(cylinder(name, colour, _RADIUS, _HALF, (x, y, _HALF)))
        else:
            bodies.append(block(name, colour, (_HALF, _HALF, _HALF), (x, y, _HALF), yaw))
    return bodies


TABLETOP_TASKS = tuple(Tabletop(category) for category in FORMS)
