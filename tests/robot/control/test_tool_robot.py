"""An arm that is told joints, driven by deltas of its tool."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest

from robot import panda
from robot.control.collision import panda_model
from robot.control.loop import ControlLoop
from robot.control.settings import Execution, Settings
from robot.control.tool_robot import ToolRobot
from robot.errors import ContractError
from robot.kinematics import ArmKinematics
from robot.limits import JointLimit, Rates
from robot.turning import TURNING_STATE
from tests.robot.control.arms import JointArm, Line, ToolArm


def test_deltas_of_the_tool_become_joints_that_bring_it_there() -> None:
    arm, kinematics = JointArm(), ArmKinematics()
    robot = ToolRobot(arm, kinematics, panda.LIMITS, panda_model(panda.LIMITS))
    before, rotation = kinematics.forward(arm.joints)
    for _ in range(60):
        robot.observe()
        robot.command(np.array([0.001, -0.002, 0.001, 0, 0, 0.002, 0.4], np.float32))
    after, turned = kinematics.forward(arm.joints)
    assert after - before == pytest.approx([0.06, -0.12, 0.06], abs=4e-3)
    assert np.arccos((np.trace(turned @ rotation.T) - 1) / 2) == pytest.approx(0.12, abs=5e-3)
    assert arm.gripper == pytest.approx(0.4) and not robot.counts
    speeds = np.diff(np.array([command[:7] for command in arm.told]), axis=0) * 50
    assert (np.abs(np.diff(speeds, axis=0)) * 50 <= np.array(panda.JOINT_ACCELERATION) * 1.001 + 0.01).all()


def test_the_joints_keep_their_own_limits_however_fast_the_tool_shall_go() -> None:
    slow = {name: JointLimit(j.low, j.high, Rates(0.2, 1.0, 50.0)) for name, j in panda.LIMITS.joints.items()}
    arm = JointArm()
    robot = ToolRobot(arm, ArmKinematics(), replace(panda.LIMITS, joints=slow))
    for _ in range(50):
        robot.observe()
        robot.command(np.array([0.0, 0.006, 0, 0, 0, 0, 1.0], np.float32))
    joints = np.array([panda.HOME, *(command[:7] for command in arm.told)], dtype=np.float64)
    assert np.abs(np.diff(joints, axis=0)).max() * 50 <= 0.2 + 1e-3
    assert 0.05 < np.abs(joints[-1] - joints[0]).max() < 0.2


def test_a_policy_drives_it_through_the_loop() -> None:
    arm = JointArm()
    robot = ToolRobot(arm, ArmKinematics(), panda.LIMITS)
    begin = robot.observe().state[0]
    with ControlLoop(robot, Line(), panda.LIMITS, Settings(Execution("asynchronous", 2))) as loop:
        loop.start()
        end = time.monotonic() + 10
        while robot.observe().state[0] < begin + 0.05 and time.monotonic() < end:
            time.sleep(0.02)
        assert loop.status().reason == ""
    assert robot.observe().state[0] >= begin + 0.05 and arm.stops >= 1


def test_after_a_stop_it_begins_where_the_arm_was_put_and_lets_go_of_nothing() -> None:
    arm, kinematics = JointArm(), ArmKinematics()
    robot = ToolRobot(arm, kinematics, panda.LIMITS)
    column = robot.spec.state_names.index("gripper_command")
    for _ in range(30):
        robot.observe()
        robot.command(np.array([0.002, 0, 0, 0, 0, 0, 0.0], np.float32))
    robot.stop()
    arm.gripper = 0.4  # closed on something
    assert robot.observe().state[column] == 0.0
    arm.joints, arm.gripper = np.array(panda.HOME), 1.0  # put elsewhere, by others
    assert robot.observe().state[column] == 1.0
    robot.command(np.array([0, 0, 0, 0, 0, 0, 1.0], np.float32))
    assert np.abs(arm.joints - np.array(panda.HOME)).max() < 2e-3


def test_how_the_tool_turned_is_remembered_until_a_stop() -> None:
    arm = JointArm()
    robot = ToolRobot(arm, ArmKinematics(), panda.LIMITS)
    turned = [robot.spec.state_names.index(name) for name in TURNING_STATE]
    assert not robot.observe().state[turned].any()
    for _ in range(20):
        robot.command(np.array([0, 0, 0, 0.01, 0, 0, 1.0], np.float32))
        state = robot.observe().state
    x, y, z = state[turned]
    assert 0.1 < x < 0.205 and abs(y) < 0.02 and abs(z) < 0.02
    robot.stop()
    arm.joints = np.array(panda.HOME)  # put elsewhere, by others
    assert not robot.observe().state[turned].any()


def test_an_arm_of_another_kind_is_refused() -> None:
    with pytest.raises(ContractError, match="takes joint_position, this one takes ee_delta"):
        ToolRobot(ToolArm(), ArmKinematics(), panda.LIMITS)
