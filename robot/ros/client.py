"""The other side of a policy runner and a simulated robot: puts up a scene, says what is wanted, waits for the end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from robot.errors import TongsError, UnreachableError
from robot.ros.quality import LATCHED
from robot.ros.runner import NAME
from robot.ros.transport import Transport
from robot.topic_map import SECOND

SIMULATED = "/simulated_robot"
SILENCE = 10.0
"""s after which a node that has said nothing is taken for gone; a machine may be busy."""
_REST = 1.0
_TRIGGER = "std_srvs/srv/Trigger"


@dataclass(frozen=True)
class DrivenEpisode:
    """How an episode over topics ended; `seconds` are of the robot's clock."""

    instruction: str
    success: bool
    seconds: float
    value: float
    goal: float


class Client:
    """Calls a runner's services and, of a simulated robot, those of its world.

    Args:
        transport: of the graph.
        runner, robot: names of the nodes.
        silence: see `SILENCE`.
        patience: s that a node may take to put up a scene, or to come to rest.
    """

    def __init__(
        self,
        transport: Transport,
        runner: str = NAME,
        robot: str = SIMULATED,
        silence: float = SILENCE,
        patience: float = 60.0,
    ) -> None:
        self._transport, self._runner, self._robot = transport, runner, robot
        self._silence, self._patience = silence, patience
        self._changed = threading.Condition()
        self._latest: dict[str, tuple[Any, float]] = {}
        for topic, kind in (("scene", "SceneStatus"), ("status", "PolicyStatus")):
            name = f"{robot if topic == 'scene' else runner}/{topic}"
            transport.subscribe(
                name, f"tongs_msgs/msg/{kind}", lambda message, _, topic=topic: self._hear(topic, message), LATCHED
            )

    def _hear(self, topic: str, message: Any) -> None:
        with self._changed:
            self._latest[topic] = message, time.monotonic()
            self._changed.notify_all()

    def latest(self, topic: str) -> Any:
        """The newest message of `scene` or `status`; None before the first."""
        with self._changed:
            return self._latest.get(topic, (None, 0.0))[0]

    def wait(self, topic: str, wanted: Any, patience: float) -> Any:
        """The first message of `scene` or `status` from now on for which `wanted(message)`.

        Raises:
            TongsError: none came within `patience` s, or the node has been silent for too long.
        """
        began = time.monotonic()
        with self._changed:
            while True:
                message, at = self._latest.get(topic, (None, began))
                if message is not None and at > began and wanted(message):
                    return message
                now = time.monotonic()
                if now - max(at, began) > self._silence:
                    node = self._robot if topic == "scene" else self._runner
                    raise TongsError(f"{node} has been silent for {self._silence:g} s")
                if now - began > patience:
                    raise TongsError(f"what was waited for on {topic} did not come within {patience:g} s")
                self._changed.wait(0.1)

    def call(self, service: str, kind: str, patience: float | None = None, **fields: Any) -> Any:
        """A service of the runner's (`start`) or, with its whole name, of any node.

        Raises:
            TongsError: it said no, and why; UnreachableError, nobody answered.
        """
        name = service if service.startswith("/") else f"{self._runner}/{service}"
        request = self._transport.make(f"{kind}_Request", **fields)
        response = self._transport.call(name, kind, request, patience or self._patience)
        if not response.success:
            raise TongsError(response.message)
        return response

    def episode(
        self,
        task: str = "",
        split: str = "test",
        index: int = 0,
        variant: str = "original",
        seed: int = 0,
        patience: float = 600.0,
    ) -> DrivenEpisode:
        """Put up a scene of the simulated robot, have the runner follow its policy there, and wait for the end.

        Args:
            task, split, index, variant: of the scene.
            seed: of the policy.
            patience: s on the machine's clock until the episode has to be over.

        Raises:
            TongsError: a node refuses something, or has gone.
        """
        self.bring_to_rest()
        reset = self.call(
            f"{self._robot}/reset",
            "tongs_msgs/srv/ResetScene",
            self._patience,
            task=task,
            split=split,
            index=index,
            variant=variant,
        )
        fresh = self.wait("scene", lambda scene: scene.index == index and scene.elapsed < 1.0, self._patience)
        self.call("run", "tongs_msgs/srv/StartRun", instruction=reset.instruction, seed=seed)
        try:
            self._go_on(fresh, fresh.horizon + 1.0, patience)
            end = self.wait("scene", lambda scene: scene.finished, patience)
        finally:
            self.bring_to_rest()
        return DrivenEpisode(reset.instruction, end.success, end.elapsed, end.value, end.goal)

    def bring_to_rest(self, go_on: Callable[[float], None] | None = None) -> None:
        """Have the runner stop, and let go of the arm.

        Args:
            go_on: lets the robot's clock go on by some seconds; None asks the simulated robot, if its clock stands.
        """
        status = self.wait("status", lambda status: True, self._patience)
        if status.state in ("idle", "emergency"):
            return
        if go_on is None:
            go_on = partial(self._go_on, self.wait("scene", lambda scene: True, self._patience))
        self.call("stop", _TRIGGER)
        go_on(_REST)
        self._release()
        go_on(0.1)

    def _release(self) -> None:
        """Let go of the arm, once it is at rest."""
        deadline = time.monotonic() + self._patience
        while True:
            try:
                self.call("release", _TRIGGER)
                return
            except UnreachableError:
                raise
            except TongsError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)

    def _go_on(self, scene: Any, seconds: float, patience: float | None = None) -> None:
        """If the robot's clock is one that stands, let it go on, and wait until it stands again."""
        if not scene.standing:
            return
        name, kind = f"{self._robot}/advance", "tongs_msgs/srv/Advance"
        before = _nanoseconds(self.call(name, kind, seconds=seconds, followers=1).now)

        def stands_again(now: Any) -> bool:
            return now.standing and _nanoseconds(now.header.stamp) > before

        self.wait("scene", stands_again, patience or self._patience)


def _nanoseconds(when: Any) -> int:
    return int(when.sec) * SECOND + int(when.nanosec)
