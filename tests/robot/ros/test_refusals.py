"""Robots and checkpoints that disagree, and topic maps that are wrong: one sentence each, and nothing moves."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

pytest.importorskip("rosbags")

from robot import panda  # noqa: E402
from robot.errors import ContractError, TongsError  # noqa: E402
from robot.interface import EE_DELTA, PolicySpec  # noqa: E402
from robot.ros import definitions  # noqa: E402
from robot.ros.arm import TopicArm  # noqa: E402
from robot.ros.runner import Lifecycle, PolicyRunner  # noqa: E402
from robot.topic_map import TopicMap  # noqa: E402
from tests.domains import new_domain  # noqa: E402
from tests.robot.control.arms import Line  # noqa: E402
from tests.robot.ros.memory import MemoryTransport  # noqa: E402

MAP = Path(str(resources.files("configs"))) / "topic_map" / "simulated.yaml"
JOINTS = list(panda.JOINTS)
FAST = 20.0


class Robot:
    """What the simulated robot's topic map expects, without a simulation: joints at home and pictures of a colour."""

    def __init__(self, size: tuple[int, int] = (48, 64)) -> None:
        self.graph, self.size, self.told = MemoryTransport(), size, []
        self.names, self.ahead = [*JOINTS, "finger_left"], 0
        make, graph = self.graph.make, self.graph
        self._states = graph.publisher("/joint_states", "sensor_msgs/msg/JointState")
        kind = "sensor_msgs/msg/Image"
        self._cameras = [graph.publisher(f"/{name}/image_raw", kind) for name in ("front", "wrist")]
        for controller in ("arm", "hand"):
            topic = f"/{controller}_controller/joint_trajectory"
            graph.subscribe(topic, "trajectory_msgs/msg/JointTrajectory", lambda message, _: self.told.append(message))
        self._make = make

    def topic_map(self, **changes: Any) -> TopicMap:
        content = yaml.safe_load(MAP.read_text())
        camera = {"type": "sensor_msgs/msg/Image", "max_age": None}
        cameras = {name: {"topic": f"/{name}/image_raw", **camera} for name in ("front", "wrist")}
        return TopicMap.parse({**content, "cameras": cameras, "max_age": 1000.0, **changes})

    def say(self) -> None:
        self.graph.time += 10**8
        now = self.graph.time + self.ahead
        stamp = self._make("builtin_interfaces/msg/Time", sec=now // 10**9, nanosec=now % 10**9)
        header = self._make("std_msgs/msg/Header", stamp=stamp)
        positions = np.array([*panda.HOME, 0.04])[: len(self.names)]
        kind = "sensor_msgs/msg/JointState"
        self._states.publish(self._make(kind, header=header, name=self.names, position=positions))
        height, width = self.size
        pixels = np.full(height * width * 3, 90, np.uint8)
        fields = {"height": height, "width": width, "encoding": "rgb8", "step": 3 * width, "data": pixels}
        for camera in self._cameras:
            camera.publish(self._make("sensor_msgs/msg/Image", header=header, **fields))


def joint_policy(robot: TopicArm, **changes: Any) -> Line:
    """A policy of joint positions whose checkpoint says something else than the robot."""
    line = Line()
    space = replace(robot.spec.action_space, **changes.pop("space", {}))
    line.spec = replace(PolicySpec({"front": (48, 64)}, tuple(JOINTS), space, 8), **changes)
    return line


OTHER_JOINTS = ("shoulder_pan", *JOINTS[1:], "gripper")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"space": {"kind": "ee_delta"}}, "kind is ee_delta here and joint_position there"),
        ({"space": {"rate": FAST}}, "rate is 20.0 here and 10.0 there"),
        ({"space": {"names": OTHER_JOINTS}}, r"names is \('shoulder_pan', .* here and \('joint_1', 'joint_2'"),
        ({"space": {"frame": "world"}}, "frame is world here and base there"),
        ({"cameras": {"side": (48, 64)}}, "it needs camera side and the robot has front, wrist"),
        ({"cameras": {"front": (96, 128)}}, "camera front is wanted at 96x128 and the robot gives 48x64"),
        ({"state_names": ("elbow",)}, "it reads state elbow which the robot does not have"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_refused_before_anything_moves(changes: Any, sentence: str) -> None:
    robot = Robot()
    arm = TopicArm(robot.graph, robot.topic_map(), panda.LIMITS)
    robot.say()
    runner = PolicyRunner(robot.graph, arm.open, lambda *_: joint_policy(arm, **dict(changes)), panda.LIMITS)
    try:
        with pytest.raises(ContractError, match=rf"does not fit the robot \(policy here, robot there\): .*{sentence}"):
            runner.configure("a checkpoint")
        assert runner.lifecycle == Lifecycle.UNCONFIGURED and not robot.told
    finally:
        runner.shutdown()


@pytest.fixture
def fitting() -> Iterator[tuple[Robot, PolicyRunner]]:
    robot = Robot()
    arm = TopicArm(robot.graph, robot.topic_map(), panda.LIMITS)
    robot.say()
    runner = PolicyRunner(robot.graph, arm.open, lambda *_: joint_policy(arm), panda.LIMITS)
    yield robot, runner
    runner.shutdown()


def test_the_one_that_fits_is_taken(fitting: tuple[Robot, PolicyRunner]) -> None:
    robot, runner = fitting
    runner.configure("a checkpoint")
    assert runner.lifecycle == Lifecycle.INACTIVE and not robot.told


def test_a_camera_that_changes_its_size_makes_the_observation_stale(fitting: tuple[Robot, PolicyRunner]) -> None:
    robot, runner = fitting
    runner.configure("a checkpoint")
    robot.size = (24, 32)
    loop, deadline = runner._running(), time.monotonic() + 30
    sentence = "camera front gives 24x32, and gave 48x64 when the robot was opened"
    while not any(sentence in event.text for event in loop.events()):
        assert time.monotonic() < deadline, loop.events()
        robot.say()
        time.sleep(0.02)


def test_a_topic_of_an_unknown_type() -> None:
    cameras = {"front": {"topic": "/front", "type": "sensor_msgs/msg/Picture"}}
    topic_map = Robot().topic_map(cameras=cameras)
    sentence = "unknown message type 'sensor_msgs/msg/Picture'; sensor_msgs has .*CompressedImage"
    with pytest.raises(TongsError, match=sentence):
        for source in topic_map.sources:
            definitions.require(source.type or "")
    pytest.importorskip("cyclonedds")
    from robot.ros.dds import DdsTransport

    transport = DdsTransport(new_domain(), local=True)
    with pytest.raises(TongsError, match=sentence):
        TopicArm(transport, topic_map, panda.LIMITS)
    transport.close()


def test_a_joint_that_is_missing() -> None:
    robot = Robot()
    robot.names = robot.names[1:]
    arm = TopicArm(robot.graph, robot.topic_map(), panda.LIMITS)
    robot.say()
    with pytest.raises(TongsError, match="/joint_states: joint joint_1 is missing; the message has joint_2, "):
        arm.open(0.05)


def test_a_camera_that_is_smaller_than_the_map_says() -> None:
    robot = Robot()
    camera = {"topic": "/front/image_raw", "type": "sensor_msgs/msg/Image", "max_age": None, "size": [128, 128]}
    arm = TopicArm(robot.graph, robot.topic_map(cameras={"front": camera}), panda.LIMITS)
    robot.say()
    with pytest.raises(TongsError, match="/front/image_raw: images of 48x64 cannot be scaled up to the 128x128"):
        arm.open(0.05)


def test_a_stamp_from_the_future() -> None:
    robot = Robot()
    robot.ahead = 2 * 10**9
    arm = TopicArm(robot.graph, robot.topic_map(), panda.LIMITS)
    robot.say()
    with pytest.raises(
        TongsError, match="is stamped 2.000 s after it arrived: the clocks of sender and receiver differ"
    ):
        arm.open(0.05)


def test_the_shipped_policy_reads_what_the_simulated_robots_map_gives() -> None:
    """Every name, size and rate of the checkpoint, against the map alone, as `tongs check map=` does."""
    import json

    from eval.check import mapped_robot
    from robot.interface import require_compatible

    text = (Path(str(resources.files("checkpoints"))) / "beso" / "config.json").read_text()
    spec = PolicySpec.from_json(json.loads(text)["spec"])
    robot = mapped_robot(str(MAP), None, None, spec.cameras)
    require_compatible(spec, robot)
    assert robot.action_space == EE_DELTA
    with pytest.raises(ContractError, match="kind is ee_delta here and joint_position there"):
        require_compatible(
            spec, mapped_robot(str(MAP.parent / "so101.yaml"), str(MAP.parents[1] / "limits" / "so101.yaml"), None, {})
        )
