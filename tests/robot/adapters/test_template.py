"""The adapter template, a copy of it as a user's own, and what becomes of an arm file with a mistake."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from robot.adapters import template
from robot.adapters.background import BackgroundArm, Reading
from robot.adapters.opening import open_arm
from robot.errors import TongsError
from tests.conformance import check_streamed_robot


def file_of(folder: Path, text: str) -> Path:
    path = folder / "arm.yaml"
    path.write_text(text)
    return path


def test_the_template_keeps_the_contract() -> None:
    arm = template.make({})
    check_streamed_robot(arm, arm.observe().state)
    arm.close()


def test_a_copy_is_opened_by_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(template.__file__, tmp_path / "my_own_arm.py")
    monkeypatch.syspath_prepend(str(tmp_path))
    arm = open_arm(file_of(tmp_path, "driver: my_own_arm:make\nsettings: {address: 10.0.0.2, rate: 100}"))
    assert arm.command_rate == 100 and arm.spec.action_space.names[-1] == "gripper"
    wanted = np.array([0.1, -0.2, 0.3, -0.4, 0.25], np.float32)
    arm.command(wanted)
    deadline = time.monotonic() + 5
    while not np.allclose(arm.observe().state, wanted, atol=1e-3):
        assert time.monotonic() < deadline, arm.observe().state
        time.sleep(0.01)
    arm.close()
    arm.close()


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("settings: {}", "driver is missing"),
        ("driver: so101", "driver must be lerobot or <module>:<function> of your own, got 'so101'"),
        ("driver: no_such_arm:make", "names no_such_arm:make: there is no module no_such_arm"),
        ("driver: robot.adapters.template:build", "robot.adapters.template has no build"),
        ("driver: robot.adapters.template:Pretended\nsettings: {a: 1}", "made a Pretended, which lacks one of: spec"),
        ("driver: robot.adapters.template:make\nsettings: 3", "settings must be a mapping, got 3"),
        ("driver: robot.adapters.template:make\nsettings: {adress: x}", "unknown key 'adress'"),
        ("driver: robot.adapters.template:make\nport: x", "unknown key 'port'"),
    ],
)
def test_a_mistake_in_an_arm_file_is_one_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(TongsError, match=sentence) as raised:
        open_arm(file_of(tmp_path, text))
    assert "\n" not in str(raised.value)


class Hardware:
    """A driver that can be made to fail."""

    def __init__(self) -> None:
        self.joints, self.told, self.closed = np.zeros(5), [], 0
        self.failure: Exception | None = None
        self.stuck = False
        self.picture = np.zeros((4, 4, 3), np.uint8)

    def read(self) -> Reading:
        if self.failure:
            raise self.failure
        return Reading(self.joints.astype(np.float32), {"front": self.picture})

    def write(self, goal: Any) -> None:
        if self.failure:
            raise self.failure
        self.told.append(goal)

    def close(self) -> None:
        self.closed += 1
        if self.stuck:
            raise ConnectionError("cannot be closed")


def arm_of(hardware: Hardware) -> BackgroundArm:
    spec = template.make({}).spec
    return BackgroundArm(
        type(spec)({"front": (4, 4)}, spec.state_names, spec.action_space),
        200.0,
        hardware.read,
        hardware.write,
        hardware.close,
    )


def until(true: Any) -> None:
    deadline = time.monotonic() + 10
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def test_stopping_holds_the_measured_joints_and_keeps_the_grip() -> None:
    hardware = Hardware()
    arm = arm_of(hardware)
    arm.command(np.array([1, 1, 1, 1, 0.0], np.float32))
    until(lambda: len(hardware.told) == 1)
    hardware.joints = np.array([0.5, 0.5, 0.5, 0.5, 0.3])  # on the way, and fingers on something
    until(lambda: arm.observe().state[0] == 0.5)
    arm.stop()
    until(lambda: len(hardware.told) == 2)
    np.testing.assert_allclose(hardware.told[-1], [0.5, 0.5, 0.5, 0.5, 0.0])
    arm.close()
    assert hardware.closed == 1


def test_hardware_that_fails_is_asked_again_and_then_complained_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("robot.adapters.background._SILENT", 2.0)  # longer than a busy machine pauses this thread
    hardware = Hardware()
    arm = arm_of(hardware)
    hardware.failure = ConnectionError("no status packet\non the bus")
    arm.command(np.full(5, 0.2, np.float32))
    hardware.failure = None
    until(lambda: len(hardware.told) == 1)  # the command that could not be sent at first
    hardware.failure = ConnectionError("no status packet\non the bus")
    arm.command(np.full(5, 0.4, np.float32))
    time.sleep(0.1)  # a reading may have been under way
    before = arm.observe()
    time.sleep(0.1)
    assert arm.observe().time == before.time  # what is old stays old: the control loop sees it by the time

    def complains() -> bool:
        try:
            arm.observe()
        except TongsError as error:
            return "no status packet on the bus" in str(error)
        return False

    until(complains)
    hardware.failure = None
    until(lambda: not complains())
    assert arm.observe().time > before.time and len(hardware.told) == 1  # what is too old is not carried out
    arm.close()


def test_an_arm_that_never_answers_is_not_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("robot.adapters.background._OPENING", 0.1)
    hardware = Hardware()
    hardware.failure, hardware.stuck = OSError("port is gone"), True
    with pytest.raises(TongsError, match="no reading for 0.1 s: port is gone"):
        arm_of(hardware)
    assert hardware.closed == 1


@pytest.mark.parametrize("wrong", [np.array([0.1, np.nan, 0, 0, 0]), np.zeros(4)])
def test_a_reading_that_is_none_moves_nothing(monkeypatch: pytest.MonkeyPatch, wrong: np.ndarray) -> None:
    monkeypatch.setattr("robot.adapters.background._SILENT", 2.0)
    hardware = Hardware()
    arm = arm_of(hardware)
    arm.command(np.full(5, 0.2, np.float32))
    until(lambda: len(hardware.told) == 1)
    hardware.joints = wrong
    time.sleep(0.1)
    assert arm.observe().state.tolist() == [0.0] * 5
    arm.stop()
    until(lambda: len(hardware.told) == 2)
    np.testing.assert_allclose(hardware.told[-1], [0, 0, 0, 0, 0.2], atol=1e-6)  # held where it was seen last

    def complains() -> bool:
        try:
            arm.observe()
        except TongsError as error:
            return "base, shoulder, elbow, wrist, gripper were measured as [0." in str(error)
        return False

    until(complains)
    arm.close()


def test_a_picture_has_the_time_at_which_it_was_new() -> None:
    hardware = Hardware()
    arm = arm_of(hardware)
    first = arm.observe()
    until(lambda: arm.observe().time > first.time + 0.05)
    assert arm.observe().image_times["front"] == first.image_times["front"]
    hardware.picture = np.ones((4, 4, 3), np.uint8)
    until(lambda: arm.observe().image_times["front"] > first.image_times["front"] + 0.05)
    arm.close()
