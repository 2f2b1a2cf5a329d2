"""A person at a game pad: takes over while a button is held, corrects in words, hands back."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from robot.errors import TongsError
from robot.interface import EE_DELTA
from robot.ros.chunk import KIND, chunk_message
from robot.ros.quality import DEFAULT
from robot.ros.runner import NAME as RUNNER
from robot.ros.transport import Transport
from robot.topic_map import SECOND

NAME = "/teleop"
_TRIGGER = "std_srvs/srv/Trigger"


@dataclass(frozen=True)
class Pad:
    """What the axes and buttons of a sensor_msgs/Joy mean; the defaults are those of a common pad under ROS 2's joy.

    Attributes:
        x, y, z, roll, pitch, yaw: axes of the tool's motion in the base frame; -1 for none.
        speed, turning: m/s and rad/s at full deflection.
        dead_man: the person drives while this button is held, and the arm stops when it is let go.
        hand_back: the policy goes on.
        grip: opens and closes the gripper.
        stop: emergency stop.
    """

    x: int = 1
    y: int = 0
    z: int = 4
    roll: int = -1
    pitch: int = -1
    yaw: int = 3
    speed: float = 0.15
    turning: float = 0.6
    dead_man: int = 4
    hand_back: int = 3
    grip: int = 0
    stop: int = 1


class Teleop:
    """Hears `/joy` (sensor_msgs/Joy) and `~/correction` (std_msgs/String: words of the person), and tells a policy
    runner.

    Args:
        transport: of the graph.
        pad: what its axes and buttons mean.
        name: of the node; `~` above.
        runner: name of the policy runner.
        on_error: told what the runner refused.
    """

    def __init__(
        self,
        transport: Transport,
        pad: Pad | None = None,
        name: str = NAME,
        runner: str = RUNNER,
        on_error: Callable[[str], None] = print,
    ) -> None:
        self._transport, self._pad, self._runner, self._on_error = transport, pad or Pad(), runner, on_error
        self._before: tuple[int, ...] = ()
        self._opening = 1.0
        self._driving = threading.Event()
        self._asked: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._operate = transport.publisher(f"{runner}/operate", KIND)
        self._correct = transport.publisher(f"{runner}/correction", "tongs_msgs/msg/Correction")
        transport.subscribe("/joy", "sensor_msgs/msg/Joy", self._hear_pad, DEFAULT)
        transport.subscribe(f"{name}/correction", "std_msgs/msg/String", self._hear_words)
        self._thread = threading.Thread(target=self._ask, name="teleop", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._asked.put(None)
        self._thread.join(timeout=2.0)

    def _hear_pad(self, message: Any, arrived: int) -> None:
        buttons, pad = tuple(int(value) for value in message.buttons), self._pad
        before, self._before = self._before or (0,) * len(buttons), buttons

        def held(button: int, among: tuple[int, ...] = buttons) -> bool:
            return 0 <= button < len(among) and bool(among[button])

        def pressed(button: int) -> bool:
            return held(button) and not held(button, before)

        if pressed(pad.stop):
            self._asked.put("emergency_stop")
        if pressed(pad.dead_man):
            self._asked.put("take_over")
        if pressed(pad.hand_back) and not held(pad.dead_man):
            self._driving.clear()
            self._asked.put("hand_back")
        if pressed(pad.grip) and held(pad.dead_man):
            self._opening = 1.0 - self._opening
        if self._driving.is_set():
            self._drive(np.asarray(message.axes, np.float64) if held(pad.dead_man) else np.zeros(0))

    def _drive(self, axes: np.ndarray) -> None:
        """What the sticks say; without axes the arm stands still."""
        pad = self._pad

        def deflection(axis: int) -> float:
            value = float(axes[axis]) if 0 <= axis < len(axes) else 0.0
            return min(max(value, -1.0), 1.0) if np.isfinite(value) else 0.0

        way = [pad.speed / EE_DELTA.rate * deflection(axis) for axis in (pad.x, pad.y, pad.z)]
        turn = [pad.turning / EE_DELTA.rate * deflection(axis) for axis in (pad.roll, pad.pitch, pad.yaw)]
        action = np.array([[*way, *turn, self._opening]], np.float32)
        self._operate.publish(chunk_message(self._transport, self._header(), action))

    def _hear_words(self, message: Any, arrived: int) -> None:
        text = message.data.strip()
        if text:
            kind = "tongs_msgs/msg/Correction"
            fields = {"header": self._header(), "text": text, "source": "human", "confidence": 1.0}
            self._correct.publish(self._transport.make(kind, **fields))

    def _header(self) -> Any:
        now = self._transport.now()
        when = self._transport.make("builtin_interfaces/msg/Time", sec=now // SECOND, nanosec=now % SECOND)
        return self._transport.make("std_msgs/msg/Header", stamp=when, frame_id="base")

    def _ask(self) -> None:
        """Services are not called from within callbacks."""
        while (service := self._asked.get()) is not None:
            request = self._transport.make(f"{_TRIGGER}_Request")
            try:
                response = self._transport.call(f"{self._runner}/{service}", _TRIGGER, request)
            except TongsError as error:
                self._on_error(str(error))
                continue
            if not response.success:
                self._on_error(f"{service}: {response.message}")
            elif service == "take_over":
                self._driving.set()
                with suppress(TongsError):
                    self._drive(np.zeros(0))
            else:
                self._driving.clear()
