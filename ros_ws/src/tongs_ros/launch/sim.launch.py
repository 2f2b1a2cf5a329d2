"""A simulated robot and a policy runner on it, all without hardware."""

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription
from launch.conditions import IfCondition
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.substitutions import FindPackageShare

SHARE = FindPackageShare("tongs_ros")


def generate_launch_description() -> LaunchDescription:
    policy = PythonLaunchDescriptionSource(PathJoinSubstitution([SHARE, "launch", "policy.launch.py"]))
    shared = ("policy", "params_file", "namespace", "log_level", "start", "use_sim_time")
    return LaunchDescription(
        [
            DeclareLaunchArgument("task", default_value="open_drawer", description="the first scene's task"),
            DeclareLaunchArgument(
                "clock",
                default_value="real",
                choices=["real", "simulated", "stepped"],
                description="clock of the simulated robot; the last two need use_sim_time:=true",
            ),
            DeclareLaunchArgument("policy", default_value="beso", description="checkpoint, server or expert"),
            DeclareLaunchArgument(
                "params_file",
                default_value=PathJoinSubstitution([SHARE, "config", "simulated.yaml"]),
                description="parameter file of all nodes",
            ),
            DeclareLaunchArgument("namespace", default_value="", description="of all nodes"),
            DeclareLaunchArgument("log_level", default_value="info", description="debug, info, warn, error or fatal"),
            DeclareLaunchArgument("start", default_value="true", description="configure and activate the runner"),
            DeclareLaunchArgument("use_sim_time", default_value="false", description="pace the runner on /clock"),
            DeclareLaunchArgument("rviz", default_value="false", description="show the robot in RViz"),
            Node(
                package="tongs_ros",
                executable="simulated_robot",
                name="simulated_robot",
                namespace=LaunchConfiguration("namespace"),
                parameters=[
                    LaunchConfiguration("params_file"),
                    {"task": LaunchConfiguration("task"), "clock": LaunchConfiguration("clock")},
                ],
                arguments=["--ros-args", "--log-level", LaunchConfiguration("log_level")],
                output="screen",
            ),
            IncludeLaunchDescription(
                policy, launch_arguments={name: LaunchConfiguration(name) for name in shared}.items()
            ),
            Node(
                package="rviz2",
                executable="rviz2",
                arguments=["-d", PathJoinSubstitution([SHARE, "rviz", "tongs.rviz"])],
                condition=IfCondition(LaunchConfiguration("rviz")),
            ),
        ]
    )
