"""SO-100 and SO-101 arms through LeRobot: a robot of its own base class, without a motor."""

from __future__ import annotations

import json
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("lerobot")

from lerobot.motors import Motor, MotorNormMode  # noqa: E402
from lerobot.robots.config import RobotConfig  # noqa: E402
from lerobot.robots.robot import Robot  # noqa: E402
from lerobot.utils.errors import DeviceNotConnectedError  # noqa: E402

from robot.adapters import lerobot as adapter  # noqa: E402
from robot.adapters.lerobot import LeRobotArm  # noqa: E402
from robot.errors import TongsError  # noqa: E402
from robot.interface import ActionChunk, PolicySpec  # noqa: E402
from tests.conformance import check_streamed_robot  # noqa: E402

JOINTS = ("shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll")
TICKS = {"shoulder_pan": (800, 3200), "shoulder_lift": (900, 3100), "elbow_flex": (850, 3050),
         "wrist_flex": (900, 3200), "wrist_roll": (0, 4095), "gripper": (2000, 3400)}  # fmt: skip


class FakeArm(Robot):
    """As LeRobot's SO follower, with its motors' registers in memory: it counts in ticks, as they do."""

    name = "so_follower"
    config_class = RobotConfig

    def __init__(self, folder: Path, mode: MotorNormMode = MotorNormMode.DEGREES, calibrated: bool = True) -> None:
        if calibrated:
            entries = {
                name: {"id": i + 1, "drive_mode": 0, "homing_offset": 0, "range_min": low, "range_max": high}
                for i, (name, (low, high)) in enumerate(TICKS.items())
            }
            (folder / "follower.json").write_text(json.dumps(entries))
        super().__init__(SimpleNamespace(id="follower", calibration_dir=folder))  # type: ignore[arg-type]
        motors = {name: Motor(i + 1, "sts3215", mode) for i, name in enumerate(JOINTS)}
        motors["gripper"] = Motor(6, "sts3215", MotorNormMode.RANGE_0_100)
        self.bus = SimpleNamespace(motors=motors, model_resolution_table={"sts3215": 4096})
        self.ticks = {name: (low + high) / 2 for name, (low, high) in TICKS.items()}
        self.connected, self.disconnected = True, 0
        self.failure: Exception | None = None
        self.frame = np.zeros((24, 32, 3), np.uint8)
        self.extra: dict[str, type] = {}
        self.frozen = False

    @property
    def observation_features(self) -> dict:
        return {**{f"{name}.pos": float for name in TICKS}, "front": (24, 32, 3)}

    @property
    def action_features(self) -> dict:
        return {**{f"{name}.pos": float for name in TICKS}, **self.extra}

    @property
    def is_connected(self) -> bool:
        return self.connected

    @property
    def is_calibrated(self) -> bool:
        return bool(self.calibration)

    def connect(self, calibrate: bool = True) -> None:
        self.connected = True

    def calibrate(self) -> None:
        raise AssertionError("nobody is here to move the arm by hand")

    def configure(self) -> None:
        pass

    def get_observation(self) -> dict[str, Any]:
        if not self.connected:
            raise DeviceNotConnectedError("FakeArm is not connected.")
        if self.failure is not None:
            raise self.failure
        seen: dict[str, Any] = {}
        for name, (low, high) in TICKS.items():
            tick = self.ticks[name]
            middle = (low + high) / 2
            seen[f"{name}.pos"] = (
                100 * (tick - low) / (high - low) if name == "gripper" else (tick - middle) * 360 / 4095
            )
        if not self.frozen:
            self.frame = (
                self.frame.copy()
            )  # as LeRobot's cameras, which give an old picture again until there is another
        return {**seen, "front": self.frame}

    def send_action(self, action: dict[str, Any]) -> dict[str, Any]:
        for key, value in action.items():
            name = key.removesuffix(".pos")
            low, high = TICKS[name]
            tick = low + value / 100 * (high - low) if name == "gripper" else value * 4095 / 360 + (low + high) / 2
            assert low <= tick <= high, f"{name} would go to {tick}, outside of {low} to {high}"
            self.ticks[name] = tick
        return action

    def disconnect(self) -> None:
        if not self.connected:
            raise DeviceNotConnectedError("FakeArm is not connected.")
        self.connected = False
        self.disconnected += 1


