"""Simulated robot, policy runner and client as three processes on loopback, over Cyclone DDS and (if there) rclpy."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rosbags")

from robot.errors import TongsError  # noqa: E402
from robot.ros.client import Client  # noqa: E402
from robot.ros.transport import Transport  # noqa: E402
from tests.domains import new_domain  # noqa: E402

ROOT = Path(__file__).resolve().parents[3]
PACKAGE = ROOT / "ros_ws" / "src" / "tongs_ros"
PATIENCE = 1800.0
"""s that nothing takes on any machine."""

pytestmark = pytest.mark.slow


class DdsNodes:
    """Nodes of `tongs ros`."""

    def __init__(self, folder: Path, domain: int, clock: str) -> None:
        pytest.importorskip("cyclonedds")
        from robot.ros.dds import DdsTransport

        self._folder, self._words = folder, (f"domain={domain}", f"clock={clock}", "local=true")
        self.transport: Transport = DdsTransport(domain, local=True)

    def robot(self) -> subprocess.Popen[bytes]:
        return self._spawn("node=robot", "task=open_drawer")

    def runner(self) -> subprocess.Popen[bytes]:
        return self._spawn("node=runner", "policy=expert", "execution=synchronous")

    def _spawn(self, *words: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, str(ROOT / "tongs.py"), "ros", *words, *self._words]
        return start(command, self._folder / f"{words[0].replace('=', '_')}.log", dict(os.environ))

    def ready(self) -> None:
        pass


class RclpyNodes:
    """Nodes of `tongs_ros`, with the messages of a built and sourced `tongs_msgs`."""

    def __init__(self, folder: Path, domain: int, clock: str) -> None:
        rclpy = pytest.importorskip("rclpy", reason="there is no ROS 2 here")
        pytest.importorskip("tongs_msgs", reason="tongs_msgs is not built and sourced here")
        sys.path.insert(0, str(PACKAGE))
        from rclpy.node import Node  # type: ignore[import-not-found]
        from tongs_ros.spinning import serve  # type: ignore[import-not-found]
        from tongs_ros.transport import RclpyTransport  # type: ignore[import-not-found]

        os.environ["ROS_DOMAIN_ID"] = str(domain)
        if not rclpy.ok():
            rclpy.init()
        node = Node("client")
        self._executor = serve(node)
        self.transport: Transport = RclpyTransport(node)
        self._folder, self._clock = folder, clock

    def robot(self) -> subprocess.Popen[bytes]:
        return self._spawn("simulated_robot", "task:=open_drawer", f"clock:={self._clock}")

    def runner(self) -> subprocess.Popen[bytes]:
        simulated = str(self._clock != "real").lower()
        return self._spawn("policy_runner", "policy:=expert", "execution:=synchronous", f"use_sim_time:={simulated}")

    def _spawn(self, name: str, *parameters: str) -> subprocess.Popen[bytes]:
        said = [word for parameter in parameters for word in ("-p", parameter)]
        command = [sys.executable, "-c", f"from tongs_ros.{name} import main; main()", "--ros-args", *said]
        paths = [str(ROOT), str(PACKAGE), os.environ.get("PYTHONPATH", "")]
        return start(command, self._folder / f"{name}.log", {**os.environ, "PYTHONPATH": os.pathsep.join(paths)})

    def ready(self) -> None:
        """Configure and activate the runner."""
        kind, make = "lifecycle_msgs/srv/ChangeState", self.transport.make
        for number in (1, 3):
            request = make(f"{kind}_Request", transition=make("lifecycle_msgs/msg/Transition", id=number))
            assert self.transport.call("/policy_runner/change_state", kind, request, PATIENCE).success


def start(command: list[str], log: Path, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command, cwd=ROOT, stdout=log.open("ab"), stderr=subprocess.STDOUT, env=environment)


class Graph:
    """A robot, a runner that follows the expert, and the client of this process."""

    def __init__(self, folder: Path, nodes: DdsNodes | RclpyNodes) -> None:
        self.folder, self._nodes, self.transport = folder, nodes, nodes.transport
        self.client = Client(self.transport, silence=PATIENCE, patience=PATIENCE)
        self.robot = self.runner = nodes.robot()
        self.wait("scene", lambda scene: True)
        self.start_runner()

    def start_robot(self) -> None:
        self.robot = self._nodes.robot()
        self.wait("scene", lambda scene: True)

    def start_runner(self) -> None:
        self.runner = self._nodes.runner()
        self._nodes.ready()
        self.wait("status", lambda status: status.state == "idle")

    def wait(self, topic: str, wanted: Any) -> Any:
        """The first message for which `wanted(message)`; fails only if a process ends, or none comes for very long."""
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                return self.client.wait(topic, wanted, 10.0)
            except TongsError:
                alive = self.robot.poll() is None and self.runner.poll() is None
                if time.monotonic() > deadline or not alive:
                    logs = "\n".join(path.read_text() for path in self.folder.glob("*.log"))
                    raise AssertionError(f"{topic} did not come; the processes said: {logs}") from None

    def close(self) -> None:
        for process in (self.runner, self.robot):
            if process.poll() is None:
                process.kill()
                process.wait()
        self.transport.close()


@pytest.mark.parametrize("nodes", [DdsNodes, RclpyNodes])
def test_episodes_are_driven_to_success_and_the_same_ones_again(tmp_path: Path, nodes: Any) -> None:
    graph = Graph(tmp_path, nodes(tmp_path, new_domain(), "stepped"))
    try:
        ends = [graph.client.episode(index=index, seed=7, patience=PATIENCE) for index in (0, 1, 0)]
        assert all(end.success for end in ends), ends
        assert all(abs(end.value - end.goal) < 0.05 for end in ends)
        assert ends[0].instruction != ends[1].instruction and ends[0].value != ends[1].value
        assert ends[2].value == pytest.approx(ends[0].value, abs=1e-4) and ends[2].seconds == ends[0].seconds
        for process in (graph.runner, graph.robot):
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=PATIENCE) == 0
    finally:
        graph.close()


@pytest.mark.parametrize("nodes", [DdsNodes, RclpyNodes])
def test_each_is_killed_in_turn(tmp_path: Path, nodes: Any) -> None:
    """In real time: a killed robot makes the runner hold, a killed runner leaves the arm where it is."""
    graph = Graph(tmp_path, nodes(tmp_path, new_domain(), "real"))
    client, heard = graph.client, []
    graph.transport.subscribe("/joint_states", "sensor_msgs/msg/JointState", lambda message, _: heard.append(message))

    def ticks(count: int) -> Any:
        """The arm's joints after so many more ticks of the robot, however long they take."""
        wanted, deadline = len(heard) + count, time.monotonic() + PATIENCE
        while len(heard) < wanted:
            assert time.monotonic() < deadline and graph.robot.poll() is None
            time.sleep(0.01)
        return np.array(heard[-1].position[:7])

    try:
        graph.robot.kill()
        graph.robot.wait()
        graph.wait("status", lambda status: status.observation_age > 1.0)
        with pytest.raises(TongsError, match="nobody has offered|has not answered"):
            client.call("/simulated_robot/reset", "tongs_msgs/srv/ResetScene", 1.0)
        graph.start_robot()
        graph.wait("status", lambda status: status.observation_age < 0.5)

        home = ticks(1)
        client.call("run", "tongs_msgs/srv/StartRun", instruction="open the left drawer")
        deadline = time.monotonic() + PATIENCE
        while abs(ticks(1) - home).max() < 0.02:
            assert time.monotonic() < deadline, client.latest("status")
        graph.runner.kill()
        graph.runner.wait()
        rested = ticks(100)  # the last trajectory lasts two of them
        assert abs(ticks(50) - rested).max() < 1e-3
        with pytest.raises(TongsError, match="silent"):
            Client(graph.transport, silence=2.0).wait("status", lambda status: True, 10.0)
        graph.start_runner()
        assert abs(ticks(50) - rested).max() < 1e-3  # a runner that comes back moves nothing
    finally:
        graph.close()


