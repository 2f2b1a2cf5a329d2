"""The program's process as seen from outside: started clean, listened to with time-outs, interrupted, killed."""

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from policies.lmp.sandbox import channel
from policies.lmp.sandbox.channel import ChannelError
from policies.lmp.sandbox.limits import SandboxLimits
from robot.errors import TongsError

_START_SECONDS = 60.0
_BOOTSTRAP = "import sys, json; sys.path[:] = json.loads(sys.argv[1]); import {worker}; {worker}.main()"
_KEPT_ENVIRONMENT = ("SYSTEMROOT", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")
"""What Python needs to start; everything else, keys and tokens above all, stays here."""


class GoneError(Exception):
    """The process has ended, or said something that is no message."""


class WorkerProcess:
    """One process that runs programs.

    Raises:
        TongsError: it cannot be started, or a wall is missing that `limits.every_wall` asks for.
    """

    def __init__(self, worker: str, limits: SandboxLimits, api: list[str]) -> None:
        """Start it.

        Args:
            worker: module whose `main` the process runs.
            limits: what programs may use up.
            api: names of the functions that programs may call.
        """
        environment = {name: os.environ[name] for name in _KEPT_ENVIRONMENT if name in os.environ}
        environment |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        path = [os.path.abspath(folder) for folder in sys.path]
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-B", "-c", _BOOTSTRAP.format(worker=worker), json.dumps(path)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd=os.path.abspath(os.sep),
                env=environment,
                bufsize=0,
            )
        except OSError as error:
            raise TongsError(f"the process for programs cannot be started: {error}") from None
        assert self._process.stdin and self._process.stdout and self._process.stderr
        self._outgoing = self._process.stdin.fileno()
        # few places, so that a process that talks without being asked has to wait
        self._messages: queue.Queue[dict[str, Any] | GoneError | None] = queue.Queue(maxsize=4)
        self._closing = threading.Event()
        threading.Thread(target=self._listen, name="sandbox", daemon=True).start()
        try:
            self.send({"type": "start", "limits": asdict(limits), "api": api})
            ready = self.receive(_START_SECONDS)
        except GoneError as error:
            cause = self._process.stderr.read()[-2000:].decode(errors="replace").strip().splitlines()
            self.close()
            raise TongsError(f"the process for programs does not start: {cause[-1] if cause else error}") from None
        if ready is None:
            self.close()
            raise TongsError(f"the process for programs does not start within {_START_SECONDS:.0f} s")
        self.walls: dict[str, str] = {str(name): str(state) for name, state in ready["walls"].items()}

    def _listen(self) -> None:
        assert self._process.stdout
        with self._process.stdout as pipe:
            try:
                while frame := channel.receive_frame(pipe.fileno()):
                    self._put(channel.unpack(frame))
                self._put(GoneError("it has ended"))
            except (ChannelError, OSError, ValueError) as error:
                self._put(GoneError(str(error)))

    def _put(self, message: dict[str, Any] | GoneError) -> None:
        while not self._closing.is_set():
            with contextlib.suppress(queue.Full):
                return self._messages.put(message, timeout=0.1)

    def send(self, message: Mapping[str, Any]) -> None:
        """Write a message.

        Raises:
            GoneError: nobody reads any more.
        """
        try:
            channel.send(self._outgoing, message)
        except (OSError, ChannelError) as error:
            raise GoneError(str(error)) from None

    def receive(self, seconds: float) -> dict[str, Any] | None:
        """The next message; None after so many seconds, or when `wake` was called.

        Raises:
            GoneError: there will be none.
        """
        try:
            message = self._messages.get(timeout=max(seconds, 0.0)) if seconds > 0 else self._messages.get_nowait()
        except queue.Empty:
            return None
        if isinstance(message, GoneError):
            raise message
        return message

    def wake(self) -> None:
        """Let a waiting `receive` return; from any thread."""
        with contextlib.suppress(queue.Full):
            self._messages.put_nowait(None)

    def interrupt(self) -> None:
        """Ask the running program to end, where the operating system has signals for it."""
        if hasattr(signal, "SIGUSR1"):
            with contextlib.suppress(OSError):
                self._process.send_signal(signal.SIGUSR1)

    @property
    def can_interrupt(self) -> bool:
        return hasattr(signal, "SIGUSR1")

    def ended_by(self) -> int | None:
        """Exit status of a process that has ended by itself (negative: the signal), waiting briefly for it."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self._process.wait(0.2)
        return None

    def close(self) -> None:
        """End the process now. What is left of it is collected later if the kernel takes its time."""
        self._closing.set()
        with contextlib.suppress(OSError):
            self._process.kill()
        deadline = time.monotonic() + 0.02
        while self._process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.001)
        for pipe in (self._process.stdin, self._process.stderr):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
