"""What an SO-100 or SO-101 is: its joints as LeRobot calls them, their ranges, and its actions."""

from __future__ import annotations

from math import pi

from robot.interface import GRIPPER, ActionSpace

RANGES = {
    "shoulder_pan": (-1.91, 1.91),
    "shoulder_lift": (-1.74, 1.74),
    "elbow_flex": (-1.69, 1.69),
    "wrist_flex": (-1.65, 1.65),
    "wrist_roll": (-2.79, 2.79),
}
"""{joint: range} in rad about the middle of what calibration finds, by the maker's URDF (so101_new_calib)."""
NAMES = (*RANGES, GRIPPER)
POSITION = ".pos"
"""What LeRobot appends to the name of a joint."""
LEROBOT_UNITS = (*(180 / pi,) * len(RANGES), 100.0)
"""What LeRobot counts for one of ours: degrees for rad (with its `use_degrees`), percents for an opening."""


def so_arm_space(rate: float) -> ActionSpace:
    """Positions of all joints and the gripper's opening (1 = open), `rate` times a second."""
    low, high = zip(*RANGES.values(), strict=True)
    return ActionSpace("joint_position", NAMES, (*("rad",) * len(RANGES), "1"), (*low, 0.0), (*high, 1.0), rate=rate)
