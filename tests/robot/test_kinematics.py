"""The arm against Franka's published Denavit-Hartenberg parameters, and inverse kinematics against forward."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from robot import panda
from robot.kinematics import ArmKinematics

# Craig's convention, from the Franka Control Interface documentation: a (m), d (m), alpha (rad) of joints 1 to 7.
A = (0.0, 0.0, 0.0, 0.0825, -0.0825, 0.0, 0.088)
D = (0.333, 0.0, 0.316, 0.0, 0.384, 0.0, 0.0)
ALPHA = (0.0, -np.pi / 2, np.pi / 2, np.pi / 2, -np.pi / 2, np.pi / 2, np.pi / 2)


def denavit_hartenberg(q):
    pose = np.eye(4)
    for a, d, alpha, theta in zip(A, D, ALPHA, q, strict=True):
        ct, st, ca, sa = np.cos(theta), np.sin(theta), np.cos(alpha), np.sin(alpha)
        pose = pose @ np.array(
            [[ct, -st, 0, a], [st * ca, ct * ca, -sa, -d * sa], [st * sa, ct * sa, ca, d * ca], [0, 0, 0, 1]]
        )
    tool = np.eye(4)
    tool[:3, :3] = Rotation.from_euler("z", -np.pi / 4).as_matrix()
    tool[2, 3] = 0.107 + 0.1034
    return pose @ tool


@pytest.fixture(scope="module")
def kinematics():
    return ArmKinematics()


def test_forward_agrees_with_denavit_hartenberg(kinematics):
    rng = np.random.default_rng(0)
    for _ in range(50):
        q = rng.uniform(panda.JOINT_LOW, panda.JOINT_HIGH)
        position, rotation = kinematics.forward(q)
        expected = denavit_hartenberg(q)
        np.testing.assert_allclose(position, expected[:3, 3], atol=1e-9)
        np.testing.assert_allclose(rotation, expected[:3, :3], atol=1e-9)


def test_inverse_returns_to_a_nearby_pose(kinematics):
    rng = np.random.default_rng(1)
    home = np.asarray(panda.HOME)
    for _ in range(30):
        position, rotation = kinematics.forward(home + rng.uniform(-0.25, 0.25, 7))
        q = kinematics.inverse(home, position, rotation, iterations=15)
        reached, turned = kinematics.forward(q)
        assert np.linalg.norm(reached - position) < 5e-4
        assert Rotation.from_matrix(turned @ rotation.T).magnitude() < 5e-3


def test_inverse_never_leaves_the_joint_limits(kinematics):
    q = np.asarray(panda.HOME)
    for direction in np.random.default_rng(2).normal(size=(20, 3)):
        target = 2.0 * direction / np.linalg.norm(direction)  # far out of reach
        for _ in range(5):
            q = kinematics.inverse(q, target, np.eye(3))
            assert (q >= panda.JOINT_LOW).all() and (q <= panda.JOINT_HIGH).all()
