"""Grounded Decoding's central claims on the table-top: a plan needs language and what can be done, and what that costs.

Every measurement is kept, so that an interrupted reproduction goes on.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from rich.console import Console

from eval.affordance import SuccessClassifier, learn
from eval.planning import DONE, PlannedTable, options, play_plan
from eval.policies import language_model_files
from eval.provenance import file_hash
from eval.reproduction import Cells, check, claim_folder
from eval.statistics import wilson_interval
from robot.errors import TongsError, unknown
from sim.language import Wording
from sim.objects import COLOURS, NOVEL_COLOURS
from sim.scenes import WORDINGS
from sim.splits import find_split
from sim.tasks import PLANNING
from sim.tasks.tabletop.planning import skills

if TYPE_CHECKING:
    from policies.lmp.grounded import CausalLanguage, Decoded, Grounder, OptionLanguage, Scored
    from policies.lmp.grounded.planning import Choose
    from policies.lmp.language_models import LanguageModel

LANGUAGE, AFFORDANCE, GREEDY, BEAM = "language", "affordance", "greedy", "beam"
SAYCAN, OPTIONS = "saycan", "language options"
Level = Literal["token", "option", "none"]
METHODS: Mapping[str, Level] = {
    LANGUAGE: "token",
    AFFORDANCE: "none",
    GREEDY: "token",
    BEAM: "token",
    SAYCAN: "option",
    OPTIONS: "option",
}
"""What each needs of a language model: the probabilities of its next tokens, of whole options, or nothing. `greedy` and
`beam` decode jointly; `language options` is what is left of `language` where a model is behind an endpoint."""
_SEMANTICS = ("prefix", "option")
_COST_TASK = "put all the blocks in the red bowl"


@dataclass(frozen=True)
class GroundedReproductionConfig:
    """What is measured.

    Attributes:
        output: folder of everything; an unfinished reproduction in it goes on.
        lmp: which language model, such as {"model": {"backend": "transformers", ...}}; the embedded one by default.
        methods: which of `METHODS`; empty for all that the language model allows.
        tasks: of `sim.tasks.PLANNING`.
        split: whose scenes.
        wording: "seen" or "unseen" requests, in what the embedded model was taught.
        tell_objects: begin the prompt with what is on the table, as a baseline may; the paper does not.
        episodes: scenes of each task.
        most_steps: after which a plan ends.
        tries: random steps from which the affordance is learned.
        beams: of `beam`.
        candidates: tokens per place that are judged.
        semantics: how the scores of prefixes combine, "prefix" (the paper) or "option".
        sizes: numbers of options for which the cost is measured.
        threads: of torch.
    """

    output: str
    lmp: Mapping[str, Any] = field(default_factory=dict)
    methods: Sequence[str] = ()
    tasks: Sequence[str] = PLANNING
    split: str = "test"
    wording: Wording = "seen"
    tell_objects: bool = False
    episodes: int = 20
    most_steps: int = 8
    tries: int = 600
    beams: int = 3
    candidates: int = 50
    semantics: Literal["prefix", "option"] = "prefix"
    sizes: Sequence[int] = (10, 30, 100, 300)
    threads: int = 2

    def __post_init__(self) -> None:
        check(
            self,
            ("methods", "tasks", "sizes"),
            ("episodes", "most_steps", "tries", "beams", "candidates", "threads"),
            (("methods", "method", METHODS), ("tasks", "planning task", PLANNING)),
        )
        for kind, name, known in (("wording", self.wording, WORDINGS), ("semantics", self.semantics, _SEMANTICS)):
            if name not in known:
                raise unknown(kind, name, list(known))
        find_split(self.split)
        for size in self.sizes:
            if not 1 <= size <= _MOST_OPTIONS:
                raise TongsError(f"sizes are numbers of options from 1 to {_MOST_OPTIONS}, got {size}")


def reproduce(config: GroundedReproductionConfig, console: Console | None = None) -> Path:
    """Everything that is not there yet, then `report.md` and `figure.png`; returns the report.

    Raises:
        TongsError: there is no such language model, it does not give the probabilities that a method needs, or the
            folder holds a reproduction with other settings.
        KeyboardInterrupt: Ctrl-C; the same call goes on.
    """
    from eval.reproduce_grounded_report import write_report

    console, model = console or Console(), _model(config)
    config = replace(config, methods=config.methods or _allowed(model))
    planner = Planner(config, model)
    hashes = {f"language model's {name}": file_hash(path) for name, path in language_model_files(config.lmp).items()}
    folder = claim_folder(config, hashes)
    torch.set_num_threads(config.threads)
    planner.value = learn(folder, config.tries, lambda text: console.print(text, highlight=False))
    cells = Cells(folder / "cells", console)
    for task in config.tasks:
        for method in config.methods:
            key = {"measure": "success", "task": task, "method": method.replace(" ", "-")}
            cells.measure(key, lambda task=task, method=method: _play(config, planner, task, method))
    for size in config.sizes:
        for method in (GREEDY, BEAM, SAYCAN):
            if method in config.methods:
                key = {"measure": "cost", "size": size, "method": method}
                cells.measure(key, lambda size=size, method=method: planner.cost(method, size))
    report = write_report(config, cells.read(), planner.value, model.name, folder)
    console.print(report.read_text(encoding="utf-8").partition("## Claims")[2].strip(), highlight=False, markup=False)
    return report


def _model(config: GroundedReproductionConfig) -> LanguageModel:
    from policies.configuration import configuration
    from policies.lmp.language_models import make_model
    from policies.lmp.policy import LmpSettings

    return make_model(configuration(LmpSettings, config.lmp).model)


def _allowed(model: LanguageModel) -> tuple[str, ...]:
    """All methods that a language model allows, without those that only stand in for others."""
    from policies.lmp.grounded import decodes_tokens

    levels = ("token", "option", "none") if decodes_tokens(model) else ("option", "none")
    return tuple(m for m, level in METHODS.items() if level in levels and (m != OPTIONS or "token" not in levels))


class Planner:
    """A language model with what it may say and do, as each method chooses a step.

    Args:
        config: beams, candidates and the like.
        model: language model.

    Attributes:
        value: of options, once it is learned.

    Raises:
        TongsError: the model does not give the probabilities that one of the methods needs.
    """

    def __init__(self, config: GroundedReproductionConfig, model: LanguageModel) -> None:
        from policies.lmp.grounded import causal_language, option_language

        levels = {METHODS[method] for method in config.methods}
        self._config, self._model = config, model
        self._tokens: CausalLanguage | None = causal_language(model) if "token" in levels else None
        self._options: OptionLanguage | None = option_language(model) if "option" in levels else None
        self.value: SuccessClassifier | None = None

    def prompt(self, request: str, names: Sequence[str]) -> str:
        """What the first step of a plan follows."""
        from policies.lmp.grounded import planner_prompt

        objects = f"objects = {list(names)}" if self._config.tell_objects else ""
        return planner_prompt(self._model, request, objects)

    def choose(self, method: str, forbidden: Sequence[str]) -> Choose:
        """How a method chooses a step; what must not be touched is known to those that are grounded."""
        from policies.lmp.grounded import Affordance, Safety

        assert self.value is not None
        grounders: list[Grounder] = [Affordance(self.value, options)]
        if forbidden:
            grounders.append(Safety(forbidden))
        return lambda prompt, state: self._step(method, prompt, options(state), grounders, state)

    def _step(
        self, method: str, prompt: str, said: Sequence[str], grounders: Sequence[Grounder], state: Any
    ) -> Decoded | Scored:
        from policies.lmp.grounded import decode, score_options

        if METHODS[method] == "token":
            assert self._tokens is not None
            grounded = [] if method == LANGUAGE else grounders
            beams = self._config.beams if method == BEAM else 1
            search: dict[str, Any] = {"candidates": self._config.candidates, "semantics": self._config.semantics}
            return decode(self._tokens, prompt, grounded, state, beams=beams, **search)
        # a space after the heading, as a tokenizer has it; without language nothing tells when a plan is done
        after = [f" {option}" for option in said if method != AFFORDANCE or option != DONE]
        language = None if method == AFFORDANCE else self._options
        return score_options(language, prompt, after, [] if method == OPTIONS else grounders, state)

    def cost(self, method: str, size: int) -> dict[str, Any]:
        """Tokens and seconds of one choice among so many options, all of which can be done."""
        import numpy as np

        from policies.lmp.grounded import Affordance

        said = _many(size)
        grounders = [Affordance(lambda options, state: np.ones(len(options)), said)]
        began = time.perf_counter()
        choice = self._step(method, f"{self.prompt(_COST_TASK, [])}Step 1:", said, grounders, None)
        return {"tokens": choice.scored_tokens, "seconds": time.perf_counter() - began, "said": choice.text}


_NAMES = [f"{colour} {kind}" for kind in ("block", "bowl", "cylinder") for colour in (*COLOURS, *NOVEL_COLOURS)]
_MOST_OPTIONS = len(skills(_NAMES))


def _many(size: int) -> list[str]:
    """So many different steps, about more and more things."""
    names = ["red bowl", *(name for name in _NAMES if name != "red bowl")]
    for count in range(2, len(names) + 1):
        found = skills(names[:count])
        if len(found) >= size:
            return list(islice(found, size))
    raise AssertionError("sizes are checked before")


def _play(config: GroundedReproductionConfig, planner: Planner, task: str, method: str) -> dict[str, Any]:
    table = PlannedTable(task)
    played = []
    try:
        for scene in range(config.episodes):
            table.reset(config.split, scene, config.wording)
            prompt = planner.prompt(table.request, list(table.observe()))
            choose = planner.choose(method, table.forbidden)
            played.append(play_plan(table, scene, prompt, choose, config.most_steps))
    finally:
        table.close()
    won = sum(episode.success for episode in played)
    return {
        "method": method,
        "success": {"mean": won / len(played), "interval": wilson_interval(won, len(played))},
        "episodes": [[task, episode.scene, bool(episode.success)] for episode in played],
        "plans": [asdict(episode) for episode in played],
    }
