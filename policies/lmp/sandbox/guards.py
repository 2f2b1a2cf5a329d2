"""What a checked program does its work with: builtins, and guards on every attribute, item and iteration.

Attributes are by allow-list, per type. Nothing on it leads to a frame, a code object, a module, an address or a file,
and there is no way to make a type of one's own.
"""

import operator
from collections.abc import Callable, Mapping
from types import BuiltinFunctionType, FunctionType
from typing import Any

import numpy as np
from RestrictedPython.Guards import guarded_iter_unpack_sequence, guarded_unpack_sequence


class Facade:
    """A module as programs see it: a closed list of names."""

    __slots__ = ("members", "name")

    def __init__(self, name: str, members: Mapping[str, Any]) -> None:
        self.name = name
        self.members = dict(members)

    def __repr__(self) -> str:
        return f"<{self.name}>"


class Kind:
    """A type that programs may ask for (`isinstance(x, np.ndarray)`) but not make things of."""

    __slots__ = ("kind",)

    def __init__(self, kind: type) -> None:
        self.kind = kind

    def __repr__(self) -> str:
        return f"<type {self.kind.__name__}>"


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


_NUMBER = _names("real imag conjugate is_integer")
_ARRAY = _names(
    "T all any argmax argmin argsort astype clip conj copy cumprod cumsum diagonal dot dtype fill flatten imag item max"
    " mean min ndim nonzero prod ravel real repeat reshape round searchsorted shape size sort squeeze std sum swapaxes"
    " take tolist trace transpose var"
)
ATTRIBUTES: dict[type, frozenset[str]] = {
    str: _names(
        "capitalize casefold center count endswith find index isalnum isalpha isdecimal isdigit islower isnumeric"
        " isspace istitle isupper join ljust lower lstrip partition removeprefix removesuffix replace rfind rindex"
        " rjust rpartition rsplit rstrip split splitlines startswith strip swapcase title upper zfill"
    ),
    list: _names("append clear copy count extend index insert pop remove reverse sort"),
    tuple: _names("count index"),
    dict: _names("clear copy fromkeys get items keys pop popitem setdefault update values"),
    set: _names(
        "add clear copy difference difference_update discard intersection intersection_update isdisjoint issubset"
        " issuperset pop remove symmetric_difference union update"
    ),
    frozenset: _names("copy difference intersection isdisjoint issubset issuperset symmetric_difference union"),
    int: _NUMBER | _names("bit_length"),
    float: _NUMBER,
    complex: _NUMBER,
    range: _names("start stop step count index"),
    Exception: _names("args"),
    np.ndarray: _ARRAY,
    np.generic: _ARRAY,
    np.dtype: _names("kind name"),
    np.ufunc: _names("accumulate outer reduce"),
    np.random.Generator: _names("choice integers normal permutation random shuffle standard_normal uniform"),
}
"""What programs may ask of an object, by its type; `numerics` adds shapely's. Absent on purpose, among others:
`str.format` (walks attributes), `ndarray.tofile`, `dump`, `data`, `ctypes`, `base`, `view`, `strides`, `setflags`."""

_PER_TYPE: dict[type, frozenset[str]] = {}


def _permitted(kind: type) -> frozenset[str]:
    if kind not in _PER_TYPE:
        _PER_TYPE[kind] = frozenset().union(*(ATTRIBUTES.get(base, ()) for base in kind.__mro__))
    return _PER_TYPE[kind]


def get_attribute(value: Any, name: str) -> Any:
    """`value.name`, if programs may have it."""
    if type(value) is Facade:
        if name in value.members:
            return value.members[name]
        raise AttributeError(f"{value.name}.{name} is not available to programs")
    # a method taken from its class, as in sorted(names, key=str.lower)
    kind = value if isinstance(value, type) else type(value)
    if name in _permitted(kind):
        return getattr(value, name)
    raise AttributeError(f"{_described(value)} has no attribute {name} that programs may use")


def _described(value: Any) -> str:
    if isinstance(value, FunctionType | BuiltinFunctionType):
        return "a function"
    return f"a value of type {value.__name__ if isinstance(value, type) else type(value).__name__}"


def set_item_of(value: Any) -> Any:
    """The container of `value[index] = ...` and `del value[index]`."""
    if isinstance(value, list | dict | np.ndarray):
        return value
    raise TypeError(f"items of {_described(value)} cannot be assigned")


_IN_PLACE: dict[str, Callable[[Any, Any], Any]] = {
    "+=": operator.iadd,
    "-=": operator.isub,
    "*=": operator.imul,
    "/=": operator.itruediv,
    "//=": operator.ifloordiv,
    "%=": operator.imod,
    "**=": operator.ipow,
    "@=": operator.imatmul,
    "&=": operator.iand,
    "|=": operator.ior,
    "^=": operator.ixor,
    "<<=": operator.ilshift,
    ">>=": operator.irshift,
}


def _in_place(symbol: str, value: Any, change: Any) -> Any:
    return _IN_PLACE[symbol](value, change)


def _in_place_item(symbol: str, container: Any, index: Any, change: Any) -> None:
    container = set_item_of(container)
    container[index] = _IN_PLACE[symbol](container[index], change)


def _apply(function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    return function(*arguments, **named)


def _is_instance(value: Any, kinds: Any) -> bool:
    """`isinstance` for the types that programs have; no class of theirs can answer for itself."""
    kinds = kinds if isinstance(kinds, tuple) else (kinds,)
    return isinstance(value, tuple(kind.kind if type(kind) is Kind else kind for kind in kinds))


GUARDS: dict[str, Any] = {
    "_getattr_": get_attribute,
    "_getitem_": operator.getitem,
    "_getiter_": iter,
    "_iter_unpack_sequence_": guarded_iter_unpack_sequence,
    "_unpack_sequence_": guarded_unpack_sequence,
    "_write_": set_item_of,
    "_inplacevar_": _in_place,
    "_inplaceitem_": _in_place_item,
    "_apply_": _apply,
    "_exception_": Exception,
}
"""What rewritten code calls; no program can name these, since they start with an underscore."""

BUILTINS: dict[str, Any] = {
    kept.__name__: kept
    for kept in (
        *(abs, all, any, bin, callable, chr, divmod, enumerate, filter, format, hex, iter, len, map, max, min, next),
        *(ord, pow, range, repr, reversed, round, slice, sorted, sum, zip),
        *(bool, complex, dict, float, frozenset, int, list, set, str, tuple),
        *(ArithmeticError, AssertionError, AttributeError, Exception, IndexError, KeyError, LookupError, NameError),
        *(NotImplementedError, OverflowError, RuntimeError, StopIteration, TypeError, ValueError, ZeroDivisionError),
    )
} | {"isinstance": _is_instance, "True": True, "False": False, "None": None, "Ellipsis": Ellipsis}
"""Absent on purpose: whatever opens, imports, compiles, looks into objects (`getattr`, `vars`, `type`, `id`, `dir`) or
makes types; `BaseException` and what ends a program."""
