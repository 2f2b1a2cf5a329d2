"""A transport within this process, with a clock that stands until it is moved: topics and services without a wire."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from robot.errors import UnreachableError
from robot.ros import definitions
from robot.ros.quality import DEFAULT, Quality


class MemoryPublisher:
    def __init__(self, graph: MemoryTransport, topic: str, kind: str, quality: Quality) -> None:
        self._graph, self._topic, self._kind, self._quality = graph, topic, kind, quality

    @property
    def subscribers(self) -> int:
        return len(self._graph.heard[self._topic, self._kind])

    def publish(self, message: Any) -> None:
        assert message.__msgtype__ == self._kind
        for heard, asked in self._graph.heard[self._topic, self._kind]:
            if self._quality.reaches(asked):
                heard(message, self._graph.time)


class MemoryTransport:
    """Delivers at once, by topic, type and quality; `time` (ns) is the clock."""

    def __init__(self) -> None:
        self.time = 10**18
        self.heard: dict[tuple[str, str], list[tuple[Callable[[Any, int], None], Quality]]] = defaultdict(list)
        self.services: dict[str, str] = {}
        self._services: dict[tuple[str, str], Callable[[Any], Any]] = {}

    def make(self, kind: str, /, **fields: Any) -> Any:
        return definitions.make(kind, **fields)

    def encode(self, message: Any, kind: str) -> bytes:
        return bytes(definitions.store().serialize_cdr(message, kind))

    def now(self) -> int:
        return self.time

    def publisher(self, topic: str, kind: str, quality: Quality = DEFAULT) -> MemoryPublisher:
        return MemoryPublisher(self, topic, kind, quality)

    def subscribe(
        self, topic: str, kind: str, heard: Callable[[Any, int], None], quality: Quality = DEFAULT
    ) -> Callable[[], int]:
        self.heard[topic, kind].append((heard, quality))
        return lambda: 1

    def serve(self, service: str, kind: str, answer: Callable[[Any], Any]) -> None:
        self._services[service, kind] = answer
        self.services[service] = kind

    def call(self, service: str, kind: str, request: Any, patience: float = 5.0) -> Any:
        if (service, kind) not in self._services:
            raise UnreachableError(f"nobody has offered the service {service} for {patience:g} s")
        given = self._services[service, kind](request)
        return given.result(timeout=patience) if isinstance(given, Future) else given

    def close(self) -> None:
        pass
