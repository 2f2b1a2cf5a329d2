"""Who controls the robot: one of several clients, the others see who, and what happens when that one is gone."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Literal

from robot.errors import TongsError

Presence = Literal["nobody", "here", "silent", "gone"]


class Holder:
    """At most one client holds the control; it keeps it while it gives signs of life.

    Args:
        silent: s without a sign of life after which the robot is to hold.
        gone: s after which it is to stop, and the control is free again.
        clock: s.
    """

    def __init__(self, silent: float = 1.0, gone: float = 5.0, clock: Callable[[], float] = time.monotonic) -> None:
        if not 0 < silent < gone:
            raise TongsError(f"need 0 < silent < gone, got {silent} and {gone}")
        self._silent, self._gone, self._clock = silent, gone, clock
        self._lock = threading.Lock()
        self._client: str | None = None
        self._name = ""
        self._alive = 0.0

    @property
    def name(self) -> str:
        """Of the one who holds the control; "" if nobody does."""
        return self._name if self._client is not None else ""

    def take(self, client: str, name: str) -> None:
        """Raises TongsError if somebody else holds the control."""
        with self._lock:
            if self._client not in (None, client):
                raise TongsError(f"{self._name} holds the control; ask them to release it")
            self._client, self._name, self._alive = client, name, self._clock()

    def release(self, client: str) -> None:
        with self._lock:
            if self._client == client:
                self._client = None

    def alive(self, client: str) -> None:
        """A sign of life."""
        with self._lock:
            if self._client == client:
                self._alive = self._clock()

    def holds(self, client: str) -> bool:
        return self._client == client

    def require(self, client: str) -> None:
        """Raises TongsError unless this client holds the control."""
        with self._lock:
            if self._client is None:
                raise TongsError("nobody holds the control; take it first")
            if self._client != client:
                raise TongsError(f"{self._name} holds the control; only the emergency stop is for everybody")
            self._alive = self._clock()

    def presence(self) -> Presence:
        """Of the holder; once it is `gone` the control is free."""
        with self._lock:
            if self._client is None:
                return "nobody"
            away = self._clock() - self._alive
            if away > self._gone:
                self._client = None
                return "gone"
            return "silent" if away > self._silent else "here"
