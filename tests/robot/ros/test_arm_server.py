"""An arm of this process behind topics: the adapter template, its server, and the arm that the runner sees."""

from __future__ import annotations

import time
from dataclasses import replace
from importlib import resources
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rosbags")

from robot import panda, ros_messages  # noqa: E402
from robot.errors import ContractError, TongsError  # noqa: E402
from robot.limits import Limits  # noqa: E402
from robot.ros.arm import TopicArm  # noqa: E402
from robot.ros.arm_server import ARM, HAND, ArmServer  # noqa: E402
from robot.ros.quality import SENSOR  # noqa: E402
from robot.ros.trajectory import TRAJECTORY, Trajectory, limit_speed  # noqa: E402
from robot.so_arm import so_arm_space  # noqa: E402
from robot.topic_map import TopicMap  # noqa: E402
from tests.robot.control.arms import JointArm, ToolArm  # noqa: E402
from tests.robot.ros.memory import MemoryTransport  # noqa: E402

CONFIGS = resources.files("configs")
PERIOD = 0.02


class Bench:
    """A server whose periods the test makes, and what it publishes."""

    def __init__(self, cameras: dict[str, tuple[int, int]] | None = None) -> None:
        self.graph, self.arm, self.errors = MemoryTransport(), JointArm(), []
        self.server = ArmServer(self.graph, self.arm, self.errors.append)
        self.states: list[Any] = []
        self.graph.subscribe(
            "/joint_states", "sensor_msgs/msg/JointState", lambda message, _: self.states.append(message)
        )

    def tell(self, topic: str, names: list[str], *points: tuple[float, list[float]]) -> None:
        make = self.graph.make
        made = [
            make(
                "trajectory_msgs/msg/JointTrajectoryPoint",
                positions=np.array(positions),
                time_from_start=make("builtin_interfaces/msg/Duration", sec=int(at), nanosec=round(at % 1 * 1e9)),
            )
            for at, positions in points
        ]
        self.graph.publisher(topic, TRAJECTORY).publish(make(TRAJECTORY, joint_names=names, points=made))

    def period(self) -> None:
        self.server._move(self.arm.observe(), PERIOD)


def test_a_trajectory_is_walked_along_and_then_held() -> None:
    bench = Bench()
    home = np.array(panda.HOME)
    bench.period()
    assert not bench.arm.told  # nothing was asked for
    bench.tell(ARM, list(panda.JOINTS), (0.1, [*(home + 0.05)]))
    for _ in range(5):
        bench.period()
    told = np.array(bench.arm.told)[:, :7] - home
    np.testing.assert_allclose(told, np.outer(np.arange(1, 6) / 5 * 0.05, np.ones(7)), atol=1e-6)
    bench.period()
    np.testing.assert_array_equal(bench.arm.told[-1], bench.arm.told[-2])  # it stays
    bench.tell(ARM, list(panda.JOINTS), (0.02, [*(home + 0.5)]))
    bench.period()  # half a radian in a fiftieth of a second
    assert (bench.arm.told[-1][:7] - (home + 0.05)).max() <= 3.0 * PERIOD + 1e-6
    assert not bench.errors


def test_the_gripper_is_told_alone_and_stays_as_it_was() -> None:
    bench = Bench()
    bench.tell(HAND, ["gripper"], (0.0, [0.25]))
    bench.period()
    np.testing.assert_allclose(bench.arm.told[-1], [*panda.HOME, 0.25], atol=1e-6)
    bench.tell(ARM, list(panda.JOINTS), (0.02, list(panda.HOME)))
    bench.period()
    assert bench.arm.told[-1][7] == 0.25


def test_what_is_wrong_with_a_trajectory_is_one_sentence_and_moves_nothing() -> None:
    bench = Bench()
    home, names = list(panda.HOME), list(panda.JOINTS)
    bench.tell(ARM, names[1:], (0.1, home[1:]))
    bench.tell(ARM, names, (0.1, [9.0, *home[1:]]))
    bench.tell(ARM, names, (0.1, [float("nan"), *home[1:]]))
    bench.tell(ARM, names, (0.1, home[:3]))
    bench.tell(ARM, names)
    bench.tell(ARM, names, (0.2, home), (0.1, home))
    bench.tell(HAND, ["finger"], (0.1, [0.0]))
    bench.period()
    assert not bench.arm.told
    wanted = ["joint joint_1 is missing", "joint joint_1 would go to 9.000, its range is -2.", "NaN or infinity",
              "a point has 3 positions of 7 joints", "at least one point", "times must increase",
              "joint gripper is missing"]  # fmt: skip
    assert len(bench.errors) == len(wanted)
    for said, text in zip(bench.errors, wanted, strict=True):
        assert text in said and said.startswith("/")


def test_the_gripper_may_stand_anywhere_among_the_actions() -> None:
    bench = Bench()
    space = bench.arm.spec.action_space
    turned = {name: getattr(space, name)[::-1] for name in ("names", "units", "low", "high")}
    bench.arm.spec = replace(bench.arm.spec, action_space=replace(space, **turned))
    told: list[Any] = []
    bench.arm.command = told.append  # type: ignore[method-assign]
    bench.server = ArmServer(bench.graph, bench.arm, bench.errors.append)
    wanted = [*np.array(panda.HOME) + 0.01]
    bench.tell(ARM, list(panda.JOINTS), (0.02, wanted))
    bench.tell(HAND, ["gripper"], (0.0, [0.25]))
    bench.period()
    np.testing.assert_allclose(told, [[0.25, *wanted[::-1]]], atol=1e-6)


