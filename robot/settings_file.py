"""Reading a YAML file key by key, with one sentence for every mistake in it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import isfinite
from pathlib import Path
from typing import Any

from robot.errors import TongsError, unknown

REQUIRED = object()
"""The default of a key that must be there."""


class Section:
    """One mapping of the file: takes keys out, checks their kind, and complains of what is left."""

    def __init__(self, content: Any, name: str, place: str) -> None:
        self.name, self.place = name, place
        if not isinstance(content, Mapping):
            raise self.error("", f"must be a mapping, got {content!r}")
        self.content = content
        self._left = dict(content)
        self._known: list[str] = []

    def error(self, key: str, problem: str) -> TongsError:
        """The error for a key, which names the file and the key's place in it."""
        place = ".".join(part for part in (self.place, key) if part)
        return TongsError(f"{self.name}: {place} {problem}" if place else f"{self.name}: it {problem}")

    def take(self, key: str, default: Any = REQUIRED) -> Any:
        """The value of a key as it is, taken out; the default if it is not there. The others check its kind too."""
        self._known.append(key)
        if key not in self._left:
            if default is REQUIRED:
                raise self.error(key, "is missing")
            return default
        return self._left.pop(key)

    def text(self, key: str, default: Any = REQUIRED) -> Any:
        """A text that is not empty."""
        value = self.take(key, default)
        if value is not default and (not isinstance(value, str) or not value.strip()):
            raise self.error(key, f"must be a text, got {value!r}")
        return value

    def topic(self, key: str = "topic") -> str:
        """The full name of a ROS topic."""
        value = self.text(key)
        if not value.startswith("/"):
            raise self.error(key, f"must be a topic's full name such as /joint_states, got {value!r}")
        return value

    def number(self, key: str, default: Any = REQUIRED, least: float = 0.0, none: bool = False) -> Any:
        """A finite number of at least `least`; also null, where `none` allows it."""
        value = self.take(key, default)
        if value is None and none:
            return None
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not isfinite(value) or value < least:
            raise self.error(key, f"must be a number of at least {least:g}{' or null' * none}, got {value!r}")
        return float(value)

    def choice(self, key: str, known: Iterable[str], default: Any = REQUIRED) -> Any:
        """One of the known words."""
        value = self.take(key, default)
        if value is not default and value not in (known := tuple(known)):
            raise self.error(key, f"must be one of {', '.join(known)}, got {value!r}")
        return value

    def texts(self, key: str, default: Any = REQUIRED) -> tuple[str, ...]:
        """A list of different texts, or one text alone."""
        value = self.take(key, default)
        if value is default:
            return value
        value = [value] if isinstance(value, str) else value
        if not isinstance(value, Sequence) or not value or not all(isinstance(part, str) and part for part in value):
            raise self.error(key, f"must be a list of names, got {value!r}")
        if len(set(value)) != len(value):
            raise self.error(key, f"has a name twice: {', '.join(value)}")
        return tuple(value)

    def pair(self, key: str) -> tuple[float, float]:
        """Two different numbers."""
        value = self.take(key)
        numeric = isinstance(value, Sequence) and all(isinstance(part, (int, float)) for part in value)
        if not numeric or len(value) != 2 or value[0] == value[1]:
            raise self.error(key, f"must be two different numbers, got {value!r}")
        return float(value[0]), float(value[1])

    def section(self, key: str, default: Any = REQUIRED) -> Section:
        """A mapping within this one."""
        return Section(self.take(key, default), self.name, ".".join(part for part in (self.place, key) if part))

    def sections(self, key: str) -> list[Section]:
        """A list of mappings, at least one."""
        value = self.take(key)
        if not isinstance(value, Sequence) or isinstance(value, str) or not value:
            raise self.error(key, f"must be a list with at least one entry, got {value!r}")
        place = ".".join(part for part in (self.place, key) if part)
        return [Section(part, self.name, f"{place}[{number}]") for number, part in enumerate(value)]

    def finish(self) -> None:
        """Raise if a key is left that nobody took."""
        if self._left:
            place = f"{self.place}." if self.place else ""
            raise TongsError(f"{self.name}: {unknown('key', place + str(next(iter(self._left))), self._known)}")


def read_yaml(path: Path | str) -> Any:
    """What a YAML file holds. Raises TongsError if it is missing or no YAML."""
    import yaml

    try:
        return yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise TongsError(f"there is no file {path}") from error
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        raise TongsError(f"{path} is no readable YAML: {' '.join(str(error).split())}") from error
