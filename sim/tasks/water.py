"""Pour water out of a cup, or from a cup into a bowl; water is frictionless drops, counted where they are."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from math import cos, inf, pi, radians, sin, sqrt
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from robot.paths import turn
from robot.skills import Pose, Skill, Skills, downward
from sim.engines.base import Engine
from sim.goals import GoalSet
from sim.language import Wording, choose, share_phrases
from sim.objects import (
    BOWL_HEIGHT,
    BOWL_INSIDE,
    CUP_HEIGHT,
    CUP_INSIDE,
    CUP_WALL,
    DROP_RADIUS,
    bowl,
    cup,
    palette,
    tray,
    water,
)
from sim.reference import Thing, call, unique
from sim.splits import Split
from sim.tasks.base import (
    HORIZON,
    STEPS_PER_SECOND,
    TWINS,
    Candidate,
    Goal,
    Rehearse,
    SceneSpec,
    Task,
    draw_colours,
)

if TYPE_CHECKING:
    from sim.world import World

_NAMED = (20, 30, 33, 40, 60, 67, 70, 80, 90)
_UPRIGHT = cos(radians(30.0))
_GRIP_HEIGHT = 0.044
_LEAN = radians(35.0)
"""How far the hand leans back from the side to which it pours, so that it is out of the water's way."""
_STEEPEST = radians(125.0)
_BEGUN = radians(38.0)
"""Tilt (rad) from which a cup at the place of pouring is taken to be poured already."""
_FLOWING = radians(70.0)
"""Tilt (rad) up to which no cup loses water."""
_FALL, _CLEARANCE = 0.020, 0.010
"""Metres that drops fly on from the cup's edge, and between the cup and what it pours into."""
_TILTING, _CAREFULLY, _SMOOTH = 0.09, 0.03, 0.03
"""How far (rad) the cup is tilted in a control period, before and while it may lose water, and by how much that
changes from one period to the next."""
_ENOUGH = 0.075
"""The share that may still be missing when the cup is tilted back: water leaves in small avalanches."""
_CROOKED = radians(8.0)
"""Tilt (rad) from which an upright cup is set straight."""
_ASTRAY = 0.05
"""How far (m) a tilted cup may be from where it should pour and still go on pouring."""
_YAW = 0.3
_TRIES = 8
"""Rehearsals in which the tilt of a true key pose has to be found."""
_BEGINS, _MORE = radians(78.0), radians(27.0)
"""Where that search begins: about the tilt from which a cup loses water, and how much more empties it."""


