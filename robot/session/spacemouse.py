"""Driving with a SpaceMouse: its six axes, by pyspacemouse, as a velocity and its first button as the gripper."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from robot.errors import TongsError
from robot.session.drive import beyond_dead_zone

AXES = ("x", "y", "z", "roll", "pitch", "yaw")
"""Of the puck by REP 103: x away from the person, y to the left, z up, and the turns about them."""
_IDLE = 0.004
_STALE = 0.4
"""s without a report after which a deflected puck counts as let go: it reports all the time while it is deflected."""


class HandDevice(Protocol):
    """Something at this machine that drives the robot, beside keys."""

    def poll(self) -> tuple[list[float], int]:
        """The velocity (6,) in shares of full speed that is asked for now, and how often the gripper's button was
        pressed since the last time."""
        ...

    @property
    def problem(self) -> str:
        """Why it drives no more; "" while it does."""
        ...

    def close(self) -> None: ...


class SpaceMouse:
    """Reads the device in a thread of its own, and forgets what is old.

    Args:
        axes: which axis of the puck drives forward, left, up and the turns about these: six of `AXES`, "-" before one
            turns it round, "0" leaves the entry out.
        dead_zone: share of the full deflection that is none.
        device: to be read; None opens the first one that is attached.

    Raises:
        TongsError: pyspacemouse or hidapi is not installed, none is attached, or an axis is unknown.
    """

    def __init__(self, axes: Sequence[str] = AXES, dead_zone: float = 0.1, device: Any = None) -> None:
        self._axes = [_axis(str(name)) for name in axes]
        if len(self._axes) != len(AXES):
            raise TongsError(
                f"a SpaceMouse drives six entries, got {len(self._axes)} axes: {', '.join(map(str, axes))}"
            )
        if not 0 <= dead_zone < 1:
            raise TongsError(f"the dead zone of a SpaceMouse is from 0 to below 1, got {dead_zone}")
        self._dead_zone = dead_zone
        self._device = device or _open()
        self._lock = threading.Lock()
        self._deflection, self._heard, self._presses = [0.0] * len(AXES), time.monotonic(), 0
        self._problem = ""
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._read, name="SpaceMouse", daemon=True)
        self._thread.start()

    def poll(self) -> tuple[list[float], int]:
        with self._lock:
            presses, self._presses = self._presses, 0
            fresh = time.monotonic() - self._heard < _STALE and not self._problem
            named: dict[str, float] = dict(zip(AXES, self._deflection, strict=True))
        if not fresh:
            return [0.0] * len(AXES), presses
        return [
            sign * beyond_dead_zone(min(max(named[name], -1.0), 1.0), self._dead_zone) if name else 0.0
            for name, sign in self._axes
        ], presses

    @property
    def problem(self) -> str:
        return self._problem

    def close(self) -> None:
        self._closing.set()
        self._thread.join(timeout=1.0)

    def _read(self) -> None:
        seen, pressed = None, False
        try:
            while not self._closing.is_set():
                state = self._device.read()
                if state.t == seen:  # nothing new; a report is not waited for, so that closing ends this
                    self._closing.wait(_IDLE)
                    continue
                seen = state.t
                button = bool(state.buttons and state.buttons[0])
                with self._lock:
                    self._deflection = [float(getattr(state, name)) for name in AXES]
                    self._heard = time.monotonic()
                    self._presses += button and not pressed
                pressed = button
        except Exception as error:  # unplugged: whatever the library raises, nobody drives any more
            self._problem = f"the SpaceMouse is gone ({error}); plug it in and start again"
        finally:
            with contextlib.suppress(Exception):
                self._device.close()


def _axis(name: str) -> tuple[str, float]:
    if name == "0":
        return "", 0.0
    plain = name.removeprefix("-")
    if plain not in AXES:
        raise TongsError(f"unknown axis {name!r} of a SpaceMouse; known are: {', '.join(AXES)}, with - before, and 0")
    return plain, -1.0 if name.startswith("-") else 1.0


def _open() -> Any:
    try:
        import pyspacemouse
    except ModuleNotFoundError as error:
        raise TongsError(f"a SpaceMouse needs {error.name}: pip install 'tongs[spacemouse]'") from error
    except (AttributeError, OSError) as error:
        raise TongsError("a SpaceMouse needs hidapi: apt-get install libhidapi-hidraw0") from error
    try:
        attached: Callable[[], list[str]] = pyspacemouse.get_connected_devices
        if not attached():
            raise TongsError("no SpaceMouse is attached to this machine, or hidraw may not be read (a udev rule)")
        with contextlib.redirect_stdout(None):  # it prints what it found
            return pyspacemouse.open(axis_convention=pyspacemouse.AxisConvention.ROS)
    except (RuntimeError, AttributeError, OSError) as error:
        missing = isinstance(error.__cause__, AttributeError) or isinstance(error, AttributeError)
        if missing:
            raise TongsError("a SpaceMouse needs hidapi: apt-get install libhidapi-hidraw0") from error
        raise TongsError(f"the SpaceMouse cannot be opened: {error}") from error
