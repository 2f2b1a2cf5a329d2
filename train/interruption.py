"""Being asked to stop: Ctrl-C, or a cluster that takes its machine back (SIGTERM)."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interruption:
    """The first signal is remembered, for the run to end after its current step; the second ends it hard.

    Attributes:
        requested: whether the run shall end.

    Args:
        alone: whether this is the run's only process; torchrun passes a signal on to all of them that have it already,
            so there a second one means nothing.
    """

    def __init__(self, alone: bool) -> None:
        self.requested = False
        self._alone = alone
        self._at_once = False

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Within this context signals are dealt with, as far as it is in the main thread."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self._handle) for number in _SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Within this context a signal does not wait for the end of the block: it goes on behind it."""
        self._at_once = True
        try:
            yield
        except KeyboardInterrupt:
            self.requested = True
        finally:
            self._at_once = False

    def _handle(self, *_: object) -> None:
        again, self.requested = self.requested, True
        if self._at_once or (again and self._alone):
            raise KeyboardInterrupt
