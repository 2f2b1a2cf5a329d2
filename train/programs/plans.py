"""Plans of a language model that does not know what can be done: what people would do, told as steps in words.

Only the words of the pool `seen` are used, and no scene in which a part cannot be done or must not be: a planner is to
know what is usual, and the state tells it the rest (Grounded Decoding). Half of the time it is not even told what there
is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from policies.lmp.language_models.embedded import planner_prompt
from policies.lmp.prompt import Prompt
from sim.tasks.base import SceneSpec
from sim.tasks.tabletop.planning import spoken
from sim.tasks.tabletop.task import TabletopCandidate

PLANS = ("planning_plain", "planning_ambiguous")
"""The tasks whose requests are taught."""
_ORDERED = "tower"
"""The form whose steps have an order."""


def plans(rng: np.random.Generator, scene: SceneSpec, names: Sequence[str]) -> Iterator[tuple[Prompt, str]]:
    """The question and the plan of every request in a scene with things of these names."""
    for candidate in scene.candidates:
        assert isinstance(candidate, TabletopCandidate)
        for request in candidate.requests["seen"]:
            (command,) = request.commands
            steps = [spoken(move) for move in command.moves]
            if request.form != _ORDERED:
                steps = [str(step) for step in rng.permutation(steps)]
            sentence = command.sentences[rng.integers(len(command.sentences))]
            objects = f"objects = {list(names)}" if rng.random() < 0.5 else ""
            yield planner_prompt(sentence, objects), plan_text(steps)


def plan_text(steps: Sequence[str]) -> str:
    """Steps as the planner says them."""
    return "".join(f"Step {number}: {step}\n" for number, step in enumerate([*steps, "done"], 1))
