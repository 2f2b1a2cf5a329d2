"""An episode recorder and, if wanted, a game pad beside a policy runner."""

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument
from launch.conditions import IfCondition
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

SHARE = FindPackageShare("tongs_ros")


def generate_launch_description() -> LaunchDescription:
    pad = IfCondition(LaunchConfiguration("teleop"))
    common = {"namespace": LaunchConfiguration("namespace"), "output": "screen"}
    level = ["--ros-args", "--log-level", LaunchConfiguration("log_level")]
    return LaunchDescription(
        [
            DeclareLaunchArgument("topic_map", default_value="", description="YAML file; empty: the simulated robot's"),
            DeclareLaunchArgument("output", default_value="bags", description="folder for one bag per episode"),
            DeclareLaunchArgument(
                "params_file",
                default_value=PathJoinSubstitution([SHARE, "config", "simulated.yaml"]),
                description="parameter file of all nodes",
            ),
            DeclareLaunchArgument("namespace", default_value="", description="of all nodes"),
            DeclareLaunchArgument("log_level", default_value="info", description="debug, info, warn, error or fatal"),
            DeclareLaunchArgument("teleop", default_value="false", description="let a person drive with a game pad"),
            Node(
                package="tongs_ros",
                executable="episode_recorder",
                name="episode_recorder",
                parameters=[
                    LaunchConfiguration("params_file"),
                    {
                        "topic_map": ParameterValue(LaunchConfiguration("topic_map"), value_type=str),
                        "output": ParameterValue(LaunchConfiguration("output"), value_type=str),
                    },
                ],
                arguments=level,
                **common,
            ),
            Node(package="joy", executable="joy_node", name="joy", condition=pad, **common),
            Node(
                package="tongs_ros",
                executable="teleop",
                name="teleop",
                parameters=[LaunchConfiguration("params_file")],
                arguments=level,
                condition=pad,
                **common,
            ),
        ]
    )