class WaterTask(Task):
    """What pouring out and pouring over share: a cup is held, tilted about the axis between the fingers, and put
    upright again. The goal counts only while the held cup is within 30 degrees of upright (ARNOLD)."""

    unit = "fraction"
    tolerance = 0.10
    speed_limit = inf
    scale = 1.0
    layers: int
    templates: Mapping[Wording, tuple[str, ...]]

    def receiver(self, engine: Engine, goal: Goal) -> NDArray[np.float64]:
        """Where the water should fall (3,), at the height above which the whole cup has to stay."""
        raise NotImplementedError

    def side(self, engine: Engine, goal: Goal) -> float:
        """1 if the cup is poured towards its own -y, -1 for +y."""
        raise NotImplementedError

    def instruct(self, rng: np.random.Generator, goal: Goal, wording: Wording) -> str:
        shares = share_phrases(round(goal.value * 100), wording)
        return choose(rng, self.templates[wording], thing=call(rng, goal.words, wording), share=shares)

    def drops(self, goal: Goal) -> tuple[str, ...]:
        return _drops(self.held(goal), 9 * self.layers)

    def gone(self, engine: Engine, goal: Goal) -> float:
        """The share of its water that has left the cup."""
        return 1.0 - float(self._kept(engine, goal).mean())

    def _kept(self, engine: Engine, goal: Goal) -> NDArray[np.bool_]:
        """Which drops are in the cup."""
        return inside(engine, self.held(goal), self.drops(goal), CUP_INSIDE, CUP_HEIGHT)

    def speed(self, engine: Engine, goal: Goal) -> float:
        return 0.0

    def allowed(self, engine: Engine, goal: Goal) -> bool:
        return engine.uprightness(self.held(goal)) > _UPRIGHT

    def grasp_pose(self, engine: Engine, goal: Goal) -> Pose:
        """Fingers along the cup's own x, just below the rim, the wrist's camera above its inside; turned and tilted
        with the cup."""
        position, quaternion = engine.pose(self.held(goal))
        turn = Rotation.from_quat(quaternion, scalar_first=True)
        side = self.side(engine, goal)
        lean = Rotation.from_rotvec([-side * _LEAN, 0.0, 0.0])
        return Pose(position + turn.apply([0.0, 0.0, _GRIP_HEIGHT]), turn * lean * downward(-side * pi / 2))

    def tilt_axis(self, engine: Engine, goal: Goal) -> NDArray[np.float64]:
        """The level axis (3,) between the fingers about which the cup is tilted to pour."""
        axis = Rotation.from_quat(engine.pose(self.held(goal))[1], scalar_first=True).apply([1.0, 0.0, 0.0])
        axis[2] = 0.0
        return self.side(engine, goal) * axis / np.linalg.norm(axis)

    def place(
        self, engine: Engine, goal: Goal, axis: NDArray[np.float64], tilt: float = 0.0, grip: float = _GRIP_HEIGHT
    ) -> NDArray[np.float64]:
        """Where the tool is (3,) with the cup tilted by `tilt` rad and held `grip` m above its bottom: the cup's edge
        is before the receiver and all of it above."""
        half, below, above = CUP_INSIDE + CUP_WALL, grip, CUP_HEIGHT - grip
        reach = half * cos(tilt) + above * sin(tilt)
        depth = max(half * sin(tilt) + below * cos(tilt), half * sin(tilt) - above * cos(tilt))
        towards = np.cross(axis, (0.0, 0.0, 1.0))
        return self.receiver(engine, goal) - (reach + _FALL) * towards + (0.0, 0.0, depth + _CLEARANCE)

    def remaining(self, engine: Engine, goal: Goal) -> NDArray[np.float64]:
        """To the place of pouring while water is missing; then only back to upright."""
        position, quaternion = engine.pose(self.held(goal))
        turn = Rotation.from_quat(quaternion, scalar_first=True)
        missing = goal.value - self.value(engine, goal)
        way = self.place(engine, goal, self.tilt_axis(engine, goal)) - position - turn.apply([0.0, 0.0, _GRIP_HEIGHT])
        return np.concatenate(
            [way, np.zeros(3)] if missing > 0.5 * self.tolerance else [np.zeros(3), self._back(engine, goal)]
        )

    def before_grasp(self, grasp: Pose) -> Pose:
        """5 cm above."""
        return grasp.moved((0.0, 0.0, 0.05))

    def goal_pose(self, engine: Engine, goal: Goal, tool: Pose, rehearse: Rehearse) -> Pose:
        """The cup tilted where it pours, so far that the wanted share leaves it: found by trying it out."""
        upright, axis = self._upright(tool, engine, goal), self.tilt_axis(engine, goal)
        low, high, best = (_FLOWING, 0.0), (_STEEPEST, 1.0), (inf, tool)
        tilt = _BEGINS + goal.value * _MORE
        for _ in range(_TRIES):
            place = self.place(engine, goal, axis, tilt)
            place[2] = max(self.place(engine, goal, axis, way)[2] for way in np.linspace(0.0, tilt, 10))
            pose = Pose(place, Rotation.from_rotvec(tilt * axis) * upright)
            value, allowed = rehearse(pose)
            error = abs(value - goal.value) + (0.0 if allowed else 1.0)
            best = min(best, (error, pose), key=lambda found: found[0])
            if error < 0.6 * self.tolerance:
                break
            low, high = ((tilt, value), high) if value < goal.value else (low, (tilt, value))
            share = (goal.value - low[1]) / (high[1] - low[1] + 1e-9)
            tilt = low[0] + (high[0] - low[0]) * min(max(share, 0.2), 0.8)
        return best[1]

    def carry(self, engine: Engine, goal: Goal, skills: Skills, grasp: Pose, target: Pose) -> Skill:
        """Straight up to the target's height, across, tilt on the spot, and back upright."""
        above = Pose(np.array([*grasp.position[:2], target.position[2]]), grasp.rotation)
        there = Pose(target.position, grasp.rotation)
        for stop in (above, there):
            yield from skills.move(stop, 0.0, patience=HORIZON)
        steps = int(200 * (target.rotation * grasp.rotation.inv()).magnitude() / (0.7 * pi))
        yield from skills.track(turn(there, target, steps), STEPS_PER_SECOND, 0.0)
        yield from skills.move(there, 0.0, patience=HORIZON)

    def demonstrate(self, world: World, skills: Skills, rng: np.random.Generator) -> Skill:
        engine, goal = world.engine, world.goal_spec
        yield from self.take(world, skills, rng)
        axis = self.tilt_axis(engine, goal)
        while True:
            here = skills.pose()
            upright, tilt = self._upright(here, engine, goal), self._tilt(engine, goal, axis)
            place = self.place(engine, goal, axis, tilt, self._grip(engine, goal, here))
            pouring = tilt > _BEGUN and float(np.linalg.norm(place - here.position)) < _ASTRAY
            if goal.value - self.gone(engine, goal) > _ENOUGH and not pouring:
                above = Pose(here.position, upright)
                if above.position[2] < 0.16:
                    above = above.moved((0.0, 0.0, 0.18 - above.position[2]))
                    yield from skills.move(above, 0.0, patience=0.5)
                grip = self._grip(engine, goal, skills.pose())
                yield from skills.move(Pose(self.place(engine, goal, axis, 0.0, grip), upright), 0.0, patience=0.5)
                yield from self._pour(engine, goal, skills, upright, axis, 0.0)
            elif tilt > _CROOKED:
                yield from self._pour(engine, goal, skills, upright, axis, tilt)
            yield from skills.hold(0.3, 0.0)

    def _pour(
        self, engine: Engine, goal: Goal, skills: Skills, upright: Rotation, axis: NDArray[np.float64], tilt: float
    ) -> Skill:
        """Tilt about `axis` (3,), on from `tilt`, until enough has left the cup, standing still while water runs, and
        tilt back."""

        def tilted(angle: float) -> Pose:
            turn = Rotation.from_rotvec(angle * axis)
            return Pose(self.place(engine, goal, axis, angle, grip), turn * upright)

        grip = self._grip(engine, goal, skills.pose())
        last, rate = tilt, 0.0
        gone = before = self.gone(engine, goal)
        while goal.value - 2 * gone + before > _ENOUGH and tilt < _STEEPEST:
            wanted = _TILTING
            if tilt > _FLOWING:
                wanted = _CAREFULLY * min(1.0, 0.4 + 2.0 * (goal.value - gone)) if gone == before else 0.0
            rate += min(max(wanted - rate, -_SMOOTH), _SMOOTH)
            tilt += rate
            yield skills.step(tilted(last), tilted(tilt), 0.0)
            last, before, gone = tilt, gone, self.gone(engine, goal)
        if goal.value > 1.0 - _ENOUGH:
            yield from skills.hold(0.4, 0.0, tilted(tilt))
        while tilt > 0.0:
            rate = max(rate - _SMOOTH, -_TILTING, -sqrt(2 * _SMOOTH * tilt))
            last, tilt = tilt, max(0.0, tilt + rate)
            yield skills.step(tilted(last), tilted(tilt), 0.0)

    def _grip(self, engine: Engine, goal: Goal, here: Pose) -> float:
        """How far above its bottom (m) the cup is held."""
        position, quaternion = engine.pose(self.held(goal))
        return float(Rotation.from_quat(quaternion, scalar_first=True).inv().apply(here.position - position)[2])

    def _tilt(self, engine: Engine, goal: Goal, axis: NDArray[np.float64]) -> float:
        """How far (rad) the held cup is tilted about `axis` (3,)."""
        return -float(self._back(engine, goal) @ axis)

    def _upright(self, here: Pose, engine: Engine, goal: Goal) -> Rotation:
        """The hand's rotation once the held cup is upright."""
        return Rotation.from_rotvec(self._back(engine, goal)) * here.rotation

    def _back(self, engine: Engine, goal: Goal) -> NDArray[np.float64]:
        """How the held cup has to turn to be upright, as a rotation vector (3,)."""
        up = Rotation.from_quat(engine.pose(self.held(goal))[1], scalar_first=True).apply([0.0, 0.0, 1.0])
        back = np.cross(up, (0.0, 0.0, 1.0))
        length = float(np.linalg.norm(back))
        return np.arctan2(length, up[2]) / max(length, 1e-9) * back


