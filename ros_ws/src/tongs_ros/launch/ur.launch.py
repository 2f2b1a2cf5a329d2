"""A policy runner on a Universal Robots arm whose driver (ur_robot_driver) is running; its policy tells joints, or
MoveIt Servo twists."""

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.substitutions import FindPackageShare

SHARE = FindPackageShare("tongs_ros")


def generate_launch_description() -> LaunchDescription:
    policy = PythonLaunchDescriptionSource(PathJoinSubstitution([SHARE, "launch", "policy.launch.py"]))
    shared = ("policy", "topic_map", "urdf", "limits", "servo", "params_file", "namespace", "log_level", "start")
    return LaunchDescription(
        [
            DeclareLaunchArgument("policy", description="checkpoint or server; none of the shipped knows this arm"),
            DeclareLaunchArgument("topic_map", description="YAML file, such as configs/topic_map/ur.yaml of Tongs"),
            DeclareLaunchArgument(
                "urdf",
                default_value="",
                description="URDF file of the arm, for the limits of its joints; not with servo",
            ),
            DeclareLaunchArgument(
                "servo",
                default_value="",
                description="MoveIt Servo's node, such as /servo_node; then topic_map is one that tells twists",
            ),
            DeclareLaunchArgument("limits", default_value="", description="YAML file of limits: give your table's"),
            DeclareLaunchArgument(
                "params_file",
                default_value=PathJoinSubstitution([SHARE, "config", "ur.yaml"]),
                description="parameter file of the runner",
            ),
            DeclareLaunchArgument("namespace", default_value="", description="of the node"),
            DeclareLaunchArgument("log_level", default_value="info", description="debug, info, warn, error or fatal"),
            DeclareLaunchArgument("start", default_value="false", description="configure and activate the runner"),
            IncludeLaunchDescription(
                policy, launch_arguments={name: LaunchConfiguration(name) for name in shared}.items()
            ),
        ]
    )
