"""Batches prepared by a thread while the previous one trains."""

from __future__ import annotations

import queue
import threading
from typing import Any

from data.sampling import EpochSampler
from data.windows import Batch, Windows


class Prefetcher:
    """Endless batches of `windows` in the sampler's order, a few ahead of their use.

    `state_dict` speaks of the batches handed out, not of those prepared, so that a resumed run goes on with the
    batch after the last one used.
    """

    def __init__(self, windows: Windows, sampler: EpochSampler, ahead: int = 2) -> None:
        self._windows = windows
        self._sampler = sampler
        self._state = sampler.state_dict()
        self._ready: queue.Queue[tuple[Batch, dict[str, Any]] | BaseException] = queue.Queue(ahead)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="prefetch", daemon=True)

    def __enter__(self) -> Prefetcher:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        while self._thread.is_alive():
            try:
                self._ready.get(timeout=0.05)
            except queue.Empty:
                continue

    def next_batch(self) -> Batch:
        """The next batch; what went wrong in the thread is raised here."""
        item = self._ready.get()
        if isinstance(item, BaseException):
            raise item
        batch, self._state = item
        return batch

    def state_dict(self) -> dict[str, Any]:
        return self._state

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                batch = self._windows.batch(self._sampler.next_batch())
                self._ready.put((batch, self._sampler.state_dict()))
        except BaseException as error:
            self._ready.put(error)
