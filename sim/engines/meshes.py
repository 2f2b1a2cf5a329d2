"""Round shapes as Wavefront OBJ meshes with exact normals, for renderers whose own ones are rough.

Each shape is a profile, points (distance from the axis, z) with normals, turned about the z axis.
"""

from __future__ import annotations

from math import cos, pi, sin

from robot.description import Geom

SLICES, STACKS = 16, 8
Profile = list[tuple[tuple[float, float], tuple[float, float]]]
"""Strips from the bottom to the top: pairs of ends, each end a point and the normal there."""


def mesh(geom: Geom) -> str:
    """The OBJ file of a cylinder, capsule or sphere, in m; two normals at an edge keep it sharp."""
    radius, half = geom.size[0], 0.0 if geom.shape == "sphere" else geom.size[1]
    strips = _flat_ends(radius, half) if geom.shape == "cylinder" else _round_ends(radius, half)
    vertices, normals, faces = [], [], []
    for strip in strips:
        first = len(vertices) + 1  # OBJ counts from 1
        for (distance, z), (outwards, upwards) in strip:
            for k in range(SLICES):
                x, y = cos(2 * pi * k / SLICES), sin(2 * pi * k / SLICES)
                vertices.append(f"v {distance * x:.6f} {distance * y:.6f} {z:.6f}")
                normals.append(f"vn {outwards * x:.6f} {outwards * y:.6f} {upwards:.6f}")
        for k in range(SLICES):
            a, b = first + k, first + (k + 1) % SLICES
            faces += [_face(a, b, b + SLICES), _face(a, b + SLICES, a + SLICES)]
    return "\n".join([*vertices, *normals, *faces, ""])


def _face(*corners: int) -> str:
    return "f " + " ".join(f"{corner}//{corner}" for corner in corners)


def _flat_ends(radius: float, half: float) -> list[Profile]:
    low, side, high = (0.0, -1.0), (1.0, 0.0), (0.0, 1.0)
    return [
        [((0.0, -half), low), ((radius, -half), low)],
        [((radius, -half), side), ((radius, half), side)],
        [((radius, half), high), ((0.0, half), high)],
    ]


def _round_ends(radius: float, half: float) -> list[Profile]:
    ends: Profile = []
    for sign in (-1.0, 1.0):
        for i in range(STACKS // 2 + 1):
            latitude = (i if sign > 0 else i - STACKS // 2) * pi / STACKS
            normal = (cos(latitude), sin(latitude))
            ends.append(((radius * normal[0], sign * half + radius * normal[1]), normal))
    return [[lower, upper] for lower, upper in zip(ends[:-1], ends[1:], strict=True) if lower != upper]
