"""The program's process: checks a program, runs it, and asks the other side for every call of the robot.

Started by `Sandbox` with a clean environment and two pipes; what it says is never trusted over there.
"""

import builtins
import contextlib
import os
import signal
import sys
import unicodedata  # noqa: F401  (the parser loads it for names that are not ASCII)
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields
from types import CodeType, FrameType, FunctionType, TracebackType
from typing import Any

from policies.lmp.sandbox import channel, walls
from policies.lmp.sandbox.channel import ChannelError, ValueRefusedError
from policies.lmp.sandbox.grammar import RefusedError, compile_program
from policies.lmp.sandbox.guards import BUILTINS, GUARDS
from policies.lmp.sandbox.limits import SandboxLimits
from policies.lmp.sandbox.numerics import exercise, names_for_programs

Compiler = Callable[..., tuple[CodeType, dict[str, str]]]
_PROGRAM = "<program "
_LONGEST_MESSAGE = 500
_LONGEST_TRACE = 12
_ALIVE_CHECK = 1.0
"""s after which a process whose parent has died notices, in an endless program too."""
_RESERVE = 8 << 20
"""Bytes kept back for reporting that the memory is full."""


class RobotError(Exception):
    """What programs see when an API function failed; they may catch it."""


class EndedError(BaseException):
    """The other side ends the program; nothing that programs can name catches it."""


@dataclass
class _Session:
    namespace: dict[str, Any]
    functions: dict[str, str] = field(default_factory=dict)


