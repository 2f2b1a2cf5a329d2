"""SO-100 and SO-101 arms through LeRobot's robot interface: its degrees and percents as radians and openings."""

# pyright: reportMissingImports=false

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import pi
from typing import TYPE_CHECKING, Any

import numpy as np

from robot.adapters.background import BackgroundArm, Reading
from robot.errors import TongsError, unknown
from robot.interface import GRIPPER, ActionSpace, RobotSpec
from robot.limits import JointLimit, Rates
from robot.settings_file import Section
from robot.so_arm import POSITION

if TYPE_CHECKING:
    from lerobot.robots.robot import Robot as LeRobotRobot

TYPES = ("so100_follower", "so101_follower")
_SPEED, _ACCELERATION, _JERK = 1.5, 8.0, 200.0
"""rad/s and so on: slow, for a first try; a limits file says other ones."""
_MARGIN = 0.035
"""rad that are kept from the ends that were found in calibration."""


class LeRobotArm(BackgroundArm):
    """A connected and calibrated LeRobot robot as a `StreamedRobot` of joint positions.

    Joints are called as in LeRobot without ".pos", and are in rad, 0 in the middle of the calibrated range; "gripper"
    is 0 (closed) to 1 (open). Cameras have LeRobot's names and sizes. A camera that fails makes LeRobot's whole
    observation fail, so the arm then is as one that does not answer: the control loop holds it.

    Args:
        robot: connected; every entry of its action is a position.
        rate: commands and readings per second, Hz; what the serial bus manages is less if it cannot keep up.
        action_rate: of the policies that are to drive it, Hz.

    Attributes:
        joint_limits: range from the calibration, and speeds that suit a first try.

    Raises:
        TongsError: the robot is not connected, not calibrated, or no arm of positions in degrees; the sentence says
            what to do.
    """

    def __init__(self, robot: LeRobotRobot, rate: float = 50.0, action_rate: float = 10.0) -> None:
        joints = _joints(robot)
        if not robot.is_connected:
            raise TongsError(f"{robot} is not connected")
        if not robot.is_calibrated:
            raise TongsError(f"{robot}: {_calibrate(robot)}")
        self._robot, self._joints = robot, joints
        self._has_gripper = f"{GRIPPER}{POSITION}" in robot.action_features
        self._cameras = {
            name: (int(shape[0]), int(shape[1]))
            for name, shape in robot.observation_features.items()
            if isinstance(shape, tuple)
        }
        ranges = {name: _range(robot, name) for name in joints}
        rates = Rates(_SPEED, _ACCELERATION, _JERK)
        self.joint_limits = {name: JointLimit(low, high, rates) for name, (low, high) in ranges.items()}
        names = (*joints, *(GRIPPER,) * self._has_gripper)
        space = ActionSpace(
            "joint_position",
            names,
            (*("rad",) * len(joints), *("1",) * self._has_gripper),
            (*(low for low, _ in ranges.values()), *(0.0,) * self._has_gripper),
            (*(high for _, high in ranges.values()), *(1.0,) * self._has_gripper),
            rate=action_rate,
        )
        super().__init__(RobotSpec(self._cameras, names, space), rate, self._measure, self._tell, robot.disconnect)

    def _measure(self) -> Reading:
        seen = self._robot.get_observation()
        state = [float(seen[f"{name}{POSITION}"]) * pi / 180 for name in self._joints]
        if self._has_gripper:
            state.append(float(seen[f"{GRIPPER}{POSITION}"]) / 100)
        return Reading(np.array(state, np.float32), {name: np.asarray(seen[name]) for name in self._cameras})

    def _tell(self, goal: np.ndarray) -> None:
        action = {f"{name}{POSITION}": float(value) * 180 / pi for name, value in zip(self._joints, goal, strict=False)}
        if self._has_gripper:
            action[f"{GRIPPER}{POSITION}"] = 100 * float(np.clip(goal[-1], 0.0, 1.0))
        self._robot.send_action(action)


