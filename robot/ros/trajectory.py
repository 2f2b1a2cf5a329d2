"""A joint trajectory as a robot follows it: read from its message, and then walked along tick by tick."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot.errors import TongsError

TRAJECTORY = "trajectory_msgs/msg/JointTrajectory"
_NOW = np.zeros(1)


@dataclass(frozen=True)
class Trajectory:
    """Where the joints shall be and when: `times` (N,) s from now on, increasing, and `points` (N, J) rad."""

    times: NDArray[np.float64]
    points: NDArray[np.float64]

    @classmethod
    def read(cls, topic: str, message: Any, names: Sequence[str]) -> Trajectory:
        """From a JointTrajectory, whose joints are found by name.

        Raises:
            TongsError: a joint or a position is missing, a position is no number, there is no point, or the times do
                not increase.
        """
        points = [_positions(topic, message, point, names) for point in message.points]
        if not points:
            raise TongsError(f"{topic}: a trajectory needs at least one point")
        times = [point.time_from_start.sec + 1e-9 * point.time_from_start.nanosec for point in message.points]
        if times[0] < 0 or (np.diff(times) <= 0).any():
            raise TongsError(f"{topic}: times must increase from 0, got {times}")
        return cls(np.array(times), np.array(points))

    def walk(self, begin: NDArray[np.float64], at: NDArray[np.float64]) -> tuple[NDArray[np.float64], Trajectory]:
        """Go along it from where the joints were told to be.

        Args:
            begin: (J,) rad, where the way to the first point begins.
            at: (M,) s from now, increasing.

        Returns:
            where to be at each of these times (M, J), linear between the points, and what is left after the last of
            them: in the end to be at the last point, for joints that could not go as fast.
        """
        times, points = self.times, self.points
        if times[0] > 0:
            times, points = np.concatenate([[0.0], times]), np.concatenate([begin[None], points])
        targets = np.stack([np.interp(at, times, column) for column in points.T], axis=1)
        left = times > at[-1]
        return targets, Trajectory(times[left] - at[-1], points[left]) if left.any() else Trajectory(_NOW, points[-1:])


def limit_speed(
    begin: NDArray[np.float64], targets: NDArray[np.float64], step: float, fastest: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Targets (M, J), `step` s apart, and the speeds (M, J) on the way to each, no joint faster than (J,) `fastest`."""
    speeds = np.diff(np.concatenate([begin[None], targets]), axis=0) / step
    if (np.abs(speeds) > fastest).any():  # as an arm's own controller would
        speeds = np.clip(speeds, -fastest, fastest)
        targets = begin + step * np.cumsum(speeds, axis=0)
    return targets, speeds


def _positions(topic: str, message: Any, point: Any, names: Sequence[str]) -> NDArray[np.float64]:
    present = list(message.joint_names)
    if missing := [name for name in names if name not in present]:
        raise TongsError(f"{topic}: joint {', '.join(missing)} is missing; it has {', '.join(present)}")
    if len(point.positions) != len(present):
        raise TongsError(f"{topic}: a point has {len(point.positions)} positions of {len(present)} joints")
    positions = np.array([point.positions[present.index(name)] for name in names], np.float64)
    if not np.isfinite(positions).all():
        raise TongsError(f"{topic}: NaN or infinity among {positions.tolist()}")
    return positions
