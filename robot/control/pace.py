"""The clock that a control loop keeps to."""

from __future__ import annotations

import threading
import time
from typing import Protocol


class Pace(Protocol):
    """A clock that never runs backwards, but for one that is begun anew; s."""

    def now(self) -> float: ...

    def wait(self, due: float, ended: threading.Event) -> None:
        """Return when the clock says `due`, when it was begun anew, or once `ended` is set."""
        ...

    def leave(self) -> None:
        """The loop has ended; nobody needs to wait for it."""
        ...


class RealPace:
    """The machine's own clock."""

    def now(self) -> float:
        return time.monotonic()

    def wait(self, due: float, ended: threading.Event) -> None:
        if (left := due - time.monotonic()) > 0:
            time.sleep(left)

    def leave(self) -> None:
        pass
