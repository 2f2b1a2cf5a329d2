"""Limits: from the description, from a file, from a URDF, and what is wrong with them."""

from __future__ import annotations

import pytest

from robot import panda
from robot.errors import TongsError
from robot.limits import Box, Limits, Rates, joint_limits_of_urdf


def read(tmp_path, text: str) -> Limits:
    file = tmp_path / "limits.yaml"
    file.write_text(text)
    return Limits.read(file, panda.LIMITS)


def test_a_file_changes_what_it_says_and_nothing_else(tmp_path):
    limits = read(
        tmp_path,
        "translation: {speed: 0.3, acceleration: 2}\n"
        "joints: {joint_4: {range: [-3.0, -0.5], speed: 1.0}}\n"
        "workspace: {low: [0.3, -0.3, 0.02], high: [0.7, 0.3, 0.6]}\n"
        "keep_out: [{low: [0.5, 0, 0], high: [0.6, 0.1, 0.2]}]\n"
        "step: 0.03\ngripper_speed: 1.5\n",
    )
    assert limits.translation == Rates(0.3, 2.0, 6500.0) and limits.rotation == panda.LIMITS.rotation
    assert (limits.joints["joint_4"].low, limits.joints["joint_4"].high) == (-3.0, -0.5)
    assert limits.joints["joint_4"].rates == Rates(1.0, 12.5, 6250.0)
    assert limits.joints["joint_1"] == panda.LIMITS.joints["joint_1"]
    assert limits.workspace == Box((0.3, -0.3, 0.02), (0.7, 0.3, 0.6))
    assert limits.keep_out == (Box((0.5, 0, 0), (0.6, 0.1, 0.2)),)
    assert (limits.step, limits.gripper_speed, limits.turn) == (0.03, 1.5, 0.35)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("speed: 1", "unknown key 'speed'"),
        ("translation: {speed: fast}", "translation.speed must be a number"),
        ("translation: {speed: 0}", "speed must be a positive number, got 0"),
        ("joints: {elbow: {speed: 1}}", "joints.elbow is no joint of the robot; it has: joint_1"),
        ("joints: {elbow: {speed: 1, range: [-1, 1]}}", "joints.elbow is no joint of the robot; it has: joint_1"),
        ("joints: {joint_1: {range: [1, -1]}}", "low < high, got 1.0 and -1.0"),
        ("workspace: {low: [0, 0], high: [1, 1, 1]}", "workspace.low must be three numbers"),
        ("keep_out: [{low: [0, 0, 0], high: [1, 0, 1]}]", r"keep_out\[0\] is wrong: a box needs low < high"),
        ("step: 0", "step must be a positive number, got 0"),
        ("clamped_speed: 0.5", "clamped_speed must be at least 1, got 0.5"),
    ],
)
def test_a_wrong_file_is_one_sentence(tmp_path, text, sentence):
    with pytest.raises(TongsError, match=sentence) as caught:
        read(tmp_path, text)
    assert str(tmp_path / "limits.yaml") in str(caught.value)


def test_a_share_of_the_limits():
    slow = panda.LIMITS.scaled(0.2)
    assert slow.translation.speed == pytest.approx(0.34) and slow.joints["joint_1"].rates.speed == pytest.approx(0.435)
    assert slow.workspace == panda.LIMITS.workspace
    with pytest.raises(TongsError, match="above 0 and at most 1, got 2"):
        panda.LIMITS.scaled(2)


URDF = """<robot name="arm">
  <joint name="shoulder" type="revolute"><limit lower="-1.5" upper="2.0" velocity="1.2" effort="10"/></joint>
  <joint name="wrist" type="continuous"><limit velocity="3.0" effort="10"/></joint>
  <joint name="mount" type="fixed"/>
</robot>"""


def test_limits_of_a_urdf(tmp_path):
    file = tmp_path / "arm.urdf"
    file.write_text(URDF)
    limits = joint_limits_of_urdf(file, ["shoulder", "wrist"])
    assert (limits["shoulder"].low, limits["shoulder"].high, limits["shoulder"].rates.speed) == (-1.5, 2.0, 1.2)
    assert limits["wrist"].high == float("inf")
    with pytest.raises(TongsError, match="has no joint 'elbow'; it has: mount, shoulder, wrist"):
        joint_limits_of_urdf(file, ["elbow"])
    with pytest.raises(TongsError, match="joint 'mount' has no limit with lower, upper and velocity"):
        joint_limits_of_urdf(file, ["mount"])
    with pytest.raises(TongsError, match="there is no file"):
        joint_limits_of_urdf(tmp_path / "none.urdf", [])
    file.write_text("<robot")
    with pytest.raises(TongsError, match="is no readable URDF"):
        joint_limits_of_urdf(file, [])


def test_the_pandas_limits_are_those_of_its_description():
    assert {name: (limit.low, limit.high) for name, limit in panda.LIMITS.joints.items()} == dict(
        zip(panda.JOINTS, zip(panda.JOINT_LOW, panda.JOINT_HIGH, strict=True), strict=True)
    )
