"""Instruction-program pairs from the tasks: what is said in a training scene, and the program that does it.

Only scenes of the split `train`, wordings of the pool `seen` and forms of the pool `seen` are used. Names of colours
and kinds are often replaced by other words, so that the model learns to copy a name rather than to know it.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from policies.lmp.analysis import function_body, undefined_calls
from policies.lmp.domain import find_domain
from policies.lmp.language_models.embedded import compact
from policies.lmp.program import LIBRARY
from policies.lmp.prompt import Prompt, Repair
from sim.language import Wording
from sim.objects import COLOURS
from sim.reference import RELATIONS, call
from sim.scenes import draw_scene
from sim.tasks import SINGLE, TABLETOP, TASKS, find_task
from sim.tasks.base import Candidate, Goal, SceneSpec, Subgoal
from sim.tasks.put_in_drawer import PutInDrawer
from sim.tasks.tabletop.task import TabletopCandidate
from train.programs.functions import FUNCTIONS
from train.programs.plans import PLANS, plans
from train.programs.tabletop import tabletop_programs

SEEN: Wording = "seen"
_RENAMED = 0.6
"""Share of the scenes whose things are called by other words."""
_ABSENT = 0.06
"""Share of the commands that are about something that is not there."""
_FAILED = 0.08
"""Share of the commands that are asked again because the fingers closed on nothing or the thing slipped away."""
_SYLLABLES = (
    "ba be bo ca co da de do fa fi ga go ka ki la le lo ma mi mo na ni no pa pe po ra ri ro sa so ta te to va vo"
)
_WORDS = (
    "amber beige bronze copper coral cream crimson cyan gold golden gray grey indigo ivory khaki lavender lime magenta "
    "maroon mint navy ochre olive peach plum rose ruby scarlet silver tan teal violet wooden metal glass striped dotted"
)
_KINDS = "cube box ball cup mug can tin plate bar brick cone disc toy jar egg apple lemon pear spoon tape die duck car"


@dataclass(frozen=True)
class Pair:
    """What a language-model program is asked, and the code that it should answer with."""

    prompt: Prompt
    code: str

    @property
    def question(self) -> str:
        return compact(self.prompt)


def pairs(seed: int, tasks: Sequence[str] = (*SINGLE, "compose", *TABLETOP), split: str = "train") -> Iterator[Pair]:
    """Pairs without end; the same seed gives the same ones.

    Args:
        seed: of the choice of tasks, scenes and words.
        tasks: whose instructions.
        split: whose scenes; "train" for training, "val" or "novel_object" to measure what was learned.
    """
    rng = np.random.default_rng(seed)
    while True:
        task = str(tasks[int(rng.integers(len(tasks)))])
        index = int(rng.integers(2**31))
        scene = draw_scene(task, split, index)
        if task in PLANS:
            yield from (Pair(*plan) for plan in plans(rng, scene, scene_names(scene)))
            continue
        for made in _requests(rng, task, scene):
            if split == "train" and rng.random() < _RENAMED:
                made = _renamed(rng, made, scene)
            yield from made
            yield from _functions(made)


def _requests(rng: np.random.Generator, task: str, scene: SceneSpec) -> Iterator[list[Pair]]:
    """All that may be asked for in a scene; drawing one takes longer than speaking of it."""
    for candidate in scene.candidates:
        if isinstance(candidate, TabletopCandidate):
            context = f"objects = {scene_names(scene)}"
            for request in candidate.requests[SEEN]:
                yield list(_session(rng, context, tabletop_programs(rng, request)))
        else:
            yield list(_episode(rng, task, scene, candidate))


def _episode(rng: np.random.Generator, task: str, scene: SceneSpec, candidate: Candidate) -> Iterator[Pair]:
    names = scene_names(scene)
    context = f"objects = {names}"
    if task == "compose":
        yield from _program(rng, "drawer_ui", context, *_compose(rng, candidate, names))
    elif task in ("pour_water", "transfer_water"):
        yield from _program(rng, "pour_ui", context, *_single(rng, task, candidate, names))
    elif task in ("pickup_object", "reorient_object"):
        yield from _program(rng, "tabletop_ui", context, *_single(rng, task, candidate, names))
    else:
        yield from _program(rng, "drawer_ui", context, *_single(rng, task, candidate, names))


def scene_names(scene: SceneSpec) -> list[str]:
    """The names that the API tells for the things of a scene, in its order (see `sim.truth`)."""
    found = []
    for top in scene.bodies:
        for body in top.walk():
            free = body.joint is not None and body.joint.kind == "free"
            if free or body.name in scene.joints or body.name == "tray":
                found.append(body.name)
    return [name.replace("_", " ") for name in sorted(found)]


Said = tuple[str, str, list[tuple[str, str, str]]]
"""What is said, the code of the entry program, and what that asks other programs: (program, query, code)."""


def _single(rng: np.random.Generator, task: str, candidate: Candidate, names: list[str]) -> Said:
    phrase = call(rng, candidate.words, SEEN)
    value = candidate.goal if rng.random() < 0.3 else _value(rng, task)
    goal = Goal(candidate.body, {SEEN: ((phrase,),), "unseen": ((phrase,),)}, value)
    sentence = find_task(task).instruct(rng, goal, SEEN)
    domain = {"pour_water": "pouring", "transfer_water": "pouring"}.get(task, "tabletop")
    if task.endswith(("drawer", "cabinet")):
        return sentence, f"set_joint({candidate.body.replace('_', ' ')!r}, {value:.2f})", []
    name, asked = _named(phrase, names, "parse_vessel_name" if domain == "pouring" else "parse_obj_name")
    code = {
        "pickup_object": f"lift({name}, {value:.2f})",
        "reorient_object": f"reorient({name}, {value:.0f})",
        "pour_water": f"pour({name}, {value:.2f})",
        "transfer_water": f"pour('cup', {value:.2f}, into={name})",
    }[task]
    return sentence, code, asked


def _value(rng: np.random.Generator, task: str) -> float:
    """A goal of the pool `seen`, of all of them alike."""
    goals = TASKS[task].goals
    values = goals.values("seen")
    return values[rng.integers(len(values))] * TASKS[task].grain


def _named(phrase: str, names: list[str], parser: str) -> tuple[str, list[tuple[str, str, str]]]:
    """How a program names a thing that is called by a phrase: by its name, or by asking for it."""
    if phrase in names:
        return repr(phrase), []
    query = f"the {phrase}"
    return f"{parser}({query!r})", [(parser, query, lookup(phrase))]


_MEASURES: Mapping[str, tuple[str, str]] = {
    "left": ("argmax", "get_obj_pos(name)[1]"),
    "right": ("argmin", "get_obj_pos(name)[1]"),
    "near": ("argmin", "get_obj_pos(name)[0]"),
    "far": ("argmax", "get_obj_pos(name)[0]"),
    "top": ("argmax", "get_obj_pose(name)[2]"),
    "bottom": ("argmin", "get_obj_pose(name)[2]"),
    "big": ("argmax", "np.prod(get_obj_size(name))"),
    "small": ("argmin", "np.prod(get_obj_size(name))"),
}
_ANYTHING = ("object", "thing", "one")


def lookup(phrase: str) -> str:
    """The code that finds the thing that a phrase of `sim.reference` means.

    Raises:
        KeyError: it is none of them.
    """
    for relation, wordings in RELATIONS.items():
        for template in wordings[SEEN]:
            pattern = re.escape(template).replace(r"\{noun\}", "(?P<noun>[a-z]+)")
            if (found := re.fullmatch(pattern, phrase)) is not None:
                noun = found.groupdict().get("noun", "one")
                which, measure = _MEASURES[relation]
                names = "get_obj_names()" if noun in _ANYTHING else f"find_objects({noun + 's'!r})"
                return f"names = {names}\nret_val = names[np.{which}([{measure} for name in names])]"
    look = re.fullmatch(r"([a-z]+) one", phrase)
    if look is None:
        raise KeyError(phrase)
    return f"ret_val = find_objects({look[1]!r})[0]"


def _compose(rng: np.random.Generator, candidate: Candidate, names: list[str]) -> Said:
    steps, asked, lines = [], [], []
    phrase = call(rng, next((s.words for s in candidate.subgoals if "_drawer" not in s.body), candidate.words), SEEN)
    name = repr(phrase)
    if any("_drawer" not in step.body for step in candidate.subgoals) and phrase not in names:
        name, asked = "obj_name", [("parse_part_name", f"the {phrase}", lookup(phrase))]
        lines.append(f"obj_name = parse_part_name({f'the {phrase}'!r})")
    for step in candidate.subgoals:
        step = replace(step, words={SEEN: ((phrase,),), "unseen": ((phrase,),)})
        if isinstance(step.task, PutInDrawer):
            lines.append(f"put_first_on_second({name}, {step.task.drawer.replace('_', ' ')!r})")
        elif step.task.name == "pickup_object":
            lines += [f"lift({name}, {step.value:.2f})", "wait(1.5)"]
        else:
            lines.append(f"set_joint({step.body.replace('_', ' ')!r}, {step.value:.2f})")
        steps.append(step)
    goals: tuple[Subgoal, ...] = tuple(steps)
    return find_task("compose").tell(rng, goals, SEEN), "\n".join(lines), asked


def _program(
    rng: np.random.Generator,
    entry: str,
    context: str,
    sentence: str,
    code: str,
    asked: list[tuple[str, str, str]],
    history: str = "",
) -> Iterator[Pair]:
    """The pairs of one command: the entry program's, and those of the programs that it asks."""
    yield Pair(prompt(entry, sentence, context, history), code)
    yield from (Pair(prompt(program, query, context), answer) for program, query, answer in asked)
    if rng.random() < _FAILED:
        failed = prompt(entry, sentence, context, history).after(code, _failure(rng, context))
        yield Pair(failed, code)


