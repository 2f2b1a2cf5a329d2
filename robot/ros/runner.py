"""The policy runner: a node that follows a policy on a robot behind topics, and does what its topics and services say.

The control loop does the work; this is its face in the ROS 2 graph. Life cycle as of a ROS 2 lifecycle node.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from enum import Enum
from math import nan
from typing import Any

from robot.control.collision import ArmModel
from robot.control.inference import Inference
from robot.control.loop import ControlLoop
from robot.control.pace import Pace
from robot.control.settings import Settings
from robot.control.status import State, Status
from robot.errors import TongsError
from robot.interface import Policy, StreamedRobot
from robot.limits import Limits
from robot.ros.chunk import KIND
from robot.ros.quality import DEFAULT, LATCHED
from robot.ros.transport import Transport

NAME = "/policy_runner"
ESTOP = "/emergency_stop"
STATUS_RATE = 5.0
"""Hz."""
_PATIENCE = 30.0
"""s until a robot that was there has to give an observation; a machine may be busy."""
_TRIGGER = "std_srvs/srv/Trigger"


class Lifecycle(str, Enum):
    """The primary states of a ROS 2 lifecycle node."""

    UNCONFIGURED = "unconfigured"
    INACTIVE = "inactive"
    ACTIVE = "active"
    FINALIZED = "finalized"


class PolicyRunner:
    """Topics in: `~/instruction`, `~/correction`, `~/operate`, `/emergency_stop` (std_msgs/Bool). Out: `~/status`
    (latched), `/diagnostics` (1 Hz). Services: `~/start`, `~/stop`, `~/release`, `~/pause`, `~/resume`, `~/take_over`,
    `~/hand_back`, `~/emergency_stop`, `~/rearm` (Trigger), `~/run`, `~/set_instruction`, `~/load_policy`.

    Args:
        transport: of the graph.
        open_robot: waits for the robot's topics.
        load: a policy by name, ready for the robot; it is told the robot.
        limits: of the safety filter.
        settings: of the control loop.
        arm: for collisions.
        name: of the node; `~` above.
        estop: the emergency stop's topic; None for none.
        estop_required: refuse to configure while nobody publishes the emergency stop.
        pace: of the control loop; None for the machine's clock.
        infer: how a policy is asked; None for a thread of its own.
    """

    def __init__(
        self,
        transport: Transport,
        open_robot: Callable[[], StreamedRobot],
        load: Callable[[str, StreamedRobot], Policy],
        limits: Limits,
        settings: Settings | None = None,
        arm: ArmModel | None = None,
        name: str = NAME,
        estop: str | None = ESTOP,
        estop_required: bool = False,
        pace: Pace | None = None,
        infer: Callable[[Policy], Inference] | None = None,
    ) -> None:
        self.lifecycle = Lifecycle.UNCONFIGURED
        self._transport, self._open_robot, self._load = transport, open_robot, load
        self._limits, self._settings, self._arm = limits, settings, arm
        self._name, self._estop = name, estop
        self._pace, self._infer = pace, infer
        self._loop: ControlLoop | None = None
        self._robot: StreamedRobot | None = None
        self._policy_name = self._instruction = ""
        self._pressed = False
        self._ended = threading.Event()
        self._status = transport.publisher(f"{name}/status", "tongs_msgs/msg/PolicyStatus", LATCHED)
        self._diagnostics = transport.publisher("/diagnostics", "diagnostic_msgs/msg/DiagnosticArray")
        transport.subscribe(f"{name}/instruction", "tongs_msgs/msg/Instruction", self._hear_instruction, LATCHED)
        transport.subscribe(f"{name}/correction", "tongs_msgs/msg/Correction", self._hear_correction)
        transport.subscribe(f"{name}/operate", KIND, self._hear_operator)
        self._estop_required = estop_required
        self._estop_publishers: Callable[[], int] = lambda: 0
        if estop is not None:
            self._estop_publishers = transport.subscribe(estop, "std_msgs/msg/Bool", self._hear_estop, DEFAULT)
        services: dict[str, Callable[[], None]] = {
            "start": lambda: self.start(),
            "stop": self.stop,
            "release": lambda: self._running().release(),
            "pause": lambda: self._running().pause(),
            "resume": self._resume,
            "emergency_stop": lambda: self._running().emergency_stop("asked to"),
            "rearm": self._rearm,
            "take_over": self._take_over,
            "hand_back": lambda: self._running().hand_back(),
        }
        for service, action in services.items():
            transport.serve(f"{name}/{service}", _TRIGGER, self._answer(_TRIGGER, lambda _, action=action: action()))
        kind = "tongs_msgs/srv/StartRun"
        transport.serve(
            f"{name}/run", kind, self._answer(kind, lambda request: self.run(request.instruction, request.seed))
        )
        kind = "tongs_msgs/srv/SetInstruction"
        transport.serve(
            f"{name}/set_instruction", kind, self._answer(kind, lambda request: self.instruct(request.text))
        )
        kind = "tongs_msgs/srv/LoadPolicy"
        transport.serve(f"{name}/load_policy", kind, self._answer(kind, lambda request: self.load(request.policy)))
        self._thread = threading.Thread(target=self._tell, name="status", daemon=True)
        self._thread.start()

    # --- life cycle

    def configure(self, policy: str) -> None:
        """Wait for the robot, load the policy, and see that they fit; nothing moves.

        Raises:
            TongsError: the robot is not there, or the policy cannot be loaded; ContractError, they do not fit.
        """
        self._require(Lifecycle.UNCONFIGURED)
        self._robot = self._open_robot()
        if self._estop_required and not self._estop_publishers():
            raise TongsError(f"an emergency stop is required, and nobody publishes {self._estop or 'one'}")
        made = self._load(policy, self._robot)
        self._loop = ControlLoop(
            self._robot,
            made,
            self._limits,
            self._settings,
            self._arm,
            inference=None if self._infer is None else self._infer(made),
            pace=self._pace,
        ).open(_PATIENCE)
        self._policy_name = policy
        self.lifecycle = Lifecycle.INACTIVE

    def activate(self) -> None:
        """From now on `start` is allowed."""
        self._require(Lifecycle.INACTIVE)
        self.lifecycle = Lifecycle.ACTIVE

    def deactivate(self) -> None:
        """Come to rest first; then `start` is refused."""
        self._require(Lifecycle.ACTIVE)
        self._rest("deactivated")
        self.lifecycle = Lifecycle.INACTIVE

    def clean_up(self) -> None:
        """Come to rest, tell the robot to stop, let go of the policy; it may be configured again."""
        loop, self._loop, self._robot = self._loop, None, None
        if loop is not None:
            loop.close()
        self.lifecycle = Lifecycle.UNCONFIGURED

    def shutdown(self) -> None:
        """As `clean_up`, and for ever."""
        self.clean_up()
        self._ended.set()
        self._thread.join(timeout=2.0)
        self.lifecycle = Lifecycle.FINALIZED

    # --- what is asked for

    def start(self, seed: int = 0) -> None:
        """Follow the policy; refused without an instruction, or while the emergency stop is pressed."""
        self._require(Lifecycle.ACTIVE)
        self._refuse_pressed()
        if not self._instruction:
            raise TongsError(f"say what is wanted first: {self._name}/set_instruction")
        self._running().start(self._instruction, seed)

    def stop(self, reason: str = "asked to") -> None:
        """Decelerate and hold."""
        self._running().stop(reason)

    def instruct(self, text: str) -> None:
        """What is wanted from now on; an arm that is moving drops its plan at once."""
        if not text.strip():
            raise TongsError("an instruction needs words")
        self._instruction = text.strip()
        if self._loop is not None:
            self._loop.instruct(self._instruction)

    def load(self, name: str) -> None:
        """Another policy, while none is followed; the old one stays if it cannot be loaded or does not fit."""
        loop = self._running()
        assert self._robot is not None
        made = self._load(name, self._robot)
        loop.use(made, None if self._infer is None else self._infer(made))
        self._policy_name = name

    def status(self) -> Status:
        """Of the control loop."""
        return self._running().status()

    def run(self, instruction: str, seed: int = 0) -> None:
        """Follow the policy from a fresh start, told something else."""
        self._require(Lifecycle.ACTIVE)
        self.instruct(instruction)
        self.start(int(seed))

    def _resume(self) -> None:
        self._require(Lifecycle.ACTIVE)
        self._refuse_pressed()
        self._running().resume()

    def _rearm(self) -> None:
        self._refuse_pressed()
        self._running().rearm()

    def _take_over(self) -> None:
        self._require(Lifecycle.ACTIVE)
        self._refuse_pressed()
        self._running().take_over()

    def _hear_operator(self, message: Any, arrived: int) -> None:
        """What a person wants, until the next message; the loop sees to one who falls silent."""
        import numpy as np

        loop = self._running()
        assert self._robot is not None
        space = self._robot.spec.action_space
        if message.kind != space.kind or tuple(message.names) != space.names:
            raise TongsError(
                f"{self._name}/operate: the robot takes {space.kind} ({', '.join(space.names)}), "
                f"got {message.kind} ({', '.join(message.names)})"
            )
        actions = np.asarray(message.data, np.float32)
        if actions.shape != (space.dimension,):
            raise TongsError(f"{self._name}/operate: one action of {space.dimension} numbers, got {len(actions)}")
        loop.operate(actions)

    def _refuse_pressed(self) -> None:
        if self._pressed:
            raise TongsError(f"the emergency stop {self._estop} is pressed; release it first")

    def _rest(self, reason: str) -> None:
        loop = self._running()
        if loop.status().state in (State.RUNNING, State.PAUSED, State.OPERATOR):
            loop.stop(reason)
            loop.wait(State.STOPPED, 2.0)

    def _running(self) -> ControlLoop:
        if self._loop is None:
            raise TongsError(f"{self._name} is {self.lifecycle.value}; configure it first")
        return self._loop

    def _require(self, wanted: Lifecycle) -> None:
        if self.lifecycle != wanted:
            raise TongsError(f"{self._name} is {self.lifecycle.value}, that needs it {wanted.value}")

    # --- topics and services

    def _answer(self, kind: str, action: Callable[[Any], None]) -> Callable[[Any], Any]:
        def answer(request: Any) -> Any:
            try:
                action(request)
            except TongsError as error:
                return self._transport.make(f"{kind}_Response", success=False, message=str(error))
            return self._transport.make(f"{kind}_Response", success=True)

        return answer

    def _hear_instruction(self, message: Any, arrived: int) -> None:
        self.instruct(message.text)

    def _hear_correction(self, message: Any, arrived: int) -> None:
        if self._loop is not None:
            self._loop.correct(message.text, message.source)

    def _hear_estop(self, message: Any, arrived: int) -> None:
        self._pressed = bool(message.data)
        if self._pressed and self._loop is not None:
            self._loop.emergency_stop(f"{self._estop} was pressed")

    def _tell(self) -> None:
        tick = 0
        while not self._ended.wait(1.0 / STATUS_RATE):
            loop = self._loop
            if loop is None:
                continue
            status = loop.status()
            with suppress(TongsError):  # a participant that is being closed
                self._status.publish(self._status_message(status))
                if tick % round(STATUS_RATE) == 0:
                    self._diagnostics.publish(self._diagnostic_message(status))
            tick += 1

    def _header(self) -> Any:
        stamp = self._transport.now()
        when = self._transport.make("builtin_interfaces/msg/Time", sec=stamp // 10**9, nanosec=stamp % 10**9)
        return self._transport.make("std_msgs/msg/Header", stamp=when)

    def _status_message(self, status: Status) -> Any:
        import numpy as np

        return self._transport.make(
            "tongs_msgs/msg/PolicyStatus",
            header=self._header(),
            state=status.state.value,
            reason=status.reason,
            policy=self._policy_name,
            instruction=status.instruction or self._instruction,
            faults=list(status.faults),
            queue=float(status.queue),
            latency_p50=_or_nan(status.latency_p50),
            latency_p99=_or_nan(status.latency_p99),
            observation_age=_or_nan(status.observation_age),
            speed=float(status.speed),
            limits=list(status.limits),
            limit_counts=np.array(list(status.limits.values()), np.uint32),
        )

    def _diagnostic_message(self, status: Status) -> Any:
        make, timing = self._transport.make, status.timing
        values = {
            "state": status.state.value,
            "rate (Hz)": f"{timing.rate:.2f}",
            "missed deadlines": str(timing.missed),
            "lateness p99 (ms)": f"{timing.late_p99:.3f}",
            "latency p50 (s)": f"{_or_nan(status.latency_p50):.3f}",
            "latency p99 (s)": f"{_or_nan(status.latency_p99):.3f}",
            "observation age (s)": f"{_or_nan(status.observation_age):.3f}",
            "queue (s)": f"{status.queue:.3f}",
            **{f"limit {name}": str(count) for name, count in status.limits.items()},
            **{f"events {name}": str(count) for name, count in status.counts.items()},
        }
        level = 2 if status.state == State.EMERGENCY else 1 if status.faults else 0
        entry = make(
            "diagnostic_msgs/msg/DiagnosticStatus",
            level=level,
            name=f"{self._name.lstrip('/')}: control loop",
            message=status.reason or ", ".join(status.faults) or status.state.value,
            values=[make("diagnostic_msgs/msg/KeyValue", key=key, value=value) for key, value in values.items()],
        )
        return make("diagnostic_msgs/msg/DiagnosticArray", header=self._header(), status=[entry])


def _or_nan(value: float | None) -> float:
    return nan if value is None else float(value)
