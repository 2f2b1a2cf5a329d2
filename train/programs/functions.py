"""The functions that our programs call without defining them, so that they are asked for: {name: source}."""

from __future__ import annotations

import ast

_SOURCES = (
    """
def make_regular_polygon(center, n_sides, side_length):
    radius = side_length / (2 * np.sin(np.pi / n_sides))
    angles = np.arange(n_sides) * 2 * np.pi / n_sides
    return Polygon([[center[0] + radius * np.cos(a), center[1] + radius * np.sin(a)] for a in angles])
""",
    """
def get_points_from_polygon(polygon):
    return np.array(polygon.exterior.coords)[:-1]
""",
    """
def make_line(start, end):
    return LineString([start, end])
""",
    """
def interpolate_pts_on_line(line, n):
    pts = [line.interpolate(t, normalized=True) for t in np.linspace(0, 1, n)]
    return np.array([[pt.x, pt.y] for pt in pts])
""",
    """
def stack_objects_in_order(obj_names):
    for below, above in zip(obj_names[:-1], obj_names[1:]):
        put_first_on_second(above, below)
""",
    """
def put_objs_at_pts(obj_names, pts):
    left = list(range(len(obj_names)))
    while left:
        gaps = [get_gap(obj_names, i, pts[i]) for i in left]
        i = left[int(np.argmax(gaps))]
        put_first_on_second(obj_names[i], pts[i])
        left.remove(i)
""",
    """
def get_gap(obj_names, i, pt):
    others = [name for name in obj_names if name != obj_names[i]]
    return min([np.linalg.norm(get_obj_pos(name) - np.array(pt)) for name in others])
""",
    """
def get_order_from_left(names):
    return np.argsort([-get_obj_pos(name)[1] for name in names])
""",
)


def _name(source: str) -> str:
    (node,) = ast.parse(source).body
    assert isinstance(node, ast.FunctionDef)
    return node.name


FUNCTIONS = {_name(source): source.strip() for source in _SOURCES}
