"""Paths between poses against their geometry."""

from math import pi

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from robot.paths import arc, line, turn
from robot.skills import Pose, downward

HINGE = np.array([0.6, 0.2, 0.0])


def on_circle(angle: float, radius: float, height: float = 0.1) -> Pose:
    position = HINGE + (radius * np.cos(angle), radius * np.sin(angle), height)
    return Pose(position, downward(angle))


@pytest.mark.parametrize("kind", [line, turn, lambda a, b, n: arc(a, b, HINGE, n)])
@pytest.mark.parametrize(("count", "poses"), [(0, 1), (2, 1), (11, 10), (200, 199)])
def test_a_path_ends_at_its_end_and_leaves_out_its_start(kind, count, poses):
    start, end = on_circle(0.2, 0.17), on_circle(1.0, 0.15, 0.2)
    path = kind(start, end, count)
    assert len(path) == poses
    np.testing.assert_allclose(path[-1].position, end.position, atol=1e-12)
    assert (path[-1].rotation * end.rotation.inv()).magnitude() == pytest.approx(0, abs=1e-7)
    if poses > 1:
        assert not np.allclose(path[0].vector(), start.vector(), atol=1e-4)


def test_a_line_is_straight_and_even():
    start, end = on_circle(0.2, 0.17), on_circle(1.0, 0.15, 0.2)
    points = np.array([start.position, *(pose.position for pose in line(start, end, 8))])
    np.testing.assert_allclose(np.diff(points, axis=0), np.tile((end.position - start.position) / 7, (7, 1)))


@pytest.mark.parametrize(("first", "last"), [(0.3, 1.6), (1.6, 0.3), (pi - 0.4, pi + 0.5), (-pi + 0.4, pi - 0.4)])
def test_an_arc_goes_around_its_hinge_the_shorter_way(first, last):
    """Where a door carries its handle: at one distance from the hinge, turned by as much as it has gone around."""
    shorter = (last - first + pi) % (2 * pi) - pi
    path = arc(on_circle(first, 0.165), on_circle(last, 0.165), HINGE, 31)
    for i, pose in enumerate(path, 1):
        there = on_circle(first + shorter * i / 30, 0.165)
        np.testing.assert_allclose(pose.position, there.position, atol=1e-9)
        assert (pose.rotation * there.rotation.inv()).magnitude() == pytest.approx(0, abs=1e-7)


def test_turning_is_even_about_one_axis_and_on_the_spot():
    start = Pose(np.zeros(3), downward(0.0))
    end = Pose(np.array([0.5, 0.0, 0.3]), Rotation.from_rotvec([0.0, 1.2, 0.0]) * start.rotation)
    for i, pose in enumerate(turn(start, end, 5), 1):
        np.testing.assert_array_equal(pose.position, end.position)
        turned = (pose.rotation * start.rotation.inv()).as_rotvec()
        np.testing.assert_allclose(turned, [0.0, 0.3 * i, 0.0], atol=1e-9)