def test_it_keeps_the_contract(tmp_path: Path) -> None:
    arm = LeRobotArm(FakeArm(tmp_path))
    check_streamed_robot(arm, arm.observe().state)
    arm.close()


def test_degrees_and_percents_become_radians_and_an_opening(tmp_path: Path) -> None:
    robot = FakeArm(tmp_path)
    arm = LeRobotArm(robot, rate=100.0, action_rate=30.0)
    space = arm.spec.action_space
    assert (space.kind, space.names, space.rate) == ("joint_position", (*JOINTS, "gripper"), 30.0)
    assert arm.spec.cameras == {"front": (24, 32)} and arm.spec.state_names == space.names
    half = (3200 - 800) / 2 / 4095 * 2 * np.pi  # of the pan's calibrated range
    assert half - 0.05 < space.high[0] < half and space.low[0] == -space.high[0]
    assert arm.joint_limits["shoulder_pan"].high == space.high[0] and set(arm.joint_limits) == set(JOINTS)
    wanted = np.array([np.pi / 4, -0.5, 0.5, 0.25, -2.0, 0.75], np.float32)
    arm.command(wanted)
    deadline = time.monotonic() + 10
    while not np.allclose(arm.observe().state, wanted, atol=1e-5):
        assert time.monotonic() < deadline
        time.sleep(0.005)
    assert robot.ticks["shoulder_pan"] == pytest.approx(2000 + 4095 / 8)  # an eighth of a turn from the middle
    assert robot.ticks["gripper"] == pytest.approx(2000 + 0.75 * 1400)
    arm.close()
    assert robot.disconnected == 1


def test_the_whole_range_may_be_commanded_and_no_more(tmp_path: Path) -> None:
    robot = FakeArm(tmp_path)
    arm = LeRobotArm(robot, rate=200.0)
    for end in (arm.spec.action_space.low, arm.spec.action_space.high):
        arm.command(np.array(end, np.float32))  # the fake asserts that it stays within its calibration
        deadline = time.monotonic() + 10
        while not np.allclose(arm.observe().state, end, atol=1e-4):
            assert time.monotonic() < deadline
            time.sleep(0.005)
    arm.close()


class Reach:
    """A policy that goes towards given joints."""

    def __init__(self, arm: LeRobotArm, wanted: np.ndarray) -> None:
        self.spec = PolicySpec({"front": (24, 32)}, JOINTS, arm.spec.action_space, horizon=8)
        self._wanted = wanted

    def reset(self, seed: int) -> None:
        pass

    def act(self, observation: Any) -> ActionChunk:
        way = np.clip(self._wanted[:5] - observation.state[:5], -0.4, 0.4)
        steps = np.linspace(1 / 8, 1, 8)[:, None]
        actions = np.concatenate([observation.state[:5] + steps * way, np.full((8, 1), self._wanted[5])], axis=1)
        return ActionChunk(actions.astype(np.float32), observation.time + np.arange(8) / 10)

    def act_batch(self, observations: Any) -> list[ActionChunk]:
        return [self.act(observation) for observation in observations]


