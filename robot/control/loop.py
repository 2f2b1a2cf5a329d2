"""The control loop against a real clock: a thread that never waits for the policy, and safe calls from any other."""

from __future__ import annotations

import gc
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from math import inf
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot.control.collision import ArmModel
from robot.control.controller import Controller
from robot.control.inference import Inference, PolicyProcess, ThreadInference, continues, take_priority
from robot.control.pace import Pace, RealPace
from robot.control.safety import Filtered
from robot.control.settings import Settings
from robot.control.status import Event, State, Status, Timing
from robot.errors import TongsError
from robot.interface import Correction, Observation, Policy, PolicySpec, Robot, StreamedRobot
from robot.limits import Limits

DEADLINE = 5e-3
"""s of lateness from which a period counts as missed."""
_SWITCH = 5e-4
"""s after which Python's interpreter may be taken from another thread; its default of 5 ms is a whole deadline."""
_KEPT = 2**17
_ANEW = 1.0
"""s by which the clock has to go back to have been begun anew."""


@dataclass(frozen=True)
class Step:
    """What a loop did in one period, for recorders and displays.

    Attributes:
        time: when the period began, s on the robot's clock.
        state: of the loop.
        observation: the newest; None if the robot gave none.
        command: float32 (A,) that was sent, None for none; a delta is the change in this period.
        filtered: the command with the limits that it met.
        followed: whether an action of the policy or of a person was in force.
        motion, motion_source: the language motion of the newest chunk, "" for none, and who chose it.
    """

    time: float
    state: State
    observation: Observation | None
    command: NDArray[np.float32] | None
    filtered: Filtered | None
    followed: bool = False
    motion: str = ""
    motion_source: str = "model"


