"""Batches prepared by a thread while the previous one trains."""

from __future__ import annotations

import queue
import threading
from typing import Any

from data.sampling import EpochSampler, Samples
from data.windows import CHANCES, Batch


class Prefetcher:
    """Endless batches of `windows` in the sampler's order, a few ahead of their use.

    `state_dict` speaks of the batches handed out, not of those prepared, so that a resumed run goes on with the
    batch after the last one used.

    Args:
        windows: where batches are cut from.
        sampler: which windows make a batch; several processes with equal samplers go through the same batches.
        rows: the rows of every batch that are wanted here; the other processes take the rest.
        ahead: batches that lie ready.
    """

    def __init__(self, windows: Samples, sampler: EpochSampler, rows: slice = slice(None), ahead: int = 2) -> None:
        self._windows = windows
        self._sampler = sampler
        self._rows = rows
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
                indices, chances = self._sampler.next_batch(), self._sampler.chances(CHANCES)
                batch = self._windows.batch(indices[self._rows], chances[self._rows])
                self._ready.put((batch, self._sampler.state_dict()))
        except BaseException as error:
            self._ready.put(error)
