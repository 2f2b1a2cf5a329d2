"""Episodes recorded from topics: the bags explain themselves, and the importer samples them as the live arm does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

pytest.importorskip("rosbags")

from rosbags.rosbag2 import Reader  # noqa: E402

from data.features import STATE  # noqa: E402
from data.importers.run import ImportConfig, run_import  # noqa: E402
from data.reader import Dataset  # noqa: E402
from robot import panda  # noqa: E402
from robot.ros.arm import TopicArm  # noqa: E402
from robot.ros.quality import LATCHED  # noqa: E402
from robot.ros.recorder import EpisodeRecorder  # noqa: E402
from robot.topic_map import CONTRACT, SECOND, TopicMap  # noqa: E402
from tests.robot.ros.memory import MemoryTransport  # noqa: E402

CONTENT = {
    "robot_type": "test",
    "rate": 10,
    "max_age": 0.3,
    "state": [
        {"topic": "/joint_states", "type": "sensor_msgs/msg/JointState", "joints": list(panda.JOINTS), "unit": "rad"}
    ],
    "action": {
        "kind": "joint_position",
        "commands": [
            {
                "topic": "/arm/joint_trajectory",
                "type": "trajectory_msgs/msg/JointTrajectory",
                "time": "reception",
                "joints": list(panda.JOINTS),
                "unit": "rad",
            }
        ],
    },
}


class Bench:
    """A robot that moves when it is told to, 50 times a second of the graph's clock."""

    def __init__(self, folder: Path) -> None:
        self.graph, self.folder = MemoryTransport(), folder
        self.recorder = EpisodeRecorder(self.graph, CONTENT, folder)
        self.states = self.graph.publisher("/joint_states", "sensor_msgs/msg/JointState")
        self.commands = self.graph.publisher("/arm/joint_trajectory", "trajectory_msgs/msg/JointTrajectory")
        self.status = self.graph.publisher("/policy_runner/status", "tongs_msgs/msg/PolicyStatus", LATCHED)
        self.joints = np.array(panda.HOME, np.float64)

    def ask(self, service: str) -> Any:
        kind = "std_srvs/srv/Trigger"
        return self.graph.call(f"/episode_recorder/{service}", kind, self.graph.make(f"{kind}_Request"))

    def told(self, text: str) -> None:
        self.status.publish(self.graph.make("tongs_msgs/msg/PolicyStatus", instruction=text))

    def tick(self, command: bool = True) -> None:
        make, now = self.graph.make, self.graph.time
        when = make("builtin_interfaces/msg/Time", sec=now // SECOND, nanosec=now % SECOND)
        header = make("std_msgs/msg/Header", stamp=when)
        names = list(panda.JOINTS)
        state = make("sensor_msgs/msg/JointState", header=header, name=names, position=self.joints.copy())
        self.states.publish(state)
        if command:
            self.joints = self.joints + 0.001
            point = make("trajectory_msgs/msg/JointTrajectoryPoint", positions=self.joints.copy())
            self.commands.publish(make("trajectory_msgs/msg/JointTrajectory", joint_names=names, points=[point]))
        self.graph.time += SECOND // 50


def test_a_bag_explains_itself_and_becomes_the_episode_that_was_seen(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "bags")
    arm = TopicArm(bench.graph, TopicMap.parse(CONTENT), panda.LIMITS)
    bench.told("open it")  # both before the bag is begun: it has them all the same
    bench.tick()
    assert bench.ask("start_recording").message == "episode_000000"
    assert not bench.ask("start_recording").success
    seen = []
    for tick in range(100):
        bench.tick(command=tick < 80)
        if tick % 5 == 0:
            seen.append(arm.observe().state)
    assert "nothing came" not in bench.ask("stop_recording").message
    with Reader(tmp_path / "bags" / "episode_000000") as bag:
        assert {connection.msgtype for connection in bag.connections} >= {"std_msgs/msg/String"}
        assert bag.message_count >= 100 + 80 + 3
    metadata = yaml.safe_load((tmp_path / "bags" / "episode_000000" / "metadata.yaml").read_text())
    inside = yaml.safe_load(metadata["rosbag2_bagfile_information"]["custom_data"][CONTRACT])
    assert {**inside, "instruction": None} == {**CONTENT, "instruction": None}

    run_import(ImportConfig(source=[str(tmp_path / "bags")], output=str(tmp_path / "out")))
    dataset = Dataset(tmp_path / "out")
    assert dataset.tasks == ["open it"] and len(dataset.episodes) == 1
    states = dataset.columns[STATE]
    assert len(states) >= 18
    np.testing.assert_array_equal(states, np.stack(seen)[: len(states)])


def test_bags_are_kept_cancelled_and_deleted(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    assert "nothing is being recorded" in bench.ask("stop_recording").message
    assert "holds no bag" in bench.ask("delete_last_bag").message
    for _ in range(2):
        assert bench.ask("start_recording").success
        bench.tick()
        assert bench.ask("stop_recording").success
    assert bench.ask("start_recording").message == "episode_000002"
    assert "cancel it instead" in bench.ask("delete_last_bag").message
    assert bench.ask("cancel_recording").success
    assert bench.ask("delete_last_bag").message == "deleted episode_000001"
    kept = sorted(path.name for path in tmp_path.iterdir() if path.name != "unfinished")
    assert kept == ["episode_000000"] and not list((tmp_path / "unfinished").iterdir())
    assert bench.ask("start_recording").success
    bench.recorder.close()  # a node that is ended keeps what it has
    assert (tmp_path / "episode_000001" / "metadata.yaml").is_file()


def test_a_bag_on_which_nothing_came_says_so(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.ask("start_recording")
    message = bench.ask("stop_recording").message
    assert "nothing came on" in message and "/joint_states" in message and "/arm/joint_trajectory" in message
