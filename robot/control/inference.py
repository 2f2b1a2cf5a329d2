"""Asking a policy without waiting for it: in a thread, in a process of its own, or with a latency that is made up."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

import numpy as np

from robot.errors import TongsError
from robot.interface import (
    ActionChunk,
    Continuation,
    ContinuingPolicy,
    Observation,
    Policy,
    PolicySpec,
    RememberingPolicy,
)


@dataclass(frozen=True)
class Request:
    """What a policy is asked.

    Attributes:
        number: given back with the answer.
        observation: the newest.
        before: what else was seen since the last request, a control period apart, for a policy with a history.
        previous: what the chunk has to go on from, None for a chunk of its own.
        seed: reset the policy with it first; None goes on.
    """

    number: int
    observation: Observation
    before: tuple[Observation, ...] = ()
    previous: Continuation | None = None
    seed: int | None = None


@dataclass(frozen=True)
class Answer:
    """A chunk, or the sentence that says why there is none; `seconds` is what the policy took."""

    number: int
    chunk: ActionChunk | None
    problem: str | None
    seconds: float


class Inference(Protocol):
    """Takes one request at a time. Times are on the robot's clock."""

    def submit(self, request: Request, now: float) -> None: ...

    def poll(self, now: float) -> Answer | None:
        """The answer, once it is there."""
        ...

    def close(self) -> None: ...


def _ask(policy: Policy, request: Request) -> ActionChunk:
    if request.seed is not None:
        policy.reset(request.seed)
    for seen in request.before:  # of one episode, so one after another
        cast(RememberingPolicy, policy).remember([seen])
    if request.previous is None:
        return policy.act(request.observation)
    return cast(ContinuingPolicy, policy).continue_chunk(request.observation, request.previous)


def _sentence(error: Exception) -> str:
    return str(error) if isinstance(error, TongsError) else f"{type(error).__name__}: {error}"


class ThreadInference:
    """A policy in a thread of its own. Right for a policy that waits (a remote one, a `PolicyProcess`); one that
    computes in Python would hold up the loop's thread, see `PolicyProcess`.

    Args:
        policy: asked in the thread.
        priority: real-time priority of the thread, where the machine allows it; only for a policy that waits. A thread
            that is put aside while it holds Python's interpreter keeps it from the loop's.
    """

    def __init__(self, policy: Policy, priority: int | None = None) -> None:
        self._policy, self._priority = policy, priority
        self._requests: queue.SimpleQueue[Request | None] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[Answer] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="inference", daemon=True)
        self._thread.start()

    def _work(self) -> None:
        with contextlib.suppress(OSError):
            take_priority(self._priority)
        while (request := self._requests.get()) is not None:
            began = time.perf_counter()
            chunk = problem = None
            try:
                chunk = _ask(self._policy, request)
            except Exception as error:  # whatever a policy raises must not reach the loop
                problem = _sentence(error)
            self._answers.put(Answer(request.number, chunk, problem, time.perf_counter() - began))

    def submit(self, request: Request, now: float) -> None:
        self._requests.put(request)

    def poll(self, now: float) -> Answer | None:
        try:
            return self._answers.get_nowait()
        except queue.Empty:
            return None

    def close(self) -> None:
        """End the thread; one that a policy never gives back is left to the end of the programme."""
        self._requests.put(None)
        if isinstance(self._policy, PolicyProcess):
            self._policy.close()
        self._thread.join(timeout=2.0)


def take_priority(priority: int | None) -> None:
    """Give the calling thread a real-time priority (SCHED_FIFO, 1 to 99). Raises OSError if it may not."""
    if priority is not None:
        if not hasattr(os, "sched_setscheduler"):
            raise OSError("this system has no real-time priorities")
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(priority))


