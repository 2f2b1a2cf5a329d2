"""A policy runner for the robot of a topic map; configured and activated unless start:=false."""

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, EmitEvent, RegisterEventHandler
from launch.conditions import IfCondition
from launch.events import matches_action
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import LifecycleNode
from launch_ros.event_handlers import OnStateTransition
from launch_ros.events.lifecycle import ChangeState
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare
from lifecycle_msgs.msg import Transition

SHARE = FindPackageShare("tongs_ros")


def _text(argument: str) -> ParameterValue:
    """An argument as a text, also where it looks like a number or is empty."""
    return ParameterValue(LaunchConfiguration(argument), value_type=str)


def generate_launch_description() -> LaunchDescription:
    start = IfCondition(LaunchConfiguration("start"))
    runner = LifecycleNode(
        package="tongs_ros",
        executable="policy_runner",
        name="policy_runner",
        namespace=LaunchConfiguration("namespace"),
        parameters=[
            LaunchConfiguration("params_file"),
            {
                "policy": _text("policy"),
                "topic_map": _text("topic_map"),
                "limits": _text("limits"),
                "urdf": _text("urdf"),
                "servo": _text("servo"),
                "use_sim_time": LaunchConfiguration("use_sim_time"),
            },
        ],
        arguments=["--ros-args", "--log-level", LaunchConfiguration("log_level")],
        output="screen",
    )
    configure = EmitEvent(
        event=ChangeState(lifecycle_node_matcher=matches_action(runner), transition_id=Transition.TRANSITION_CONFIGURE),
        condition=start,
    )
    activate = EmitEvent(
        event=ChangeState(lifecycle_node_matcher=matches_action(runner), transition_id=Transition.TRANSITION_ACTIVATE),
        condition=start,
    )
    return LaunchDescription(
        [
            DeclareLaunchArgument("policy", default_value="beso", description="checkpoint, server or expert"),
            DeclareLaunchArgument("topic_map", default_value="", description="YAML file; empty: the simulated robot's"),
            DeclareLaunchArgument("limits", default_value="", description="YAML file of limits; empty: the arm's own"),
            DeclareLaunchArgument("urdf", default_value="", description="URDF file of an arm that is no Panda"),
            DeclareLaunchArgument(
                "servo", default_value="", description="MoveIt Servo's node, for a map that tells twists"
            ),
            DeclareLaunchArgument(
                "params_file",
                default_value=PathJoinSubstitution([SHARE, "config", "simulated.yaml"]),
                description="parameter file of the runner",
            ),
            DeclareLaunchArgument("namespace", default_value="", description="of the node"),
            DeclareLaunchArgument("log_level", default_value="info", description="debug, info, warn, error or fatal"),
            DeclareLaunchArgument("start", default_value="true", description="configure and activate the node"),
            DeclareLaunchArgument("use_sim_time", default_value="false", description="pace the runner on /clock"),
            runner,
            RegisterEventHandler(
                OnStateTransition(
                    target_lifecycle_node=runner,
                    start_state="configuring",
                    goal_state="inactive",
                    entities=[activate],
                )
            ),
            configure,
        ]
    )
