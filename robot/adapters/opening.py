"""Opening an arm from its file: which adapter drives it, and with what settings."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from robot.errors import TongsError
from robot.interface import StreamedRobot
from robot.settings_file import Section, read_yaml

ADAPTERS = {"lerobot": "robot.adapters.lerobot:make"}
"""The adapters of ours by name."""


@runtime_checkable
class ClosableRobot(StreamedRobot, Protocol):
    """What an adapter makes: a robot that lets go of its hardware when it is closed."""

    def close(self) -> None:
        """Hold the present pose and let go of the hardware; twice is once."""


def open_arm(path: Path | str) -> ClosableRobot:
    """The arm that a YAML file describes, ready to move.

    The file's `driver` is one of ADAPTERS, or `<module>:<function>` of an adapter of your own; its `settings` go to
    that function, which makes the robot and raises a TongsError if it cannot.

    Raises:
        TongsError: the file is wrong, there is no such adapter, or the arm cannot be opened.
    """
    section = Section(read_yaml(path), str(path), "")
    driver, settings = section.text("driver"), section.take("settings", {})
    section.finish()
    if not isinstance(settings, Mapping):
        raise section.error("settings", f"must be a mapping, got {settings!r}")
    module, colon, function = str(ADAPTERS.get(driver, driver)).partition(":")
    if not (colon and module and function):
        known = ", ".join(sorted(ADAPTERS))
        raise section.error("driver", f"must be {known} or <module>:<function> of your own, got {driver!r}")
    try:
        make = getattr(importlib.import_module(module), function)
    except ModuleNotFoundError as error:
        raise section.error("driver", f"names {driver}: there is no module {error.name}") from error
    except AttributeError as error:
        raise section.error("driver", f"names {driver}: {module} has no {function}") from error
    return _opened(make, driver, settings)


def _opened(make: Any, driver: str, settings: Mapping[str, Any]) -> ClosableRobot:
    try:
        robot = make(settings)
    except TongsError as error:
        raise TongsError(f"{driver}: {error}") from error
    if not isinstance(robot, ClosableRobot):
        raise TongsError(
            f"{driver} made a {type(robot).__name__}, which lacks one of: "
            "spec, command_rate, observe, command, stop, close"
        )
    return robot
