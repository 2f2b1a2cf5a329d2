"""What programs can reach at all: every name they have, and every attribute of each, followed to the end."""

import inspect
import sys
import types
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

pytest.importorskip("RestrictedPython")
shapely = pytest.importorskip("shapely")

from policies.lmp.sandbox.guards import ATTRIBUTES, BUILTINS, Facade, Kind, get_attribute  # noqa: E402
from policies.lmp.sandbox.numerics import names_for_programs  # noqa: E402

_FILE_PARAMETERS = {"file", "fname", "filename", "fid", "allow_pickle", "mmap_mode"}
_SAMPLES = (
    *("text", [1], (1,), {"a": 1}, {1}, frozenset((1,)), 1, 1.5, 1j, True, range(3), ValueError("x"), iter([1])),
    *(np.zeros((2, 2)), np.float64(1), np.array(["a"]), np.arange(3).dtype, np.add, np.random.default_rng(0)),
    *(shapely.Point(0, 0), shapely.box(0, 0, 1, 1), shapely.LineString([(0, 0), (1, 1)]), shapely.MultiPoint([(0, 0)])),
    *(shapely.box(0, 0, 1, 1).exterior.coords, lambda: 0, (x for x in [1])),
)


def _reachable() -> Iterator[tuple[str, Any]]:
    """(how to get there, object) for all that programs get to without a call."""
    seen: set[int] = set()
    waiting = list((BUILTINS | names_for_programs()).items())
    waiting += [(f"sample {type(sample).__name__}", sample) for sample in _SAMPLES]
    every_name = set().union(*ATTRIBUTES.values())
    while waiting:
        path, value = waiting.pop()
        if id(value) in seen or path.count(".") > 6:
            continue
        seen.add(id(value))
        yield path, value
        names = value.members if isinstance(value, Facade) else every_name
        for name in names:
            try:
                waiting.append((f"{path}.{name}", get_attribute(value, name)))
            except Exception:
                continue


def test_nothing_reachable_opens_a_door() -> None:
    doors = (types.ModuleType, types.FrameType, types.CodeType, types.TracebackType, types.MappingProxyType)
    forbidden = {id(item): item for item in (open, eval, exec, compile, type, object, getattr, vars, globals, sys.exit)}
    paths = 0
    for path, value in _reachable():
        paths += 1
        assert not isinstance(value, doors), path
        assert id(value) not in forbidden, path
        assert not (isinstance(value, type) and issubclass(value, type)), path
    assert paths > 400


def test_nothing_reachable_takes_a_file() -> None:
    for path, value in _reachable():
        if not callable(value) or isinstance(value, Kind):
            continue
        try:
            parameters = set(inspect.signature(value).parameters)
        except (TypeError, ValueError):
            continue
        assert not parameters & _FILE_PARAMETERS, path


@pytest.mark.parametrize("sample", _SAMPLES, ids=lambda sample: type(sample).__name__)
def test_no_attribute_with_an_underscore_and_none_of_the_unlisted(sample: object) -> None:
    for name in dir(sample):
        listed = any(name in ATTRIBUTES.get(base, ()) for base in type(sample).__mro__)
        if name.startswith("_"):
            assert not listed
        if not listed:
            with pytest.raises(AttributeError):
                get_attribute(sample, name)
