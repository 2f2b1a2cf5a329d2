"""Skills on an ideal arm that does exactly what it is told."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from robot.errors import ContractError
from robot.interface import EE_DELTA, Observation, RobotSpec
from robot.skills import POSE_STATE, Manner, Pose, Skills, downward, run


class IdealArm:
    spec = RobotSpec({}, POSE_STATE, EE_DELTA)

    def __init__(self):
        self.pose = Pose(np.array([0.4, 0.0, 0.3]), downward(0.0))
        self.gripper = 1.0
        self.steps: list[np.ndarray] = []

    def observe(self):
        matrix = self.pose.rotation.as_matrix()
        state = np.concatenate([self.pose.position, matrix[:, 0], matrix[:, 1]]).astype(np.float32)
        return Observation({}, state, "", len(self.steps) / EE_DELTA.rate)

    def execute(self, action):
        turn = Rotation.from_rotvec(action[3:6])
        self.pose = Pose(self.pose.position + action[:3], turn * self.pose.rotation)
        self.gripper = float(action[6])
        self.steps.append(action)

    def stop(self):
        pass


@pytest.fixture
def arm():
    return IdealArm()


def test_move_arrives_within_speed_and_tolerance(arm):
    skills = Skills(arm.spec, arm.observe)
    target = Pose(np.array([0.55, -0.2, 0.12]), downward(0.7))
    run(arm, skills.move(target, 1.0, Manner(speed=0.2)))
    assert np.linalg.norm(arm.pose.position - target.position) < 0.005
    assert (arm.pose.rotation * target.rotation.inv()).magnitude() < 0.04
    speeds = [np.linalg.norm(action[:3]) * EE_DELTA.rate for action in arm.steps]
    assert max(speeds) < 0.2 + 1e-5


def test_move_comes_back_after_a_push(arm):
    skills = Skills(arm.spec, arm.observe)
    target = arm.pose.moved((0.1, 0.0, 0.0))
    for i, action in enumerate(skills.move(target, 1.0)):
        arm.execute(action)
        if i == 3:
            arm.pose = arm.pose.moved((0.0, 0.05, 0.03))
    assert np.linalg.norm(arm.pose.position - target.position) < 0.005


def test_tracking_keeps_to_the_path_and_its_pace(arm):
    """0.12 m in 121 poses at 120 a second: 1 s, so 10 control periods of 12 poses."""
    start = arm.pose
    path = [start.moved((0.0, 0.001 * i, 0.0)) for i in range(1, 121)]
    run(arm, Skills(arm.spec, arm.observe, Manner(tolerance=0.005)).track(path, 120, 0.0))
    assert len(arm.steps) == 10
    np.testing.assert_allclose([action[1] for action in arm.steps], 0.012, atol=1e-6)
    np.testing.assert_allclose(arm.pose.position, path[-1].position, atol=1e-6)
    assert arm.gripper == 0.0


def test_tracking_waits_for_an_arm_that_fell_behind(arm):
    start = arm.pose
    path = [start.moved((0.0, 0.001 * i, 0.0)) for i in range(1, 121)]
    for i, action in enumerate(Skills(arm.spec, arm.observe, Manner(tolerance=0.005)).track(path, 120, 0.0)):
        arm.execute(action)
        if i == 4:
            arm.pose = arm.pose.moved((0.08, 0.0, 0.0))
        assert abs(arm.pose.position[0] - start.position[0]) < 0.081
    assert len(arm.steps) > 10
    np.testing.assert_allclose(arm.pose.position, path[-1].position, atol=0.005)


def test_a_pose_survives_as_a_vector():
    pose = Pose(np.array([0.4, -0.1, 0.2]), downward(0.7))
    again = Pose.from_vector(2.0 * pose.vector() - np.array([0.4, -0.1, 0.2, 0, 0, 0, 0]))
    np.testing.assert_allclose(again.position, pose.position, atol=1e-6)
    assert (again.rotation * pose.rotation.inv()).magnitude() < 1e-6
    with pytest.raises(ContractError, match="quaternion that is not zero"):
        Pose.from_vector(np.zeros(7))


def test_grasp_approaches_along_the_tool_axis_and_closes(arm):
    skills = Skills(arm.spec, arm.observe)
    at = Pose(np.array([0.5, 0.1, 0.05]), downward(0.0))
    heights = []
    for action in skills.grasp(at):
        arm.execute(action)
        near = np.linalg.norm(arm.pose.position[:2] - at.position[:2]) < 0.005
        heights.append(arm.pose.position[2])
        assert near or arm.pose.position[2] > 0.10  # no sideways motion close to the table
    assert arm.gripper == 0.0
    assert heights[-1] == pytest.approx(0.05, abs=0.005)


def test_lift_place_articulate_and_pour_do_what_they_say(arm):
    skills = Skills(arm.spec, arm.observe)
    run(arm, skills.lift(0.1))
    assert arm.pose.position[2] == pytest.approx(0.4, abs=0.005)
    run(arm, skills.articulate(np.array([-1.0, 0.0, 0.0]), 0.15))
    assert arm.pose.position[0] == pytest.approx(0.25, abs=0.005)
    tilts = []
    for action in skills.pour(1.0):
        arm.execute(action)
        tilts.append((arm.pose.rotation * downward(0.0).inv()).magnitude())
    assert max(tilts) == pytest.approx(1.0, abs=0.05)
    assert tilts[-1] == pytest.approx(0.0, abs=0.05)
    run(arm, skills.place(Pose(np.array([0.5, 0.0, 0.03]), downward(0.0))))
    assert arm.gripper == 1.0


def test_skills_refuse_a_robot_that_cannot_use_them(arm):
    with pytest.raises(ContractError, match="skills need the state"):
        Skills(RobotSpec({}, ("joint_1",), EE_DELTA), arm.observe)
