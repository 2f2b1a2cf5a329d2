"""The line that shows how a run is doing."""

from __future__ import annotations

from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn


class RunProgress:
    """A bar with step, loss, samples per second and the time left; messages appear above it."""

    def __init__(self) -> None:
        self._progress = Progress(
            TextColumn("step {task.fields[step]}"),
            BarColumn(),
            TextColumn("loss {task.fields[loss]:.4f}  {task.fields[rate]:.0f} samples/s"),
            TimeRemainingColumn(),
        )
        self._bar: TaskID | None = None

    def __enter__(self) -> RunProgress:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def update(self, spent: float, step: int, loss: float, rate: float) -> None:
        """`spent` is the part of the budget that is used up, 0 to 1."""
        if self._bar is None:
            self._bar = self._progress.add_task("training", total=1.0, step=step, loss=loss, rate=rate)
        self._progress.update(self._bar, completed=spent, step=step, loss=loss, rate=rate)

    def say(self, text: str) -> None:
        self._progress.console.print(text, highlight=False)
