"""The parameters of the nodes: declared with type, range and description; known here without rclpy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Parameter:
    """A parameter of a node; its type is that of the default. All are read when the node is configured.

    Attributes:
        choices: the words that it may be; any if there are none.
        low, high: the range of a number.
    """

    default: Any
    description: str
    choices: tuple[str, ...] = ()
    low: float | None = None
    high: float | None = None

    def problem(self, value: Any) -> str:
        """What is wrong with a value, "" if nothing is."""
        if isinstance(value, bool) != isinstance(self.default, bool) or not isinstance(value, type(self.default)):
            return f"must be of type {type(self.default).__name__}, got {value!r}"
        if self.choices and value not in self.choices:
            return f"must be one of {', '.join(self.choices)}, got {value!r}"
        if self.low is not None and self.high is not None and not self.low <= value <= self.high:
            return f"must be from {self.low:g} to {self.high:g}, got {value!r}"
        return ""


POLICY_RUNNER: Mapping[str, Parameter] = {
    "policy": Parameter(
        "beso",
        "a checkpoint's folder, the name of a shipped one, remote:<address of a policy server>, or expert for the "
        "simulated robot's",
    ),
    "topic_map": Parameter("", "YAML file that says what the robot's topics mean; empty for the simulated robot's"),
    "limits": Parameter("", "YAML file of limits that replace the Panda's or the URDF's; empty for these"),
    "urdf": Parameter("", "URDF file of an arm that is no Panda; its policy tells joint positions"),
    "servo": Parameter(
        "", "MoveIt Servo's node, such as /servo_node, for a topic map that tells it twists; empty to leave it as it is"
    ),
    "execution": Parameter(
        "asynchronous", "how chunks are followed", ("synchronous", "asynchronous", "ensemble", "rtc")
    ),
    "execute": Parameter(4, "actions from one request to the next", low=1, high=1000),
    "command_rate": Parameter(50.0, "commands per second, in Hz", low=1.0, high=1000.0),
    "lerobot_action_space": Parameter(
        "", "what the actions of a LeRobot checkpoint mean, where it does not say", ("", "ee_delta", "so_arm")
    ),
    "device": Parameter("cpu", "where the policy computes, such as cuda"),
    "patience": Parameter(30.0, "s to wait for the robot's topics when the node is configured", low=0.1, high=3600.0),
    "estop_topic": Parameter("/emergency_stop", "std_msgs/Bool that stops the arm at once; empty for none"),
    "estop_required": Parameter(False, "refuse to configure while nobody publishes the emergency stop"),
}
SIMULATED_ROBOT: Mapping[str, Parameter] = {
    "task": Parameter("open_drawer", "the first scene's task"),
    "clock": Parameter(
        "real",
        "the machine's clock; or the robot's own on /clock: simulated, or stepped, which stands until told to go on",
        ("real", "simulated", "stepped"),
    ),
}
ARM_SERVER: Mapping[str, Parameter] = {
    "arm": Parameter("", "YAML file that says what drives the arm, such as configs/arm/so101.yaml of Tongs"),
}
EPISODE_RECORDER: Mapping[str, Parameter] = {
    "topic_map": Parameter("", "YAML file that says what the robot's topics mean; empty for the simulated robot's"),
    "output": Parameter("bags", "folder for the bags"),
}
TELEOP: Mapping[str, Parameter] = {
    "x": Parameter(1, "axis of /joy that moves the tool forward; -1 for none", low=-1, high=63),
    "y": Parameter(0, "axis that moves it to the left", low=-1, high=63),
    "z": Parameter(4, "axis that moves it up", low=-1, high=63),
    "roll": Parameter(-1, "axis that turns it about x", low=-1, high=63),
    "pitch": Parameter(-1, "axis that turns it about y", low=-1, high=63),
    "yaw": Parameter(3, "axis that turns it about z", low=-1, high=63),
    "speed": Parameter(0.15, "m/s at full deflection", low=0.001, high=1.0),
    "turning": Parameter(0.6, "rad/s at full deflection", low=0.001, high=3.0),
    "dead_man": Parameter(4, "button that has to be held to drive", low=0, high=63),
    "hand_back": Parameter(3, "button with which the policy goes on", low=0, high=63),
    "grip": Parameter(0, "button that opens and closes the gripper", low=0, high=63),
    "stop": Parameter(1, "button of the emergency stop", low=0, high=63),
}
GRIPPER_ACTION: Mapping[str, Parameter] = {
    "joint": Parameter("finger_left", "joint of the commands on /hand_controller/joint_trajectory"),
    "action": Parameter("/franka_gripper/gripper_action", "control_msgs/GripperCommand action of the gripper"),
    "scale": Parameter(1.0, "position of the action for 1 m of the joint", low=0.001, high=1000.0),
    "effort": Parameter(20.0, "N, the most that the gripper presses", low=0.0, high=1000.0),
}
NODES: Mapping[str, Mapping[str, Parameter]] = {
    "policy_runner": POLICY_RUNNER,
    "simulated_robot": SIMULATED_ROBOT,
    "arm_server": ARM_SERVER,
    "episode_recorder": EPISODE_RECORDER,
    "teleop": TELEOP,
    "gripper_action": GRIPPER_ACTION,
}


def declare(node: Any, parameters: Mapping[str, Parameter]) -> None:
    """Declare a node's parameters with rclpy."""
    from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor

    for name, parameter in parameters.items():
        descriptor = ParameterDescriptor(description=parameter.description)
        if parameter.choices:
            descriptor.additional_constraints = f"one of {', '.join(parameter.choices)}"
        if parameter.low is not None and parameter.high is not None:
            if isinstance(parameter.default, int):
                whole = IntegerRange(from_value=int(parameter.low), to_value=int(parameter.high), step=1)
                descriptor.integer_range = [whole]
            else:
                span = FloatingPointRange(from_value=float(parameter.low), to_value=float(parameter.high), step=0.0)
                descriptor.floating_point_range = [span]
        node.declare_parameter(name, parameter.default, descriptor)


def read(node: Any, parameters: Mapping[str, Parameter]) -> dict[str, Any]:
    """The values of a node's parameters. Raises TongsError for one that may not be."""
    from robot.errors import TongsError

    values = {name: node.get_parameter(name).value for name in parameters}
    for name, parameter in parameters.items():
        if problem := parameter.problem(values[name]):
            raise TongsError(f"parameter {name} {problem}")
    return values
