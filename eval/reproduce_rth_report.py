"""The tables of RT-H's reproduction, and which of its claims hold."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from eval import reproduction_report
from eval.action_error import PREDICTED, TRUE
from eval.paired import bootstrap_interval
from eval.reproduction_report import Cells, Claims, gap, shown_gap, shown_rate, successes

if TYPE_CHECKING:
    from eval.reproduce_rth import RthReproductionConfig

FLAT, RTH, TAUGHT, IWR = "flat", "RT-H", "RT-H-Intervene", "IWR"
HELPED_POINTS, TAUGHT_POINTS = 20.0, 10.0
"""What corrections are to bring at test time, and after learning from them."""


def write_report(config: RthReproductionConfig, cells: Cells, folder: Path) -> Path:
    """`report.md` with success, action errors, corrections and the claims; returns it."""
    lines = [
        f"Tasks: {', '.join(config.tasks)}. {config.seeds} seed(s), {config.train_steps} steps of {config.batch_size} "
        f"windows, {config.teach_steps} more on corrections; {config.episodes} test scenes per task and seed, the same "
        "for all; 95 % intervals (Wilson; of differences a bootstrap of pairs).\n",
        "## Success (%)\n",
        *_success_table(config, cells),
        "\n## Squared error of scaled actions on held-out demonstrations\n",
        *_error_table(config, cells),
        "\n## Corrections\n",
        *_correction_lines(cells),
    ]
    title = "RT-H: language motions, corrected and learned from"
    return reproduction_report.write_report(folder, title, lines, claims(cells))


def claims(cells: Cells) -> Claims:
    held: Claims = []
    errors = (
        ("with true motions", ("RT-H", TRUE), "with predicted ones", ("RT-H", PREDICTED)),
        ("with predicted motions", ("RT-H", PREDICTED), "of the flat policy", (FLAT, PREDICTED)),
    )
    for lower_name, lower, upper_name, upper in errors:
        if more := _error_gap(cells, lower, upper):
            mean, low, high = more
            text = f"the error {lower_name} is below that {upper_name}: by {mean:.4f} [{low:.4f}, {high:.4f}]"
            held.append((text, low > 0))
    rates = (
        ("RT-H succeeds at least as often as the flat policy", ("success", FLAT), ("success", RTH), 0.0, False),
        (
            f"corrected at test time RT-H gains {HELPED_POINTS:g} points",
            ("success", RTH),
            ("helped", RTH),
            HELPED_POINTS,
            True,
        ),
        (
            f"after training on corrections it gains {TAUGHT_POINTS:g} points alone",
            ("success", RTH),
            ("success", TAUGHT),
            TAUGHT_POINTS,
            True,
        ),
        ("and is above IWR on as many interventions", ("success", IWR), ("success", TAUGHT), 0.0, True),
    )
    for text, first, second, least, surely in rates:
        if more := gap(successes(_of(cells, *first)), successes(_of(cells, *second))):
            points, low, _ = more
            held.append((f"{text}: {shown_gap(*more)}", points >= least and (low > 0 or not surely)))
    return held


def _of(cells: Cells, measure: str, method: str) -> Cells:
    return [cell for cell in cells if cell["measure"] == measure and cell["method"] == method]


def _errors(cells: Cells, method: str, motions: str) -> dict[tuple[int, int], float]:
    """Mean error of every held-out episode by seed."""
    found = _of(cells, f"error-{motions}", method)
    return {(cell["seed"], number): value for cell in found for number, value in enumerate(cell["episodes"])}


def _error_gap(cells: Cells, lower: tuple[str, str], upper: tuple[str, str]) -> tuple[float, float, float] | None:
    one, other = _errors(cells, *lower), _errors(cells, *upper)
    shared = [episode for episode in one if episode in other]
    if not shared:
        return None
    first, second = (np.array([errors[episode] for episode in shared]) for errors in (one, other))
    return float(np.mean(second - first)), *bootstrap_interval(first, second)


def _success_table(config: RthReproductionConfig, cells: Cells) -> list[str]:
    lines = [f"| policy | {' | '.join(config.tasks)} | all |", "|---" * (len(config.tasks) + 2) + "|"]
    rows = [(name, "success", name) for name in config.methods]
    rows += [(f"{RTH} + corrections", "helped", RTH), *((name, "success", name) for name in config.taught)]
    for shown, measure, method in rows:
        won = successes(_of(cells, measure, method))
        if not won:
            continue
        each = [_rate([success for (task, _, _), success in won.items() if task == name]) for name in config.tasks]
        lines.append(f"| {shown} | {' | '.join(each)} | {shown_rate(list(won.values()))} |")
    return lines


def _rate(won: Sequence[bool]) -> str:
    return f"{100 * sum(won) / len(won):.0f}" if won else "-"


def _error_table(config: RthReproductionConfig, cells: Cells) -> list[str]:
    lines = ["| policy | own motions | true motions |", "|---|---|---|"]
    for name in config.methods:
        means = []
        for motions in (PREDICTED, TRUE):
            found = [cell["mean"] for cell in _of(cells, f"error-{motions}", name)]
            means.append(f"{sum(found) / len(found):.4f}" if found else "-")
        if means != ["-", "-"]:
            lines.append(f"| {name} | {means[0]} | {means[1]} |")
    return lines


def _correction_lines(cells: Cells) -> list[str]:
    lines = []
    for cell in cells:
        if cell["measure"] == "corrections":
            tasks = ", ".join(
                f"{task} {of['corrections']} in {of['episodes']} successes of {of['attempts']} scenes"
                for task, of in cell["tasks"].items()
            )
            lines.append(f"- collected by {cell['method']}, seed {cell['seed']}: {tasks}")
        elif cell["measure"] == "helped":
            count = len(cell["episodes"])
            lines.append(f"- at test time, seed {cell['seed']}: {cell['corrections'] / max(count, 1):.1f} per episode")
        elif cell["measure"] == "change":
            lines.append(
                f"- {cell['method']}, seed {cell['seed']}: actions for the same true motions differ by "
                f"{cell['difference']:.4f} from those before (their mean size is {cell['size']:.4f})"
            )
    return lines
