"""The tables and the figure of Grounded Decoding's reproduction, and which of its claims hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from eval import reproduction_report
from eval.affordance import FEATURES, SuccessClassifier
from eval.reproduce_grounded import AFFORDANCE, BEAM, GREEDY, LANGUAGE, OPTIONS, SAYCAN
from eval.reproduction_report import Cells, Claims, error_bar, gap, shown_gap, shown_rate

if TYPE_CHECKING:
    from eval.reproduce_grounded import GroundedReproductionConfig

Outcomes = Mapping[Any, bool]
"""Success by episode."""
JOINT = (GREEDY, BEAM)
UNSAFE = "planning_unsafe"
NEARLY = 10
"""Points by which decoding may be below the scoring of all options."""
DISOBEYED, OBEYED = 20, 75
"""Per cent that language alone must not exceed, and joint decoding has to reach, where a thing must not be touched."""
FLAT, LINEAR = 1.5, 0.98
"""By which factor the cost of decoding may grow over all numbers of options; which r^2 a line through zero needs."""


def write_report(
    config: GroundedReproductionConfig, cells: Cells, value: SuccessClassifier, model: str, folder: Path
) -> Path:
    """`report.md` with the tables and the claims, and `figure.png`; returns the report."""
    heads = ["of all", *(task.removeprefix("planning_") for task in config.tasks)]
    lines = [
        f"{config.episodes} scenes of each task, split {config.split}, {config.wording} requests; language model: "
        f"{model}{', told what is on the table' if config.tell_objects else ''}. Success in per cent as the checkers "
        "on the simulator's state judge it after the plan, with 95 % intervals (Wilson); plans of at most "
        f"{config.most_steps} steps, carried out by scripted skills.\n",
        "## Success\n",
        "| method | " + " | ".join(heads) + " |",
        "|---" * (len(heads) + 1) + "|",
        *(f"| {method} | {_row(cells, method, config.tasks)} |" for method in config.methods),
        "\n## Plans\n",
        "Of a plan, in the mean: steps, how many of these could not be carried out, tokens that the language model "
        "computed for each choice; and plans that their planner ended itself.\n",
        "| method | steps | refused | tokens per choice | ended |",
        "|---|---|---|---|---|",
        *(f"| {method} | {_plans(cells, method)} |" for method in config.methods),
        "\n## Cost of one choice against the number of options\n",
        *_cost_table(config, cells),
        "\n## Affordance\n",
        f"Logistic regression on {value.tries} random steps in training scenes, right on {value.accuracy:.0%} of every "
        f"fifth of them, which it was not fitted to; the more frequent outcome is {value.usual:.0%}.\n",
        "| what speaks for (+) or against (-) a step | weight |",
        "|---|---|",
        f"| always | {value.bias:+.2f} |",
        *(f"| {name} | {weight:+.2f} |" for name, weight in zip(FEATURES, value.weights, strict=True)),
    ]
    _figure(config, cells, folder / "figure.png")
    return reproduction_report.write_report(folder, "Grounded Decoding on the table-top", lines, claims(cells))


def claims(cells: Cells) -> Claims:
    """Each claim whose numbers are there, with the numbers, and whether it holds."""
    held: Claims = []
    for joint, others in ((GREEDY, (LANGUAGE, AFFORDANCE)), (BEAM, (LANGUAGE, AFFORDANCE)), (SAYCAN, (OPTIONS,))):
        for other in others:
            if found := gap(outcomes(cells, other), outcomes(cells, joint)):
                held.append((f"{joint} is above {other} alone: {shown_gap(*found)} points", found[1] > 0))
    if found := gap(outcomes(cells, GREEDY), outcomes(cells, BEAM)):
        held.append((f"beam is not below greedy: {shown_gap(*found)} points", round(found[0], 6) >= 0))
    for joint in JOINT:
        if found := gap(outcomes(cells, SAYCAN), outcomes(cells, joint)):
            text = f"{joint} is at most {NEARLY} points below scoring all options"
            held.append((f"{text}: {shown_gap(*found)}", round(found[0], 6) >= -NEARLY))
    held += _safety(cells) + _costs(cells)
    return held


def _safety(cells: Cells) -> Claims:
    alone = outcomes(cells, LANGUAGE, UNSAFE) or outcomes(cells, OPTIONS, UNSAFE)
    held: Claims = []
    if alone:
        text = f"language alone succeeds in at most {DISOBEYED} % where something must not be touched"
        held.append((f"{text}: {shown_rate(alone.values())}", 100 * sum(alone.values()) <= DISOBEYED * len(alone)))
    for joint in JOINT:
        if won := outcomes(cells, joint, UNSAFE):
            text = f"{joint} succeeds there in at least {OBEYED} %"
            held.append((f"{text}: {shown_rate(won.values())}", 100 * sum(won.values()) >= OBEYED * len(won)))
    return held


def _costs(cells: Cells) -> Claims:
    held: Claims = []
    for joint in JOINT:
        sizes, tokens = cost(cells, joint)
        if len(sizes) > 1:
            text = f"tokens of {joint} do not grow with the options: {tokens[0]:g} for {sizes[0]}, {tokens[-1]:g} for"
            held.append((f"{text} {sizes[-1]}", bool(max(tokens) <= FLAT * min(tokens))))
    sizes, tokens = cost(cells, SAYCAN)
    if len(sizes) > 2:
        straight = through_zero(sizes, tokens)
        text = f"tokens of scoring grow with the options in a line through zero: {tokens[0]:g} for {sizes[0]}"
        held.append((f"{text}, {tokens[-1]:g} for {sizes[-1]} (r^2 = {straight:.3f})", straight >= LINEAR))
    return held


def through_zero(sizes: Sequence[float], tokens: Sequence[float]) -> float:
    """r^2 of the best line through zero, of what differs from the mean; 0 where nothing differs."""
    x, y = np.asarray(sizes, float), np.asarray(tokens, float)
    spread = float(((y - y.mean()) ** 2).sum())
    return 1 - float(((y - x * (x @ y) / (x @ x)) ** 2).sum()) / spread if spread else 0.0


def outcomes(cells: Cells, method: str, task: str | None = None) -> Outcomes:
    """Success of a method by (task, scene)."""
    return {
        (where, scene): bool(won)
        for cell in cells
        if cell["measure"] == "success" and cell["method"] == method and task in (None, cell["task"])
        for where, scene, won in cell["episodes"]
    }


def cost(cells: Cells, method: str) -> tuple[list[int], list[float]]:
    """Numbers of options, and tokens of one choice among so many."""
    found = sorted((c["size"], c["tokens"]) for c in cells if c["measure"] == "cost" and c["method"] == method)
    return [size for size, _ in found], [tokens for _, tokens in found]


def _row(cells: Cells, method: str, tasks: Sequence[str]) -> str:
    each = [outcomes(cells, method), *(outcomes(cells, method, task) for task in tasks)]
    return " | ".join(shown_rate(won.values()) if won else "-" for won in each)


def _plans(cells: Cells, method: str) -> str:
    plans = [p for cell in cells if cell["measure"] == "success" and cell["method"] == method for p in cell["plans"]]
    if not plans:
        return "- | - | - | -"
    steps, refused = (sum(len(plan[key]) for plan in plans) / len(plans) for key in ("steps", "refused"))
    tokens = sum(plan["tokens"] for plan in plans) / sum(plan["choices"] for plan in plans)
    ended = sum(plan["done"] for plan in plans)
    return f"{steps:.1f} | {refused:.1f} | {tokens:.1f} | {ended} of {len(plans)}"


def _cost_table(config: GroundedReproductionConfig, cells: Cells) -> list[str]:
    methods = [method for method in (*JOINT, SAYCAN) if cost(cells, method)[0]]
    if not methods:
        return ["Not measured: none of these methods computes with a language model."]
    entries = {(c["method"], c["size"]): c for c in cells if c["measure"] == "cost"}
    lines = [
        "Tokens that the language model computes, and ms.\n",
        "| method | " + " | ".join(map(str, config.sizes)) + " |",
        "|---" * (len(config.sizes) + 1) + "|",
    ]
    for method in methods:
        row = [entries[method, size] for size in config.sizes]
        lines.append(f"| {method} | " + " | ".join(f"{c['tokens']:g} ({1000 * c['seconds']:.0f})" for c in row) + " |")
    return lines


def _figure(config: GroundedReproductionConfig, cells: Cells, file: Path) -> None:
    """Left: success by task. Right: tokens of one choice over the number of options."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    width = 0.8 / len(config.methods)
    for number, method in enumerate(config.methods):
        for place, task in enumerate(config.tasks):
            won = outcomes(cells, method, task)
            if won:
                at, (mean, error) = place - 0.4 + (number + 0.5) * width, error_bar(won.values())
                left.bar(at, mean, width, color=f"C{number}", label=method if place == 0 else None)
                left.errorbar(at, mean, error, color="black", capsize=2, linewidth=0.8)
        sizes, tokens = cost(cells, method)
        if sizes:
            right.plot(sizes, tokens, "o-", color=f"C{number}", label=method)
    left.set_xticks(range(len(config.tasks)), [task.removeprefix("planning_") for task in config.tasks])
    left.set(ylabel="success", ylim=(0, 1.02))
    right.set(xlabel="options", ylabel="tokens of one choice", xscale="log", yscale="log")
    for axes in (left, right):
        if axes.has_data():
            axes.legend(fontsize=7)
    figure.savefig(file, dpi=130)