def _failure(rng: np.random.Generator, context: str) -> str:
    """An error after which the same program should be tried again."""
    names = re.findall(r"'([^']+)'", context)
    name = names[rng.integers(len(names))]
    return str(
        rng.choice(
            [
                f"RobotError: the fingers closed on nothing at {name!r}, (0.512, 0.034, 0.020) m",
                f"RobotError: {name!r} has slipped out of the fingers",
                f"RobotError: {name!r} came to lie 5 cm from where it was put",
            ]
        )
    )


def _session(rng: np.random.Generator, context: str, commands: Sequence[Said]) -> Iterator[Pair]:
    history = ""
    for sentence, code, asked in commands:
        absent = _absent(rng, context, sentence) if not history else None
        if absent is not None:
            yield absent
        yield from _program(rng, "tabletop_ui", context, sentence, code, asked, history)
        history = "\n".join([*([history] if history else []), context, code])


def _absent(rng: np.random.Generator, context: str, sentence: str) -> Pair | None:
    """Now and then the same sentence about a thing that is not there."""
    names = re.findall(r"'([^']+)'", context)
    said = [name for name in names if f"the {name}" in sentence]
    free = [colour for colour in COLOURS if not any(name.startswith(colour) for name in names)]
    if rng.random() > 3 * _ABSENT or len(said) == 0 or not free:
        return None
    other = f"{free[rng.integers(len(free))]} {said[0].split()[1]}"
    return Pair(
        prompt("tabletop_ui", sentence.replace(f"the {said[0]}", f"the {other}"), context), f"say('I see no {other}.')"
    )


