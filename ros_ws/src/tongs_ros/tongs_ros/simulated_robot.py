"""The simulated robot as a node: joint states, cameras and trajectory controllers of our MuJoCo arm."""

from __future__ import annotations

import threading
from typing import Any

from sim.ros_robot import SimulatedRobot
from tongs_ros.spinning import run_plain


def _run(node: Any, transport: Any, parameters: dict[str, Any], ended: threading.Event) -> None:
    logger = node.get_logger()
    robot = SimulatedRobot(
        transport,
        parameters["task"],
        parameters["clock"],
        node.get_fully_qualified_name(),
        lambda text: logger.warning(text, throttle_duration_sec=1.0),
    )
    robot.run(ended)


def main() -> None:
    run_plain("simulated_robot", _run)
