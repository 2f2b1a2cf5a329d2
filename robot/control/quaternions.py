"""Single rotations as quaternions (w, x, y, z) of plain floats, for code that has a fraction of a millisecond.

For one rotation at a time scipy costs about thirty times as much.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import acos, atan2, cos, sin, sqrt

Quaternion = tuple[float, float, float, float]
Vector = tuple[float, float, float]


def product(a: Quaternion, b: Quaternion) -> Quaternion:
    """The rotation b followed by a, normalised."""
    w = a[0] * b[0] - a[1] * b[1] - a[2] * b[2] - a[3] * b[3]
    x = a[0] * b[1] + a[1] * b[0] + a[2] * b[3] - a[3] * b[2]
    y = a[0] * b[2] - a[1] * b[3] + a[2] * b[0] + a[3] * b[1]
    z = a[0] * b[3] + a[1] * b[2] - a[2] * b[1] + a[3] * b[0]
    norm = sqrt(w * w + x * x + y * y + z * z)
    return w / norm, x / norm, y / norm, z / norm


def inverse(a: Quaternion) -> Quaternion:
    return a[0], -a[1], -a[2], -a[3]


def from_vector(vector: Sequence[float]) -> Quaternion:
    """From a rotation vector in rad."""
    x, y, z = vector
    angle = sqrt(x * x + y * y + z * z)
    share = sin(angle / 2) / angle if angle > 1e-9 else 0.5
    return cos(angle / 2), share * x, share * y, share * z


def to_vector(a: Quaternion) -> Vector:
    """The rotation vector in rad, of length pi at most."""
    w, x, y, z = a if a[0] >= 0 else (-a[0], -a[1], -a[2], -a[3])
    length = sqrt(x * x + y * y + z * z)
    share = 2 * atan2(length, w) / length if length > 1e-9 else 2.0
    return share * x, share * y, share * z


def angle(a: Quaternion, b: Quaternion) -> float:
    """Between two rotations, rad."""
    dot = abs(a[0] * b[0] + a[1] * b[1] + a[2] * b[2] + a[3] * b[3])
    if dot < 0.9:
        return 2 * acos(dot)
    x, y, z = to_vector(product(a, inverse(b)))
    return sqrt(x * x + y * y + z * z)


def from_columns(first: Sequence[float], second: Sequence[float]) -> Quaternion:
    """From the first two columns of a rotation matrix (Shepperd 1978: divide by the largest of the four)."""
    a, d, g = first
    b, e, h = second
    c, f, i = d * h - g * e, g * b - a * h, a * e - d * b
    squares = (1 + a + e + i, 1 + a - e - i, 1 - a + e - i, 1 - a - e + i)
    largest = squares.index(max(squares))
    rows: tuple[Quaternion, ...] = (
        (squares[0], h - f, c - g, d - b),
        (h - f, squares[1], b + d, c + g),
        (c - g, b + d, squares[2], f + h),
        (d - b, c + g, f + h, squares[3]),
    )
    w, x, y, z = rows[largest]
    norm = sqrt(w * w + x * x + y * y + z * z)
    return w / norm, x / norm, y / norm, z / norm
