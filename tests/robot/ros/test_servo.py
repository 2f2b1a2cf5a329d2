"""An arm behind MoveIt Servo: twists out, the tool's pose in, over Cyclone DDS and within this process."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from importlib import resources
from typing import Any

import numpy as np
import pytest
import yaml

pytest.importorskip("rosbags")

from robot import panda  # noqa: E402
from robot.control.cartesian_arm import CartesianArm  # noqa: E402
from robot.control.status import State  # noqa: E402
from robot.errors import ContractError, TongsError  # noqa: E402
from robot.grip import GRIP_STATE  # noqa: E402
from robot.interface import EE_DELTA, RobotSpec  # noqa: E402
from robot.ros.arm import TopicArm  # noqa: E402
from robot.ros.runner import PolicyRunner  # noqa: E402
from robot.ros.servo import Watchdog, take_twists  # noqa: E402
from robot.skills import POSE_STATE  # noqa: E402
from robot.topic_map import TopicMap  # noqa: E402
from robot.turning import TURNING_STATE  # noqa: E402
from tests.conformance import check_streamed_robot  # noqa: E402
from tests.domains import new_domain  # noqa: E402
from tests.robot.control.arms import JointArm, Line, ToolArm  # noqa: E402
from tests.robot.ros.memory import MemoryTransport  # noqa: E402
from tests.robot.ros.servo_node import MAP, ServoArm, topic_map  # noqa: E402

PATIENCE = 120.0


def soon(condition: Any) -> bool:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


@pytest.fixture
def graph() -> Iterator[Any]:
    """A participant on loopback that hears itself."""
    pytest.importorskip("cyclonedds")
    from robot.ros.dds import DdsTransport

    errors: list[str] = []
    transport = DdsTransport(new_domain(), True, lambda name, error: errors.append(f"{name}: {error}"))
    yield transport
    transport.close()
    assert not errors


def test_a_policy_moves_the_tool_through_servo_and_stops_it(graph: Any) -> None:
    servo = ServoArm(graph).begin()
    made: list[TopicArm] = []

    def open_robot() -> CartesianArm:
        made.append(TopicArm(graph, topic_map(), panda.LIMITS))
        arm = CartesianArm(made[0].open(PATIENCE), panda.LIMITS)
        take_twists(graph, "/servo_node", PATIENCE)
        return arm

    line = Line(speed=0.1)
    runner = PolicyRunner(graph, open_robot, lambda *_: line, panda.LIMITS)
    try:
        runner.configure("line")
        assert (servo.command_type, servo.paused) == (1, False) and not servo.twists
        runner.activate()
        servo.opening = 0.0
        runner.run("go along x")
        assert soon(lambda: servo.position[0] > 0.50), (servo.position, runner.status())
        runner.stop()
        assert soon(lambda: runner.status().state == State.STOPPED and abs(servo.twists[-1][1]).max() < 2e-3)
        rested = servo.position.copy()
        time.sleep(0.3)
        np.testing.assert_allclose(servo.position, rested, atol=2e-3)
        np.testing.assert_allclose(rested[1:], [0.0, 0.35], atol=5e-3)
        assert servo.opening == pytest.approx(0.04)  # Line tells the gripper to be open
        speeds = np.array([twist for _, twist, _ in servo.twists])
        assert 0.08 < speeds[:, 0].max() <= panda.LIMITS.translation.speed + 1e-6 and abs(speeds[:, 1:]).max() < 0.02
        stamps = [header.stamp.sec + 1e-9 * header.stamp.nanosec for _, _, header in servo.twists]
        assert np.all(np.diff(stamps) > 0) and abs(stamps[-1] - time.time()) < PATIENCE
        assert servo.twists[-1][2].frame_id == "base_link"
    finally:
        runner.shutdown()
        servo.close()


def test_twists_end_with_zero_when_the_commands_cease(graph: Any) -> None:
    servo = ServoArm(graph).begin()
    arm = TopicArm(graph, topic_map(), panda.LIMITS).open(PATIENCE)
    command = np.array([0.001, 0, 0, 0, 0, 0, 1], np.float32)  # 1 mm in a fiftieth of a second
    arm.command(command)
    assert soon(lambda: len(servo.twists) > 4)  # whoever commanded is gone, and nobody called stop
    np.testing.assert_allclose(servo.twists[0][1], [0.05, 0, 0, 0, 0, 0], atol=1e-6)
    assert all(not twist.any() for _, twist, _ in servo.twists[1:])
    heard = len(servo.twists)
    arm.stop()
    assert soon(lambda: len(servo.twists) > heard + 1)  # more than once: a message may be lost
    servo.close()


def test_servo_that_is_not_there_or_refuses() -> None:
    with pytest.raises(TongsError, match="MoveIt Servo is not there as /servo_node: .*switch_command_type"):
        take_twists(MemoryTransport(), "/servo_node", 0.1)
    memory = MemoryTransport()
    servo = ServoArm(memory)
    take_twists(memory, "/servo_node")
    assert servo.command_type == 1 and not servo.paused
    kind = "moveit_msgs/srv/ServoCommandType"
    memory.serve("/servo_node/switch_command_type", kind, lambda _: memory.make(f"{kind}_Response", success=False))
    with pytest.raises(TongsError, match=r"MoveIt Servo \(/servo_node\) refuses to take twists"):
        take_twists(memory, "/servo_node")


def test_the_watch_dog_acts_once_it_is_not_fed() -> None:
    acted: list[float] = []

    def act() -> None:
        acted.append(time.monotonic())
        raise OSError("the message was not sent")  # which must not end the watch

    patience = 1.0  # longer than a busy machine pauses this thread between two feedings
    dog = Watchdog(act, patience)
    time.sleep(1.2 * patience)
    assert not acted  # nobody has moved anything yet
    for _ in range(30):
        fed = time.monotonic()
        dog.feed()
        time.sleep(0.05)
    assert soon(lambda: len(acted) == 5) and acted[0] - fed >= patience
    time.sleep(0.3)
    assert len(acted) == 5  # and then rests
    dog.feed()
    assert soon(lambda: len(acted) == 10)


class Behind:
    """A Cartesian arm that goes at a share of the speed it is told, with observations of where it is."""

    def __init__(self, follows: float) -> None:
        self.inner = ToolArm(rate=50.0)
        self.spec, self.command_rate, self.follows = self.inner.spec, 50.0, follows
        self.commands: list[np.ndarray] = []

    def observe(self) -> Any:
        return self.inner.observe()

    def command(self, command: np.ndarray) -> None:
        self.commands.append(command.copy())
        scaled = command.copy()
        scaled[:6] *= self.follows
        self.inner.command(scaled)

    def stop(self) -> None:
        self.inner.stop()


def test_a_tool_that_falls_behind_is_brought_back_to_where_it_was_told_to_be() -> None:
    behind = Behind(0.9)
    arm = CartesianArm(behind, panda.LIMITS)
    x = arm.spec.state_names.index("x")
    start = float(arm.observe().state[x])
    for period in range(400):
        arm.observe()
        way = 0.002 if period < 50 else 0.0  # 0.1 m in a second, and then no more
        arm.command(np.array([way, 0, 0, 0, 0, 0, 1], np.float32))
    arrived = float(arm.observe().state[x]) - start
    assert arrived == pytest.approx(0.1, abs=2e-3)  # without bringing back: 0.09
    speeds = np.array(behind.commands)[:, :3] * 50
    assert np.linalg.norm(speeds, axis=1).max() <= panda.LIMITS.translation.speed + 1e-6
    assert abs(np.diff(speeds[:, 0])[:49]).max() < 0.11  # the correction does not jump


def test_it_keeps_the_contract_and_says_what_the_gripper_was_told() -> None:
    arm = CartesianArm(Behind(1.0), panda.LIMITS)
    assert arm.spec.state_names == (*GRIP_STATE, *TURNING_STATE, *POSE_STATE, "gripper_opening")
    check_streamed_robot(arm, np.array([0, 0, 0, 0, 0, 0, 1], np.float32))
    column = arm.spec.state_names.index("gripper_command")
    arm.observe()
    arm.command(np.array([0.001, 0, 0, 0, 0, 0, 0.0], np.float32))
    arm.command(np.array([0.001, 0, 0, 0, 0, 0, 0.0], np.float32))
    state = arm.observe().state
    assert state[column] == 0.0 and state[arm.spec.state_names.index("path_x")] > 0


def test_arms_that_are_refused() -> None:
    with pytest.raises(ContractError, match="takes ee_delta, this one takes joint_position"):
        CartesianArm(JointArm(), panda.LIMITS)
    blind = Behind(1.0)
    blind.spec = RobotSpec({}, ("gripper_opening",), EE_DELTA)
    with pytest.raises(ContractError, match="tool's pose is not known: the state lacks x, y, z, .*pose: columns"):
        CartesianArm(blind, panda.LIMITS)


@pytest.mark.parametrize(
    ("twist", "sentence"),
    [
        ({"frame": None}, "a twist is in some frame: give /servo_node/delta_twist_cmds `frame:`"),
        (
            {"type": "geometry_msgs/msg/Twist"},
            "the first of the commands of ee_twist is `twist:` of type geometry_msgs",
        ),
    ],
)
def test_a_twist_that_nobody_could_follow_is_refused(twist: dict[str, Any], sentence: str) -> None:
    changed = topic_map()
    assert changed.action is not None
    entry = replace(changed.action.commands[0], **twist)
    commands = replace(changed.action, commands=(entry, *changed.action.commands[1:]))
    with pytest.raises(ContractError, match=sentence):
        TopicArm(MemoryTransport(), replace(changed, action=commands), panda.LIMITS)


def test_mistakes_in_the_map() -> None:
    with pytest.raises(TongsError, match=r"commands\[0\].twist must be one of speed_units, unitless, got 'fast'"):
        topic_map(twist="fast")
    with pytest.raises(TongsError, match=r"commands\[0\].linear is missing"):
        topic_map(twist="unitless")
    with pytest.raises(TongsError, match=r"commands\[0\].unit is not for a twist"):
        topic_map(unit="m")
    swapped = {**MAP, "action": {"kind": "ee_twist", "commands": MAP["action"]["commands"][1:]}}
    with pytest.raises(ContractError, match="the first of the commands of ee_twist is `twist:`"):
        TopicArm(MemoryTransport(), TopicMap.parse(swapped), panda.LIMITS)


def test_unitless_twists_are_shares_of_the_largest_and_are_read_back_as_speeds() -> None:
    memory = MemoryTransport()
    servo = ServoArm(memory)
    changed = topic_map(twist="unitless", linear=0.4, rotational=0.8)
    arm = TopicArm(memory, changed, panda.LIMITS, watchdog=None)
    servo.tell()
    arm.open(1.0).command(np.array([0.004, 0, 0, 0, 0, 0.008, 1], np.float32))  # 0.2 m/s and 0.4 rad/s at 50 Hz
    np.testing.assert_allclose(servo.twists[-1][1], [0.5, 0, 0, 0, 0, 0.5], atol=1e-6)
    heard: list[Any] = []
    entry = changed.action.commands[0]  # type: ignore[union-attr]
    memory.subscribe(entry.topic, entry.type or "", lambda message, _: heard.append(message))
    arm.command(np.array([0.004, 0, 0, 0, 0, 0.008, 1], np.float32))
    np.testing.assert_allclose(entry.read(heard[-1]), [0.2, 0, 0, 0, 0, 0.4], atol=1e-6)  # as the importer does


def test_the_gripper_is_told_anew_after_a_stop() -> None:
    memory = MemoryTransport()
    servo = ServoArm(memory)
    arm = TopicArm(memory, topic_map(), panda.LIMITS, watchdog=None)
    servo.tell()
    arm.open(1.0)
    shut = np.array([0, 0, 0, 0, 0, 0, 0], np.float32)
    arm.command(shut)
    assert servo.opening == 0.0
    servo.opening = 0.04  # opened by another
    arm.command(shut)
    assert servo.opening == 0.04  # what was told already is not repeated
    arm.stop()
    assert servo.opening == 0.04 and not servo.twists[-1][1].any()
    arm.command(shut)
    assert servo.opening == 0.0


def test_the_runner_of_the_command_line_takes_a_map_of_twists(tmp_path: Any) -> None:
    from eval.robots import arm_limits
    from eval.ros_nodes import NodeConfig, _robot_behind_topics

    path = tmp_path / "map.yaml"
    path.write_text(yaml.safe_dump(MAP))
    memory = MemoryTransport()
    servo = ServoArm(memory)
    fields: dict[str, Any] = {"policy": "beso", "task": "", "limits": None, "execution": "asynchronous", "execute": 4,
        "command_rate": 50.0, "domain": None, "local": True, "device": "cpu", "priority": None, "clock": "real",
        "latency_ms": 0.0, "jitter_ms": 0.0, "sampling": {}, "lerobot": {}}  # fmt: skip
    config = NodeConfig(node="runner", map=str(path), servo="/servo_node", **fields)
    given = TopicMap.read(path)
    limits = arm_limits(given, None, None)
    opening = _robot_behind_topics(config, memory, given, limits, 0.5)
    with pytest.raises(TongsError, match="the robot is not there after 0.5 s: /tool has said nothing yet"):
        opening()
    servo.tell()
    robot = opening()
    assert robot.spec.action_space == EE_DELTA and servo.command_type == 1
    joints = NodeConfig(node="runner", map=None, servo="/servo_node", **fields)
    simulated = TopicMap.read(str(resources.files("configs") / "topic_map" / "simulated.yaml"))
    with pytest.raises(TongsError, match="servo=/servo_node is for a topic map whose action is of kind ee_twist"):
        _robot_behind_topics(joints, memory, simulated, limits, 0.5)
