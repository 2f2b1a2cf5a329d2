"""The topic map: what it reads, and one sentence for every mistake in it."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from robot.errors import TongsError
from robot.interface import EE_DELTA
from robot.topic_map import TopicMap
from tests.robot import bag_messages as bag

MAP = """
robot_type: test_arm
rate: 10
cameras:
  front: {topic: /front, size: [16, 24]}
  wrist: {topic: /wrist/compressed, max_age: 0.3}
state:
  - {topic: /tool, pose: columns, frame: base}
  - {topic: /joints, joints: [j1, j2], names: [joint_1, joint_2], unit: deg}
  - {topic: /joints, joints: [finger], names: [gripper_opening], range: [0.0, 0.04]}
action:
  kind: ee_delta
  pose: {topic: /target}
  gripper: {topic: /gripper, fields: ["data[0]"], range: [0.08, 0.0], time: reception}
instruction: {topic: /instruction}
episodes: {by: gap, seconds: 2}
"""


def content() -> dict[str, Any]:
    return yaml.safe_load(MAP)


def test_a_whole_map(tmp_path: Path) -> None:
    path = tmp_path / "map.yaml"
    path.write_text(MAP)
    topic_map = TopicMap.read(path)
    assert topic_map.sensors == ("front", "wrist", "/tool", "/joints")
    assert topic_map.state_names[:9] == ("x", "y", "z", "r11", "r21", "r31", "r12", "r22", "r32")
    assert topic_map.state_names[9:] == ("joint_1", "joint_2", "gripper_opening")
    assert topic_map.state_units == (*("m",) * 3, *("1",) * 6, "rad", "rad", "1")
    assert topic_map.cameras["front"].max_age == 200_000_000
    assert topic_map.cameras["wrist"].max_age == 300_000_000
    assert topic_map.action is not None
    assert (topic_map.action.names, topic_map.action.units) == (EE_DELTA.names, EE_DELTA.units)
    assert [command.max_age for command in topic_map.action.commands] == [None, None]
    assert topic_map.clocks["/gripper"] == topic_map.clocks["/instruction"] == "reception"
    assert topic_map.max_jitter == pytest.approx(0.05)


def test_entries_read_messages_in_si_units() -> None:
    topic_map = TopicMap.parse(content())
    tool, joints, finger = topic_map.state
    rows = tool.read(bag.pose(0, [1, 2, 3], [1, 0, 0, 0]))  # half a turn about x
    np.testing.assert_allclose(rows, [1, 2, 3, 1, 0, 0, 0, -1, 0], atol=1e-12)
    message = bag.joint_state(0, {"finger": 0.01, "j2": 180.0, "j1": 90.0})
    np.testing.assert_allclose(joints.read(message), [np.pi / 2, np.pi])
    np.testing.assert_allclose(finger.read(message), [0.25])
    assert topic_map.action is not None
    np.testing.assert_allclose(topic_map.action.commands[1].read(bag.float_array(0.02)), [0.75])  # range may run down
    with pytest.raises(TongsError, match="/tool is in the frame 'world', the topic map wants 'base'"):
        tool.read(bag.pose(0, [1, 2, 3], [0, 0, 0, 1], "world"))
    with pytest.raises(TongsError, match="NaN"):
        tool.read(bag.pose(0, [1, float("nan"), 3], [0, 0, 0, 1]))


def test_pictures_are_scaled_down() -> None:
    camera = TopicMap.parse(content()).cameras["front"]
    assert camera.read(bag.rgb_image(0, np.zeros((32, 48, 3), np.uint8))).shape == (16, 24, 3)


CHANGES: dict[str, tuple[list[Any], Any, str]] = {
    "no rate": (["rate"], None, "rate is missing"),
    "rate": (["rate"], -1, "rate must be a number of at least 0.001, got -1"),
    "unknown key": (["camera"], {}, "unknown key 'camera'.*cameras"),
    "inner key": (["state", 0, "fram"], "base", r"unknown key 'state\[0\].fram'.*frame"),
    "topic": (["cameras", "front", "topic"], "front", r"cameras.front.topic must be a topic's full name.*'front'"),
    "size": (["cameras", "front", "size"], 16, r"cameras.front.size must be \[height, width\]"),
    "time": (["time"], "receive", "time must be one of header, reception, got 'receive'"),
    "forms": (
        ["state", 0, "joints"],
        ["a"],
        r"state\[0\] needs exactly one of joints, pose, twist and fields, got joints, pose",
    ),
    "no unit": (["state", 1, "unit"], None, r"state\[1\].unit is missing; known are m, rad"),
    "unit": (["state", 1, "unit"], "inch", r"state\[1\].unit must be one of .*got 'inch'"),
    "names": (["state", 1, "names"], ["one"], r"state\[1\].names must be one name per joint, got 1 for 2"),
    "same name": (["state", 2, "names"], ["joint_1"], "state has the name joint_1 twice"),
    "range": (["state", 2, "range"], [1, 1], r"state\[2\].range must be two different numbers"),
    "pose": (["state", 0, "pose"], "euler", r"state\[0\].pose must be one of quaternion, rotation_vector, columns"),
    "kind": (["action", "kind"], "delta", "action.kind must be one of ee_delta, ee_pose"),
    "gripper": (["action", "gripper", "range"], None, "action.gripper.unit is missing"),
    "path": (["action", "gripper", "fields"], ["data[x]"], r"action.gripper.fields must be paths such as data\[0\]"),
    "episodes": (["episodes", "by"], "hand", "episodes.by must be one of bag, gap, topic"),
    "gap": (["episodes", "seconds"], None, "episodes.seconds is missing"),
    "state": (["state"], {}, "state must be a list"),
    "clock": (["state", 2, "time"], "reception", "/joints both times"),
    "mapping": (["cameras"], 3, "cameras must be a mapping, got 3"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_mistake_is_one_sentence(name: str) -> None:
    place, value, said = CHANGES[name]
    changed = copy.deepcopy(content())
    inner: Any = changed
    for key in place[:-1]:
        inner = inner[key]
    if value is None:
        del inner[place[-1]]
    else:
        inner[place[-1]] = value
    with pytest.raises(TongsError, match=f"map.yaml: .*{said}") as raised:
        TopicMap.parse(changed, "map.yaml")
    assert "\n" not in str(raised.value)


def test_a_file_that_is_no_map(tmp_path: Path) -> None:
    with pytest.raises(TongsError, match="there is no file"):
        TopicMap.read(tmp_path / "none.yaml")
    for text, said in {"a: [1": "no readable YAML", "- 1": "must be a mapping"}.items():
        (tmp_path / "map.yaml").write_text(text)
        with pytest.raises(TongsError, match=said) as raised:
            TopicMap.read(tmp_path / "map.yaml")
        assert "\n" not in str(raised.value)
