"""What a policy is told about its own gripper commands: the opening, and the tool's way since the fingers closed."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

GRIP_STATE = ("gripper_command", "path_x", "path_y", "path_z")
"""The opening that the gripper was last told to take (0 to 1), and the way (m, base frame) that the tool has gone since
it was last told to close; zero while it is open."""
OPENING_STATES = ("gripper_opening", "gripper")
"""What robots call the measured opening (0 to 1) in their state; the first that is there."""
_CLOSING, _OPENING = 0.3, 0.5


@dataclass(frozen=True)
class Grip:
    """`opening` was told last, and the tool was at `anchor` (m) when it was told to close; None while it is open."""

    opening: float = 1.0
    anchor: NDArray[np.float64] | None = None

    def found(self, opening: float, position: NDArray[np.float64]) -> Grip:
        """After others may have driven the arm: open fingers were told to open; closed ones still hold what they were
        closed on, or were told to be where they are."""
        if opening > _OPENING:
            return Grip()
        return self if self.opening <= _OPENING else Grip().told(opening, position)

    def told(self, opening: float, position: NDArray[np.float64]) -> Grip:
        """After another command, given with the tool's point (3,) m at the measured position."""
        if opening < _CLOSING:
            return Grip(opening, position if self.anchor is None else self.anchor)
        return Grip(opening, None) if opening > _OPENING else replace(self, opening=opening)

    def state(self, position: NDArray[np.float64]) -> NDArray[np.float64]:
        """(4,) as in GRIP_STATE, with the tool's point (3,) m at a position."""
        path = np.zeros(3) if self.anchor is None else position - self.anchor
        return np.concatenate([[self.opening], path])
