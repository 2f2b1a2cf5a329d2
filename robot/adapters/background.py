"""An arm whose hardware answers when it likes, as one that returns at once: a thread of its own talks to it."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from robot.errors import ContractError, TongsError
from robot.interface import Images, Observation, RobotSpec

_SILENT = 0.5
"""s without a reading after which `observe` says what the hardware complains of."""
_OPENING = 5.0
"""s within which an arm has to give its first reading."""


@dataclass(frozen=True)
class Reading:
    """What the hardware says at one moment.

    Attributes:
        state: float32 (D,), by the names of the spec, in SI units.
        images: {camera: uint8 (H, W, 3) RGB}; arrays that nobody writes to any more. A camera that has no newer picture
            gives the same array again.
    """

    state: NDArray[np.float32]
    images: Images = field(default_factory=dict)


class BackgroundArm:
    """A `StreamedRobot` of joint positions over two functions that may block: `read` and `write`.

    One thread calls both, so the hardware is never spoken to by two at once: the newest command first, then a reading,
    `command_rate` times a second or as often as the hardware can. A command that is overtaken by the next is not sent.

    Args:
        spec: what it is; the names of its `joint_position` action are in its state, but for "gripper".
        command_rate: Hz.
        read: measures; any exception is a reading that failed, and so is one that does not fit `spec` or holds NaN.
        write: sends (A,) of the action space; after an exception it is tried again until it goes through or is
            overtaken, but not once the arm has been silent for half a second.
        closing: lets go of the hardware.

    Raises:
        TongsError: there is no first reading within 5 s; the hardware's own words are in it.
    """

    def __init__(
        self,
        spec: RobotSpec,
        command_rate: float,
        read: Callable[[], Reading],
        write: Callable[[NDArray[np.float64]], None],
        closing: Callable[[], None],
    ) -> None:
        self.spec, self.command_rate = spec, command_rate
        self._read, self._write, self._closing = read, write, closing
        self._changed = threading.Condition()
        self._goal: NDArray[np.float64] | None = None
        self._told: NDArray[np.float64] | None = None
        self._seen: Observation | None = None
        self._seen_at = self._began = time.monotonic()
        self._problem = ""
        self._ended = False
        self._thread = threading.Thread(target=self._exchange, name="arm", daemon=True)
        self._thread.start()
        with self._changed:
            there = self._changed.wait_for(lambda: self._seen is not None, _OPENING)
        if not there:
            problem = self._problem or "it does not answer"
            with contextlib.suppress(Exception):  # of hardware that is not there; why it is not is said below
                self.close()
            raise TongsError(f"the arm has given no reading for {_OPENING:g} s: {problem}")

    def observe(self) -> Observation:
        """The newest reading. Raises TongsError if there has been none for half a second."""
        with self._changed:
            seen, age, problem = self._seen, time.monotonic() - self._seen_at, self._problem
        assert seen is not None
        if age > _SILENT:
            raise TongsError(f"the arm has given no reading for {age:.1f} s: {problem or 'it does not answer'}")
        return seen

    def command(self, command: NDArray[np.float32]) -> None:
        """Where to be (A,) one period from now. Raises ContractError for another size, NaN or infinity."""
        if command.shape != (self.spec.action_space.dimension,) or not np.isfinite(command).all():
            raise ContractError(
                f"a command has {self.spec.action_space.dimension} finite entries "
                f"({', '.join(self.spec.action_space.names)}), got {command.tolist()}"
            )
        self._send(command.astype(np.float64))

    def stop(self) -> None:
        """Be where the joints were measured last; fingers go on as told, since they may be holding something."""
        with self._changed:
            assert self._seen is not None
            state, told = self._seen.state, self._told
        held = np.zeros(self.spec.action_space.dimension)
        for place, name in enumerate(self.spec.action_space.names):
            if name == "gripper" and told is not None:
                held[place] = told[place]
            elif name in self.spec.state_names:
                held[place] = state[self.spec.state_names.index(name)]
            else:
                return  # nothing was told yet, so nothing moves
        self._send(held)

    def close(self) -> None:
        """Hold, and let go of the hardware; twice is once."""
        if not self._ended and self._seen is not None:
            self.stop()
            with self._changed:
                self._changed.wait_for(lambda: self._goal is None, 1.0)
        with self._changed:
            if self._ended:
                return
            self._ended = True
            self._changed.notify_all()
        self._thread.join(timeout=2.0)
        self._closing()

    def _send(self, goal: NDArray[np.float64]) -> None:
        with self._changed:
            self._goal = self._told = goal
            self._changed.notify_all()

    def _exchange(self) -> None:
        period = 1.0 / self.command_rate
        taken: dict[str, tuple[NDArray[np.uint8], float]] = {}
        while not self._ended:
            due, failed = time.monotonic() + period, False
            with self._changed:
                if time.monotonic() - self._seen_at > _SILENT:
                    self._goal = None  # who knows where the arm is by the time it answers again
                goal = self._goal
            try:
                if goal is not None:
                    self._write(goal)
                    with self._changed:
                        if self._goal is goal:
                            self._goal = None
                        self._changed.notify_all()
                began = time.monotonic()
                reading = self._read()
                self._keep(reading, (began + time.monotonic()) / 2, taken)
            except Exception as error:  # of somebody else's driver: whatever it is, the arm goes on being asked
                failed = True
                with self._changed:
                    self._problem = " ".join(str(error).split()) or type(error).__name__
            with self._changed:
                if not self._ended and (failed or self._goal is None):
                    self._changed.wait(max(due - time.monotonic(), 0.0))

    def _keep(self, reading: Reading, when: float, taken: dict[str, tuple[NDArray[np.uint8], float]]) -> None:
        names = self.spec.state_names
        if reading.state.shape != (len(names),) or not np.isfinite(reading.state).all():
            raise TongsError(f"{', '.join(names)} were measured as {reading.state.tolist()}")
        if reading.images.keys() != self.spec.cameras.keys():
            raise TongsError(
                f"pictures came of {', '.join(reading.images) or 'no camera'}, the arm has "
                f"{', '.join(self.spec.cameras) or 'none'}"
            )
        for camera, picture in reading.images.items():
            if camera not in taken or taken[camera][0] is not picture:
                taken[camera] = picture, when
        times: Mapping[str, float] = {camera: taken[camera][1] - self._began for camera in reading.images}
        seen = Observation(dict(reading.images), reading.state, "", when - self._began, image_times=times)
        with self._changed:
            self._seen, self._seen_at, self._problem = seen, time.monotonic(), ""
            self._changed.notify_all()
