"""Robots by their files: a topic map's, behind topics, or an arm file's, in this process; as policies drive them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from robot import panda
from robot.adapters.opening import ClosableRobot, open_arm
from robot.control.cartesian_arm import CartesianArm
from robot.control.collision import ArmModel, panda_model
from robot.control.tool_robot import ToolRobot
from robot.errors import ContractError, TongsError
from robot.interface import GRIPPER, ActionSpace, StreamedRobot
from robot.kinematics import ArmKinematics
from robot.limits import JointLimit, Limits, joint_limits_of_urdf
from robot.ros.transport import Transport
from robot.topic_map import TopicMap

if TYPE_CHECKING:
    from robot.ros.arm import TopicArm


class TopicRobot:
    """A robot behind topics that is opened, as often as wanted, once its topics speak.

    Args:
        transport: of the topics.
        topic_map: of the robot.
        limits: see `arm_limits`.
        urdf: of an arm that is no Panda.
        servo: MoveIt Servo's node, for a map that tells it twists.
        command_rate: Hz.
        watchdog: see `TopicArm`.

    Raises:
        TongsError: servo is given to an arm that is told something else.
    """

    def __init__(
        self,
        transport: Transport,
        topic_map: TopicMap,
        limits: Limits,
        urdf: str | None = None,
        servo: str | None = None,
        command_rate: float = 50.0,
        watchdog: float | None = None,
    ) -> None:
        if servo is not None and not _takes_twists(topic_map):
            raise TongsError(f"servo={servo} is for a topic map whose action is of kind ee_twist, with a `twist:`")
        self._transport, self._map, self._limits = transport, topic_map, limits
        self._urdf, self._servo = urdf, servo
        self._rate, self._watchdog = command_rate, watchdog
        self._arm: TopicArm | None = None

    def open(self, patience: float) -> StreamedRobot:
        """Wait until it is there; nothing moves.

        Raises:
            TongsError: it is not there after `patience` s, or says something else than the map says.
        """
        from robot.ros.arm import TopicArm
        from robot.ros.servo import take_twists

        if self._arm is None:
            self._arm = TopicArm(self._transport, self._map, self._limits, self._rate, self._watchdog)
        robot = driven(self._map, self._urdf, self._limits, self._arm.open(patience))
        if self._servo is not None:
            take_twists(self._transport, self._servo, patience)
        return robot


@dataclass(frozen=True)
class AdapterRobot:
    """An arm that this process drives.

    Attributes:
        arm: lets go of its hardware when it is closed.
        driven: the same as policies drive it.
        limits: of its joints and tool.
        model: of its shapes, None where they are not known.
    """

    arm: ClosableRobot
    driven: StreamedRobot
    limits: Limits
    model: ArmModel | None


def open_adapter(path: Path | str, urdf: str | None = None, limits_file: str | None = None) -> AdapterRobot:
    """The arm of an arm file (`robot.adapters.opening`), ready to move; nothing moves.

    Args:
        path: the arm file.
        urdf, limits_file: of an arm that is no Panda, one of them is needed; the ranges that the arm itself declares
            hold as well.

    Raises:
        TongsError: a file is wrong, a joint has no limits, or the arm cannot be opened.
    """
    arm = open_arm(path)
    try:
        space = arm.spec.action_space
        joints = tuple(name for name in space.names if name != GRIPPER)
        if space.kind != "joint_position":
            raise ContractError(f"{path}: an arm of this process takes joint_position, this one takes {space.kind}")
        known = urdf is None and set(panda.JOINTS) <= set(joints)
        limits = _narrowed(_limits(known, joints, urdf, limits_file), space, str(path))
        robot = ToolRobot(arm, ArmKinematics(), limits) if known else arm
        return AdapterRobot(arm, robot, limits, panda_model(limits) if known else None)
    except BaseException:
        arm.close()
        raise


def _narrowed(limits: Limits, space: ActionSpace, path: str) -> Limits:
    """The limits of the joints of a space, within the space's own ranges."""
    joints = {}
    for name, low, high in zip(space.names, space.low, space.high, strict=True):
        if name == GRIPPER:
            continue
        if name not in limits.joints:
            known = ", ".join(limits.joints) or "none: give urdf= or limits="
            raise ContractError(f"joint {name} of {path} has no limits; known are {known}")
        given = limits.joints[name]
        if not max(given.low, low) < min(given.high, high):
            raise ContractError(
                f"joint {name} may go from {given.low:g} to {given.high:g} by its limits and from {low:g} to {high:g} "
                f"by {path}: nothing is left"
            )
        joints[name] = JointLimit(max(given.low, low), min(given.high, high), given.rates)
    return replace(limits, joints=joints)


def simulated_map() -> str:
    """The file of the simulated robot's topic map."""
    return str(resources.files("configs") / "topic_map" / "simulated.yaml")


def told_joints(topic_map: TopicMap) -> tuple[str, ...]:
    """The joints that a topic map's action tells positions; none for a robot that is told something else."""
    action = topic_map.action
    if action is None or action.kind != "joint_position":
        return ()
    return tuple(name for name in action.names if name != GRIPPER)


def arm_limits(topic_map: TopicMap, urdf: str | None, limits_file: str | None) -> Limits:
    """The limits of the arm behind a topic map: the Panda's, or those of its URDF, with what a file says of them.

    Raises:
        TongsError: a file is wrong, or lacks a joint.
    """
    return _limits(_is_panda(topic_map, urdf), told_joints(topic_map), urdf, limits_file)


def _limits(known: bool, joints: tuple[str, ...], urdf: str | None, limits_file: str | None) -> Limits:
    """Of an arm that is our Panda (`known`), or another one."""
    limits = panda.LIMITS
    if urdf is not None:
        limits = replace(limits, joints=joint_limits_of_urdf(urdf, joints))
    elif not known:
        limits = replace(limits, joints={})
    return limits if limits_file is None else Limits.read(limits_file, base=limits)


def driven(topic_map: TopicMap, urdf: str | None, limits: Limits, arm: StreamedRobot) -> StreamedRobot:
    """An arm behind topics as policies drive it: a Panda that is told joints, and any arm that is told twists, by the
    motion of its tool; other arms by their joints. Raises ContractError if that cannot be."""
    if _takes_twists(topic_map):
        return CartesianArm(arm, limits, ArmKinematics(), panda.JOINTS)
    return ToolRobot(arm, ArmKinematics(), limits) if _is_panda(topic_map, urdf) else arm


def collision_model(topic_map: TopicMap, urdf: str | None, limits: Limits) -> ArmModel | None:
    """The shapes of the arm behind a topic map, None where they are not known."""
    return panda_model(limits) if _is_panda(topic_map, urdf) else None


def _is_panda(topic_map: TopicMap, urdf: str | None) -> bool:
    """Whether the arm's joints are called as our Panda's, so that its shapes and kinematics are known."""
    joints = topic_map.state_names if _takes_twists(topic_map) else told_joints(topic_map)
    return urdf is None and set(panda.JOINTS) <= set(joints)


def _takes_twists(topic_map: TopicMap) -> bool:
    return topic_map.action is not None and topic_map.action.kind == "ee_twist"