class Worker:
    """Runs programs one after another; one waits while an API call of it runs another.

    Args:
        incoming, outgoing: file descriptors.
        limits: as `Sandbox` was given them.
        api: names of the functions that programs may call.
        compiler: `grammar.compile_program`, or what a test puts in its place.
    """

    def __init__(
        self, incoming: int, outgoing: int, limits: SandboxLimits, api: list[str], compiler: Compiler = compile_program
    ) -> None:
        self._incoming = incoming
        self._outgoing = outgoing
        self._limits = limits
        self._compiler = compiler
        self._sources: dict[str, list[str]] = {}
        self._sessions: dict[str, _Session] = {}
        self._printed: list[str] = []
        self._print_left = 0
        self._running: list[int] = []
        self._parent = os.getppid()
        self._reserve = bytes(_RESERVE)
        self._uninterrupted = False
        self._end_is_due = False
        self._builtins = (
            BUILTINS
            | names_for_programs()
            | {"print": self._print, "RobotError": RobotError, "__import__": _import_for_numpy}
            | {name: self._function(name) for name in api}
        )

    # the other side

    def take_signals(self) -> None:
        """Answer to the signals by which the other side ends a program."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the other side's to answer
        if hasattr(signal, "SIGUSR1"):
            signal.signal(signal.SIGUSR1, self._on_end)
            signal.signal(signal.SIGALRM, self._on_alarm)

    def serve(self) -> None:
        """Run what comes until the other side closes."""
        while True:
            message = self._receive()
            if message is None:
                return
            self._obey(message)

    def _receive(self) -> dict[str, Any] | None:
        with self._whole():
            frame = channel.receive_frame(self._incoming)
        return channel.unpack(frame) if frame else None

    def _send(self, message: dict[str, Any]) -> None:
        with self._whole():
            channel.send(self._outgoing, message)

    def _obey(self, message: dict[str, Any]) -> None:
        if message["type"] == "run":
            self._run(message)
        elif message["type"] == "forget":
            self._sessions.pop(message["session"], None)

    def _function(self, name: str) -> Callable[..., Any]:
        """What a program calls as the API function `name`."""

        def call(*arguments: Any, **named: Any) -> Any:
            return self._call(name, list(arguments), named)

        call.__name__ = call.__qualname__ = name
        return call

    def _call(self, name: str, arguments: list[Any], named: dict[str, Any]) -> Any:
        try:
            arguments = [channel.plain(value, self._limits) for value in arguments]
            named = {key: channel.plain(value, self._limits) for key, value in named.items()}
        except ValueRefusedError as error:
            raise TypeError(f"{name} cannot take {error}") from None
        run = self._running[-1]
        self._send({"type": "call", "run": run, "name": name, "arguments": arguments, "named": named})
        while True:
            message = self._receive()
            if message is None:
                os._exit(0)
            if message["type"] == "answer":
                break
            self._obey(message)
        if message["ended"]:
            raise EndedError
        if message["error"] is None:
            return _inward(message["result"])
        raise (TypeError if message["wrong_arguments"] else RobotError)(message["error"])

    # being ended

    @contextlib.contextmanager
    def _whole(self) -> Iterator[None]:
        """Half a message must never be left on the pipe: an end that comes meanwhile waits. (A program that waits
        for an answer is ended by the answer.)"""
        outer, self._uninterrupted = self._uninterrupted, True
        try:
            yield
        finally:
            self._uninterrupted = outer
        if self._end_is_due and not outer:
            self._end_is_due = False
            raise EndedError

    def _on_end(self, number: int, frame: FrameType | None) -> None:
        """Raise in the program, if it is the program that runs, and not we who finish with it."""
        while frame is not None:
            if frame.f_code is Worker._run.__code__:
                return
            if frame.f_code.co_filename.startswith(_PROGRAM):
                if self._uninterrupted:
                    self._end_is_due = True
                    return
                raise EndedError
            frame = frame.f_back

    def _on_alarm(self, number: int, frame: FrameType | None) -> None:
        if os.getppid() != self._parent:
            os._exit(1)

    # programs

    def _print(self, *values: Any, sep: str = " ", end: str = "\n", **other: Any) -> None:
        text = str(sep).join(str(value) for value in values) + str(end)
        self._printed.append(text[: self._print_left])
        self._print_left -= len(self._printed[-1])

    def _run(self, message: dict[str, Any]) -> None:
        run, name = message["run"], message["session"]
        outer_printed, self._printed = self._printed, []
        outer_left, self._print_left = self._print_left, self._limits.printed
        session = self._sessions.get(name)
        if session is None:
            session = self._sessions[name] = _Session({"__builtins__": self._builtins, "__name__": name, **GUARDS})
        self._running.append(run)
        if len(self._running) == 1 and hasattr(signal, "SIGALRM"):
            signal.setitimer(signal.ITIMER_REAL, _ALIVE_CHECK, _ALIVE_CHECK)
        filename = f"{_PROGRAM}{run}>"
        self._sources[filename] = message["code"].splitlines()
        report, functions = {"reason": "finished", "error": None, "trace": ""}, {}
        try:
            session.namespace |= {key: _inward(value) for key, value in message["variables"].items()}
            own = session.namespace.keys() - GUARDS.keys()
            code, functions = self._compiler(message["code"], filename, self._builtins.keys(), own)
            exec(code, session.namespace)
        except RefusedError as error:
            report = {"reason": "refused", "error": str(error), "trace": str(error)}
        except EndedError as error:
            report = {"reason": "ended", "error": "ended", "trace": "\n".join(self._where(error))}
        except MemoryError as error:
            # room to say so; the other side begins this process anew, with what the session held before
            self._reserve = b""
            session.namespace.clear()
            report = self._failed(error)
        except BaseException as error:
            report = self._failed(error)
        self._end_is_due = False
        self._running.pop()
        if not self._running and hasattr(signal, "SIGALRM"):
            signal.setitimer(signal.ITIMER_REAL, 0)
        for key, text in functions.items():
            made = session.namespace.get(key)
            if isinstance(made, FunctionType) and made.__code__.co_filename == filename:
                session.functions[key] = text
        session.functions = {
            key: text for key, text in session.functions.items() if isinstance(session.namespace.get(key), FunctionType)
        }
        report |= {"printed": "".join(self._printed), "functions": session.functions}
        self._printed, self._print_left = outer_printed, outer_left
        self._send({"type": "done", "run": run, "variables": self._variables(session)} | report)

    def _variables(self, session: _Session) -> dict[str, Any]:
        """What of the session can be handed out; packed one by one, so that one that cannot does not cost the rest."""
        variables: dict[str, Any] = {}
        left = channel.VARIABLES_BYTES
        for name, value in session.namespace.items():
            if name.startswith("_"):
                continue
            try:
                value = channel.plain(value, self._limits)
                left -= len(channel.pack({name: value}))
            except (ValueRefusedError, MemoryError, RecursionError):
                continue
            if left < 0:
                break
            variables[name] = value
        return variables

    # errors

    def _failed(self, error: BaseException) -> dict[str, str]:
        reason = "memory" if isinstance(error, MemoryError) else "error"
        text = _text_of(error, self._limits)
        frames = list(self._frames(error.__traceback__))
        where = f" (line {frames[-1][0]}: {frames[-1][2]})" if frames else ""
        return {"reason": reason, "error": text + where, "trace": "\n".join([*self._where(error), text])}

    def _where(self, error: BaseException) -> list[str]:
        """The program's own lines that were running, outermost first."""
        lines = [
            f"line {number}{'' if function == '<module>' else f', in {function}'}: {line}"
            for number, function, line in self._frames(error.__traceback__)
        ]
        if len(lines) > _LONGEST_TRACE:
            lines = lines[: _LONGEST_TRACE // 2] + lines[-_LONGEST_TRACE // 2 :]
        return lines

    def _frames(self, trace: TracebackType | None) -> Iterator[tuple[int, str, str]]:
        """(line number, function, line) of the program's own frames, outermost first."""
        while trace is not None:
            code = trace.tb_frame.f_code
            lines = self._sources.get(code.co_filename)
            if lines is not None:
                line = lines[trace.tb_lineno - 1].strip() if 0 < trace.tb_lineno <= len(lines) else ""
                yield trace.tb_lineno, code.co_name, line[:200]
            trace = trace.tb_next


def _text_of(error: BaseException, limits: SandboxLimits) -> str:
    """One line that says what went wrong, in words that help whoever repairs the program."""
    if isinstance(error, MemoryError):
        return f"MemoryError: the program needs more than its {limits.memory_mb} MiB of memory"
    try:
        text = " ".join(str(error).split())
    except BaseException:
        text = ""
    if len(text) > _LONGEST_MESSAGE:
        text = text[:_LONGEST_MESSAGE] + " ..."
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _import_for_numpy(name: str, *arguments: Any, **named: Any) -> Any:
    """NumPy's C code imports its own Python parts by the builtins of whoever calls it; programs cannot name this."""
    if name.split(".")[0] != "numpy" or name not in sys.modules:
        raise ImportError(f"{name} is not available to programs")
    return builtins.__import__(name, *arguments, **named)


def _inward(value: Any) -> Any:
    """A value from the other side as programs know it."""
    if isinstance(value, channel.Geometry):
        from shapely.geometry import shape

        return shape({"type": value.kind, "coordinates": value.coordinates})
    if isinstance(value, list):
        return [_inward(item) for item in value]
    if isinstance(value, dict):
        return {key: _inward(item) for key, item in value.items()}
    return value


def main(compiler: Compiler = compile_program) -> None:
    """Take over the pipes on standard input and output, put up the walls, say which stand, and serve."""
    incoming, outgoing = os.dup(0), os.dup(1)
    with open(os.devnull, "r+b") as nothing:
        for standard in (0, 1, 2):
            os.dup2(nothing.fileno(), standard)
    try:
        start = channel.unpack(channel.receive_frame(incoming))
        known = {field.name for field in fields(SandboxLimits)}
        limits = SandboxLimits(**{name: value for name, value in start["limits"].items() if name in known})
        exercise()
        with contextlib.suppress(ImportError, RuntimeError):
            import pyseccomp  # noqa: F401  (starts other programs to find its library, so before the walls)
        worker = Worker(incoming, outgoing, limits, start["api"], compiler)
        worker.take_signals()
        channel.send(outgoing, {"type": "ready", "walls": walls.enter(limits)})
        worker.serve()
    except (ChannelError, OSError) as error:
        sys.exit(f"the program's process ends: {error}")
