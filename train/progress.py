"""The line that shows how a run is doing."""

from __future__ import annotations

import time
from datetime import timedelta

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

SECONDS_BETWEEN_LINES = 10.0


class RunProgress:
    """A bar with step, loss, samples per second and the time left; messages appear above it.

    Where the output is no terminal, such as the log file of a cluster job, it is a line every ten seconds instead.

    Args:
        shown: False keeps it all quiet, for the processes of a run that are not the main one.
        spent: the part of the budget that is used up at the start, 0 to 1.
    """

    def __init__(self, shown: bool, spent: float) -> None:
        self._console = Console(quiet=not shown)
        self._bar = Progress(TextColumn("{task.description}"), BarColumn(), console=self._console, disable=not shown)
        self._task = self._bar.add_task("", total=1.0, visible=False)
        self._spent_before, self._started = spent, time.monotonic()
        self._last_line = 0.0

    def __enter__(self) -> RunProgress:
        if self._console.is_terminal:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._console.is_terminal:
            self._bar.stop()

    def update(self, spent: float, step: int, loss: float, rate: float) -> None:
        """`spent` is the part of the budget that is used up, 0 to 1; `rate` is in samples per second."""
        text = f"step {step}  loss {loss:.4f}  {rate:.0f} samples/s  {self._left(spent)} left"
        now = time.monotonic()
        if self._console.is_terminal:
            self._bar.update(self._task, completed=spent, description=text, visible=True)
        elif now - self._last_line > SECONDS_BETWEEN_LINES:
            self.say(text)
            self._last_line = now

    def say(self, text: str) -> None:
        self._console.print(text, highlight=False, soft_wrap=True)

    def _left(self, spent: float) -> str:
        """The time that the rest will take at the speed so far, evaluations included."""
        done = spent - self._spent_before
        if done <= 0:
            return "?"
        return str(timedelta(seconds=round((time.monotonic() - self._started) * (1.0 - spent) / done)))
