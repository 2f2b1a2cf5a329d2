"""Dataclass configurations from plain data (JSON, Hydra), with no name silently dropped."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar, cast, get_args, get_origin, get_type_hints

from robot.errors import TongsError, unknown

Config = TypeVar("Config")


def configuration(kind: type[Config], values: Mapping[str, Any], complete: bool = False) -> Config:
    """An instance of the dataclass `kind`; nested dataclasses are built from nested mappings, lists become tuples.

    A `tuple[SomeDataclass, ...]` is built from a list of mappings.

    Args:
        kind: the dataclass.
        values: field name -> value; what is absent takes its default.
        complete: allow nothing to be absent. A checkpoint says everything, for a default may change after it was made.

    Raises:
        TongsError: a name is not a field of the dataclass, a nested value is not a mapping, or something is absent.
    """
    hints = get_type_hints(kind)
    known = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    absent = [name for name in known if name not in values]
    if complete and absent:
        raise TongsError(f"setting {absent[0]!r} of {kind.__name__} is missing ({len(absent)} in all)")
    arguments: dict[str, Any] = {}
    for name, value in values.items():
        if name not in known:
            raise unknown(f"setting of {kind.__name__}", name, known)
        if is_dataclass(hints[name]) and not is_dataclass(value):
            if not isinstance(value, Mapping):
                raise TongsError(f"setting {name} of {kind.__name__} must be a group of settings, got {value!r}")
            value = configuration(hints[name], value, complete)  # type: ignore[arg-type]
        items = get_args(hints[name])[:1] if get_origin(hints[name]) is tuple else ()
        if items and is_dataclass(items[0]):
            value = [_item(items[0], name, item, complete) for item in cast(Any, value)]
        arguments[name] = tuple(value) if isinstance(value, list) else value
    return kind(**arguments)


def merged(values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with some of them changed; in a group of settings only those that `changes` names."""
    changed = dict(values)
    for name, value in changes.items():
        before = values.get(name)
        changed[name] = merged(before, value) if isinstance(value, Mapping) and isinstance(before, Mapping) else value
    return changed


def _item(kind: Any, name: str, value: Any, complete: bool) -> Any:
    if isinstance(value, kind):
        return value
    if not isinstance(value, Mapping):
        raise TongsError(f"each of the {name} must be a group of settings, got {value!r}")
    return configuration(kind, value, complete)
