"""The tables and the figure of Code as Policies' reproduction, and which of its claims hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eval import reproduction_report
from eval.reproduce_cap import FAILURES, FLAT, PROGRAMS, SUITES, UNREPAIRED, WAYS
from eval.reproduction_report import Cells, Claims, error_bar, gap, shown_gap, shown_rate
from eval.statistics import wilson_interval

if TYPE_CHECKING:
    from eval.reproduce_cap import CapReproductionConfig

Outcomes = Mapping[Any, bool]
"""Success by episode."""
ENOUGH = 85
"""Points of success on unseen attributes in seen forms that programs have to reach."""


def write_report(config: CapReproductionConfig, cells: Cells, folder: Path) -> Path:
    """`report.md` with the tables and the claims, and `figure.png`; returns the report."""
    columns = [(s, a, i) for s in config.suites for a in config.attributes for i in config.instructions]
    counts = {"tabletop": f"{config.episodes} of each table-top task", "compose": f"{config.compositions} of compose"}
    lines = [
        f"Test scenes in every combination: {', '.join(counts[suite] for suite in config.suites)}, the same for all "
        "methods; success in per cent as the checkers on the simulator's state judge it, with 95 % intervals (Wilson). "
        f"A program that failed is given back up to {config.repairs} times, unless the row says otherwise. Columns: "
        "attributes (colours, shapes) / instructions, each seen (in prompts and training) or unseen.\n",
        "## Success\n",
        *_table(config, cells, columns),
        "\n## Programs by task\n",
        *_by_task(cells, columns),
        "\n## Why programs failed\n",
        "Episodes that failed: the answer was no program (model), it ended with an error of its own (program) or with "
        "a request that could not be fulfilled (robot), it ran to its end and did something else (wrong result), or it "
        "had no end (time).\n",
        *_failures(config, cells),
    ]
    _figure(config, cells, columns, folder / "figure.png")
    title, held = "Code as Policies on the table-top and on longer tasks", claims(cells, config.policies)
    return reproduction_report.write_report(folder, title, lines, held)


def claims(cells: Cells, policies: Sequence[str]) -> Claims:
    """Each claim whose numbers are there, with the numbers, and whether it holds."""
    held: Claims = []
    if won := outcomes(cells, PROGRAMS, suite="tabletop", attributes="unseen", instructions="seen"):
        text = f"programs reach {ENOUGH} % on unseen attributes in seen forms: {shown_rate(won.values())} %"
        held.append((text, 100 * sum(won.values()) >= ENOUGH * len(won)))
    programs = outcomes(cells, PROGRAMS, suite="compose")
    for policy in policies:
        other = outcomes(cells, policy, suite="compose")
        if programs and other:
            ours, theirs = shown_rate(programs.values()), shown_rate(other.values())
            text = f"on compositions programs {ours} are above {policy} {theirs}"
            apart = _interval(programs)[0] > _interval(other)[1]
            more = gap(other, programs)
            difference = f" ({shown_gap(*more)} points)" if more else ""
            held.append((f"{text}, intervals apart{difference}", apart))
    for other, words in ((FLAT, "hierarchical generation is above flat"), (UNREPAIRED, "repairs help")):
        if more := gap(outcomes(cells, other), outcomes(cells, PROGRAMS)):  # over all that was measured of both
            held.append((f"{words}: {shown_gap(*more)} points", more[1] > 0))
    return held


def outcomes(cells: Cells, method: str, **where: str) -> Outcomes:
    """Success of a method by (task, scene, attributes, instructions), in the cells of which `where` is true."""
    return {
        (task, scene, cell["attributes"], cell["instructions"]): bool(won)
        for cell in cells
        if cell["method"] == method and all(cell[name] == value for name, value in where.items())
        for task, scene, won in cell["episodes"]
    }


def _interval(won: Outcomes) -> tuple[float, float]:
    return wilson_interval(sum(won.values()), len(won))


def _table(config: CapReproductionConfig, cells: Cells, columns: Sequence[tuple[str, str, str]]) -> list[str]:
    heads = [f"{suite}, {attributes} / {instructions}" for suite, attributes, instructions in columns]
    lines = ["| method | " + " | ".join(heads) + " |", "|---" * (len(heads) + 1) + "|"]
    for method in config.methods:
        each = [outcomes(cells, method, suite=s, attributes=a, instructions=i) for s, a, i in columns]
        lines.append(f"| {method} | " + " | ".join(shown_rate(won.values()) if won else "-" for won in each) + " |")
    return lines


def _by_task(cells: Cells, columns: Sequence[tuple[str, str, str]]) -> list[str]:
    kinds = list(dict.fromkeys((attributes, instructions) for _, attributes, instructions in columns))
    lines = ["| task | " + " | ".join(" / ".join(kind) for kind in kinds) + " |", "|---" * (len(kinds) + 1) + "|"]
    for task in (task for suite in dict.fromkeys(suite for suite, _, _ in columns) for task in SUITES[suite]):
        parts = []
        for attributes, instructions in kinds:
            found = outcomes(cells, PROGRAMS, attributes=attributes, instructions=instructions)
            won = [success for (name, *_), success in found.items() if name == task]
            parts.append(shown_rate(won) if won else "-")
        lines.append(f"| {task} | " + " | ".join(parts) + " |")
    return lines


def _failures(config: CapReproductionConfig, cells: Cells) -> list[str]:
    lines = [
        "| way | " + " | ".join(FAILURES) + " | answers per episode | tokens | seconds | cost |",
        "|---" * (len(FAILURES) + 5) + "|",
    ]
    for way in config.ways:
        own = [cell for cell in cells if cell["method"] == way]
        episodes = sum(len(cell["episodes"]) for cell in own)
        if episodes:
            counts = [str(sum(cell["failures"][name] for cell in own)) for name in FAILURES]
            used = {
                key: sum(cell["usage"].get(key, 0) for cell in own) / episodes
                for key in ("completions", "completion_tokens", "seconds", "cost")
            }
            shown = [f"{used['completions']:.1f}", f"{used['completion_tokens']:.0f}", f"{used['seconds']:.2f}"]
            lines.append(f"| {way} | " + " | ".join([*counts, *shown, f"{used['cost']:.4f}"]) + " |")
    return lines


def _figure(config: CapReproductionConfig, cells: Cells, columns: Sequence[tuple[str, str, str]], file: Path) -> None:
    """A group of bars for each suite and combination, a bar for each method."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(max(6.0, 1.5 * len(columns)), 4), layout="constrained")
    axes = figure.subplots()
    width = 0.8 / len(config.methods)
    for number, method in enumerate(config.methods):
        for place, (suite, attributes, instructions) in enumerate(columns):
            won = outcomes(cells, method, suite=suite, attributes=attributes, instructions=instructions)
            if not won:
                continue
            at, (mean, error) = place - 0.4 + (number + 0.5) * width, error_bar(won.values())
            shown = method if method in WAYS else Path(method).name
            axes.bar(at, mean, width, color=f"C{number}", label=shown if place == 0 else None)
            axes.errorbar(at, mean, error, color="black", capsize=2, linewidth=0.8)
    heads = [f"{suite}\n{attributes} attributes\n{instructions} words" for suite, attributes, instructions in columns]
    axes.set_xticks(range(len(columns)), heads, fontsize=7)
    axes.set(ylabel="success", ylim=(0, 1.02))
    axes.legend(fontsize=7)
    figure.savefig(file, dpi=130)
