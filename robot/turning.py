"""How the tool has turned lately: the short memory that a policy without one needs to go on with what it has begun."""

from __future__ import annotations

from dataclasses import dataclass
from math import exp

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

TURNING_STATE = ("turned_x", "turned_y", "turned_z")
"""From an average of its past orientations to the present one: a rotation vector (rad, base frame). The average forgets
with `MEMORY`, so a tool that is at rest comes back to zero. A cup that is half tilted is then seen to be on its way to
pour or on its way back, and one that is upright to have poured just now or not."""
MEMORY = 2.0
"""Time constant of the average, in seconds."""


@dataclass(frozen=True)
class Turning:
    """`average` of the tool's orientations so far."""

    average: Rotation

    def after(self, seconds: float, rotation: Rotation) -> Turning:
        """Once the tool has been at, or on its way to, this orientation for a while."""
        share = 1.0 - exp(-seconds / MEMORY)
        return Turning(Rotation.from_rotvec(share * self.state(rotation)) * self.average)

    def state(self, rotation: Rotation) -> NDArray[np.float64]:
        """(3,) as in TURNING_STATE, with the tool at an orientation."""
        return (rotation * self.average.inv()).as_rotvec()


class TurningWatch:
    """The turning of a tool that is looked at now and then."""

    def __init__(self) -> None:
        self._turning: Turning | None = None
        self._time = 0.0

    def see(self, first: NDArray[np.float64], second: NDArray[np.float64], time: float) -> NDArray[np.float64]:
        """TURNING_STATE (3,) now that the first two columns of the tool's rotation matrix are seen, at a time in s."""
        rotation = Rotation.from_matrix(np.stack([first, second, np.cross(first, second)], axis=1))
        if self._turning is None:
            self._turning = Turning(rotation)
        else:
            self._turning = self._turning.after(max(time - self._time, 0.0), rotation)
        self._time = time
        return self._turning.state(rotation)

    def forget(self) -> None:
        """Others may have turned it since; zero is seen next."""
        self._turning = None
