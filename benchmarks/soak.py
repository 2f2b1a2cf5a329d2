"""How well the control loop keeps its time beside a policy that takes 80 ms, and whether its memory stays flat.

    python benchmarks/soak.py                       # ten minutes at 100 Hz
    python benchmarks/soak.py --seconds 60          # a first look
    python benchmarks/soak.py --policy thread       # the policy in the loop's own process

The policy computes for its 80 ms (it does not sleep), in a process of its own unless told otherwise. Targets: no period
begins more than 5 ms late, the 99th percentile is below 1 ms, memory grows by less than 1 MB after the first tenth.
Exit status 1 if one is missed.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np

from robot import panda
from robot.control.inference import PolicyProcess
from robot.control.loop import ControlLoop
from robot.control.settings import Execution, Settings
from robot.interface import EE_DELTA, ActionChunk, Observation, PolicySpec, RobotSpec
from robot.skills import POSE_STATE

CAMERAS = {"front": (128, 128), "wrist": (128, 128)}


class Arm:
    """A streamed arm that is at once where it is told to be, with two cameras at 30 Hz."""

    def __init__(self, rate: float) -> None:
        self.spec = RobotSpec(CAMERAS, (*POSE_STATE, "gripper_opening"), EE_DELTA)
        self.command_rate = rate
        self._position = np.array([0.45, 0.0, 0.35])
        self._pictures: dict[str, np.ndarray] = {}
        self._taken = -1.0
        self.commands = 0

    def observe(self) -> Observation:
        now = time.monotonic()
        if now - self._taken > 1 / 30:
            self._pictures = {
                name: np.full((*size, 3), self.commands % 256, np.uint8) for name, size in CAMERAS.items()
            }
            self._taken = now
        state = np.array([*self._position, 1, 0, 0, 0, -1, 0, 1], np.float32)
        return Observation(self._pictures, state, "go round", now, image_times=dict.fromkeys(CAMERAS, self._taken))

    def command(self, command: np.ndarray) -> None:
        self._position = self._position + command[:3]
        self.commands += 1

    def stop(self) -> None:
        pass


class Circling:
    """Chunks along a circle of 5 cm, after so many seconds of computing."""

    def __init__(self, latency: float) -> None:
        self.spec = PolicySpec(CAMERAS, ("x", "y"), EE_DELTA, horizon=16)
        self._latency = latency
        self._matrix = np.random.default_rng(0).normal(size=(128, 128))

    def reset(self, seed: int) -> None:
        pass

    def act(self, observation: Observation) -> ActionChunk:
        end = time.perf_counter() + self._latency
        while time.perf_counter() < end:
            self._matrix = np.tanh(self._matrix @ self._matrix)
        times = observation.time + np.arange(16) / EE_DELTA.rate
        actions = np.zeros((16, 7), np.float32)
        actions[:, 0], actions[:, 1] = 0.005 * np.cos(times), 0.005 * np.sin(times)
        return ActionChunk(actions, times)

    def act_batch(self, observations: list[Observation]) -> list[ActionChunk]:
        return [self.act(observation) for observation in observations]


def memory() -> float:
    """MB of this process that are in memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--rate", type=float, default=100.0)
    parser.add_argument("--latency-ms", type=float, default=80.0)
    parser.add_argument("--policy", choices=("process", "thread"), default="process")
    parser.add_argument("--priority", type=int, help="real-time priority of the loop's thread, such as 40")
    arguments = parser.parse_args()
    make = partial(Circling, arguments.latency_ms / 1000)
    policy = PolicyProcess(make) if arguments.policy == "process" else make()
    arm = Arm(arguments.rate)
    settings = Settings(Execution("asynchronous", execute=2))
    with ControlLoop(arm, policy, panda.LIMITS, settings, priority=arguments.priority) as loop:
        loop.start()
        time.sleep(arguments.seconds / 10)
        before = memory()
        time.sleep(arguments.seconds * 9 / 10)
        grown, status = memory() - before, loop.status()
    timing = status.timing
    assert status.latency_p50 is not None and status.latency_p99 is not None
    print(
        f"{timing.periods} periods at {timing.rate:.2f} Hz, policy in a {arguments.policy}\n"
        f"late by p50 {timing.late_p50:.3f} ms, p99 {timing.late_p99:.3f} ms, p99.9 {timing.late_p999:.3f} ms, "
        f"at most {timing.late_max:.3f} ms; missed by more than 5 ms: {timing.missed}; skipped: {timing.skipped}\n"
        f"work in a period: p99 {timing.work_p99:.3f} ms\n"
        f"from an observation to its chunk: p50 {1e3 * status.latency_p50:.0f} ms, "
        f"p99 {1e3 * status.latency_p99:.0f} ms; starved: {status.counts.get('starved', 0)}\n"
        f"memory: {before:.1f} MB, grown by {grown:.2f} MB\n"
        f"limits met: {dict(status.limits) or 'none'}; events: {dict(status.counts)}"
    )
    return int(timing.missed > 0 or timing.late_p99 > 1.0 or grown > 1.0)


if __name__ == "__main__":
    sys.exit(main())
