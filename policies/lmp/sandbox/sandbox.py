"""A process apart for generated programs, which reach the robot through typed functions only."""

import itertools
import keyword
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, cast

from policies.lmp.sandbox.channel import ValueRefusedError, plain
from policies.lmp.sandbox.limits import SandboxLimits
from policies.lmp.sandbox.outcome import Call, Outcome, Reason, Value
from policies.lmp.sandbox.process import GoneError, WorkerProcess
from policies.lmp.sandbox.signature import ApiFunction, ArgumentError
from policies.lmp.sandbox.walls import HOLDS
from robot.errors import TongsError

_LOG = logging.getLogger(__name__)
_INTERRUPT_EVERY = 0.01
_LONGEST_ERROR = 1000
_LONGEST_TRACE = 8000


@dataclass
class _Run:
    """A program on its way."""

    number: int
    session: str
    started: float = field(default_factory=time.monotonic)
    computing: float = 0.0
    calls: list[Call] = field(default_factory=list)
    recent: deque[float] = field(default_factory=deque)
    restoring: bool = False


@dataclass
class _Session:
    """What a session is begun anew with when its process had to be ended."""

    variables: dict[str, Value] = field(default_factory=dict)
    functions: dict[str, str] = field(default_factory=dict)


class Sandbox:
    """Runs untrusted programs in a process of their own and gives them `api`, NumPy, math and shapely.

    A program is Python without imports, classes, double underscores and names that start with an underscore. It sees
    the functions of `api` by their names, `np`, `math`, and shapely's constructors and functions of `shapely.affinity`
    and `shapely.ops`; what it assigns stays for the next program of the same session.

    `api` functions run in this process, in the thread that called `run`, while the program waits. Every parameter
    needs a type: `bool`, `int`, `float`, `str`, `np.ndarray`, `Geometry`, `list[...]`, `tuple[...]`, `dict[str, ...]`,
    `Literal`, unions of these. Arguments are checked against it before the call: sizes, finite numbers, names. An
    exception of the function is raised in the program as `RobotError`, with its message, at the line of the call. An
    API function may call `run` itself (a program that calls a model that writes a program); sessions keep them apart.

    A function that moves the robot looks at `stopping` in every control step and returns when it is set.
    """

    def __init__(
        self,
        api: Mapping[str, Callable[..., Any]],
        limits: SandboxLimits | None = None,
        on_stop: Callable[[], None] | None = None,
    ) -> None:
        """The process starts with the first program.

        Args:
            api: functions by the names that programs use.
            limits: what a program may use up.
            on_stop: called once whenever a program is ended before its end by `stop` or by a limit, in the thread
                that notices, without waiting for a running API function: the robot's `stop`.

        Raises:
            TongsError: a function of `api` has a parameter without a type or of a type that cannot be checked, or its
                name is not fit for a program.
        """
        self._limits = limits or SandboxLimits()
        self._api = {name: ApiFunction(name, function) for name, function in api.items()}
        self._on_stop = on_stop
        self._process: WorkerProcess | None = None
        self._sessions: dict[str, _Session] = {}
        self._numbers = itertools.count(1)
        self._turn = threading.RLock()
        self._nested = 0
        self._stopping = threading.Event()
        self._ending: tuple[Reason, str] | None = None
        self._ending_lock = threading.Lock()

    @property
    def walls(self) -> Mapping[str, str]:
        """For each wall around the process `holds`, or why this machine does not have it; starts the process."""
        return self._started().walls

    @property
    def stopping(self) -> threading.Event:
        """Set from when a running program is to end (`stop`, or a limit) until `run` has returned."""
        return self._stopping

    def run(self, code: str, variables: Mapping[str, Value] | None = None, session: str = "main") -> Outcome:
        """Run a program to its end or to a limit; it never raises for what the program does.

        Args:
            code: Python source.
            variables: assigned in the session before the program runs.
            session: programs of one session share variables and functions; sessions share nothing.

        Raises:
            TongsError: a variable cannot be handed to a program, or the process cannot be started.
        """
        session_names = self._checked_variables(variables or {})
        if not self._turn.acquire(blocking=False):
            raise TongsError("another thread runs a program in this sandbox; give each thread a sandbox of its own")
        try:
            return self._run(code, session_names, session)
        finally:
            self._turn.release()

    def _checked_variables(self, variables: Mapping[str, Value]) -> dict[str, Value]:
        checked = {}
        for name, value in variables.items():
            if not name.isidentifier() or keyword.iskeyword(name) or name.startswith("_"):
                raise TongsError(f"{name!r} is no name for a variable of a program")
            try:
                checked[name] = plain(value, self._limits)
            except ValueRefusedError as error:
                raise TongsError(f"the variable {name} cannot be handed to a program: {error}") from None
        return checked

    def _run(self, code: str, variables: dict[str, Value], session: str) -> Outcome:
        limits = self._limits
        if len(code) > limits.code:
            error = f"a program of {len(code)} characters; at most {limits.code} are run"
            return Outcome("refused", error, error)
        if self._ending is not None:  # an API function asks for a further program while its own is being ended
            return Outcome(*self._ending)
        if self._nested >= limits.nesting:
            error = f"more than {limits.nesting} programs wait for one another"
            return Outcome("calls", error, error)
        timer = None
        if self._nested == 0:
            reason = f"the program takes longer than {limits.total_seconds:g} s with its calls of the robot"
            timer = threading.Timer(limits.total_seconds, self._end, ("time", reason))
            timer.daemon = True
            timer.start()
        self._nested += 1
        try:
            process = self._started()
            run = _Run(next(self._numbers), session)
            return self._outcome(run, self._converse(process, run, code, variables))
        except BaseException:
            self._kill()  # Ctrl-C: whatever the program is at, it goes no further
            raise
        finally:
            self._nested -= 1
            if timer is not None:
                timer.cancel()
                with self._ending_lock:
                    self._ending = None
                    self._stopping.clear()

    # the process

    _worker = "policies.lmp.sandbox.worker"

    def _started(self) -> WorkerProcess:
        if self._process is not None:
            return self._process
        process = WorkerProcess(self._worker, self._limits, sorted(self._api))
        missing = {name: why for name, why in process.walls.items() if why != HOLDS}
        if missing and self._limits.every_wall:
            process.close()
            raise TongsError("programs are not run without every wall; " + _listed(missing))
        if missing:
            _LOG.warning("around programs some walls of the operating system are missing: %s", _listed(missing))
        self._process = process
        for name, session in list(self._sessions.items()):
            for code in ("", *session.functions.values()):
                run = _Run(next(self._numbers), name, restoring=True)
                if self._converse(process, run, code, session.variables) is None:
                    _LOG.warning("the session %s could not be restored and begins empty", name)
                    del self._sessions[name]
                    return self._started()
        return process

    def _kill(self) -> None:
        if self._process is not None:
            self._process.close()
            self._process = None

    # a conversation

    def _converse(
        self, process: WorkerProcess, run: _Run, code: str, variables: dict[str, Value]
    ) -> dict[str, Any] | None:
        """Serve a program until its process reports on it; None when there is no such process any more."""
        order = {"type": "run", "run": run.number, "session": run.session, "code": code, "variables": variables}
        try:
            process.send(order)
            while run.restoring or self._ending is None:
                since = time.monotonic()
                message = process.receive(self._limits.seconds - run.computing)
                run.computing += time.monotonic() - since
                if message is not None and message.get("type") == "done":
                    return _report(message, run.number)
                if message is not None:
                    self._serve(process, run, message)
                elif run.computing >= self._limits.seconds:
                    if run.restoring:
                        break
                    self._end("time", f"the program computes for longer than {self._limits.seconds:g} s")
                if self._process is not process:  # a program within this one had to be killed
                    return None
            report = self._interrupt(process, run)
        except GoneError as error:
            report = None
            if self._process is process:
                status = process.ended_by()
                _LOG.warning("the process of a program is gone (%s, status %s)", error, status)
                self._end("crashed", f"the program's process has died ({_cause(status, str(error))})")
        if report is None:
            self._kill()
        return report

    def _interrupt(self, process: WorkerProcess, run: _Run) -> dict[str, Any] | None:
        """End the program in good order if it can be done in time: its session then stays as it is."""
        if self._process is not process or not process.can_interrupt:
            return None
        deadline = time.monotonic() + 0.6 * self._limits.control_period
        while time.monotonic() < deadline:
            process.interrupt()
            message = process.receive(_INTERRUPT_EVERY)
            if message is not None and message.get("type") == "done":
                return _report(message, run.number)
            if message is not None:  # it waits for an answer
                process.send(_answer(ended=True))
        return None

    def _end(self, reason: Reason, why: str) -> None:
        """Let no further API call begin, whatever the program does from here on."""
        with self._ending_lock:
            if self._ending is not None or self._nested == 0:
                return
            self._ending = (reason, why)
            self._stopping.set()
        process = self._process
        if process is not None:
            process.wake()
        if self._on_stop is not None:
            self._on_stop()

    def _serve(self, process: WorkerProcess, run: _Run, message: dict[str, Any]) -> None:
        name, arguments, named = _request(message, run.number)
        if run.restoring:
            return process.send(_answer(error="no API calls while a session is restored"))
        now = time.monotonic()
        run.recent.append(now)
        while run.recent[0] < now - 1.0:
            run.recent.popleft()
        limits = self._limits
        if len(run.calls) >= limits.calls:
            self._end("calls", f"the program makes more than {limits.calls} API calls")
        elif len(run.recent) > limits.calls_per_second:
            self._end("calls", f"the program makes more than {limits.calls_per_second} API calls in a second")
        if self._ending is not None:
            return process.send(_answer(ended=True))
        if name not in self._api:
            raise GoneError(f"it asks for {name!r}, which no program can")
        process.send(self._call(run, self._api[name], arguments, named, now))

    def _call(
        self, run: _Run, function: ApiFunction, arguments: list[Any], named: dict[str, Any], now: float
    ) -> dict[str, Any]:
        """Call the function if its arguments fit; the answer to the program."""
        result, wrong_arguments, error = None, False, None
        try:
            arguments = cast(list[Any], plain(arguments, self._limits))
            named = cast(dict[str, Any], plain(named, self._limits))
            arguments, named = function.bind(arguments, named)
        except (ArgumentError, ValueRefusedError) as refusal:
            wrong_arguments, error = True, str(refusal)
        shown = function.by_name(arguments, named)
        if error is None and self._ending is not None:
            error = "not begun, the program is being ended"
        if error is None:
            try:
                result = plain(function.function(*arguments, **named), self._limits)
            except ValueRefusedError as refusal:
                error = f"{function.name} gives {refusal}, which no program can be handed"
                _LOG.error("API function: %s", error)
            except TongsError as failure:
                error = str(failure)
            except Exception as failure:
                error = f"{type(failure).__name__}: {failure}"
                _LOG.exception("the API function %s failed", function.name)
        error = error if error is None else error[:_LONGEST_ERROR]
        seconds = time.monotonic() - now
        run.calls.append(Call(function.name, shown, result, error, now - run.started, seconds))
        return _answer(result, error, wrong_arguments, ended=self._ending is not None)

    # how it ended

    def _outcome(self, run: _Run, report: dict[str, Any] | None) -> Outcome:
        session = self._sessions.setdefault(run.session, _Session())
        reason, error, trace, printed = "finished", None, "", ""
        if report is not None:
            try:
                reason, error, trace, printed = self._read(report, session)
            except (KeyError, TypeError, ValueError, AttributeError) as failure:
                reason, error = "crashed", f"the program's process reports nonsense ({failure})"
                report = None
                self._kill()
        if self._ending is not None and (report is None or reason == "ended"):
            reason, error = self._ending
            trace = f"{trace}\n{error}" if trace else error
        elif reason == "ended" or (report is None and reason == "finished"):
            reason, error = "crashed", "the program's process has died"
        if reason == "memory":
            self._end("memory", error or "")
            self._kill()  # what fills the memory may be a variable of the session
        return Outcome(
            reason=cast(Reason, reason),
            error=error,
            trace=trace or error or "",
            variables=dict(session.variables),
            functions=dict(session.functions),
            printed=printed,
            calls=tuple(run.calls),
            seconds=run.computing,
            restarted=self._process is None,
        )

    def _read(self, report: dict[str, Any], session: _Session) -> tuple[str, str | None, str, str]:
        reason, error = report["reason"], report["error"]
        if reason not in ("finished", "refused", "error", "memory", "ended"):
            raise ValueError(f"{reason!r} is no reason")
        variables = {str(name): plain(value, self._limits) for name, value in report["variables"].items()}
        functions = {str(name): str(text) for name, text in report["functions"].items()}
        if reason != "memory":
            session.variables, session.functions = variables, functions
        error = None if reason == "finished" else str(error)[:_LONGEST_ERROR]
        return reason, error, str(report["trace"])[:_LONGEST_TRACE], str(report["printed"])[: self._limits.printed]

    def forget(self, session: str = "main") -> None:
        """Drop a session's variables and functions."""
        self._sessions.pop(session, None)
        if self._process is not None:
            try:
                self._process.send({"type": "forget", "session": session})
            except GoneError:
                self._kill()

    def stop(self) -> None:
        """End the running program, and those waiting for it, within one control period; from any thread.

        No API call of it is begun any more. Without a running program nothing happens.
        """
        self._end("stopped", "the program was stopped")

    def close(self) -> None:
        """End the process."""
        self._kill()

    def __enter__(self) -> "Sandbox":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _answer(
    result: Value = None, error: str | None = None, wrong_arguments: bool = False, ended: bool = False
) -> dict[str, Any]:
    return {"type": "answer", "result": result, "error": error, "wrong_arguments": wrong_arguments, "ended": ended}


def _request(message: dict[str, Any], run: int) -> tuple[str, list[Any], dict[str, Any]]:
    """What a call message asks for.

    Raises:
        GoneError: nobody of ours has written it.
    """
    name, arguments, named = (message.get(key) for key in ("name", "arguments", "named"))
    if (
        message.get("type") != "call"
        or message.get("run") != run
        or not isinstance(name, str)
        or not isinstance(arguments, list)
        or not isinstance(named, dict)
    ):
        raise GoneError(f"it sends a message that makes no sense ({str(message.get('type'))[:20]})")
    return name, arguments, named


def _report(message: dict[str, Any], run: int) -> dict[str, Any]:
    if message.get("run") != run:
        raise GoneError("it reports on another program")
    return message


def _listed(missing: Mapping[str, str]) -> str:
    return "; ".join(f"{name}: {why}" for name, why in missing.items())


def _cause(status: int | None, otherwise: str) -> str:
    if status is None or status >= 0:
        return otherwise if status is None else f"{otherwise}, exit status {status}"
    return f"signal {-status}"