class PourWater(WaterTask):
    """Pour a share of the water out of the named one of two cups, over a tray."""

    name = "pour_water"
    goals = GoalSet(15, 100, (25, 50, 75, 100), held_out=75, margin=10, named=_NAMED)
    layers = 4
    templates = {
        "seen": (
            "pour {share} of the water out of the {thing}",
            "pour out {share} of the water in the {thing}",
            "pour {share} of the water from the {thing}",
            "please empty {share} of the {thing}",
            "tip {share} of the water out of the {thing}",
        ),
        "unseen": (
            "get rid of {share} of the water in the {thing}",
            "let {share} of the water run out of the {thing}",
        ),
    }

    def draw(self, rng: np.random.Generator, split: Split) -> SceneSpec:
        colours = draw_colours(rng, (c for c in palette(split.objects) if c != "blue"), rng.random() < TWINS)
        sides = rng.permutation([-1.0, 1.0])
        places = [(float(rng.uniform(0.40, 0.58)), float(side * rng.uniform(0.19, 0.25)), 0.0) for side in sides]
        names = unique([f"{colour}_cup" for colour in colours], places)
        yaws = [float(yaw) for yaw in rng.uniform(-_YAW, _YAW, 2)]
        cups = [cup(*given) for given in zip(names, colours, places, yaws, strict=True)]
        things = [Thing.of(body, colour, "cup") for body, colour in zip(cups, colours, strict=True)]
        bodies, candidates = [tray((0.50, 0.0, 0.0)), *cups], []
        for thing, other, name, place, yaw in zip(things, reversed(things), names, places, yaws, strict=True):
            bodies += water(f"{name}_water", self.layers, place, yaw)
            goal = self.goals.draw(rng, split.goals)
            another = self.goals.another(rng, split.goals, goal, 30)
            candidates.append(Candidate(name, thing.names(other), goal / 100, another / 100))
        return SceneSpec(tuple(bodies), (candidates[0], candidates[1]))

    def side(self, engine: Engine, goal: Goal) -> float:
        return 1.0 if goal.reference > 0 else -1.0

    def reference(self, engine: Engine, body: str) -> float:
        """Where the cup stood (y in m): it is poured towards the middle of the table."""
        return float(engine.pose(body)[0][1])

    def receiver(self, engine: Engine, goal: Goal) -> NDArray[np.float64]:
        return np.array([0.50, 0.0, 0.15])

    def value(self, engine: Engine, goal: Goal) -> float:
        """The share of its water that is no longer in the cup."""
        return self.gone(engine, goal)


