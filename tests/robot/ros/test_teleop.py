"""A person with a game pad takes over from a policy, drives, lets go, corrects and hands back."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rosbags")

from robot import panda  # noqa: E402
from robot.ros.runner import PolicyRunner  # noqa: E402
from robot.ros.teleop import Pad, Teleop  # noqa: E402
from tests.robot.control.arms import Line, ToolArm  # noqa: E402
from tests.robot.ros.memory import MemoryTransport  # noqa: E402

PAD = Pad()


class Desk:
    def __init__(self) -> None:
        self.graph, self.arm, self.refused = MemoryTransport(), ToolArm(rate=50.0), list[str]()
        self.runner = PolicyRunner(self.graph, lambda: self.arm, lambda *_: Line(speed=0.0), panda.LIMITS)
        self.teleop = Teleop(self.graph, PAD, on_error=self.refused.append)
        self.joy = self.graph.publisher("/joy", "sensor_msgs/msg/Joy")

    def press(self, *buttons: int, forward: float = 0.0) -> None:
        axes = np.zeros(6, np.float32)
        axes[PAD.x] = forward
        held = np.isin(np.arange(12), buttons).astype(np.int32)
        self.joy.publish(self.graph.make("sensor_msgs/msg/Joy", axes=axes, buttons=held))

    def press_until(self, condition: Any, *buttons: int, forward: float = 0.0) -> bool:
        """A pad says again and again what is held."""
        deadline = time.monotonic() + 30.0
        while not condition():
            if time.monotonic() > deadline:
                return False
            self.press(*buttons, forward=forward)
            time.sleep(0.02)
        return True

    @property
    def state(self) -> str:
        return self.runner.status().state.value


@pytest.fixture
def desk() -> Iterator[Desk]:
    made = Desk()
    yield made
    made.teleop.close()
    made.runner.shutdown()


def test_a_person_takes_over_drives_and_hands_back(desk: Desk) -> None:
    desk.press_until(lambda: desk.refused, PAD.dead_man)
    assert "unconfigured" in desk.refused[0] and not desk.arm.commands
    desk.press()
    desk.runner.configure("line")
    desk.runner.activate()
    desk.runner.run("hold still")
    assert desk.press_until(lambda: desk.state == "operator", PAD.dead_man)
    begin = desk.arm.told[0]
    assert desk.press_until(lambda: desk.arm.told[0] > begin + 0.02, PAD.dead_man, forward=1.0)
    desk.press()  # let go: the arm comes to rest, and the policy does not go on by itself
    assert desk.press_until(lambda: abs(np.diff([position[0] for position in desk.arm.positions[-8:]])).max() < 1e-6)
    assert desk.state == "operator"
    assert desk.press_until(lambda: desk.state == "running", PAD.hand_back)
    assert desk.press_until(lambda: desk.state == "emergency", PAD.stop)
    assert desk.arm.stops >= 1


def test_words_are_corrections_of_a_human(desk: Desk) -> None:
    heard: list[Any] = []
    desk.graph.subscribe(
        "/policy_runner/correction", "tongs_msgs/msg/Correction", lambda message, _: heard.append(message)
    )
    words = desk.graph.publisher("/teleop/correction", "std_msgs/msg/String")
    for text in ("  further left ", "  "):
        words.publish(desk.graph.make("std_msgs/msg/String", data=text))
    assert [(message.text, message.source, message.confidence) for message in heard] == [("further left", "human", 1.0)]


def test_an_action_of_another_robot_is_refused(desk: Desk) -> None:
    desk.runner.configure("line")
    desk.runner.activate()
    operate = desk.graph.publisher("/policy_runner/operate", "tongs_msgs/msg/ActionChunk")
    with pytest.raises(Exception, match="the robot takes ee_delta .*, got joint_position"):
        operate.publish(desk.graph.make("tongs_msgs/msg/ActionChunk", kind="joint_position", names=["a"]))
