"""From the words of a command line, `key=value`, to its settings."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

from robot.errors import TongsError, unknown


def compose(command: str, words: Sequence[str]) -> dict[str, Any]:
    """The settings in configs/<command>.yaml, changed by `words`, through Hydra's compose API and grammar.

    A comma makes a list (`task=a,b`); a key inside an open mapping may be new (`sampling.steps=10`).

    Raises:
        TongsError: a word without "=", an unknown key or group choice, or a required key without value.
    """
    from hydra import compose as hydra_compose
    from hydra import initialize_config_module
    from omegaconf import OmegaConf, open_dict
    from omegaconf.errors import OmegaConfBaseException

    with initialize_config_module("configs", version_base="1.3"):
        defaults = _inside(hydra_compose(command), command)
        pairs = [_split(word, list(defaults)) for word in words]
        choices = [f"{key}={_choice(key, value)}" for key, value in pairs if _is_group(key, defaults)]
        config = _inside(hydra_compose(command, choices), command)
    try:
        known = OmegaConf.to_container(config)
        with open_dict(config):
            for key, value in pairs:
                if not _is_group(key, defaults):
                    _require_known(key, known)
                    parsed = _parse(key, value)
                    _require_type(key, OmegaConf.select(config, key, throw_on_missing=False), parsed)
                    OmegaConf.update(config, key, parsed)
        settings = OmegaConf.to_container(config, resolve=True)
    except OmegaConfBaseException as error:
        raise TongsError(f"cannot read {' '.join(words)}: {str(error).splitlines()[0]}") from error
    assert isinstance(settings, dict)
    for key, _, comment in _lines(command):
        if settings.get(key) == "???":
            raise TongsError(f"{key} is missing; give {key}=... ({comment})")
    return {str(key): value for key, value in settings.items()}


def explicit(words: Sequence[str], group: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Of the settings of a group, those that the words themselves give (`policy.width=64`), nested as in the group."""
    given: dict[str, Any] = {}
    for word in words:
        path = word.partition("=")[0].split(".")
        if path[0] != group or len(path) == 1:
            continue
        value: Any = settings
        for name in path:
            value = value[name]
        place = given
        for name in path[1:-1]:
            place = place.setdefault(name, {})
        place[path[-1]] = value
    return given


def help_text(command: str) -> str:
    """The keys of a command with their defaults and meaning, read without importing Hydra."""
    rows = [(f"{key}={'' if value == '???' else value}", comment) for key, value, comment in _lines(command)]
    width = max((len(setting) for setting, _ in rows), default=0)
    title = _text(f"{command}.yaml").splitlines()[0].removeprefix("# ")
    return "\n".join(
        [title, *[""][: len(rows)], *(f"  {setting:<{width}}  {comment}".rstrip() for setting, comment in rows)]
    )


def _inside(config: Any, command: str) -> Any:
    """The settings of a command; Hydra puts those of a file in a folder under the folder's name."""
    for folder in command.split("/")[:-1]:
        config = config[folder]
    return config


def _text(name: str) -> str:
    return resources.files("configs").joinpath(name).read_text(encoding="utf-8")


def _lines(name: str, prefix: str = "") -> list[tuple[str, str, str]]:
    """(key, default, comment) of each commented line of a file, and of the group files that it picks."""
    text, lines = _text(f"{name}.yaml"), []
    for key, value, comment in re.findall(r"(?m)^(\w+): (.*?) +# (.*)$", text):
        inner = re.findall(r"(\w+): ([^,}]+)", value) if value.startswith("{") else []
        lines += [(f"{prefix}{key}.{name}", default, comment) for name, default in inner] or [
            (prefix + key, value.replace("[", "").replace("]", "").replace(", ", ","), comment)
        ]
    for group, choice, comment in re.findall(r"(?m)^ +- (\w+): (\w+) +# (.*)$", text):
        lines += [(group, choice, comment), *_lines(f"{group}/{choice}", f"{group}.")]
    return lines


def _split(word: str, keys: list[str]) -> tuple[str, str]:
    key, equals, value = word.partition("=")
    if not equals or not key:
        raise TongsError(f"expected key=value, got {word!r}; keys are: {', '.join(keys)}")
    return key, value


def _is_group(key: str, defaults: Any) -> bool:
    """Whether a key picks one file of a folder of configs/, such as policy=beso of configs/policy/beso.yaml."""
    from omegaconf import DictConfig

    return key in defaults and isinstance(defaults._get_node(key), DictConfig) and bool(_files(key))


def _files(group: str) -> list[str]:
    folder = resources.files("configs").joinpath(group)
    if not folder.is_dir():
        return []
    return sorted(file.name.removesuffix(".yaml") for file in folder.iterdir() if file.name.endswith(".yaml"))


def _choice(group: str, value: str) -> str:
    if value not in _files(group):
        raise unknown(group, value, _files(group))
    return value


def _require_known(key: str, settings: Any) -> None:
    """Raise unless the key is among the settings, or new in an open mapping, one that is empty by default."""
    path = key.split(".")
    for position, name in enumerate(path):
        if not isinstance(settings, dict):
            raise TongsError(f"{'.'.join(path[:position])} has no keys of its own, got {key}")
        if name not in settings:
            if position > 0 and not settings:
                return
            prefix = "".join(f"{parent}." for parent in path[:position])
            raise unknown("key", key, [f"{prefix}{known}" for known in settings])
        settings = settings[name]
    if isinstance(settings, dict):
        raise TongsError(f"{key} has keys of its own; set them as {key}.<name>=...")


def _parse(key: str, text: str) -> Any:
    """The value of a word in Hydra's grammar; a comma outside brackets and quotes makes a list."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    if "," in text and text[0] not in "[{\"'":
        return [_parse(key, part) for part in text.split(",") if part]
    try:
        value = OverridesParser.create().parse_override(f"{key}={text}").value()
    except HydraException:
        return text
    return text if value is None and text != "null" else value


def _require_type(key: str, default: object, given: object) -> None:
    """Where the default is a number or a truth value, the given value must be one too, or null."""
    kinds = {bool: (bool, "true or false"), int: (int, "a whole number"), float: ((int, float), "a number")}
    if given is None or type(default) not in kinds:
        return
    kind, words = kinds[type(default)]
    if not isinstance(given, kind) or (isinstance(given, bool) and type(default) is not bool):
        raise TongsError(f"{key} must be {words} such as {default}, got {given}")
