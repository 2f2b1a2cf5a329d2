"""The control loop of a real arm in simulated time: what a policy's latency costs, the same on every machine."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import inf, isfinite

import numpy as np
from numpy.typing import NDArray

from robot.control.controller import Controller
from robot.control.inference import SimulatedInference, continues
from robot.control.settings import MODES, Execution, Mode, Patience, Settings
from robot.errors import TongsError, unknown
from robot.interface import Policy
from robot.panda import LIMITS
from sim.worlds import SimulatedWorld


@dataclass(frozen=True)
class RealTime:
    """The world goes on while the policy thinks.

    Attributes:
        latency, jitter: mean and standard deviation, s, of the time from an observation to its chunk.
        execution: a mode of `robot.control.settings.Execution`.
    """

    latency: float = 0.0
    jitter: float = 0.0
    execution: Mode = "synchronous"

    def __post_init__(self) -> None:
        if self.execution not in MODES:
            raise unknown("execution", self.execution, MODES)
        for name, value in (("latency_ms", self.latency), ("jitter_ms", self.jitter)):
            if not isfinite(value) or not 0 <= value <= 60:
                raise TongsError(f"{name} must be a number from 0 to 60000, got {1000 * value:g}")


class RealTimeDrive:
    """One episode of a policy through the control loop, its safety filter included.

    Everything happens at control periods: an answer that comes within one is used from the next one on, so that 1 ms
    costs as much as a whole period.

    Args:
        world: after `reset`.
        policy: after `reset`; asked at once, its answers come later in simulated time.
        execute: see `Execution`.
        real_time: latency, jitter and execution.
        seed: of the jitter.

    Raises:
        ContractError: policy and world do not fit, or execution `rtc` and the policy do not.
    """

    def __init__(self, world: SimulatedWorld, policy: Policy, execute: int, real_time: RealTime, seed: int) -> None:
        self._world = world
        self._period = 1.0 / world.spec.action_space.rate
        self._inference = SimulatedInference(policy, real_time.latency, real_time.jitter, seed)
        self.controller = Controller(
            world.spec,
            policy.spec,
            self._inference,
            LIMITS,
            self._period,
            Settings(Execution(real_time.execution, execute), patience=Patience(observation=inf, policy=inf)),
            continues=continues(policy),
        )

    def actions(self, seed: int) -> Iterator[NDArray[np.float32]]:
        """One action per control step, for ever; the policy is reset with the seed."""
        controller, world = self.controller, self._world
        controller.tick(0.0, world.observe(images=False))
        controller.start(0.0, seed=seed)
        while True:
            now = world.steps * self._period
            filtered = controller.tick(now, world.observe(images=controller.begin(now)))
            if self._inference.error is not None:
                raise self._inference.error
            if filtered is None:
                raise TongsError(f"the control loop came to a halt: {controller.status().reason}")
            yield filtered.action

    @property
    def counts(self) -> dict[str, int]:
        """How often what happened: kinds of events and, as "limit: ...", the limits of the filter."""
        counts = {kind: count for kind, count in self.controller.log.counts.items() if kind not in ("state", "limit")}
        return counts | {f"limit: {name}": count for name, count in self.controller.filter.counts.items()}