def test_an_arm_of_a_file_is_a_robot_behind_topics(tmp_path: Path) -> None:
    """`tongs ros node=arm` with the adapter template, driven from this process."""
    pytest.importorskip("cyclonedds")
    from robot import panda
    from robot.adapters import template
    from robot.limits import JointLimit, Rates
    from robot.ros.arm import TopicArm
    from robot.ros.arm_server import ARM, HAND
    from robot.ros.dds import DdsTransport
    from robot.ros.trajectory import TRAJECTORY
    from robot.topic_map import TopicMap

    (tmp_path / "arm.yaml").write_text("driver: robot.adapters.template:make\nsettings: {rate: 50}")
    command = [sys.executable, str(ROOT / "tongs.py"), "ros", "node=arm", f"arm={tmp_path / 'arm.yaml'}"]
    log = tmp_path / "arm.log"
    domain = new_domain()
    server = start([*command, f"domain={domain}", "local=true"], log, dict(os.environ))
    transport = DdsTransport(domain, local=True)
    joints = {"joints": list(template.JOINTS), "unit": "rad"}
    commands = [
        {"topic": ARM, "type": TRAJECTORY, "time": "reception", **joints},
        {"topic": HAND, "type": TRAJECTORY, "time": "reception", "joints": ["gripper"], "unit": "1"},
    ]
    picture = {"topic": "/front/image_raw/compressed", "type": "sensor_msgs/msg/CompressedImage", "max_age": None}
    content = {
        "robot_type": "template",
        "rate": 10,
        "max_age": PATIENCE,
        "cameras": {"front": picture},
        "state": [{"topic": "/joint_states", "type": "sensor_msgs/msg/JointState", **joints}],
        "action": {"kind": "joint_position", "commands": commands},
    }
    limits = {name: JointLimit(-3.0, 3.0, Rates(1.0)) for name in template.JOINTS}
    try:
        arm = TopicArm(transport, TopicMap.parse(content), replace(panda.LIMITS, joints=limits))
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                arm.open(5.0)
                break
            except TongsError as error:
                assert server.poll() is None and time.monotonic() < deadline, f"{error}; {log.read_text()}"
        wanted = np.array([0.2, 0.1, -0.1, 0.3, 0.5], np.float32)
        while not np.allclose(arm.observe().state, wanted[:4], atol=1e-3):
            assert server.poll() is None and time.monotonic() < deadline, log.read_text()
            arm.command(wanted)
            time.sleep(0.02)
        assert arm.observe().images["front"].shape == (120, 160, 3)
        server.send_signal(signal.SIGTERM)
        assert server.wait(timeout=PATIENCE) == 0, log.read_text()
    finally:
        if server.poll() is None:
            server.kill()
        transport.close()


def test_an_arm_that_cannot_be_opened_says_why(tmp_path: Path) -> None:
    for words, said in (
        ([], "which arm? node=arm needs arm="),
        (["arm=nowhere.yaml"], "there is no file nowhere.yaml"),
    ):
        command = [sys.executable, str(ROOT / "tongs.py"), "ros", "node=arm", "local=true", *words]
        ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE)
        assert ended.returncode == 2 and said in ended.stderr + ended.stdout
