"""A gripper that takes goals instead of trajectories: /hand_controller/joint_trajectory to a GripperCommand action."""

from __future__ import annotations

import threading
from typing import Any

from control_msgs.action import GripperCommand
from rclpy.action import ActionClient
from trajectory_msgs.msg import JointTrajectory

from tongs_ros.spinning import run_plain


def _run(node: Any, transport: Any, parameters: dict[str, Any], ended: threading.Event) -> None:
    client = ActionClient(node, GripperCommand, parameters["action"])
    logger = node.get_logger()

    def hear(message: Any) -> None:
        """The newest goal replaces the one before; the runner sends one only when the opening changes."""
        if parameters["joint"] not in message.joint_names or not message.points:
            logger.warning(f"a gripper command without {parameters['joint']}", throttle_duration_sec=1.0)
            return
        position = message.points[-1].positions[list(message.joint_names).index(parameters["joint"])]
        goal = GripperCommand.Goal()
        goal.command.position = parameters["scale"] * float(position)
        goal.command.max_effort = parameters["effort"]
        client.send_goal_async(goal)

    if not client.wait_for_server(timeout_sec=10.0):
        logger.warning(f"nobody offers {parameters['action']} yet")
    node.create_subscription(JointTrajectory, "/hand_controller/joint_trajectory", hear, 10)
    ended.wait()


def main() -> None:
    run_plain("gripper_action", _run)
