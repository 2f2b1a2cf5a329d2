"""What MoveIt Servo does with twists, without MoveIt: a tool that moves as it is told, while it is told."""

from __future__ import annotations

import threading
import time
from typing import Any

import numpy as np

from robot.control import quaternions
from robot.ros.clock import stamp
from robot.ros.servo import COMMAND_TYPE, TWIST_STAMPED
from robot.ros.transport import Transport
from robot.topic_map import TopicMap

TIMEOUT = 0.1
"""s: Servo's incoming_command_timeout."""

MAP: dict[str, Any] = {
    "robot_type": "servo_arm",
    "rate": 10,
    "max_age": 0.3,
    "state": [
        {"topic": "/tool", "type": "geometry_msgs/msg/PoseStamped", "pose": "columns", "frame": "base_link"},
        {"topic": "/joint_states", "type": "sensor_msgs/msg/JointState", "joints": ["finger"], "range": [0.0, 0.04],
         "names": ["gripper_opening"]},
    ],
    "action": {
        "kind": "ee_twist",
        "commands": [
            {"topic": "/servo_node/delta_twist_cmds", "type": TWIST_STAMPED, "twist": "speed_units",
             "frame": "base_link"},
            {"topic": "/hand", "type": "std_msgs/msg/Float64MultiArray", "time": "reception", "fields": ["data"],
             "names": ["gripper"], "range": [0.0, 0.04]},
        ],
    },
}  # fmt: skip


def topic_map(**twist: Any) -> TopicMap:
    """The arm's map, with changes to the entry of its twist."""
    commands = MAP["action"]["commands"]
    changed = [{**commands[0], **twist}, commands[1]]
    return TopicMap.parse({**MAP, "action": {**MAP["action"], "commands": changed}})


class ServoArm:
    """The tool at `position`, pointing down. `twists` are those that came, with their time of reception.

    Args:
        transport: of the graph.
        follows: share of the speed that is asked for which the tool goes at.
    """

    def __init__(self, transport: Transport, follows: float = 1.0) -> None:
        self.transport, self.follows = transport, follows
        self.position, self.quaternion = np.array([0.45, 0.0, 0.35]), (0.0, 1.0, 0.0, 0.0)
        self.opening, self.command_type, self.paused = 0.04, 0, True
        self.twists: list[tuple[float, np.ndarray, Any]] = []
        self._poses = transport.publisher("/tool", "geometry_msgs/msg/PoseStamped")
        self._states = transport.publisher("/joint_states", "sensor_msgs/msg/JointState")
        transport.subscribe("/servo_node/delta_twist_cmds", TWIST_STAMPED, self._hear)
        transport.subscribe("/hand", "std_msgs/msg/Float64MultiArray", self._hear_hand)
        transport.serve("/servo_node/switch_command_type", COMMAND_TYPE, self._switch)
        transport.serve("/servo_node/pause_servo", "std_srvs/srv/SetBool", self._pause)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def begin(self) -> ServoArm:
        self._thread.start()
        return self

    def close(self) -> None:
        self._ended.set()
        self._thread.join(timeout=5.0)

    def _hear(self, message: Any, arrived: int) -> None:
        parts = (message.twist.linear, message.twist.angular)
        twist = np.array([getattr(part, axis) for part in parts for axis in "xyz"])
        self.twists.append((time.monotonic(), twist, message.header))

    def _hear_hand(self, message: Any, arrived: int) -> None:
        self.opening = float(message.data[0])

    def _switch(self, request: Any) -> Any:
        self.command_type = int(request.command_type)
        return self.transport.make(f"{COMMAND_TYPE}_Response", success=0 <= self.command_type <= 2)

    def _pause(self, request: Any) -> Any:
        self.paused = bool(request.data)
        return self.transport.make("std_srvs/srv/SetBool_Response", success=True)

    def step(self, seconds: float) -> None:
        """The tool goes on by the newest twist, if that is not too old."""
        if self.twists and self.command_type == 1 and not self.paused:
            when, twist, header = self.twists[-1]
            if time.monotonic() - when < TIMEOUT and header.frame_id == "base_link":
                self.position = self.position + self.follows * seconds * twist[:3]
                turn = quaternions.from_vector((self.follows * seconds * twist[3:]).tolist())
                self.quaternion = quaternions.product(turn, self.quaternion)

    def tell(self) -> None:
        make = self.transport.make
        header = make("std_msgs/msg/Header", stamp=stamp(self.transport, self.transport.now()), frame_id="base_link")
        x, y, z = self.position.tolist()
        point = make("geometry_msgs/msg/Point", x=x, y=y, z=z)
        w, i, j, k = self.quaternion
        pose = make(
            "geometry_msgs/msg/Pose",
            position=point,
            orientation=make("geometry_msgs/msg/Quaternion", x=i, y=j, z=k, w=w),
        )
        self._poses.publish(make("geometry_msgs/msg/PoseStamped", header=header, pose=pose))
        position = np.array([self.opening])
        self._states.publish(make("sensor_msgs/msg/JointState", header=header, name=["finger"], position=position))

    def _run(self) -> None:
        before = time.monotonic()
        while not self._ended.wait(0.01):
            now = time.monotonic()
            self.step(now - before)
            before = now
            self.tell()
