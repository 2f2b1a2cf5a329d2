"""The live view of an evaluation: a table of success so far, and a bar."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from eval.statistics import Episode, Rate, rate, task_statistics

DISPLAY = {"m": (100.0, "cm"), "deg": (1.0, "°"), "fraction": (100.0, "%"), "subgoals": (1.0, "sub-goals")}
"""How a goal in a task's own unit is shown to people: (factor, unit)."""


def quantity(value: float, unit: str) -> str:
    """A displayed value with its unit: "3.1 cm", "40.0°", never "-0.0"."""
    number = f"{round(value, 1) + 0.0:.1f}"
    return f"{number}{unit}" if unit == "°" else f"{number}\N{NO-BREAK SPACE}{unit}"


class LiveView:
    """A context that redraws the table after each finished episode.

    `units` gives the unit of each task's goal, in the order of the rows; `finished` are the episodes of each task that
    an earlier run has done.
    """

    def __init__(
        self, units: dict[str, str], finished: Mapping[str, Sequence[Episode]], total: int, console: Console
    ) -> None:
        self._units = units
        self._finished = {task: list(finished[task]) for task in units}
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
        )
        self._bar_task = self._bar.add_task("episodes", total=total, completed=sum(map(len, finished.values())))
        self._live = Live(self._render(), console=console, refresh_per_second=4)

    def __enter__(self) -> LiveView:
        self._live.__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        self._live.__exit__(None, None, None)
        if not self._live.console.is_terminal:
            self._live.console.line()

    def add(self, task: str, episode: Episode) -> None:
        self._finished[task].append(episode)
        self._bar.advance(self._bar_task)
        self._live.update(self._render())

    def start_films(self, total: int) -> None:
        self._bar.update(self._bar_task, description="videos", completed=0, total=total)

    def advance(self) -> None:
        self._bar.advance(self._bar_task)

    def _render(self) -> Group:
        return Group(success_table(self._finished, self._units), self._bar)


def success_table(finished: Mapping[str, Sequence[Episode]], units: Mapping[str, str]) -> Table:
    """One row per task and, with several tasks, one for all of them."""
    table = Table(header_style="bold", box=None, padding=(0, 1))
    table.add_column("task", no_wrap=True)
    for column in ("success", "rate", "95 % interval", "median error", "steps"):
        table.add_column(column, justify="right", no_wrap=True)
    for task, episodes in finished.items():
        if not episodes:
            table.add_row(task, "0/0", "", "", "", "")
            continue
        of_task = task_statistics(episodes)
        factor, unit = DISPLAY[units[task]]
        error = quantity(factor * of_task.median_error, unit)
        table.add_row(task, *_rate_cells(of_task), error, f"{of_task.mean_length:.0f}")
        for number, counted in enumerate(of_task.subgoals, 1):
            table.add_row(f"  {number} or more sub-goals", *_rate_cells(counted), "", "", style="dim")
    every = [episode for episodes in finished.values() for episode in episodes]
    if len(finished) > 1 and every:
        table.add_section()
        table.add_row("all", *_rate_cells(rate(every)), "", f"{_mean_length(every):.0f}", style="bold")
    return table


def _rate_cells(counted: Rate) -> tuple[str, str, str]:
    low, high = counted.interval
    return (
        f"{counted.successes}/{counted.episodes}",
        f"{100 * counted.success_rate:.0f} %",
        f"{100 * low:.0f} to {100 * high:.0f} %",
    )


def _mean_length(episodes: Sequence[Episode]) -> float:
    return sum(episode.length for episode in episodes) / len(episodes)
