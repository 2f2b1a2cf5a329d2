"""Places on the table by name: corners, sides, parts of its width and depth."""

from __future__ import annotations

from typing import Literal

import numpy as np

from robot.places import CORNERS, SIDES, from_shares, named_place, nearest_place

Corner = Literal["top left corner", "top right corner", "bottom left corner", "bottom right corner"]
Side = Literal["top side", "bottom side", "left side", "right side", "middle"]


def denormalize_xy(pos_normalized: list[float] | np.ndarray) -> np.ndarray:
    """A place on the table from parts of its width and depth, both 0 to 1: (2,) x, y in m in the base frame.

    [0, 0] is the bottom left corner and [1, 1] the top right one, as the arm sees it: left is +y, the top is the far
    side, +x.
    """
    across, up = (float(value) for value in pos_normalized)
    return from_shares(across, up)


def get_corner_pos(corner: Corner) -> np.ndarray:
    """A corner of the table, 5 cm from its edges: (2,) x, y in m in the base frame."""
    return named_place(corner)


def get_side_pos(side: Side) -> np.ndarray:
    """The middle of a side of the table, 5 cm from its edge, or the table's middle: (2,) x, y in m, base frame."""
    return named_place(side)


def get_corner_name(pos: list[float] | np.ndarray) -> str:
    """The name of the corner nearest to a place (2,) x, y in m in the base frame, such as "top left corner"."""
    return nearest_place(np.asarray(pos, np.float64), CORNERS)


def get_side_name(pos: list[float] | np.ndarray) -> str:
    """The name of the side nearest to a place (2,) x, y in m in the base frame, such as "left side"."""
    return nearest_place(np.asarray(pos, np.float64), SIDES)