class SimulatedInference:
    """A policy whose answers come a made-up time later, on the robot's clock: repeatable on any machine.

    Args:
        policy: computes at once.
        latency: mean, s.
        jitter: standard deviation, s; the latency is normal, and never negative.
        seed: of the jitter.

    Attributes:
        error: what the policy raised last; the caller of a simulation wants it more than the loop does.
    """

    def __init__(self, policy: Policy, latency: float, jitter: float, seed: int) -> None:
        self._policy, self._latency, self._jitter = policy, latency, jitter
        self._generator = np.random.default_rng(seed)
        self._due = 0.0
        self._answer: Answer | None = None
        self.error: Exception | None = None

    def submit(self, request: Request, now: float) -> None:
        latency = max(self._latency + self._jitter * float(self._generator.standard_normal()), 0.0)
        self._due = now + latency
        chunk = problem = None
        try:
            chunk = _ask(self._policy, request)
        except Exception as error:
            self.error, problem = error, _sentence(error)
        self._answer = Answer(request.number, chunk, problem, latency)

    def poll(self, now: float) -> Answer | None:
        if self._answer is None or now < self._due - 1e-9:
            return None
        given, self._answer = self._answer, None
        return given

    def close(self) -> None:
        pass


class PolicyProcess:
    """A policy in a process of its own, behind the same interface: it shares neither interpreter nor fate with the
    loop.

    Args:
        make: makes the policy over there, bound to the robot; picklable, such as a function of a module or a partial.
        patience: s until a policy that does not answer is given up, and its process ended.
        start: s that making the policy may take.

    Raises:
        TongsError: the policy could not be made.
    """

    def __init__(self, make: Callable[[], Policy], patience: float = 10.0, start: float = 120.0) -> None:
        self._patience = patience
        context = multiprocessing.get_context("spawn")
        self._ours, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(make, theirs), name="policy", daemon=True)
        self._process.start()
        theirs.close()
        self._spec: PolicySpec
        self.continues: bool
        self._spec, self.continues = self._receive(start)

    @property
    def spec(self) -> PolicySpec:
        return self._spec

    @property
    def pid(self) -> int | None:
        return self._process.pid

    def reset(self, seed: int) -> None:
        self._call("reset", seed)

    def act(self, observation: Observation) -> ActionChunk:
        return self._call("act", observation)

    def act_batch(self, observations: Sequence[Observation]) -> list[ActionChunk]:
        return self._call("act_batch", list(observations))

    def remember(self, observations: Sequence[Observation]) -> None:
        self._call("remember", list(observations))

    def continue_chunk(self, observation: Observation, previous: Continuation) -> ActionChunk:
        return self._call("continue_chunk", observation, previous)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._ours.close()
        self._process.terminate()
        self._process.join(timeout=2.0)
        if self._process.is_alive():
            self._process.kill()

    def _call(self, method: str, *arguments: Any) -> Any:
        try:
            self._ours.send((method, arguments))
        except (OSError, ValueError) as error:
            raise TongsError(f"the policy's process is gone ({error})") from error
        return self._receive(self._patience)

    def _receive(self, patience: float) -> Any:
        try:
            if not self._ours.poll(patience):
                self._process.kill()
                raise TongsError(f"the policy gave no answer for {patience:g} s; its process was ended")
            fine, value = self._ours.recv()
        except (EOFError, OSError) as error:
            self._process.join(timeout=1.0)
            raise TongsError(f"the policy's process ended (exit status {self._process.exitcode})") from error
        if not fine:
            raise TongsError(value)
        return value


def _serve(make: Callable[[], Policy], connection: Any) -> None:
    """The process of a `PolicyProcess`."""
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        policy = make()
        connection.send((True, (policy.spec, isinstance(policy, ContinuingPolicy))))
        while True:
            method, arguments = connection.recv()
            try:
                connection.send((True, getattr(policy, method)(*arguments)))
            except Exception as error:
                connection.send((False, f"{type(error).__name__}: {error}"))
    except (EOFError, OSError):
        return
    except Exception as error:
        with contextlib.suppress(OSError):
            connection.send((False, f"the policy could not be made: {type(error).__name__}: {error}"))


def continues(policy: Policy) -> bool:
    """Whether a policy can go on from a chunk before."""
    return getattr(policy, "continues", True) and isinstance(policy, ContinuingPolicy)
