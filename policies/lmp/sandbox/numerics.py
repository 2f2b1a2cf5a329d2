"""NumPy, math and shapely for programs: names that compute, none that reads, writes, formats or reinterprets memory."""

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import shapely
import shapely.affinity
import shapely.coords
import shapely.geometry
import shapely.geometry.base
import shapely.ops

from policies.lmp.sandbox.guards import ATTRIBUTES, Facade, Kind

_NUMPY = """
abs absolute add all allclose amax amin angle any append arange arccos arccosh arcsin arcsinh arctan arctan2 arctanh
argmax argmin argpartition argsort argwhere around array array_equal array_split asarray atleast_1d atleast_2d
average bincount bitwise_and bitwise_or bitwise_xor block broadcast_to cbrt ceil clip column_stack compress concatenate
convolve copy copysign corrcoef cos cosh count_nonzero cov cross cumprod cumsum deg2rad degrees delete diag diagonal
diff digitize divide dot dstack einsum empty empty_like equal exp exp2 expand_dims expm1 extract eye fabs flatnonzero
flip fliplr flipud floor floor_divide fmax fmin fmod full full_like geomspace gradient greater greater_equal heaviside
histogram hsplit hstack hypot identity inner insert interp intersect1d invert isclose isfinite isin isinf isnan
isscalar kron less less_equal lexsort linspace log log10 log1p log2 logical_and logical_not logical_or logical_xor
logspace matmul max maximum mean median meshgrid min minimum mod moveaxis multiply nan_to_num nanargmax nanargmin
nanmax nanmean nanmin nanstd nansum ndim negative nonzero not_equal ones ones_like outer pad partition percentile
polyfit polyval power prod ptp quantile rad2deg radians ravel reciprocal remainder repeat reshape resize roll rollaxis
roots rot90 round searchsorted select setdiff1d setxor1d shape sign signbit sin sinc sinh size sort split sqrt square
squeeze stack std subtract sum swapaxes take take_along_axis tan tanh tensordot tile trace transpose trapezoid tril
triu true_divide trunc union1d unique unravel_index unwrap vander var vdot vsplit vstack where zeros zeros_like
apply_along_axis pi e inf nan newaxis
bool_ int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 float32 float64
"""
_LINEAR_ALGEBRA = """
cholesky cond cross det eig eigh eigvals eigvalsh inv lstsq matrix_norm matrix_power matrix_rank norm pinv qr slogdet
solve svd vector_norm LinAlgError
"""
_CONSTRUCTORS = """
GeometryCollection LineString LinearRing MultiLineString MultiPoint MultiPolygon Point Polygon box
"""
_AFFINITY = "affine_transform rotate scale skew translate"
_OPERATIONS = "linemerge nearest_points substring unary_union"
_GEOMETRY = """
area boundary bounds buffer centroid contains convex_hull coords covered_by covers crosses difference disjoint distance
envelope equals exterior geom_type geoms has_z hausdorff_distance interiors interpolate intersection intersects
is_closed is_empty is_ring is_simple is_valid length line_interpolate_point line_locate_point
minimum_rotated_rectangle normalize oriented_envelope overlaps parallel_offset point_on_surface project
representative_point reverse segmentize simplify symmetric_difference touches union within x xy y z
"""

ATTRIBUTES[shapely.geometry.base.BaseGeometry] = frozenset(_GEOMETRY.split())
ATTRIBUTES[shapely.coords.CoordinateSequence] = frozenset({"xy"})


def _facade(name: str, module: Any, names: Iterable[str], **more: Any) -> Facade:
    # a name that only some of the supported versions of a library have is left out with the others
    return Facade(name, {known: getattr(module, known) for known in names if hasattr(module, known)} | more)


class _Random:
    """NumPy's older random functions over a generator of the program's own, which `seed` starts anew."""

    def __init__(self) -> None:
        self.seed()

    def seed(self, seed: int | None = None) -> None:
        self._generator = np.random.default_rng(seed)

    def members(self) -> dict[str, Any]:
        return {
            "default_rng": np.random.default_rng,
            "seed": self.seed,
            "rand": lambda *shape: self._generator.random(shape or None),
            "randn": lambda *shape: self._generator.standard_normal(shape or None),
            "random": lambda size=None: self._generator.random(size),
            "randint": lambda low, high=None, size=None: self._generator.integers(low, high, size),
            "uniform": lambda low=0.0, high=1.0, size=None: self._generator.uniform(low, high, size),
            "normal": lambda loc=0.0, scale=1.0, size=None: self._generator.normal(loc, scale, size),
            "choice": lambda a, size=None, replace=True, p=None: self._generator.choice(a, size, replace, p),
            "permutation": lambda x: self._generator.permutation(x),
            "shuffle": lambda x: self._generator.shuffle(x),
        }


def names_for_programs() -> dict[str, Any]:
    """`np`, `math`, `shapely`, and shapely's constructors and functions by their own names."""
    numpy_names = _facade(
        "np",
        np,
        _NUMPY.split(),
        linalg=_facade("np.linalg", np.linalg, _LINEAR_ALGEBRA.split()),
        random=Facade("np.random", _Random().members()),
        ndarray=Kind(np.ndarray),
        number=Kind(np.number),
        integer=Kind(np.integer),
        floating=Kind(np.floating),
    )
    geometry = _facade("shapely.geometry", shapely.geometry, _CONSTRUCTORS.split())
    affinity = _facade("shapely.affinity", shapely.affinity, _AFFINITY.split())
    operations = _facade("shapely.ops", shapely.ops, _OPERATIONS.split())
    every = geometry.members | affinity.members | operations.members
    return {
        "np": numpy_names,
        "math": _facade("math", math, [name for name in dir(math) if not name.startswith("_")]),
        "shapely": Facade("shapely", every | {"geometry": geometry, "affinity": affinity, "ops": operations}),
        **every,
    }


def exercise() -> None:
    """Use each library once, so that what it loads late is loaded before no file can be opened any more."""
    np.linalg.svd(np.linalg.inv(np.eye(2) * 2.0))
    np.random.default_rng(0).choice(3, size=2)
    np.einsum("ij,jk", np.eye(2), np.eye(2))
    np.polyfit([0.0, 1.0, 2.0], [0.0, 1.0, 2.0], 1)
    np.unique(np.array(["b", "a"]))
    repr(np.arange(3.0) / 3)
    square = shapely.geometry.box(0, 0, 1, 1)
    shapely.affinity.rotate(square.buffer(0.1), 30).union(square)
    shapely.ops.unary_union([square, shapely.geometry.Point(0, 0)])
    shapely.geometry.mapping(square)
    repr(square)
