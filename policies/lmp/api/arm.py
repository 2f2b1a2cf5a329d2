"""The arm as the API drives it: motions that are carried out at once, checked before and after."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from scipy.spatial.transform import Rotation

from policies.lmp.errors import UnreachableError
from robot.interface import KEYPOSE, Observation, RobotSpec
from robot.skills import Action, Manner, Pose, Skill, Skills

LOW, HIGH = np.array(KEYPOSE.low[:3]), np.array(KEYPOSE.high[:3])
"""Corners (3,) in m of the workspace of the tool."""
_ARRIVED, _TURNED = 0.03, 0.35
_OPENING = "gripper_opening"
_HELD = 0.06
"""Opening (0 to 1) of a closed gripper above which there is something between its fingers."""


class Arm:
    """One robot and the way to carry out actions on it.

    Args:
        spec: of the robot.
        observe: gives its newest observation.
        perform: carries out one action and returns when its control period is over.
        manner: speeds and tolerances.
    """

    def __init__(
        self,
        spec: RobotSpec,
        observe: Callable[[], Observation],
        perform: Callable[[Action], None],
        manner: Manner | None = None,
    ) -> None:
        self.spec, self.observe, self._perform = spec, observe, perform
        self.skills = Skills(spec, observe, manner)
        self.gripper = 1.0

    @property
    def period(self) -> float:
        """Control period in s."""
        return 1.0 / self.spec.action_space.rate

    def do(self, skill: Skill) -> None:
        """Carry out a skill to its end."""
        for action in skill:
            self.perform(action)

    def perform(self, action: Action) -> None:
        """Carry out one action."""
        self.gripper = float(action[-1])
        self._perform(action)

    def pose(self) -> Pose:
        return self.skills.pose()

    def has_something(self) -> bool:
        """Whether the fingers are closed on something."""
        if self.gripper > 0.5 or _OPENING not in self.spec.state_names:
            return False
        return float(self.observe().state[self.spec.state_names.index(_OPENING)]) > _HELD

    def move(self, target: Pose, gripper: float | None = None, patience: float = 4.0) -> None:
        """Straight to a pose, and make sure that the tool got there.

        Raises:
            UnreachableError: it is out of the workspace, or the tool was stopped on the way.
        """
        require_reachable(target.position)
        gripper = self.gripper if gripper is None else gripper
        self.do(self.skills.move(target, gripper, patience=patience))
        self._require_arrival(target)

    def follow(self, waypoints: list[Pose], gripper: float | None = None) -> None:
        """Through several poses without a stop; raises as `move`."""
        for waypoint in waypoints:
            require_reachable(waypoint.position)
        gripper = self.gripper if gripper is None else gripper
        self.do(self.skills.follow(waypoints, gripper))
        self._require_arrival(waypoints[-1])

    def turn(self, rotation: Rotation) -> None:
        """Turn the hand on the spot."""
        self.move(replace(self.pose(), rotation=rotation))

    def close(self) -> None:
        self.do(self.skills.fingers(0.0))

    def open(self) -> None:
        self.do(self.skills.fingers(1.0))

    def _require_arrival(self, target: Pose) -> None:
        here = self.pose()
        off = float(np.linalg.norm(here.position - target.position))
        turned = (here.rotation * target.rotation.inv()).magnitude()
        if off > _ARRIVED or turned > _TURNED:
            raise UnreachableError(
                f"the arm stopped {100 * off:.0f} cm and {np.degrees(turned):.0f} degrees from where it should go, "
                f"{numbers(target.position)} m; something is in its way, or it cannot turn so far"
            )


def require_reachable(position: np.ndarray) -> None:
    """Raise UnreachableError for a point (3,) in m outside the workspace."""
    if not np.isfinite(position).all() or (position < LOW - 1e-6).any() or (position > HIGH + 1e-6).any():
        raise UnreachableError(
            f"{numbers(position)} m is out of the arm's reach, which is x {LOW[0]:g} to {HIGH[0]:g}, y {LOW[1]:g} to "
            f"{HIGH[1]:g}, z {LOW[2]:g} to {HIGH[2]:g} m"
        )


def numbers(values: np.ndarray) -> str:
    return f"({', '.join(f'{value:.3f}' for value in values)})"
