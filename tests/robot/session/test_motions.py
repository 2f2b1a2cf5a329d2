"""Words for motions, and what keys and sticks ask for."""

import numpy as np
import pytest

from robot import panda
from robot.errors import ContractError, TongsError
from robot.interface import EE_DELTA, KEYPOSE
from robot.motions import parse_motion
from robot.session.drive import JointDrive, ToolDrive, make_drive, velocity_of_gamepad, velocity_of_keys
from tests.robot.control.arms import JOINT_SPACE


@pytest.mark.parametrize(
    ("text", "velocity", "opening"),
    [
        ("move left", (0, 1, 0, 0, 0, 0), None),
        ("Move the arm back a little.", (-1, 0, 0, 0, 0, 0), None),
        ("move up and right", (0, -1, 1, 0, 0, 0), None),
        ("move arm forward and close gripper", (1, 0, 0, 0, 0, 0), 0.0),
        ("rotate left", (0, 0, 0, 0, 0, 1), None),
        ("open the gripper", (0, 0, 0, 0, 0, 0), 1.0),
    ],
)
def test_a_motion_is_a_velocity_in_the_base_frame(text, velocity, opening):
    motion = parse_motion(text)
    assert motion is not None and motion.velocity == velocity and motion.opening == opening


@pytest.mark.parametrize("text", ["open the left drawer", "put the red block in the bowl", "", "close it halfway"])
def test_an_instruction_is_no_motion(text):
    assert parse_motion(text) is None


@pytest.mark.parametrize(
    ("text", "nearest"),
    [("move lefft", "move arm left"), ("close griper", "close gripper"), ("move sideways", "move arm forward")],
)
def test_nearly_a_motion_is_refused_with_the_nearest(text, nearest):
    with pytest.raises(TongsError, match=f"the nearest known are: {nearest}"):
        parse_motion(text)


def test_keys_and_sticks_drive_the_same_way():
    assert velocity_of_keys({"w", "a"}) == velocity_of_gamepad([-1, -1, 0, 0])
    assert velocity_of_keys({"r", "f", "x"}) == [0.0] * 6
    assert velocity_of_gamepad([0.1, -0.1, 0.05, 0.0]) == [0.0] * 6
    for axes in ([0, 0], [0, 0, 0, float("nan")], [2, 0, 0, 0]):
        with pytest.raises(TongsError, match="four axes"):
            velocity_of_gamepad(axes)


def test_full_speed_is_the_same_in_every_direction():
    drive = ToolDrive(EE_DELTA, speed=0.2, turning=1.0)
    straight, diagonal = drive.action([1, 0, 0, 0, 0, 0], 1.0), drive.action([1, 1, 1, 1, 1, 0], 0.0)
    assert np.linalg.norm(straight[:3]) * EE_DELTA.rate == pytest.approx(0.2)
    assert np.linalg.norm(diagonal[:3]) == pytest.approx(np.linalg.norm(straight[:3]))
    assert np.linalg.norm(diagonal[3:6]) * EE_DELTA.rate == pytest.approx(1.0)
    assert (straight[6], diagonal[6]) == (1.0, 0.0)
    with pytest.raises(TongsError, match="six finite"):
        drive.action([float("nan"), 0, 0, 0, 0, 0], 1.0)
    with pytest.raises(ContractError, match="this one takes ee_pose"):
        make_drive(KEYPOSE, panda.LIMITS, 50.0)


def test_joints_are_driven_one_by_one_at_the_speed_of_their_limits():
    slow = panda.LIMITS.scaled(0.1)  # 0.2175 rad/s of the first four joints, 0.261 of the others
    drive = JointDrive(JOINT_SPACE, slow, rate=50.0)
    assert drive.keys[0] == ("A D", "joint_1") and drive.keys[4] == ("Q E", "joint_5") and len(drive.keys) == 6
    sent = np.array([*panda.HOME, 0.4], np.float32)
    for _ in range(50):  # a second of an arm that follows
        action = drive.action([0, 1, 0, 0, 0, -0.5], 0.4, sent)
        assert np.abs(action - sent).max() < 0.261 / 50 + 1e-6
        sent = action
    moved = sent[:7] - np.array(panda.HOME)
    assert moved == pytest.approx([0.2175, 0, 0, 0, -0.1305, 0, 0], abs=1e-4) and sent[7] == pytest.approx(0.4)
    for _ in range(50):  # of one that does not: nothing is saved up
        action = drive.action([0, 1, 0, 0, 0, 0], 0.4, sent)
    assert action[0] - sent[0] == pytest.approx(0.1 * 0.2175, abs=1e-4)
    drive.forget()
    assert drive.action([0.0] * 6, 0.4, sent) == pytest.approx(sent)
    sent[0] = panda.JOINT_HIGH[0]
    assert drive.action([0, 1, 0, 0, 0, 0], 1.0, sent)[0] <= np.float32(panda.JOINT_HIGH[0])
    for velocity in ([1.0] * 5, [float("inf"), 0, 0, 0, 0, 0]):
        with pytest.raises(TongsError, match="six finite"):
            drive.action(velocity, 1.0, sent)