class TransferWater(WaterTask):
    """Pour a share of a cup's water into the named one of two bowls; less than 10 % may go astray."""

    name = "transfer_water"
    goals = GoalSet(20, 80, (20, 40, 60, 80), held_out=60, margin=10, named=(25, 30, 33, 50, 67, 70, 75))
    layers = 4
    templates = {
        "seen": (
            "transfer {share} of the water to the {thing}",
            "pour {share} of the water into the {thing}",
            "fill {share} of the water into the {thing}",
            "please move {share} of the water to the {thing}",
            "put {share} of the water in the {thing}",
        ),
        "unseen": (
            "let {share} of the water run into the {thing}",
            "the {thing} should receive {share} of the water",
        ),
    }
    _CUP = "cup"
    _SPILL = 0.10

    def draw(self, rng: np.random.Generator, split: Split) -> SceneSpec:
        known = (colour for colour in palette(split.objects) if colour not in ("blue", "white"))
        colours = draw_colours(rng, known, rng.random() < TWINS)
        sides = rng.permutation([-1.0, 1.0])
        place = (float(rng.uniform(0.42, 0.56)), float(rng.uniform(-0.03, 0.03)), 0.0)
        yaw = float(rng.uniform(-_YAW, _YAW))
        bodies = [cup(self._CUP, "white", place, yaw), *water(f"{self._CUP}_water", self.layers, place, yaw)]
        places = [(float(rng.uniform(0.42, 0.56)), float(side * rng.uniform(0.19, 0.25)), 0.0) for side in sides]
        names = unique([f"{colour}_bowl" for colour in colours], places)
        bowls = [
            bowl(name, colour, place, float(rng.uniform(-_YAW, _YAW)))
            for name, colour, place in zip(names, colours, places, strict=True)
        ]
        things = [Thing.of(body, colour, "bowl") for body, colour in zip(bowls, colours, strict=True)]
        bodies += bowls
        candidates = []
        for thing, other, name in zip(things, reversed(things), names, strict=True):
            goal = self.goals.draw(rng, split.goals)
            another = self.goals.another(rng, split.goals, goal, 30)
            candidates.append(Candidate(name, thing.names(other), goal / 100, another / 100))
        return SceneSpec(tuple(bodies), (candidates[0], candidates[1]))

    def held(self, goal: Goal) -> str:
        return self._CUP

    def side(self, engine: Engine, goal: Goal) -> float:
        return -1.0 if goal.reference > 0 else 1.0

    def reference(self, engine: Engine, body: str) -> float:
        """Where the bowl stood (y in m): on which side of the cup it is."""
        return float(engine.pose(body)[0][1])

    def receiver(self, engine: Engine, goal: Goal) -> NDArray[np.float64]:
        return engine.pose(goal.body)[0] + (0.0, 0.0, BOWL_HEIGHT)

    def value(self, engine: Engine, goal: Goal) -> float:
        """The share of the water that is in the bowl, and not in the cup above it."""
        received = inside(engine, goal.body, self.drops(goal), BOWL_INSIDE, BOWL_HEIGHT)
        return float((received & ~self._kept(engine, goal)).mean())

    def allowed(self, engine: Engine, goal: Goal) -> bool:
        if not super().allowed(engine, goal):
            return False
        return self.gone(engine, goal) - self.value(engine, goal) < self._SPILL


@cache
def _drops(vessel: str, count: int) -> tuple[str, ...]:
    return tuple(f"{vessel}_water_{i}" for i in range(count))


def inside(engine: Engine, vessel: str, drops: tuple[str, ...], half_width: float, height: float) -> NDArray[np.bool_]:
    """(n,) for each drop whether its centre is in a vessel, or at most a drop's radius above its rim."""
    position, quaternion = engine.pose(vessel)
    turn = Rotation.from_quat(quaternion, scalar_first=True).as_matrix()
    local = (engine.positions(drops) - position) @ turn
    within = (np.abs(local[:, :2]) < half_width).all(axis=1)
    within &= (local[:, 2] > 0.5 * CUP_WALL) & (local[:, 2] < height + DROP_RADIUS)
    return within
