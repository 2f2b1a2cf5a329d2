"""MoveIt Servo as the way to an arm: it is told to take twists, and a watch-dog tells the tool to stand."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable

from robot.errors import TongsError, UnreachableError
from robot.ros.transport import Transport

TWIST_STAMPED = "geometry_msgs/msg/TwistStamped"
COMMAND_TYPE = "moveit_msgs/srv/ServoCommandType"
TWIST_COMMAND = 1
"""Servo's number for twists, of joint jogs (0), twists and poses (2)."""
_PAUSE = "std_srvs/srv/SetBool"
_AGAIN, _TIMES = 0.02, 5
"""A zero twist is sent so many times, s apart: a single message may be lost."""


def take_twists(transport: Transport, node: str, patience: float = 10.0) -> None:
    """Have a Servo node listen to twists, and go on if it was paused; nothing moves by it.

    Args:
        transport: of the graph.
        node: name of the Servo node, such as /servo_node.
        patience: s for each of its services.

    Raises:
        TongsError: there is no such node, or it refuses.
    """
    request = transport.make(f"{COMMAND_TYPE}_Request", command_type=TWIST_COMMAND)
    pause = transport.make(f"{_PAUSE}_Request", data=False)
    try:
        switched = transport.call(f"{node}/switch_command_type", COMMAND_TYPE, request, patience)
        resumed = transport.call(f"{node}/pause_servo", _PAUSE, pause, patience)
    except UnreachableError as error:
        raise TongsError(f"MoveIt Servo is not there as {node}: {error}") from error
    if not switched.success:
        raise TongsError(f"MoveIt Servo ({node}) refuses to take twists")
    if not resumed.success:
        raise TongsError(f"MoveIt Servo ({node}) does not leave its pause: {resumed.message or 'it says no reason'}")


class Watchdog:
    """Calls `act`, a few times in a row, when it has been fed and then is not fed any more.

    Args:
        act: such as sending a zero twist; on a thread of the watch-dog's.
        patience: s from one feeding to the next.
    """

    def __init__(self, act: Callable[[], None], patience: float) -> None:
        self._act, self._patience = act, patience
        self._changed = threading.Condition()
        self._fed = 0
        threading.Thread(target=self._watch, name="watch-dog", daemon=True).start()

    def feed(self) -> None:
        with self._changed:
            self._fed += 1
            self._changed.notify_all()

    def _watch(self) -> None:
        seen = 0
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._fed > seen)  # noqa: B023  called before it returns
                seen = self._fed
            if not self._fed_within(seen, self._patience):
                for _ in range(_TIMES):
                    with contextlib.suppress(Exception):  # a transport that fails, or is closed; it is tried again
                        self._act()
                    if self._fed_within(seen, _AGAIN):
                        break

    def _fed_within(self, seen: int, seconds: float) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: self._fed > seen, seconds)