def test_arms_that_cannot_be_served() -> None:
    with pytest.raises(ContractError, match="takes joint_position, this one takes ee_delta"):
        ArmServer(MemoryTransport(), ToolArm())
    arm = JointArm()
    arm.spec = replace(JointArm.spec, state_names=("gripper_opening",))
    with pytest.raises(ContractError, match="is told joint_1, .* and does not measure it"):
        ArmServer(MemoryTransport(), arm)


def test_walking_along_a_trajectory() -> None:
    path = Trajectory(np.array([1.0, 2.0]), np.array([[1.0], [3.0]]))
    targets, rest = path.walk(np.array([0.0]), np.array([0.5, 1.0, 1.5]))
    np.testing.assert_allclose(targets[:, 0], [0.5, 1.0, 2.0])
    targets, rest = rest.walk(targets[-1], np.array([0.25, 0.5, 0.75]))
    np.testing.assert_allclose(targets[:, 0], [2.5, 3.0, 3.0])
    slower, speeds = limit_speed(np.array([0.0]), np.array([[1.0], [2.0]]), 0.5, np.array([1.0]))
    np.testing.assert_allclose((slower[:, 0], speeds[:, 0]), ([0.5, 1.0], [1.0, 1.0]))


def test_a_trajectory_that_is_too_fast_is_followed_to_its_end_more_slowly() -> None:
    path, at = Trajectory(np.array([0.5]), np.array([[4.0]])), np.array([0.0])
    reached = []
    for _ in range(6):
        targets, path = path.walk(at, np.array([0.5]))
        targets, _ = limit_speed(at, targets, 0.5, np.array([2.0]))
        at = targets[-1]
        reached.append(at[0])
    assert reached == [1.0, 2.0, 3.0, 4.0, 4.0, 4.0]


def test_an_so101_file_limits_and_map_fit_each_other(tmp_path: Any) -> None:
    """The shipped files describe one arm, and the runner's side of it can be made of them."""
    topic_map = TopicMap.read(str(CONFIGS / "topic_map" / "so101.yaml"))
    limits = Limits.read(str(CONFIGS / "limits" / "so101.yaml"), base=replace(panda.LIMITS, joints={}))
    arm = TopicArm(MemoryTransport(), topic_map, limits)
    assert arm._space == so_arm_space(topic_map.rate)  # what policies of such an arm are for
    with pytest.raises(
        ContractError, match="joint shoulder_pan .* has no limits; known are none: give urdf= or limits="
    ):
        TopicArm(MemoryTransport(), topic_map, replace(panda.LIMITS, joints={}))
    wrong = tmp_path / "limits.yaml"
    wrong.write_text("joints: {elbow: {speed: 1}}")
    with pytest.raises(TongsError, match="joints.elbow needs range and speed"):
        Limits.read(wrong, base=replace(panda.LIMITS, joints={}))


class Live(MemoryTransport):
    """Its clock is the machine's."""

    time = property(lambda self: time.time_ns(), lambda self, value: None)  # type: ignore[assignment]


def test_an_arm_file_becomes_a_robot_that_the_control_loop_drives(tmp_path: Any) -> None:
    """`node=arm` in a thread: the template's arm, over topics within this process, with pictures as JPEG files."""
    import threading

    from robot.adapters import template
    from robot.adapters.opening import open_arm

    path = tmp_path / "arm.yaml"
    path.write_text("driver: robot.adapters.template:make")
    graph = Live()
    arm = open_arm(path)
    pictures: list[Any] = []
    kind = "sensor_msgs/msg/CompressedImage"
    graph.subscribe("/front/image_raw/compressed", kind, lambda message, _: pictures.append(message), SENSOR)
    server, ended = ArmServer(graph, arm), threading.Event()
    content: dict[str, Any] = {
        "robot_type": "template", "rate": 10, "max_age": 5.0,
        "cameras": {"front": {"topic": "/front/image_raw/compressed", "type": "sensor_msgs/msg/CompressedImage",
                              "max_age": None}},
        "state": [{"topic": "/joint_states", "type": "sensor_msgs/msg/JointState", "unit": "rad",
                   "joints": list(template.JOINTS)}],
        "action": {"kind": "joint_position", "commands": [
            {"topic": ARM, "type": TRAJECTORY, "time": "reception", "joints": list(template.JOINTS), "unit": "rad"},
            {"topic": HAND, "type": TRAJECTORY, "time": "reception", "joints": ["gripper"], "unit": "1"}]},
    }  # fmt: skip
    joints = {name: panda.LIMITS.joints["joint_1"] for name in template.JOINTS}
    seen = TopicArm(graph, TopicMap.parse(content), replace(panda.LIMITS, joints=joints))
    thread = threading.Thread(target=server.run, args=(ended,), daemon=True)
    thread.start()
    try:
        seen.open(60.0)
        assert seen.spec.cameras == {"front": (120, 160)}
        wanted = np.array([0.2, 0.1, -0.1, 0.3, 0.5], np.float32)
        deadline = time.monotonic() + 60
        while not np.allclose(seen.observe().state, wanted[:4], atol=1e-3):
            assert time.monotonic() < deadline, seen.observe().state
            seen.command(wanted)
            time.sleep(0.02)
        assert arm.observe().state[4] == pytest.approx(0.5, abs=2e-3)  # a thousandth of the driver's way
        picture = pictures[-1]
        assert picture.format == "jpeg" and bytes(picture.data[:2]) == b"\xff\xd8"
        assert ros_messages.image(picture).shape == (120, 160, 3)
        stamped = ros_messages.header_stamp(picture)
        assert stamped is not None and 0 <= time.time_ns() - stamped < 60 * 10**9
    finally:
        ended.set()
        thread.join(timeout=10)
        arm.close()
