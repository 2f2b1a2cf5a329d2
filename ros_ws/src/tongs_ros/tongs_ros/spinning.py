"""What every node's `main` does: rclpy up, the node served by threads beside the main one, and all down in order."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable
from typing import Any

import rclpy
from rclpy.executors import MultiThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

from robot.errors import TongsError
from tongs_ros.parameters import NODES, declare, read
from tongs_ros.transport import RclpyTransport

_THREADS = 6


def serve(node: Any) -> MultiThreadedExecutor:
    """Have a node's callbacks called, by threads of an executor; `shutdown` ends it."""
    executor = MultiThreadedExecutor(_THREADS)
    executor.add_node(node)
    threading.Thread(target=executor.spin, name="executor", daemon=True).start()
    return executor


def run(make: Callable[[], Any], work: Callable[[Any, threading.Event], None]) -> None:
    """Make a node and do its work on the main thread.

    SIGINT and SIGTERM set the event that `work` is given; rclpy stays up until it returns, so that an arm can still be
    told to stop.
    """
    ended = threading.Event()
    rclpy.init(args=sys.argv, signal_handler_options=SignalHandlerOptions.NO)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    node = make()
    executor = serve(node)
    try:
        work(node, ended)
    except TongsError as error:
        node.get_logger().fatal(str(error))
        raise SystemExit(2) from error
    finally:
        executor.shutdown(timeout_sec=2.0)
        node.destroy_node()
        rclpy.try_shutdown()


def run_plain(name: str, work: Callable[[Node, RclpyTransport, dict[str, Any], threading.Event], None]) -> None:
    """A node without a life cycle: `work` gets the node, its transport, its parameters, and the event of its end."""

    def make() -> Node:
        node = Node(name)
        declare(node, NODES[name])
        return node

    run(make, lambda node, ended: work(node, RclpyTransport(node), read(node, NODES[name]), ended))


class OwnTransport(RclpyTransport):
    """A transport with a node, an executor and an rclpy of its own, for a program that is no node otherwise; `close`
    takes them all down.

    Args:
        name: of the node.
        domain: of ROS 2; None takes ROS_DOMAIN_ID.
    """

    def __init__(self, name: str, domain: int | None) -> None:
        rclpy.init(args=[], domain_id=domain, signal_handler_options=SignalHandlerOptions.NO)
        self._own = Node(name)
        super().__init__(self._own)
        self._executor = serve(self._own)

    def close(self) -> None:
        self._executor.shutdown(timeout_sec=2.0)
        self._own.destroy_node()
        rclpy.try_shutdown()