def test_a_policy_drives_it_through_the_control_loop(tmp_path: Path) -> None:
    from dataclasses import replace

    from robot import panda
    from robot.control.loop import ControlLoop
    from robot.control.status import State

    robot = FakeArm(tmp_path)
    arm = LeRobotArm(robot)
    wanted = np.array([0.5, 0.2, -0.3, 0.1, 0.4, 0.2], np.float32)
    with ControlLoop(arm, Reach(arm, wanted), replace(panda.LIMITS, joints=arm.joint_limits)) as loop:
        loop.start("reach")
        deadline = time.monotonic() + 60
        while abs(arm.observe().state - wanted).max() > 0.05:
            assert time.monotonic() < deadline, (arm.observe().state, loop.status())
            time.sleep(0.05)
        robot.frozen = True
        while "camera_lost" not in loop.status().faults:
            assert time.monotonic() < deadline, loop.status()
            time.sleep(0.02)
        robot.failure = TimeoutError("OpenCVCamera(0) latest frame is too old: 900.0 ms (max allowed: 500 ms).")
        while "stale_observation" not in loop.status().faults:
            assert time.monotonic() < deadline, loop.status()
            time.sleep(0.02)
        loop.stop()
        loop.wait(State.STOPPED, 5.0)
    arm.close()


def test_robots_that_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TongsError, match="lerobot-calibrate --robot.type=so_follower .*--robot.id=follower"):
        LeRobotArm(FakeArm(tmp_path, calibrated=False))
    with pytest.raises(TongsError, match="counts joint shoulder_pan as range_m100_100; make it with use_degrees: true"):
        LeRobotArm(FakeArm(tmp_path, MotorNormMode.RANGE_M100_100))
    robot = FakeArm(tmp_path)
    robot.connected = False
    with pytest.raises(TongsError, match="is not connected"):
        LeRobotArm(robot)
    robot = FakeArm(tmp_path)
    robot.extra = {"x.vel": float}
    with pytest.raises(TongsError, match="takes x.vel, which are no joint positions"):
        LeRobotArm(robot)
    robot = FakeArm(tmp_path)
    robot.calibration["elbow_flex"].range_max = robot.calibration["elbow_flex"].range_min + 10
    with pytest.raises(TongsError, match="joint elbow_flex goes from 850 to 860, which is no range"):
        LeRobotArm(robot)


def test_an_arm_that_gives_no_reading_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    robot = FakeArm(tmp_path)
    robot.failure = ConnectionError("no status packet")
    monkeypatch.setattr(adapter, "_make_robot", lambda settings: robot)
    monkeypatch.setattr("robot.adapters.background._OPENING", 0.1)
    with pytest.raises(TongsError, match="no reading for 0.1 s: no status packet"):
        adapter.make({"type": "so101_follower", "port": "/dev/x"})
    assert robot.disconnected == 1


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"type": "koch_follower"}, "unknown type of a LeRobot arm 'koch_follower'; known are: so100_follower, so101"),
        ({"type": "so101_follower"}, "does not understand the arm's settings: Missing required field.*port"),
        ({"type": "so101_follower", "port": "/dev/x", "bauds": 3}, "the fields? `bauds`"),
        ({"type": "so101_follower", "port": "/dev/x", "rate": 0}, "rate must be a number of at least 1, got 0"),
        ({"type": "so101_follower", "port": "/dev/x", "cameras": {"front": {"type": "opencv", "index_or_path": 0}}},
         "does not understand the arm's settings: .*fps.*camera|.*'width' is required.*|.*Specifying"),
    ],
)  # fmt: skip
def test_settings_that_are_refused(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(TongsError, match=f"(?i){sentence}"):
        adapter.make(settings)


def test_a_real_so101_without_calibration_or_without_its_port_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("scservo_sdk")
    settings = {
        "type": "so101_follower",
        "port": "/dev/no_such_port",
        "id": "follower",
        "calibration_dir": str(tmp_path),
    }
    with pytest.raises(TongsError, match="follower.json says, or that file is missing: run lerobot-calibrate"):
        adapter.make(settings)
    FakeArm(tmp_path)  # writes the file
    with pytest.raises(TongsError, match="cannot be connected: .*/dev/no_such_port"):
        adapter.make(settings)
