"""A template of an adapter for an arm of your own: copy this file, put your driver's calls where it says HERE.

    cp robot/adapters/template.py my_arm.py
    python -c "import my_arm; from tests.conformance import check_streamed_robot as check; \\
               arm = my_arm.make({}); check(arm, arm.observe().state); arm.close()"

As it stands it drives `Pretended`, an arm that exists in memory only, and passes the conformance suite, so that every
change can be tried at once. What is left to you is to say what the arm is (names, ranges, cameras) and to turn your
driver's units into ours: rad, an opening from 0 (closed) to 1 (open), uint8 RGB pictures. Threads, time stamps,
holding, and refusing what is no command are `BackgroundArm`'s. Then write an arm file (`docs/robot.md`) with

    driver: my_arm:make
    settings: {address: 192.168.1.2}
"""

from __future__ import annotations

from collections.abc import Mapping
from math import pi
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot.adapters.background import BackgroundArm, Reading
from robot.errors import TongsError
from robot.interface import ActionSpace, RobotSpec
from robot.settings_file import Section

# HERE: the joints in the order of your policy's actions, and their ranges in rad.
JOINTS = ("base", "shoulder", "elbow", "wrist")
LOW = (-2.8, -1.8, -2.4, -1.9)
HIGH = (2.8, 1.8, 2.4, 1.9)
# HERE: {camera: (height, width)}; an arm without cameras has {}.
CAMERAS = {"front": (120, 160)}


class Pretended:
    """Stands for your arm's driver, with units that are not ours: degrees, fingers from 0 (open) to 1000 (closed)."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._degrees, self._fingers = [0.0] * len(JOINTS), 0
        self._frame = 0

    def positions(self) -> tuple[list[float], int]:
        return list(self._degrees), self._fingers

    def go_to(self, degrees: list[float], fingers: int) -> None:
        self._degrees, self._fingers = degrees, fingers

    def picture(self) -> NDArray[np.uint8]:
        self._frame += 1
        return np.full((*CAMERAS["front"], 3), self._frame % 256, np.uint8)

    def close(self) -> None:
        pass


def make(settings: Mapping[str, Any]) -> BackgroundArm:
    """The arm, connected. Raises TongsError if it does not answer, or if a setting is wrong."""
    section = Section(settings, "the arm's settings", "")
    address, rate = section.text("address", "127.0.0.1"), section.number("rate", 50.0, least=1.0)
    section.finish()
    try:
        driver = Pretended(address)  # HERE: open your driver
    except OSError as error:
        raise TongsError(f"there is no arm at {address}: {error}") from error

    def read() -> Reading:
        degrees, fingers = driver.positions()  # HERE: measure; it may take a while, and may raise
        state = [*(pi / 180 * angle for angle in degrees), 1.0 - fingers / 1000]
        return Reading(np.array(state, np.float32), {"front": driver.picture()})

    def write(goal: NDArray[np.float64]) -> None:
        driver.go_to((180 / pi * goal[:-1]).tolist(), round(1000 * (1.0 - goal[-1])))  # HERE: send, without waiting

    space = ActionSpace(
        kind="joint_position",
        names=(*JOINTS, "gripper"),
        units=(*("rad",) * len(JOINTS), "1"),
        low=(*LOW, 0.0),
        high=(*HIGH, 1.0),
        rate=10.0,  # of the policies, Hz
    )
    return BackgroundArm(RobotSpec(CAMERAS, space.names, space), rate, read, write, driver.close)
