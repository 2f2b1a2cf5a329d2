"""Places on the table by name, in the arm's base frame: nine of them, and the part of the table that they divide.

As the arm sees it: left is +y, right -y; the top is the far side, +x, the bottom the near one. Tests of the simulated
table-top and the functions that programs call mean the same places by the same words.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

TABLE_LOW, TABLE_HIGH = (0.32, -0.26), (0.64, 0.26)
"""Corners (x, y in m) of the part of the table on which things are put down."""
_INSET = 0.05
_SHARES: dict[str, tuple[float, float]] = {
    "top left corner": (0.0, 1.0),
    "top side": (0.5, 1.0),
    "top right corner": (1.0, 1.0),
    "left side": (0.0, 0.5),
    "middle": (0.5, 0.5),
    "right side": (1.0, 0.5),
    "bottom left corner": (0.0, 0.0),
    "bottom side": (0.5, 0.0),
    "bottom right corner": (1.0, 0.0),
}
CORNERS = tuple(name for name in _SHARES if name.endswith("corner"))
SIDES = tuple(name for name in _SHARES if name.endswith("side"))


def from_shares(across: float, up: float) -> NDArray[np.float64]:
    """(2,) x, y in m from parts of the table's width and depth: (0, 0) is the bottom left corner, (1, 1) the top right
    one."""
    (near, right), (far, left) = TABLE_LOW, TABLE_HIGH
    return np.array([near + up * (far - near), left + across * (right - left)])


def named_place(name: str) -> NDArray[np.float64]:
    """(2,) x, y in m of a place, 5 cm from the table's edges. Raises KeyError for a name that is none."""
    return np.clip(from_shares(*_SHARES[name]), np.add(TABLE_LOW, _INSET), np.subtract(TABLE_HIGH, _INSET))


def nearest_place(point: NDArray[np.floating] | tuple[float, float], names: tuple[str, ...]) -> str:
    """Which of the named places is nearest to a point (2,) in m."""
    return min(names, key=lambda name: float(np.linalg.norm(named_place(name) - np.asarray(point)[:2])))