def make(settings: Mapping[str, Any]) -> LeRobotArm:
    """The arm of an arm file's settings: `type`, `port`, `id`, `cameras` and whatever else LeRobot's configuration of
    that type has, and `rate` and `action_rate` of `LeRobotArm`.

    Raises:
        TongsError: LeRobot is missing, a setting is wrong, or the arm does not answer or is not calibrated.
    """
    section = Section(settings, "the arm's settings", "")
    rate, action_rate = section.number("rate", 50.0, least=1.0), section.number("action_rate", 10.0, least=0.1)
    robot = _make_robot({key: value for key, value in settings.items() if key not in ("rate", "action_rate")})
    if not robot.calibration:
        raise TongsError(_calibrate(robot))
    try:
        robot.connect(calibrate=False)
    except Exception as error:  # LeRobot, its serial port and its cameras each have exceptions of their own
        raise TongsError(f"{robot} cannot be connected: {' '.join(str(error).split())}") from error
    try:
        return LeRobotArm(robot, rate, action_rate)
    except BaseException:
        if robot.is_connected:  # an arm that gave no reading has let go of it already
            robot.disconnect()
        raise


def _make_robot(settings: dict[str, Any]) -> LeRobotRobot:
    if settings.get("type") not in TYPES:
        raise unknown("type of a LeRobot arm", settings.get("type"), TYPES)
    try:
        import lerobot.cameras.opencv  # noqa: F401  registers the kind of camera
        from draccus import utils as draccus_utils
        from draccus.parsers.decoding import decode
        from lerobot.robots.config import RobotConfig
        from lerobot.robots.so_follower import SO101Follower
    except ImportError as error:
        raise TongsError("arms of LeRobot's need LeRobot: pip install 'tongs[lerobot]'") from error
    if "intelrealsense" in str(settings.get("cameras")):
        import lerobot.cameras.realsense  # noqa: F401
    try:
        config = decode(RobotConfig, settings)
    except (draccus_utils.DraccusException, ValueError) as error:
        cause = f" ({error.__cause__})" if error.__cause__ else ""
        raise TongsError(f"LeRobot does not understand the arm's settings: {error}{cause}") from error
    try:
        return SO101Follower(config)  # type: ignore[arg-type]
    except ImportError as error:
        raise TongsError(f"the motors of an SO arm need {error.name}: pip install 'tongs[lerobot]'") from error


def _calibrate(robot: LeRobotRobot) -> str:
    config = getattr(robot, "config", None)
    kind, port = getattr(config, "type", robot.name), getattr(config, "port", "<port>")
    return (
        f"the arm is not calibrated as {robot.calibration_fpath} says, or that file is missing: run lerobot-calibrate "
        f"--robot.type={kind} --robot.port={port} --robot.id={robot.id}"
    )


def _joints(robot: LeRobotRobot) -> Sequence[str]:
    """The names of its joints. Raises TongsError unless all actions are positions, measured, and in degrees."""
    others = [key for key in robot.action_features if not key.endswith(POSITION)]
    if others:
        raise TongsError(f"{robot} takes {', '.join(others)}, which are no joint positions: only arms can be driven")
    silent = [key for key in robot.action_features if key not in robot.observation_features]
    if silent:
        raise TongsError(f"{robot} takes {', '.join(silent)} and does not measure it")
    joints = [key.removesuffix(POSITION) for key in robot.action_features if key != f"{GRIPPER}{POSITION}"]
    for name in joints:
        mode = _motor(robot, name).norm_mode.value
        if mode != "degrees":
            raise TongsError(f"{robot} counts joint {name} as {mode}; make it with use_degrees: true")
    return joints


def _motor(robot: LeRobotRobot, name: str) -> Any:
    motors = getattr(getattr(robot, "bus", None), "motors", {})
    if name not in motors:
        raise TongsError(f"{robot} has no motor of joint {name}, so its range and units are not known")
    return motors[name]


def _range(robot: LeRobotRobot, name: str) -> tuple[float, float]:
    """What the calibration found, in rad about its middle, less the margin."""
    found, motor = robot.calibration[name], _motor(robot, name)
    turn = robot.bus.model_resolution_table[motor.model] - 1  # type: ignore[attr-defined]
    half = (found.range_max - found.range_min) / 2 * 2 * pi / turn - _MARGIN
    if half <= 0:
        raise TongsError(
            f"the calibration of joint {name} goes from {found.range_min} to {found.range_max}, which is no range: "
            "calibrate it again"
        )
    return -half, half