class ControlLoop:
    """Drives any robot with any policy.

        with ControlLoop(robot, policy, limits) as loop:
            loop.start("open the left drawer")
            ...
            loop.stop()

    All methods may be called from any thread, and return at once. A `StreamedRobot` gets `command_rate` commands a
    second; a `Robot` one per action, by `execute`, on its own clock.

    Args:
        robot: what is driven. Only the loop's thread talks to it, but for `stop` in an emergency.
        policy: what drives: an object of this process (a thread is made for it), of another (`PolicyProcess`), or
            remote. If it has `bind`, that is called with the robot's spec.
        limits: of the safety filter.
        settings: see `Settings`.
        arm: the arm's model for collisions, None to check none.
        on_step: called by the loop's thread after every period; it must not wait for anything.
        inference: runs the policy in another way than a thread.
        priority: real-time priority (SCHED_FIFO, 1 to 99) of the loop's thread, where the machine allows it; otherwise
            the log says so. None takes the machine's turns as they come.
        pace: the clock; None for the machine's own.

    Raises:
        ContractError: policy and robot do not fit; both are named, and nothing has moved.
    """

    def __init__(
        self,
        robot: Robot | StreamedRobot,
        policy: Policy,
        limits: Limits,
        settings: Settings | None = None,
        arm: ArmModel | None = None,
        on_step: Callable[[Step], None] | None = None,
        inference: Inference | None = None,
        priority: int | None = None,
        pace: Pace | None = None,
    ) -> None:
        self._priority, self._pace = priority, pace or RealPace()
        self._robot, self._on_step = robot, on_step
        self._streamed = isinstance(robot, StreamedRobot)
        rate = robot.command_rate if isinstance(robot, StreamedRobot) else robot.spec.action_space.rate
        self._period = 1.0 / rate
        _bind(policy, robot)
        made = inference or self._inference(policy)
        try:
            self._controller = Controller(
                robot.spec, policy.spec, made, limits, self._period, settings, arm, continues(policy)
            )
        except BaseException:
            made.close()
            raise
        self._lock = threading.RLock()
        self._closing = threading.Event()
        self._emergency = threading.Event()
        self._halted = threading.Event()
        self._why = ""
        self._offset = -inf
        self._now = 0.0
        self._late = np.zeros(_KEPT)
        self._work = np.zeros(_KEPT)
        self._periods = self._missed = self._skipped = 0
        self._began = 0.0
        self._failure = ""
        self._sending = False
        self._thread = threading.Thread(target=self._run, name="control loop", daemon=True)
        self._opened = False

    def open(self, patience: float = 5.0) -> ControlLoop:
        """Begin to observe; nothing moves before `start` or `take_over`.

        Raises:
            TongsError: the robot gives no observation within `patience` s.
        """
        if self._opened:
            return self
        self._opened = True
        gc.collect()
        gc.freeze()  # Python's collector then has little to look through, where it would hold up everybody for long
        self._thread.start()
        deadline = time.monotonic() + patience
        while not self._seen:
            if time.monotonic() > deadline or not self._thread.is_alive():
                self.close()
                raise TongsError(self._failure or f"the robot has given no observation for {patience:g} s")
            time.sleep(0.005)
        return self

    def close(self) -> None:
        """Come to rest, tell the robot to stop, and end the thread. A streamed robot that is sent nothing is told
        nothing either."""
        if self._thread.is_alive():
            self.stop("closed")
            deadline = time.monotonic() + 2.0
            while not self._resting and self._thread.is_alive() and time.monotonic() < deadline:
                time.sleep(self._period)
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join(timeout=2.0)
        self._controller.inference.close()

    def __enter__(self) -> ControlLoop:
        return self.open()

    def __exit__(self, *exception: object) -> None:
        self.close()

    # --- for any thread

    def start(self, instruction: str | None = None, seed: int = 0) -> None:
        """Follow the policy; it is reset with the seed, and the arm begins at its measured pose.

        Args:
            instruction: what is wanted; None takes what the robot's observations say.
            seed: of the policy.

        Raises:
            TongsError: the loop is not open or has failed, the emergency stop is on, or a person has taken over.
        """
        self._call(lambda now: self._controller.start(now, instruction, seed))

    def pause(self, reason: str = "paused") -> None:
        """Decelerate and hold until `resume`."""
        self._call(lambda now: self._controller.pause(now, reason))

    def resume(self) -> None:
        """Go on after `pause` or a stop."""
        self._call(self._controller.resume)

    def stop(self, reason: str = "stopped") -> None:
        """Decelerate and hold until `start` or `resume`."""
        with self._lock:
            self._controller.stop(self._now, reason)

    def emergency_stop(self, reason: str = "emergency stop") -> None:
        """Have the robot stop within one period, and send nothing until `rearm`. If the loop's thread does not do it
        within two periods, the caller's does. No replacement for a button that cuts the power."""
        self._why = reason
        self._halted.clear()
        self._emergency.set()
        if not self._thread.is_alive() or not self._halted.wait(2 * self._period + DEADLINE):
            self._halt()

    def rearm(self) -> None:
        """Allow starting again after an emergency stop; nothing moves by it."""
        self._call(self._controller.rearm)

    def release(self) -> None:
        """Send nothing any more, once the arm is at rest: it may then be put elsewhere, and the next motion begins at
        its measured pose.

        Raises:
            TongsError: the arm is moving, or the emergency stop is on.
        """
        self._call(self._controller.release)

    def instruct(self, instruction: str) -> None:
        """Tell the policy something else; the old chunk is dropped at once."""
        self._call(lambda now: self._controller.instruct(now, instruction))

    def steer(self, motion: str) -> None:
        """Have the policy carry out a language motion of somebody's choice until an empty one gives the choice back.

        Raises:
            TongsError: the policy takes no motions.
        """
        self._call(lambda now: self._controller.steer(now, motion))

    def correct(self, text: str, source: Any = "human") -> Correction:
        """Log a language correction; the event to hand on to the policy and the dataset."""
        with self._lock:
            correction = Correction(self._now, text, source)
            self._controller.log.add(self._now, "correction", f"{source}: {text}")
        return correction

    def take_over(self, who: str = "operator") -> None:
        """A person drives from now on, through the same safety filter; the policy's plan is dropped."""
        self._call(lambda now: self._controller.take_over(now, who))

    def operate(self, action: NDArray[np.floating]) -> None:
        """What the person wants, an action (A,) of the robot's space: in force until the next one, which must come
        within `Patience.operator`."""
        self._call(lambda now: self._controller.operate(now, action))

    def hand_back(self) -> None:
        """The policy goes on from where the person left the arm."""
        self._call(self._controller.hand_back)

    def use(self, policy: Policy, inference: Inference | None = None) -> None:
        """Another policy, while none is followed.

        Raises:
            TongsError: the loop is running, or the policy does not fit the robot.
        """
        if self.status().state not in (State.IDLE, State.STOPPED, State.PAUSED, State.EMERGENCY):
            raise TongsError(f"stop before loading another policy; the loop is {self.status().state.value}")
        _bind(policy, self._robot)
        made = inference or self._inference(policy)
        with self._lock:
            old = self._controller.inference
            try:
                self._controller.use(policy.spec, made, continues(policy))
            except BaseException:
                made.close()
                raise
        old.close()

    @property
    def policy(self) -> PolicySpec:
        """Of the policy that is followed."""
        with self._lock:
            return self._controller.policy

    @property
    def state(self) -> State:
        """What the loop is doing; `status` tells more and takes longer."""
        with self._lock:
            return self._controller.state

    def status(self) -> Status:
        with self._lock:
            status = self._controller.status()
        return replace(status, timing=self._timing(), reason=self._failure or status.reason)

    def plan(self) -> NDArray[np.float32]:
        """The actions (N, A) that are known and still to come, the one in force first."""
        with self._lock:
            return self._controller.plan()

    def events(self, after: int = 0) -> list[Event]:
        """The events with a higher number."""
        with self._lock:
            return self._controller.log.after(after)

    def wait(self, state: State, timeout: float) -> bool:
        """Wait until the loop is in a state and, unless it is running, at rest. False if it takes too long."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            with self._lock:
                if self._controller.state == state and (state in (State.RUNNING, State.OPERATOR) or self._resting):
                    return True
            time.sleep(self._period / 2)
        return False

    def _inference(self, policy: Policy) -> ThreadInference:
        priority = self._priority if isinstance(policy, PolicyProcess) else None
        return ThreadInference(policy, None if priority is None else max(priority - 1, 1))

    def _call(self, action: Callable[[float], None]) -> None:
        if not self._thread.is_alive():
            raise TongsError(self._failure or "the control loop is not open")
        with self._lock:
            action(self._now)

    # --- the loop's thread

    @property
    def _seen(self) -> bool:
        with self._lock:
            return self._controller.status().observation_age is not None

    @property
    def _resting(self) -> bool:
        controller = self._controller
        return controller.state in (State.IDLE, State.EMERGENCY) or controller.filter.resting

    def _run(self) -> None:
        interval = sys.getswitchinterval()
        sys.setswitchinterval(min(interval, _SWITCH))
        try:
            self._take_priority()
            self._keep_time()
        except Exception as error:
            self._failure = f"the control loop failed: {type(error).__name__}: {error}"
        finally:
            sys.setswitchinterval(interval)
            if self._sending or self._failure or self._emergency.is_set() or not self._streamed:
                self._halt()  # an arm that was only looked at may be somebody else's to move
            self._pace.leave()

    def _take_priority(self) -> None:
        try:
            take_priority(self._priority)
        except OSError as error:
            with self._lock:
                self._controller.log.add(0.0, "priority", f"no real-time priority {self._priority}: {error}")

    def _keep_time(self) -> None:
        now, self._began = self._pace.now, time.monotonic()
        due = now()
        while not self._closing.is_set():
            self._pace.wait(due, self._closing)
            if now() < due - _ANEW:
                due = now()
            behind = int((now() - due) / self._period + 1e-6)
            if behind > 0:  # what is over cannot be made up for; hurrying would be a jump
                self._skipped += behind
                due += behind * self._period
            late, began = now() - due, time.monotonic()
            self._one_period(due)
            worked = time.monotonic() - began
            slot = self._periods % _KEPT
            self._late[slot], self._work[slot] = late, worked
            self._periods += 1
            self._missed += late > DEADLINE
            due += self._period

    def _one_period(self, due: float) -> None:
        if self._emergency.is_set():
            self._halt()
            self._emergency.clear()
        with self._lock:
            images = self._controller.begin(self._clock(due))
        observation = self._observe(images, due)
        with self._lock:
            self._now = now = self._clock(due)
            if self._emergency.is_set():
                return
            filtered = self._controller.tick(now, observation)
            state, followed, said = self._controller.state, self._controller.followed, self._controller.said
            command = None if filtered is None else filtered.action
        if command is not None and not self._emergency.is_set():
            if isinstance(self._robot, StreamedRobot):
                self._robot.command(command)
                self._sending = True
            else:
                self._robot.execute(command)
        elif self._sending and not self._emergency.is_set():
            self._robot.stop()  # released: the next command begins at the measured pose
            self._sending = False
        if self._on_step is not None:
            self._on_step(Step(now, state, observation, command, filtered, followed, *said))

    def _observe(self, images: bool, due: float) -> Observation | None:
        """The robot's newest observation; None if it has none. A robot that raises is stopped."""
        try:
            observation = self._robot.observe()
        except TongsError as error:
            with self._lock:
                self._controller.log.add_throttled(self._now, "observation", "observe", str(error))
            return None
        offset = observation.time - due
        if not self._streamed or offset > self._offset or offset < self._offset - 1.0:  # the last: a clock set back
            self._offset = offset
        return observation

    def _clock(self, due: float) -> float:
        """The robot's clock: its time stamps are older than it, the newest of them least."""
        return due + self._offset if self._offset > -inf else due

    def _halt(self) -> None:
        """Tell the robot to stop, even where the lock is held by a thread that hangs."""
        locked = self._lock.acquire(timeout=DEADLINE)
        try:
            if self._emergency.is_set():
                self._controller.emergency_stop(self._now, self._why)
        finally:
            if locked:
                self._lock.release()
            try:
                self._robot.stop()
            finally:
                self._sending = False
                self._halted.set()

    def _timing(self) -> Timing:
        count = min(self._periods, _KEPT)
        if not count:
            return Timing()
        late = 1e3 * self._late[:count]
        p50, p99, p999 = np.percentile(late, [50, 99, 99.9]).tolist()
        elapsed = max(time.monotonic() - self._began, 1e-9)
        return Timing(
            rate=self._periods / elapsed,
            periods=self._periods,
            missed=self._missed,
            skipped=self._skipped,
            late_p50=p50,
            late_p99=p99,
            late_p999=p999,
            late_max=float(late.max()),
            work_p99=float(np.percentile(1e3 * self._work[:count], 99)),
        )


def _bind(policy: Policy, robot: Robot | StreamedRobot) -> None:
    bind = getattr(policy, "bind", None)
    if bind is not None:
        bind(robot.spec)
