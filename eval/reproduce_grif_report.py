"""The tables and the figure of GRIF's reproduction, and which of its claims hold."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eval import reproduction_report
from eval.reproduction_report import Cells, Claims, error_bar, gap, shown_gap, shown_rate, successes

if TYPE_CHECKING:
    from eval.reproduce_grif import GrifReproductionConfig

Grid = dict[tuple[str, float], list[dict[str, Any]]]
"""(method, per cent of labels) -> the cells of all seeds."""
AT = 10.0
"""Per cent of labels at which methods are compared."""


def write_report(config: GrifReproductionConfig, cells: Cells, folder: Path) -> Path:
    """`report.md` with the three tables and the claims, and `figure.png`; returns the report."""
    language, image, found = (_grid(cells, measure) for measure in ("language", "image", "retrieval"))
    labels = list(dict.fromkeys(sorted((*config.labels, *config.ablation_labels))))
    heads = [f"{percent:g} %" for percent in labels]
    lines = [
        f"Tasks: {', '.join(config.tasks)}. {config.seeds} seed(s), {config.train_steps} steps of {config.batch_size} "
        f"windows each after {config.align_steps} steps of alignment; {config.episodes} test scenes per task and seed; "
        "95 % intervals (Wilson). Columns: trajectories with an instruction.\n",
        "## Success, told in instructions and wordings that no training has\n",
        *_table(config.methods, language, labels, heads, _success),
        "\n## Success, told by a picture of the wanted outcome\n",
        *_table(config.methods, image, labels, heads, _success),
        "\n## Retrieval: the right transition among the 5 nearest to a text\n",
        *_table(config.methods, found, labels, heads, _accuracy),
        f"\n{_retrieval_note(found)}" if found else "",
    ]
    _figure(language, found, folder / "figure.png")
    title = "GRIF on scenes with two things to move"
    return reproduction_report.write_report(folder, title, lines, claims(language, image, found))


def claims(language: Grid, image: Grid, found: Grid) -> Claims:
    held: Claims = []
    for other, least in (("LCBC", 15), ("no-start", 0), ("no-align", 0)):
        if more := _gap(language, (other, AT), ("GRIF", AT)):
            points, low, _ = more
            text = f"at {AT:g} % labels GRIF is above {other} by {least or 'more than 0'} points"
            held.append((f"{text}: {shown_gap(*more)}", points >= least and low > 0))
    percents = sorted({percent for name, percent in image if name == "GRIF"})
    best = AT if AT in percents else next(iter(percents), AT)
    if more := _gap(image, ("goal-BC", 0.0), ("GRIF", best)):
        points, _, high = more
        text = f"told by pictures GRIF ({best:g} % labels) is not worse than goal-BC, by at most 5 points"
        held.append((f"{text}: {shown_gap(*more)}", high >= 0 and points >= -5))
    curve = [_accuracy(found["GRIF", percent]) for percent in sorted(p for name, p in found if name == "GRIF")]
    if len(curve) > 1:
        values = [float(text.split()[0]) for text in curve]
        grows = all(before <= after for before, after in zip(values, values[1:], strict=False))
        held.append((f"retrieval grows with the labels: {', '.join(curve)}", grows))
    return held


def _grid(cells: Cells, measure: str) -> Grid:
    grid: Grid = {}
    for cell in cells:
        if cell["measure"] == measure:
            grid.setdefault((cell["method"], float(cell["labels"])), []).append(cell)
    return grid


def _gap(grid: Grid, first: tuple[str, float], second: tuple[str, float]) -> tuple[float, float, float] | None:
    return gap(successes(grid.get(first, ())), successes(grid.get(second, ())))


def _success(cells: Cells) -> str:
    return shown_rate(list(successes(cells).values()))


def _accuracy(cells: Cells) -> str:
    return f"{100 * sum(cell['accuracy'] for cell in cells) / len(cells):.1f} %"


def _retrieval_note(found: Grid) -> str:
    cell = next(iter(found.values()))[0]
    return f"Batches of {cell['batch']} held-out episodes; chance is {100 * cell['chance']:.1f} %."


def _table(methods: Sequence[str], grid: Grid, labels: Sequence[float], heads: Sequence[str], show: Any) -> list[str]:
    """One row per method; what needs no labels stands in every column."""
    lines = ["| method | " + " | ".join(heads) + " |", "|---" * (len(heads) + 1) + "|"]
    for name in methods:
        cells = [grid.get((name, percent)) or grid.get((name, 0.0)) for percent in labels]
        if any(cells):
            lines.append(f"| {name} | " + " | ".join(show(of) if of else "-" for of in cells) + " |")
    return lines


def _figure(language: Grid, found: Grid, file: Path) -> None:
    """Left: success in words over labels. Right: retrieval over labels."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for number, name in enumerate(dict.fromkeys(name for name, _ in (*language, *found))):
        colour = f"C{number}"
        points = []
        for percent in sorted(percent for method, percent in language if method == name):
            won = list(successes(language[name, percent]).values())
            mean, ((below,), (above,)) = error_bar(won)
            points.append((percent, mean, below, above))
        if points:
            at, mean, below, above = zip(*points, strict=True)
            left.errorbar(at, mean, [below, above], fmt="o-", color=colour, capsize=3, label=name)
        curve = [
            (percent, sum(cell["accuracy"] for cell in cells) / len(cells))
            for (method, percent), cells in sorted(found.items())
            if method == name
        ]
        if curve:
            right.plot(*zip(*curve, strict=True), "o-", color=colour, label=name)
    left.set(xlabel="trajectories with an instruction (%)", ylabel="success in unseen words", ylim=(0, 1.02))
    right.set(xlabel="trajectories with an instruction (%)", ylabel="top-5 retrieval", ylim=(0, 1.02))
    for axes in (left, right):
        axes.set_xscale("log")
        if axes.has_data():
            axes.legend(fontsize=7)
    figure.savefig(file, dpi=130)