_domain = cache(find_domain)
_DOMAIN_OF = {
    "drawer_ui": "drawers",
    "parse_part_name": "drawers",
    "pour_ui": "pouring",
    "parse_vessel_name": "pouring",
}


def prompt(program: str, query: str, context: str = "", history: str = "") -> Prompt:
    """The prompt that a program would ask with, without the part that the embedded model is not given."""
    name = _DOMAIN_OF.get(program, "tabletop")
    config = _domain(name).programs[program]
    return Prompt(program, "", history, context, config.comment(query))


_KNOWN: set[str] = set()


def _functions(made: Sequence[Pair]) -> Iterator[Pair]:
    """Definitions of the functions that programs call and nobody has defined, and of those that these call in turn."""
    if not _KNOWN:
        for name in ("tabletop", "drawers", "pouring"):
            _KNOWN.update(_domain(name).config.api, _domain(name).programs, LIBRARY)
    waiting = [pair.code for pair in made]
    told: set[str] = set()
    while waiting:
        for name, signature in undefined_calls(waiting.pop(), _KNOWN | told).items():
            told.add(name)
            waiting.append(function_body(FUNCTIONS[name]))
            yield Pair(prompt("fgen", signature), FUNCTIONS[name])


# --- other names


def _renamed(rng: np.random.Generator, made: Sequence[Pair], scene: SceneSpec) -> list[Pair]:
    """The same with other words for the colours, and sometimes the kinds, everywhere alike."""
    words = {word for name in scene_names(scene) for word in name.split() if word.isalpha()}
    colours, kinds = sorted(words & set(COLOURS)), sorted(words & {"block", "cylinder"})
    mapping = {colour: _invented(rng, _WORDS.split()) for colour in colours if rng.random() < 0.8}
    if len(kinds) == 1 and rng.random() < 0.5:
        mapping |= {kinds[0]: _invented(rng, _KINDS.split())}
    if len(set(mapping.values())) < len(mapping) or not mapping:
        return list(made)
    pattern = re.compile(rf"\b({'|'.join(mapping)})(s?)\b")

    def change(text: str) -> str:
        return pattern.sub(lambda found: mapping[found[1]] + found[2], text)

    return [_changed(pair, change) for pair in made]


def _changed(pair: Pair, change: Callable[[str], str]) -> Pair:
    old = pair.prompt
    repairs = tuple(Repair(change(repair.code), change(repair.error)) for repair in old.repairs)
    history, context = (_LISTED.sub(_in_order, change(text)) for text in (old.history, old.context))
    return Pair(
        replace(old, history=history, context=context, query=change(old.query), repairs=repairs), change(pair.code)
    )


_LISTED = re.compile(r"(?m)^objects = (\[.*\])$")


def _in_order(found: re.Match[str]) -> str:
    """A list of names as the API would give it."""
    return f"objects = {sorted(ast.literal_eval(found[1]))}"


def _invented(rng: np.random.Generator, known: Sequence[str]) -> str:
    if rng.random() < 0.6:
        return str(known[int(rng.integers(len(known)))])
    syllables = _SYLLABLES.split()
    return "".join(str(part) for part in rng.choice(syllables, int(rng.integers(2, 4)))) + str(
        rng.choice(["", "n", "l", "r"])
    )
