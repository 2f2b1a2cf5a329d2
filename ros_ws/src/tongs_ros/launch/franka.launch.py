"""A policy runner on a Franka FR3 or Panda whose driver (franka_ros2) is running, and the way to its gripper."""

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.substitutions import FindPackageShare

SHARE = FindPackageShare("tongs_ros")


def generate_launch_description() -> LaunchDescription:
    policy = PythonLaunchDescriptionSource(PathJoinSubstitution([SHARE, "launch", "policy.launch.py"]))
    shared = ("policy", "topic_map", "limits", "servo", "params_file", "namespace", "log_level", "start")
    return LaunchDescription(
        [
            DeclareLaunchArgument("topic_map", description="YAML file, such as configs/topic_map/franka.yaml of Tongs"),
            DeclareLaunchArgument("policy", default_value="beso", description="checkpoint or server"),
            DeclareLaunchArgument("limits", default_value="", description="YAML file of limits: give your table's"),
            DeclareLaunchArgument(
                "servo",
                default_value="",
                description="MoveIt Servo's node, such as /servo_node; then topic_map is one that tells twists",
            ),
            DeclareLaunchArgument(
                "params_file",
                default_value=PathJoinSubstitution([SHARE, "config", "franka.yaml"]),
                description="parameter file of all nodes",
            ),
            DeclareLaunchArgument("namespace", default_value="", description="of all nodes"),
            DeclareLaunchArgument("log_level", default_value="info", description="debug, info, warn, error or fatal"),
            DeclareLaunchArgument("start", default_value="false", description="configure and activate the runner"),
            DeclareLaunchArgument(
                "gripper_action",
                default_value="/franka_gripper/gripper_action",
                description="GripperCommand action of the gripper",
            ),
            IncludeLaunchDescription(
                policy, launch_arguments={name: LaunchConfiguration(name) for name in shared}.items()
            ),
            Node(
                package="tongs_ros",
                executable="gripper_action",
                name="gripper_action",
                namespace=LaunchConfiguration("namespace"),
                parameters=[LaunchConfiguration("params_file"), {"action": LaunchConfiguration("gripper_action")}],
                output="screen",
            ),
        ]
    )
