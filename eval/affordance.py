"""Affordance on the table-top: how likely a step succeeds from the simulator's state, learned from tries.

Grounded Decoding's p_AF with a success classifier in place of CLIPort's logits: logistic regression on a few facts of
the state, fitted to what came of random steps in training scenes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import dist, hypot
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from eval.planning import DONE, PlannedTable, State, achieved, nearest, options
from eval.results import write_json, write_text
from robot.errors import TongsError
from robot.interface import KEYPOSE, SceneObject
from robot.places import named_place
from sim.tasks import PLANNING
from sim.tasks.tabletop.planning import PLACES, skills

FEATURES = (
    "something stands on it",
    "it is in a bowl",
    "it is out of reach (dm)",
    "things are close to it (cm)",
    "something stands on the target",
    "the target is out of reach (dm)",
    "things in the target bowl",
    "the target block's height above the table (cm)",
    "things are close to the target place (cm)",
    "it is there already",
)
"""What the classifier looks at."""
_CLOSE = 0.09
"""Distance in m from which on things are not in the way of the fingers."""
_RIDGE = 1.0
"""Weight of half the squared coefficients against the log loss of all tries: keeps them finite where one fact decides
alone."""
_STEPS = 4
"""Random steps in a row, so that there are stacks and full bowls."""
_HELD_OUT = 5
"""Every so many-th try is kept from the fit, to see what was learned."""


def features(state: State, thing: str, target: str) -> NDArray[np.float64]:
    """(len(FEATURES),) of a step that brings a thing to a target."""
    it = state[thing]
    found = np.zeros(len(FEATURES))
    found[0] = _carries(state, it)
    found[1] = any(_in(it, other) for other in state.values())
    found[2] = 10 * _beyond(it.position)
    found[3] = 100 * max(0.0, _CLOSE - nearest(state, it.position[:2], thing))
    found[9] = achieved(state, thing, target)
    if target in PLACES:
        place = named_place(target)
        found[8] = 100 * max(0.0, _CLOSE - nearest(state, place, thing))
        return found
    goal = state[target]
    found[5] = 10 * _beyond(goal.position)
    if goal.cavity is not None:
        found[6] = sum(_in(other, goal) for other in state.values())
    else:
        found[4] = _carries(state, goal)
        found[7] = 100 * max(0.0, float(goal.position[2]) - 0.02)
    return found


def _carries(state: State, thing: SceneObject) -> bool:
    """Whether another thing stands on it."""
    return any(
        other.name != thing.name
        and dist(other.position[:2], thing.position[:2]) < 0.03
        and 0.02 < other.position[2] - thing.position[2] < 0.06
        for other in state.values()
        if thing.cavity is None
    )


def _in(thing: SceneObject, bowl: SceneObject) -> bool:
    if bowl.cavity is None or thing.name == bowl.name:
        return False
    offset = thing.position - bowl.cavity.floor
    return hypot(offset[0], offset[1]) < bowl.cavity.size[0] / 2 and offset[2] > 0.0


def _beyond(position: NDArray[np.float64]) -> float:
    """How far (m) a point is outside of the workspace, seen from above."""
    low, high = np.array(KEYPOSE.low[:2]), np.array(KEYPOSE.high[:2])
    return float(np.linalg.norm(position[:2] - np.clip(position[:2], low, high)))


@dataclass(frozen=True)
class SuccessClassifier:
    """p(success | state, step) = sigmoid(bias + weights . features); an `OptionValue` of grounded decoding.

    Ending a plan is always possible. What is no step on this table is not.

    Attributes:
        weights: one for each of `FEATURES`.
        bias: of a step that nothing speaks against.
        tries: how many it was fitted to.
        accuracy: on those that were kept from the fit.
        usual: share of the more frequent outcome among these, what guessing would give.
    """

    weights: tuple[float, ...]
    bias: float
    tries: int
    accuracy: float
    usual: float

    def __call__(self, options: Sequence[str], state: Any) -> NDArray[np.float64]:
        known = skills(list(state))
        return np.array([self._value(state, known, option.strip()) for option in options])

    def _value(self, state: State, known: Mapping[str, tuple[str, str]], option: str) -> float:
        if option == DONE:
            return 1.0
        return self.probability(features(state, *known[option])) if option in known else 0.0

    def probability(self, found: NDArray[np.float64]) -> float:
        return float(_sigmoid(self.bias + np.asarray(self.weights) @ found))


def fit(found: NDArray[np.float64], succeeded: NDArray[np.bool_]) -> SuccessClassifier:
    """The classifier of tries: features (N, len(FEATURES)) and outcomes (N,).

    Raises:
        TongsError: there are too few, or all ended alike, so that there is nothing to tell apart.
    """
    held = np.arange(len(found)) % _HELD_OUT == _HELD_OUT - 1
    learned = succeeded[~held]
    if not held.any() or learned.all() or not learned.any():
        raise TongsError(
            f"an affordance cannot be learned from {len(found)} tries of which {int(succeeded.sum())} succeeded; give "
            "tries=... more of them"
        )
    x = np.column_stack([np.ones((~held).sum()), found[~held]])
    y = learned.astype(np.float64)

    def loss(weights: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        p = _sigmoid(x @ weights)
        clipped = np.clip(p, 1e-12, 1 - 1e-12)
        fitted = -np.sum(y * np.log(clipped) + (1 - y) * np.log(1 - clipped))
        slope = x.T @ (p - y) + _RIDGE * np.array([0.0, *weights[1:]])
        return float(fitted + _RIDGE / 2 * weights[1:] @ weights[1:]) / len(y), slope / len(y)

    bias, *weights = minimize(loss, np.zeros(x.shape[1]), jac=True, method="BFGS").x.tolist()
    guessed = _sigmoid(bias + found[held] @ np.array(weights)) > 0.5
    share = float(succeeded[held].mean())
    accuracy = float((guessed == succeeded[held]).mean())
    return SuccessClassifier(tuple(weights), bias, len(found), accuracy, max(share, 1 - share))


def _sigmoid(values: Any) -> Any:
    return 1 / (1 + np.exp(-np.clip(values, -700, 700)))


def learn(folder: Path, tries: int, tell: Callable[[str], None]) -> SuccessClassifier:
    """The classifier in `affordance.json` of a folder, made there if it is not; an interrupted one goes on.

    Args:
        folder: also of `tries.jsonl`, what came of each step.
        tries: random steps in scenes of the split `train`, of all planning tasks.
        tell: hears what was learned.
    """
    file = folder / "affordance.json"
    if file.is_file():
        content = json.loads(file.read_text(encoding="utf-8"))
        return SuccessClassifier(
            tuple(content["weights"].values()), content["bias"], content["tries"], content["accuracy"], content["usual"]
        )
    made = _try(folder / "tries.jsonl", tries)
    classifier = fit(np.array([row["features"] for row in made]), np.array([row["success"] for row in made]))
    named = dict(zip(FEATURES, classifier.weights, strict=True))
    write_json(
        {
            "bias": classifier.bias,
            "weights": named,
            "tries": classifier.tries,
            "accuracy": classifier.accuracy,
            "usual": classifier.usual,
        },
        file,
    )
    tell(f"affordance: right on {classifier.accuracy:.0%} of held-out tries ({classifier.usual:.0%} by guessing)")
    return classifier


def _try(file: Path, count: int) -> list[dict[str, Any]]:
    """So many tries, those of the file first; each scene's steps are written together."""
    scenes = _whole(file)
    write_text("".join(json.dumps(scene) + "\n" for scene in scenes), file)
    tables: dict[str, PlannedTable] = {}
    try:
        while sum(map(len, scenes)) < count:
            number = len(scenes)
            task = PLANNING[number % len(PLANNING)]
            if task not in tables:
                tables[task] = PlannedTable(task)
            scenes.append(_steps(tables[task], number, np.random.default_rng([17, number])))
            with file.open("a", encoding="utf-8") as opened:
                opened.write(json.dumps(scenes[-1]) + "\n")
    finally:
        for table in tables.values():
            table.close()
    return [row for scene in scenes for row in scene][:count]


def _whole(file: Path) -> list[list[dict[str, Any]]]:
    """The lines of a file but for one that was cut short, at its end."""
    scenes = []
    for line in file.read_text(encoding="utf-8").splitlines() if file.is_file() else []:
        try:
            scenes.append(json.loads(line))
        except ValueError:
            break
    return scenes


def _steps(table: PlannedTable, scene: int, rng: np.random.Generator) -> list[dict[str, Any]]:
    """Random steps in a training scene, one after another, and what came of them."""
    table.reset("train", scene)
    made = []
    for _ in range(_STEPS):
        state = table.observe()
        known = skills(list(state))
        step = str(rng.choice([option for option in options(state) if option != DONE]))
        thing, target = known[step]
        found = features(state, thing, target)
        table.execute(step)
        made.append({"step": step, "features": found.tolist(), "success": achieved(table.observe(), thing, target)})
    return made
