"""What a node needs of ROS 2: topics and services by name, type and quality of service."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from robot.ros.quality import DEFAULT, Quality


class Publisher(Protocol):
    """One end of a topic."""

    @property
    def subscribers(self) -> int:
        """How many it reaches now."""
        ...

    def publish(self, message: Any) -> None: ...


class Transport(Protocol):
    """A participant of the ROS 2 graph. Names are absolute (`/joint_states`), types as in `sensor_msgs/msg/JointState`.

    Messages are of the transport's own classes, with the fields of their definitions; `robot.ros_messages` reads them.
    Callbacks run one at a time on a thread of the transport's, those for one peer's messages in the order in which it
    sent them, and must return soon. What a callback raises does not end the thread; it is handed to `on_error`.
    """

    def make(self, kind: str, /, **fields: Any) -> Any:
        """A message; fields that are not given are zero, empty or false."""
        ...

    def encode(self, message: Any, kind: str) -> bytes:
        """CDR with its header of 4 bytes, as it is on the wire and in a bag."""
        ...

    def now(self) -> int:
        """ns on the clock of header stamps."""
        ...

    def publisher(self, topic: str, kind: str, quality: Quality = DEFAULT) -> Publisher: ...

    def subscribe(
        self, topic: str, kind: str, heard: Callable[[Any, int], None], quality: Quality = DEFAULT
    ) -> Callable[[], int]:
        """Have `heard(message, arrived)` called with every message, `arrived` in ns. What is returned tells how many
        publishers reach it now."""
        ...

    def serve(self, service: str, kind: str, answer: Callable[[Any], Any]) -> None:
        """Offer a service such as `std_srvs/srv/Trigger`; `answer(request)` gives the response, or a `Future` of it
        if that takes longer."""
        ...

    def call(self, service: str, kind: str, request: Any, patience: float = 5.0) -> Any:
        """The response of a service; not from within a callback.

        Raises:
            UnreachableError: nobody offers it, or no answer came within `patience` s.
        """
        ...

    def close(self) -> None: ...
