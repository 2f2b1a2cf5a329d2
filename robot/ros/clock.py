"""Simulated time: the clock that a simulated robot gives on /clock, and the nodes that follow it step by step.

ROS 2's own simulated time (`use_sim_time`) only tells the time; how far a node has come by then depends on the machine.
Here a node that follows also says, on /clock/grants, to which time the clock may go: it has done all it had to do
before. The clock goes on once everybody has said so. A slow machine then gives the same episode as a fast one.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from robot.errors import TongsError
from robot.ros.quality import DEFAULT, Quality
from robot.ros.transport import Publisher, Transport
from robot.topic_map import SECOND

CLOCK, GRANTS = "/clock", "/clock/grants"
_CLOCK, _GRANT = "rosgraph_msgs/msg/Clock", "tongs_msgs/msg/TimeGrant"
_FOREVER = 2**31 - 1
_ANEW = SECOND
"""ns by which a clock goes back that was begun anew; a message may come out of turn."""
_HEARTBEAT = 0.5
_PATIENCE = 60.0
"""s on the machine's clock after which a follower that says nothing has died; a machine may be busy. One whose process
has ended is known to be gone sooner, where the transport knows it."""


def stamp(transport: Transport, at: int) -> Any:
    """A builtin_interfaces/Time; `at` in ns."""
    return transport.make("builtin_interfaces/msg/Time", sec=at // SECOND, nanosec=at % SECOND)


class SteppedClock:
    """The clock of a simulated robot; `time` is in ns, and begins at 1 s since stamps of zero mean none.

    Args:
        transport: of the topics.
        heard: called when a follower has said something.
    """

    def __init__(self, transport: Transport, heard: Callable[[], None]) -> None:
        self.time = SECOND
        self._transport, self._heard = transport, heard
        self._lock = threading.Lock()
        self._granted: dict[str, tuple[int, float]] = {}
        self._publisher = transport.publisher(CLOCK, _CLOCK, Quality(depth=1))
        self._present = transport.subscribe(GRANTS, _GRANT, self._hear)

    def tell(self) -> None:
        self._publisher.publish(self._transport.make(_CLOCK, clock=stamp(self._transport, self.time)))

    @property
    def followers(self) -> int:
        with self._lock:
            return len(self._granted)

    def waits_for(self, until: int) -> list[str]:
        """The followers that do not let the clock go on to a time (ns) yet."""
        now = time.monotonic()
        with self._lock:
            nobody = bool(self._granted) and not self._present()
            for node in [node for node, (_, heard) in self._granted.items() if nobody or now - heard > _PATIENCE]:
                del self._granted[node]
            return [node for node, (granted, _) in self._granted.items() if granted < until]

    def _hear(self, message: Any, arrived: int) -> None:
        with self._lock:
            if message.until.sec >= _FOREVER:
                self._granted.pop(message.node, None)
            else:
                granted = int(message.until.sec) * SECOND + int(message.until.nanosec)
                self._granted[message.node] = granted, time.monotonic()
        self._heard()


class SimulatedTime:
    """A transport whose clock is /clock; `pace` is that of a control loop by it.

    Args:
        transport: whose topics and services it has.
        node: name of the node that follows.
        patience: s to wait for the first word of the clock.

    Raises:
        TongsError: nobody gives the time.
    """

    def __init__(self, transport: Transport, node: str, patience: float = 30.0) -> None:
        self._transport, self._node = transport, node
        self._changed = threading.Condition()
        self._time = 0
        self._until = 0
        self._ended = threading.Event()
        self.pace = SimulatedPace(self)
        transport.subscribe(CLOCK, _CLOCK, self._hear, Quality(reliable=False, depth=1))
        self._grants = transport.publisher(GRANTS, _GRANT)
        self._thread = threading.Thread(target=self._beat, name="clock", daemon=True)
        self._thread.start()
        with self._changed:
            if not self._changed.wait_for(lambda: self._time > 0, patience):
                raise TongsError(f"nobody has given the time on {CLOCK} for {patience:g} s: clock=real needs no clock")

    # --- the clock

    def _hear(self, message: Any, arrived: int) -> None:
        told = int(message.clock.sec) * SECOND + int(message.clock.nanosec)
        with self._changed:
            if told > self._time or told < self._time - _ANEW:
                if told < self._time:
                    self._until = told
                self._time = told
            self._changed.notify_all()

    def wait(self, at: int, ended: threading.Event) -> None:
        """Let the clock go on to a time (ns), and return when it is there, was begun anew, or `ended` is set."""
        with self._changed:
            before, self._until = self._time, max(self._until, at)
        self._grant()
        with self._changed:
            while self._time < at and self._time >= before - _ANEW and not ended.is_set():
                self._changed.wait(0.05)

    def leave(self) -> None:
        """Say that the clock need not wait any more, until `wait` is called again."""
        end = self._transport.make("builtin_interfaces/msg/Time", sec=_FOREVER)
        with self._changed:
            self._until = 0
            self._grants.publish(self._transport.make(_GRANT, node=self._node, until=end))

    def _grant(self) -> None:
        with self._changed:
            if self._until:
                when = stamp(self._transport, self._until)
                self._grants.publish(self._transport.make(_GRANT, node=self._node, until=when))

    def _beat(self) -> None:
        """Say it again and again: a clock that came later has not heard it, and who is silent is taken for dead."""
        while not self._ended.wait(_HEARTBEAT):
            self._grant()

    # --- the transport

    def now(self) -> int:
        with self._changed:
            return self._time

    def make(self, kind: str, /, **fields: Any) -> Any:
        return self._transport.make(kind, **fields)

    def encode(self, message: Any, kind: str) -> bytes:
        return self._transport.encode(message, kind)

    def publisher(self, topic: str, kind: str, quality: Quality = DEFAULT) -> Publisher:
        return self._transport.publisher(topic, kind, quality)

    def subscribe(
        self, topic: str, kind: str, heard: Callable[[Any, int], None], quality: Quality = DEFAULT
    ) -> Callable[[], int]:
        return self._transport.subscribe(topic, kind, lambda message, _: heard(message, self.now()), quality)

    def serve(self, service: str, kind: str, answer: Callable[[Any], Any]) -> None:
        self._transport.serve(service, kind, answer)

    def call(self, service: str, kind: str, request: Any, patience: float = 5.0) -> Any:
        return self._transport.call(service, kind, request, patience)

    def close(self) -> None:
        self._ended.set()
        self._thread.join(timeout=2.0)
        self._transport.close()


class SimulatedPace:
    """A control loop's `robot.control.pace.Pace` by a simulated clock."""

    def __init__(self, clock: SimulatedTime) -> None:
        self._clock = clock

    def now(self) -> float:
        return self._clock.now() / SECOND

    def wait(self, due: float, ended: threading.Event) -> None:
        self._clock.wait(round(due * SECOND), ended)

    def leave(self) -> None:
        self._clock.leave()
