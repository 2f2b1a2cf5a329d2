"""Checks what a program passes to an API function against the types in the function's signature."""

import inspect
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, Union

import numpy as np

from policies.lmp.sandbox.outcome import Geometry
from robot.errors import TongsError

Converter = Callable[[Any], Any]


class ArgumentError(Exception):
    """Arguments that do not fit the signature; the message is one sentence that says what would."""


class _MismatchError(Exception):
    pass


class ApiFunction:
    """A function that programs may call, with its signature.

    Raises:
        TongsError: a parameter has no type or one that cannot be checked.
    """

    def __init__(self, name: str, function: Callable[..., Any]) -> None:
        if not name.isidentifier() or name.startswith("_"):
            raise TongsError(f"{name!r} is no name for an API function: it has to be an identifier without leading _")
        self.name = name
        self.function = function
        try:
            self._signature = inspect.signature(function)
            # a callable object has its types on the method
            hints = typing.get_type_hints(function if hasattr(function, "__code__") else _underlying(function))
        except (TypeError, ValueError, NameError) as error:
            raise TongsError(f"the API function {name} has no signature that can be read: {error}") from None
        self._converters: dict[str, Converter] = {}
        self._words: dict[str, str] = {}
        for parameter in self._signature.parameters.values():
            if parameter.kind is inspect.Parameter.VAR_KEYWORD:
                raise TongsError(f"the API function {name} takes **{parameter.name}; name its parameters one by one")
            if parameter.name not in hints:
                raise TongsError(f"the API function {name} has no type for its parameter {parameter.name}")
            self._converters[parameter.name] = _converter(hints[parameter.name], f"{name}({parameter.name})")
            self._words[parameter.name] = _in_words(hints[parameter.name])

    def bind(self, arguments: Sequence[Any], named: Mapping[str, Any]) -> tuple[list[Any], dict[str, Any]]:
        """Checked arguments, positional and by name.

        Raises:
            ArgumentError: one is missing, too many, unknown, or of another type.
        """
        try:
            bound = self._signature.bind(*arguments, **named)
        except TypeError as error:
            raise ArgumentError(f"{self.name}() {error}") from None
        for parameter, value in bound.arguments.items():
            several = self._signature.parameters[parameter].kind is inspect.Parameter.VAR_POSITIONAL
            convert = self._converters[parameter]
            try:
                bound.arguments[parameter] = tuple(convert(item) for item in value) if several else convert(value)
            except _MismatchError as error:
                reason = f" ({error})" if str(error) else ""
                raise ArgumentError(
                    f"{self.name}(): {parameter} has to be {self._words[parameter]}, not {_shown(value)}{reason}"
                ) from None
        return list(bound.args), bound.kwargs

    def by_name(self, arguments: Sequence[Any], named: Mapping[str, Any]) -> dict[str, Any]:
        """Arguments by parameter name, for a log."""
        try:
            return dict(self._signature.bind(*arguments, **named).arguments)
        except TypeError:
            return {str(place): value for place, value in enumerate(arguments)} | dict(named)


def _underlying(function: Any) -> Any:
    while hasattr(function, "func"):  # functools.partial
        function = function.func
    return function if inspect.isroutine(function) else type(function).__call__


def _shown(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"an array of {value.dtype} of shape {value.shape}"
    if isinstance(value, Geometry):
        return f"a {value.kind}"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."


def _in_words(hint: Any) -> str:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (Union, types.UnionType):
        return " or ".join(_in_words(argument) for argument in arguments)
    if origin is Literal:
        return " or ".join(repr(argument) for argument in arguments)
    if hint is np.ndarray or origin is np.ndarray:
        return "an array of finite numbers"
    if origin is tuple and Ellipsis not in arguments:
        return f"{len(arguments)} values ({', '.join(_in_words(argument) for argument in arguments)})"
    if origin in (list, tuple, Sequence, Iterable):
        return f"a list, each {_in_words(arguments[0])}"
    if origin in (dict, Mapping):
        return f"a dictionary, each value {_in_words(arguments[1])}"
    known = {float: "a finite number", int: "a whole number", str: "text", bool: "True or False", type(None): "None"}
    return known.get(hint) or ("a geometry" if hint is Geometry else str(hint))


def _converter(hint: Any, where: str) -> Converter:
    """A function that returns a value as the type asks for it, or raises `_MismatchError`."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    simple: dict[Any, Converter] = {
        float: _number,
        int: _whole_number,
        str: _exactly(str),
        bool: _exactly(bool),
        Geometry: _exactly(Geometry),
        type(None): _exactly(type(None)),
        None: _exactly(type(None)),
        np.ndarray: _array,
    }
    if hint in simple:
        return simple[hint]
    if origin is np.ndarray:
        return _array
    if origin is Literal:
        return lambda value: _one_of(value, arguments)
    if origin in (Union, types.UnionType):
        choices = [_converter(argument, where) for argument in arguments]
        return lambda value: _first_that_fits(value, choices)
    if origin is tuple and Ellipsis not in arguments:
        members = [_converter(argument, where) for argument in arguments]
        return lambda value: _fixed(value, members)
    if origin in (list, tuple, Sequence, Iterable) and arguments:
        item = _converter(arguments[0], where)
        whole = tuple if origin is tuple else list
        return lambda value: whole(item(entry) for entry in _entries(value))
    if origin in (dict, Mapping) and arguments and arguments[0] is str:
        item = _converter(arguments[1], where)
        return lambda value: {key: item(entry) for key, entry in _exactly(dict)(value).items()}
    raise TongsError(
        f"{where} has the type {hint}, which cannot be checked; known are bool, int, float, str, np.ndarray, Geometry, "
        "list[...], tuple[...], dict[str, ...], Literal, unions of these"
    )


def _exactly(kind: type) -> Converter:
    def check(value: Any) -> Any:
        if type(value) is not kind:
            raise _MismatchError
        return value

    return check


def _number(value: Any) -> float:
    if type(value) not in (int, float):
        raise _MismatchError
    if not np.isfinite(value):
        raise _MismatchError
    return float(value)


def _whole_number(value: Any) -> int:
    if type(value) is not int:
        raise _MismatchError
    return value


def _array(value: Any) -> np.ndarray:
    if isinstance(value, list):
        try:
            value = np.asarray(value)
        except ValueError:
            raise _MismatchError("rows of different length") from None
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "biuf" or value.size == 0:
        raise _MismatchError
    if not np.isfinite(value).all():
        raise _MismatchError("not finite")
    return value


def _one_of(value: Any, known: tuple[Any, ...]) -> Any:
    for choice in known:
        if type(value) is type(choice) and value == choice:
            return value
    raise _MismatchError


def _first_that_fits(value: Any, choices: list[Converter]) -> Any:
    reasons = []
    for choice in choices:
        try:
            return choice(value)
        except _MismatchError as error:
            reasons.append(str(error))
    raise _MismatchError(next(filter(None, reasons), ""))


def _entries(value: Any) -> list[Any]:
    if isinstance(value, np.ndarray) and value.ndim == 1:
        return value.tolist()
    if not isinstance(value, list):
        raise _MismatchError
    return value


def _fixed(value: Any, members: list[Converter]) -> tuple[Any, ...]:
    entries = _entries(value)
    if len(entries) != len(members):
        raise _MismatchError(f"{len(entries)} values")
    return tuple(member(entry) for member, entry in zip(members, entries, strict=True))
