"""What the reports of reproductions share: success with its interval, differences of pairs, and the list of claims."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from eval.paired import paired_rates
from eval.results import write_text
from eval.statistics import wilson_interval

Cells = Sequence[dict[str, Any]]
Claims = list[tuple[str, bool]]
"""Each claim whose numbers are there, with the numbers, and whether it holds."""
Episode = TypeVar("Episode", bound=Hashable)


def write_report(folder: Path, title: str, lines: Sequence[str], claims: Claims) -> Path:
    """`report.md`; returns it."""
    held = [f"- {'holds' if held else 'does not hold'}: {text}" for text, held in claims]
    report = folder / "report.md"
    write_text("\n".join([f"# {title}\n", *lines, "\n## Claims\n", *held]) + "\n", report)
    return report


def successes(cells: Cells) -> dict[tuple[str, int, int], bool]:
    """Of every episode by task, scene and seed."""
    return {(task, scene, cell["seed"]): won for cell in cells for task, scene, won in cell["episodes"]}


def gap(first: Mapping[Episode, bool], second: Mapping[Episode, bool]) -> tuple[float, float, float] | None:
    """By how many points the second succeeds more often in the episodes that both have, with the 95 % interval."""
    shared = [episode for episode in first if episode in second]
    if not shared:
        return None
    rates = paired_rates([first[episode] for episode in shared], [second[episode] for episode in shared])
    return 100 * rates.difference, 100 * rates.interval[0], 100 * rates.interval[1]


def shown_gap(points: float, low: float, high: float) -> str:
    return f"{points:+.1f} [{low:+.1f}, {high:+.1f}]"


def shown_rate(won: Collection[bool]) -> str:
    """Per cent, with the 95 % interval of Wilson."""
    low, high = wilson_interval(sum(won), len(won))
    return f"{100 * sum(won) / len(won):.0f} [{100 * low:.0f}, {100 * high:.0f}]"


def error_bar(won: Collection[bool]) -> tuple[float, list[list[float]]]:
    """A success rate, and how far its Wilson interval reaches below and above it, as matplotlib takes them."""
    mean, (low, high) = sum(won) / len(won), wilson_interval(sum(won), len(won))
    return mean, [[max(0.0, mean - low)], [max(0.0, high - mean)]]  # at 0 and 1 rounding may put it on the other side
