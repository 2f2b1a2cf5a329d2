"""ROS 2 itself as a `robot.ros.transport.Transport`, on a node of rclpy."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from rclpy.callback_groups import MutuallyExclusiveCallbackGroup, ReentrantCallbackGroup
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.serialization import serialize_message
from rosidl_runtime_py.utilities import get_message, get_service

from robot.errors import TongsError, UnreachableError
from robot.ros.quality import DEFAULT, Quality
from tongs_ros.fields import convert


class RclpyPublisher:
    """One end of a topic; see `robot.ros.transport.Publisher`."""

    def __init__(self, publisher: Any) -> None:
        self._publisher = publisher

    @property
    def subscribers(self) -> int:
        return self._publisher.get_subscription_count()

    def publish(self, message: Any) -> None:
        self._publisher.publish(message)


class RclpyTransport:
    """Topics and services of a node; names, namespaces and remapping are ROS 2's.

    Callbacks of topics run one at a time, those of services beside them; the node needs a `MultiThreadedExecutor`.

    Args:
        node: of rclpy, also a lifecycle node.
    """

    def __init__(self, node: Any) -> None:
        self._node = node
        self._heard, self._served = MutuallyExclusiveCallbackGroup(), MutuallyExclusiveCallbackGroup()
        self._called = ReentrantCallbackGroup()
        self._clients: dict[str, Any] = {}

    def make(self, kind: str, /, **fields: Any) -> Any:
        made = _class_of(kind)()
        kinds = made.get_fields_and_field_types()
        for name, value in fields.items():
            if name not in kinds:
                raise TongsError(f"{kind} has no field {name}; it has {', '.join(kinds)}")
            setattr(made, name, convert(value, kinds[name]))
        return made

    def encode(self, message: Any, kind: str) -> bytes:
        return serialize_message(message)

    def now(self) -> int:
        return self._node.get_clock().now().nanoseconds

    def publisher(self, topic: str, kind: str, quality: Quality = DEFAULT) -> RclpyPublisher:
        return RclpyPublisher(self._node.create_publisher(_class_of(kind), topic, _profile(quality)))

    def subscribe(
        self, topic: str, kind: str, heard: Callable[[Any, int], None], quality: Quality = DEFAULT
    ) -> Callable[[], int]:
        def take(message: Any) -> None:
            self._reporting(topic, lambda: heard(message, self.now()))

        self._node.create_subscription(_class_of(kind), topic, take, _profile(quality), callback_group=self._heard)
        return lambda: self._node.count_publishers(topic)

    def serve(self, service: str, kind: str, answer: Callable[[Any], Any]) -> None:
        def take(request: Any, response: Any) -> Any:
            given = answer(request)
            return given.result() if isinstance(given, Future) else given

        self._node.create_service(get_service(kind), service, take, callback_group=self._served)

    def call(self, service: str, kind: str, request: Any, patience: float = 5.0) -> Any:
        if service not in self._clients:
            self._clients[service] = self._node.create_client(get_service(kind), service, callback_group=self._called)
        client = self._clients[service]
        if not client.wait_for_service(timeout_sec=patience):
            raise UnreachableError(f"nobody has offered the service {service} for {patience:g} s")
        answered = threading.Event()
        asked = client.call_async(request)
        asked.add_done_callback(lambda _: answered.set())
        if not answered.wait(patience):
            client.remove_pending_request(asked)
            raise UnreachableError(f"the service {service} has not answered within {patience:g} s")
        return asked.result()

    def close(self) -> None:
        """The node's owner destroys it, and with it all of this."""

    def _reporting(self, shown: str, action: Callable[[], None]) -> None:
        try:
            action()
        except Exception as error:  # what a callback raises must not end the executor
            self._node.get_logger().error(f"{shown}: {error}", throttle_duration_sec=1.0)


def _class_of(kind: str) -> Any:
    """The class of a message, or of a service's request or response (`pkg/srv/Name_Request`)."""
    for part in ("Request", "Response"):
        if kind.endswith(f"_{part}"):
            return getattr(get_service(kind.removesuffix(f"_{part}")), part)
    return get_message(kind)


def _profile(quality: Quality) -> QoSProfile:
    reliability, durability = ReliabilityPolicy, DurabilityPolicy
    return QoSProfile(
        history=HistoryPolicy.KEEP_ALL if quality.depth is None else HistoryPolicy.KEEP_LAST,
        depth=quality.depth or 0,
        reliability=reliability.RELIABLE if quality.reliable else reliability.BEST_EFFORT,
        durability=durability.TRANSIENT_LOCAL if quality.latched else durability.VOLATILE,
    )
