"""An arm that this process drives as a node: joint states, cameras and trajectory controllers of a real one."""

from __future__ import annotations

import threading
from typing import Any

from robot.adapters.opening import open_arm
from robot.errors import TongsError
from robot.ros.arm_server import ArmServer
from tongs_ros.spinning import run_plain


def _run(node: Any, transport: Any, parameters: dict[str, Any], ended: threading.Event) -> None:
    if not parameters["arm"]:
        raise TongsError("which arm? the parameter arm is empty; give it the arm's YAML file")
    logger = node.get_logger()
    arm = open_arm(parameters["arm"])
    try:
        ArmServer(transport, arm, lambda text: logger.warning(text, throttle_duration_sec=1.0)).run(ended)
    finally:
        arm.close()


def main() -> None:
    run_plain("arm_server", _run)
