"""The table and the figure of YAY Robot's reproduction, and which of its claims hold."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from eval import reproduction_report
from eval.reproduce_yay import BASE, FLAT, ONE_HOT, ORACLE, tuned
from eval.reproduction_report import Cells, Claims, error_bar, gap, shown_gap, shown_rate

if TYPE_CHECKING:
    from eval.reproduce_yay import YayReproductionConfig

Outcomes = dict[tuple[int, int], tuple[bool, int, int]]
"""(seed, scene) -> success, sub-goals reached, sub-goals asked for."""
GAIN = 15
"""Points that learning from corrections has to bring."""


def write_report(config: YayReproductionConfig, cells: Cells, folder: Path) -> Path:
    """`report.md` with the table and the claims, and `figure.png`; returns the report."""
    played = {name: _outcomes(cells, name) for name in config.stages}
    played = {name: outcomes for name, outcomes in played.items() if outcomes}
    helped = sum(cell.get("corrections", 0) for cell in cells)
    lines = [
        f"{config.seeds} seed(s), {config.episodes} test scenes each, the same for all; 95 % intervals (Wilson; of "
        f"differences paired by scene). The low level ({config.low}) and the flat policy: {config.low_steps} steps of "
        f"{config.low_batch_size}; a high level: {config.high_steps} steps of {config.high_batch_size}, and "
        f"{config.post_steps} for each of {config.rounds} rounds of at most {config.corrections} corrections. "
        f"With corrections at test time (oracle), the base policy heard {helped} of them.\n",
        "| policy | 1 sub-goal | 2 sub-goals | everything |",
        "|---|---|---|---|",
        *(f"| {name} | {_row(outcomes)} |" for name, outcomes in played.items()),
    ]
    _figure(played, folder / "figure.png")
    held = [*claims(played, tuned(config.rounds)), *_same_low_level(cells)]
    return reproduction_report.write_report(folder, "YAY Robot on tasks of two and three sub-goals", lines, held)


def claims(played: dict[str, Outcomes], last: str) -> Claims:
    """All but that of the low level; `last` is the fine-tuned policy."""
    held: Claims = []
    for low, high, words, least in (
        (BASE, last, f"learning from corrections brings {GAIN} points or more", GAIN),
        (FLAT, BASE, "the flat policy is below the base policy", 0),
        (ONE_HOT, BASE, "one-hot commands are below commands in words", 0),
    ):
        if more := _gap(played, low, high):
            points, bottom, _ = more
            held.append((f"{words}: {high} - {low} = {shown_gap(*more)} points", points >= least and bottom > 0))
    if more := _gap(played, last, ORACLE):
        text = "the fine-tuned policy is not above corrections at test time"
        held.append((f"{text}: {ORACLE} - {last} = {shown_gap(*more)} points", more[2] >= 0))
    return held


def _same_low_level(cells: Cells) -> Claims:
    """Whether all high levels of a seed speak to one and the same low level, by the hash that loading one checks."""
    hashes = {(cell["seed"], cell["low_sha256"]) for cell in cells if cell.get("low_sha256")}
    seeds = {seed for seed, _ in hashes}
    return [("the low level is the same before and after (SHA-256)", len(hashes) == len(seeds))] if hashes else []


def _outcomes(cells: Cells, name: str) -> Outcomes:
    return {
        (cell["seed"], scene): (bool(success), reached, asked)
        for cell in cells
        if cell["policy"] == name
        for scene, success, reached, asked in cell["episodes"]
    }


def _gap(played: dict[str, Outcomes], first: str, second: str) -> tuple[float, float, float] | None:
    won = [{episode: success for episode, (success, _, _) in played.get(name, {}).items()} for name in (first, second)]
    return gap(*won)


def _row(outcomes: Outcomes) -> str:
    """Sub-goals count cumulatively, as in the paper: the second of those that are asked for two or more."""
    every = list(outcomes.values())
    one = shown_rate([reached >= 1 for _, reached, _ in every])
    two = shown_rate([reached >= 2 for _, reached, _ in every])
    return f"{one} | {two} | {shown_rate([success for success, _, _ in every])}"


def _figure(played: dict[str, Outcomes], file: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for place, outcomes in enumerate(played.values()):
        won = [success for success, _, _ in outcomes.values()]
        mean, error = error_bar(won)
        axes.bar(place, mean, color=f"C{place}", width=0.7)
        axes.errorbar(place, mean, error, color="black", capsize=4)
        axes.text(place, 0.02, f"{100 * mean:.0f} %", ha="center")
    axes.set_xticks(range(len(played)), list(played))
    axes.set(ylabel="everything reached", ylim=(0, 1.02))
    figure.savefig(file, dpi=130)
