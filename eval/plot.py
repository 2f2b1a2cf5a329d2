"""A plot of goal against reached value, as an SVG that needs nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from matplotlib.ticker import MaxNLocator

from eval.progress import quantity

SIDE, LEFT, TOP = 300.0, 46.0, 10.0
"""Side of the plotted square and its offset, in SVG units."""


def goal_plot(episodes: Sequence[Mapping[str, Any]], tolerance: float, factor: float, unit: str) -> str:
    """Goal on x, reached value on y, with the band of success |y - x| <= tolerance.

    Args:
        episodes: entries of `results.json` with goal, reached, success, failure, scene and instruction.
        tolerance: largest error that counts as reached, in the task's unit.
        factor: display units per task unit.
        unit: display unit.
    """
    values = [factor * episode[key] for episode in episodes for key in ("goal", "reached")]
    ticks = [float(tick) for tick in MaxNLocator(5).tick_values(min(values), max(values) + 1e-9)]
    low, high = ticks[0], ticks[-1]
    scale = SIDE / (high - low)

    def x(value: float) -> str:
        return f"{LEFT + (value - low) * scale:.1f}"

    def y(value: float) -> str:
        return f"{TOP + (high - value) * scale:.1f}"

    band = factor * tolerance
    corners = [(low, low - band), (high, high - band), (high, high + band), (low, low + band)]
    parts = [
        f'<svg class="plot" viewBox="0 0 {LEFT + SIDE + 12} {TOP + SIDE + 44}" role="img">',
        f'<clipPath id="square"><rect x="{LEFT}" y="{TOP}" width="{SIDE}" height="{SIDE}"/></clipPath>',
        f'<polygon class="band" clip-path="url(#square)" points="{" ".join(f"{x(a)},{y(b)}" for a, b in corners)}"/>',
        f'<line class="diagonal" x1="{x(low)}" y1="{y(low)}" x2="{x(high)}" y2="{y(high)}"/>',
    ]
    for tick in ticks:
        parts.append(f'<line class="grid" x1="{x(low)}" y1="{y(tick)}" x2="{x(high)}" y2="{y(tick)}"/>')
        parts.append(f'<line class="grid" x1="{x(tick)}" y1="{y(low)}" x2="{x(tick)}" y2="{y(high)}"/>')
        parts.append(f'<text class="tick" x="{LEFT - 8}" y="{y(tick)}" dy="4" text-anchor="end">{tick:g}</text>')
        parts.append(f'<text class="tick" x="{x(tick)}" y="{TOP + SIDE + 18}" text-anchor="middle">{tick:g}</text>')
    middle = LEFT + SIDE / 2
    parts.append(f'<text class="axis" x="{middle}" y="{TOP + SIDE + 38}" text-anchor="middle">goal, {unit}</text>')
    parts.append(
        f'<text class="axis" transform="translate(12 {TOP + SIDE / 2}) rotate(-90)" text-anchor="middle">'
        f"reached, {unit}</text>"
    )
    for episode in sorted(episodes, key=lambda episode: not episode["success"], reverse=True):
        goal, reached = factor * episode["goal"], factor * episode["reached"]
        kind = "success" if episode["success"] else "failure"
        outcome = f"({quantity(goal, unit)} → {quantity(reached, unit)})"
        failure = f", {episode['failure']}" if episode["failure"] else ""
        title = f"scene {episode['scene']}: {escape(episode['instruction'])} {outcome}{failure}"
        parts.append(f'<circle class="{kind}" cx="{x(goal)}" cy="{y(reached)}" r="4"><title>{title}</title></circle>')
    return "\n".join([*parts, "</svg>"])
