"""The game pad as a node: a person takes over, corrects in words, hands back."""

from __future__ import annotations

import threading
from typing import Any

from robot.ros.teleop import Pad, Teleop
from tongs_ros.spinning import run_plain


def _run(node: Any, transport: Any, parameters: dict[str, Any], ended: threading.Event) -> None:
    namespace = node.get_namespace().rstrip("/")
    teleop = Teleop(
        transport,
        Pad(**parameters),
        node.get_fully_qualified_name(),
        f"{namespace}/policy_runner",
        node.get_logger().warning,
    )
    try:
        ended.wait()
    finally:
        teleop.close()


def main() -> None:
    run_plain("teleop", _run)
