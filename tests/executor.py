"""Workers without processes of their own, which need seconds to begin."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any


class InThisProcess:
    """A `sim.executors.Executor` that does each job at once, where it is asked for."""

    slots = 1

    def __init__(self, name: str, make: Callable[[], Any], processes: int) -> None:
        self._make, self._worker = make, None

    def submit(self, method: str, jobs: Sequence[tuple[Any, ...]]) -> list[Future[Any]]:
        done: list[Future[Any]] = [Future() for _ in jobs]
        for future, job in zip(done, jobs, strict=True):
            try:
                self._worker = self._worker or self._make()
                future.set_result(getattr(self._worker, method)(*job))
            except Exception as error:
                future.set_exception(error)
        return done

    def __enter__(self) -> InThisProcess:
        return self

    def __exit__(self, *exception: object) -> None:
        self._worker = None
