"""The report of an evaluation: one HTML file that holds everything it shows."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2
from markupsafe import Markup

from eval.plot import goal_plot
from eval.progress import DISPLAY, quantity
from eval.results import write_text
from sim.outcome import FAILURES

if TYPE_CHECKING:
    from eval.worker import Film


def write_report(results: Mapping[str, Any], films: Mapping[tuple[str, int], Film], path: Path) -> None:
    """Write the report of a `results.json`.

    Args:
        results: the fields of `results.json`.
        films: by (task, scene), shown beside the pictures of their goals; episodes without one are in the numbers only.
        path: the HTML file.
    """
    sections = [_section(task, results, films) for task in results["tasks"]]
    settings = {key: results[key] for key in ("policy", "protocol", "machine", "versions", "commit")}
    page = render_page(
        "report.html.j2", results=results, sections=sections, labels=FAILURES, settings=json.dumps(settings, indent=2)
    )
    write_text(page, path)


def render_page(template: str, **fields: Any) -> str:
    """One of this folder's templates, filled in."""
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters["percent"] = lambda share: f"{100 * share:.0f}"
    text = resources.files("eval").joinpath(template).read_text(encoding="utf-8")
    return environment.from_string(text).render(**fields)


def _section(task: str, results: Mapping[str, Any], films: Mapping[tuple[str, int], Film]) -> dict[str, Any]:
    """What the template shows of one task, in display units."""
    statistics = results["tasks"][task]
    factor, unit = DISPLAY[statistics["unit"]]
    episodes = [episode for episode in results["episodes"] if episode["task"] == task]
    shown = [episode | _said(episode, factor, unit) for episode in episodes]
    return {
        "task": task,
        "title": task.replace("_", " ").capitalize(),
        "statistics": statistics,
        "timing": results["timing"]["tasks"][task],
        "median_error": quantity(factor * statistics["median_error"], unit),
        "mean_error": quantity(factor * statistics["mean_error"], unit),
        "tolerance": quantity(factor * statistics["tolerance"], unit),
        "plot": "" if statistics["subgoals"] else Markup(goal_plot(episodes, statistics["tolerance"], factor, unit)),
        "failed": [episode for episode in shown if not episode["success"]],
        "films": [
            episode | _sources(films[task, episode["scene"]]) for episode in shown if (task, episode["scene"]) in films
        ],
    }


def _sources(film: Film) -> dict[str, str | None]:
    """A film and the picture of its goal as addresses that hold what they point to."""
    return {
        "source": "data:video/mp4;base64," + base64.b64encode(film.video).decode(),
        "goal_picture": "data:image/png;base64," + base64.b64encode(film.goal).decode() if film.goal else None,
    }


def _said(episode: Mapping[str, Any], factor: float, unit: str) -> dict[str, str]:
    """Goal and reached value of an episode for people; of a longer task the sub-goals, and how many were reached."""
    if "subgoals" in episode:
        names = ", ".join(name.replace("_", " ") for name in episode["subgoals"])
        return {"goal": names, "reached": f"{episode['reached']:.0f} of {len(episode['subgoals'])}"}
    return {key: quantity(factor * episode[key], unit) for key in ("goal", "reached")}
