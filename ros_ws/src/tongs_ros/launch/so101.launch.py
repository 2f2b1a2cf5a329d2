"""An SO-100 or SO-101 on this machine's serial port, driven through LeRobot, and a policy runner on it."""

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

SHARE = FindPackageShare("tongs_ros")


def generate_launch_description() -> LaunchDescription:
    policy = PythonLaunchDescriptionSource(PathJoinSubstitution([SHARE, "launch", "policy.launch.py"]))
    shared = ("policy", "topic_map", "limits", "params_file", "namespace", "log_level", "start")
    return LaunchDescription(
        [
            DeclareLaunchArgument(
                "arm", description="YAML file, a copy of configs/arm/so101.yaml with your port and id"
            ),
            DeclareLaunchArgument("policy", description="checkpoint or server; none of the shipped knows this arm"),
            DeclareLaunchArgument("topic_map", description="YAML file, such as configs/topic_map/so101.yaml of Tongs"),
            DeclareLaunchArgument("limits", description="YAML file, such as configs/limits/so101.yaml of Tongs"),
            DeclareLaunchArgument(
                "params_file",
                default_value=PathJoinSubstitution([SHARE, "config", "so101.yaml"]),
                description="parameter file of all nodes",
            ),
            DeclareLaunchArgument("namespace", default_value="", description="of all nodes"),
            DeclareLaunchArgument("log_level", default_value="info", description="debug, info, warn, error or fatal"),
            DeclareLaunchArgument("start", default_value="false", description="configure and activate the runner"),
            Node(
                package="tongs_ros",
                executable="arm_server",
                name="arm_server",
                namespace=LaunchConfiguration("namespace"),
                parameters=[
                    LaunchConfiguration("params_file"),
                    {"arm": ParameterValue(LaunchConfiguration("arm"), value_type=str)},
                ],
                arguments=["--ros-args", "--log-level", LaunchConfiguration("log_level")],
                output="screen",
            ),
            IncludeLaunchDescription(
                policy, launch_arguments={name: LaunchConfiguration(name) for name in shared}.items()
            ),
        ]
    )
