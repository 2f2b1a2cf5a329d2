"""robosuite's tasks: what they ask for, in words; how much of it is done; and how an expert does some of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from robot.errors import unknown
from sim.language import Wording
from sim.robosuite import experts

if TYPE_CHECKING:
    from robot.skills import Skill, Skills
    from sim.robosuite.world import RobosuiteWorld

SPLITS = ("train", "val", "test")
VARIANTS = ("original", "negated", "empty")
"""What of our splits and variants these tasks have: robosuite draws nothing novel, and each asks for one thing only."""
Expert = Callable[["RobosuiteWorld", "Skills", np.random.Generator], "Skill"]


@dataclass(frozen=True)
class RobosuiteTask:
    """One of robosuite's environments with a Panda. It has no goal value to be asked for: the goal is always that all
    of it is done, and `progress` says how much is.

    Attributes:
        name: as users type it.
        environment: robosuite's name for it.
        words: sentences that ask for it, seen and unseen in training.
        progress: the share that is done, 0 to 1, from the environment.
        targets: {robosuite's name of a thing to be taken: what people call it}.
        others: the same for things that are only there.
        horizon: control steps after which an episode has failed.
        expert: does it with knowledge of the true poses; None if there is none.
    """

    name: str
    environment: str
    words: Mapping[Wording, tuple[str, ...]]
    progress: Callable[[Any], float]
    targets: Mapping[str, str] = field(default_factory=dict)
    others: Mapping[str, str] = field(default_factory=dict)
    horizon: int = 500
    expert: Expert | None = None

    unit = "fraction"
    tolerance = 0.005
    goal_range = (0.0, 1.0)

    def instruct(self, rng: np.random.Generator, wording: Wording) -> str:
        """A random sentence that asks for the task."""
        return str(rng.choice(self.words[wording]))


def _succeeded(env: Any) -> float:
    """All or nothing."""
    return float(env._check_success())


def _door_opened(env: Any) -> float:
    return float(env.sim.data.qpos[env.hinge_qpos_addr]) / 0.3


def _on_pegs(env: Any) -> float:
    wanted = 1 if env.single_object_mode else len(env.nuts)
    return float(np.sum(env.objects_on_pegs)) / wanted


def _in_bins(env: Any) -> float:
    wanted = 1 if env.single_object_mode else len(env.objects)
    return float(np.sum(env.objects_in_bins)) / wanted


_NUTS = {"SquareNut": "square nut", "RoundNut": "round nut"}
_GROCERIES = {"Milk": "milk carton", "Bread": "bread", "Cereal": "cereal box", "Can": "can"}


def _one_nut(shape: str, peg: str) -> RobosuiteTask:
    nut = f"{shape} nut"
    return RobosuiteTask(
        name=f"nut_assembly_{shape}",
        environment=f"NutAssembly{shape.capitalize()}",
        words={
            "seen": (
                f"Put the {nut} on the {peg} peg",
                f"Place the {nut} over the {peg} peg",
                f"Pick up the {nut} and put it on the {peg} peg",
            ),
            "unseen": (f"Slide the {nut} onto the {peg} peg", f"Could you thread the {nut} onto the {peg} peg?"),
        },
        progress=_on_pegs,
        targets={f"{shape.capitalize()}Nut": nut},
    )


def _one_grocery(key: str) -> RobosuiteTask:
    thing = _GROCERIES[key]
    return RobosuiteTask(
        name=f"pick_place_{key.lower()}",
        environment=f"PickPlace{key}",
        words={
            "seen": (
                f"Put the {thing} into its bin",
                f"Pick up the {thing} and place it in its bin",
                f"Move the {thing} into the bin where it belongs",
            ),
            "unseen": (f"Sort the {thing} into its bin", f"The {thing} should go into its own compartment"),
        },
        progress=_in_bins,
        targets={key: thing},
    )


TASKS: dict[str, RobosuiteTask] = {
    task.name: task
    for task in (
        RobosuiteTask(
            name="lift",
            environment="Lift",
            words={
                "seen": (
                    "Lift the red cube",
                    "Pick up the red cube",
                    "Raise the cube off the table",
                    "Please lift the cube",
                ),
                "unseen": ("Take the red block up from the table", "Could you hoist the cube?"),
            },
            progress=_succeeded,
            targets={"cube": "red cube"},
            expert=experts.lift,
        ),
        RobosuiteTask(
            name="stack",
            environment="Stack",
            words={
                "seen": (
                    "Put the red cube on the green cube",
                    "Stack the red cube on top of the green cube",
                    "Place the red cube onto the green one",
                ),
                "unseen": ("Set the red block down on the green block", "The red cube should lie on the green cube"),
            },
            progress=_succeeded,
            targets={"cubeA": "red cube"},
            others={"cubeB": "green cube"},
            expert=experts.stack,
        ),
        RobosuiteTask(
            name="door",
            environment="Door",
            words={
                "seen": ("Open the door", "Turn the handle and open the door", "Pull the door open"),
                "unseen": ("Unlatch the door and swing it open", "The door should stand open"),
            },
            progress=_door_opened,
            targets={"Door": "door"},
        ),
        RobosuiteTask(
            name="nut_assembly",
            environment="NutAssembly",
            words={
                "seen": (
                    "Put the square nut on the square peg and the round nut on the round peg",
                    "Put each nut on the peg of its shape",
                    "Place both nuts over their pegs",
                ),
                "unseen": ("Slide the nuts onto the pegs that they fit", "Match both nuts with their pegs"),
            },
            progress=_on_pegs,
            targets=_NUTS,
            horizon=1000,
        ),
        _one_nut("square", "square"),
        _one_nut("round", "round"),
        RobosuiteTask(
            name="pick_place",
            environment="PickPlace",
            words={
                "seen": (
                    "Put the milk, the bread, the cereal and the can into their bins",
                    "Put each of the four things into its own bin",
                    "Move everything into the bin where it belongs",
                ),
                "unseen": ("Sort the groceries into their compartments", "Everything should go into its own bin"),
            },
            progress=_in_bins,
            targets=_GROCERIES,
            horizon=1000,
        ),
        *(_one_grocery(key) for key in _GROCERIES),
        RobosuiteTask(
            name="wipe",
            environment="Wipe",
            words={
                "seen": ("Wipe the table", "Wipe the dirt off the table", "Clean the marks off the table"),
                "unseen": ("Rub the table until it is clean", "The table should be spotless"),
            },
            progress=lambda env: len(env.wiped_markers) / env.num_markers,
        ),
    )
}


def require_scenes(split: str, variant: str) -> None:
    """Raise a TongsError unless these tasks have scenes of that split, and instructions of that variant."""
    for kind, given, known in (("split", split, SPLITS), ("variant", variant, VARIANTS)):
        if given not in known:
            raise unknown(f"{kind} of robosuite's tasks", given, known)
