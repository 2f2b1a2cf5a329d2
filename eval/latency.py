"""How long a policy takes to answer, on one thread."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from robot.exported import is_export
from robot.interface import Observation, Policy
from robot.memory import peak_memory


@dataclass(frozen=True)
class Latency:
    """Milliseconds per call of `Policy.act`: median and 99th percentile."""

    p50_ms: float
    p99_ms: float


def policy_latency(policy: Policy, observation: Observation, calls: int = 100, warmup: int = 5) -> Latency:
    """Time `calls` calls of `policy.act` after `warmup` calls that do not count; torch is held to one thread."""
    torch = sys.modules.get("torch")  # an export needs none, and its memory is not to be measured with it
    threads = torch.get_num_threads() if torch else 1
    if torch:
        torch.set_num_threads(1)
    try:
        policy.reset(0)
        for _ in range(warmup):
            policy.act(observation)
        durations = []
        for _ in range(calls):
            start = time.perf_counter()
            policy.act(observation)
            durations.append(time.perf_counter() - start)
    finally:
        if torch:
            torch.set_num_threads(threads)
    p50, p99 = np.percentile(durations, [50, 99]) * 1000
    return Latency(float(p50), float(p99))


def measure(policy: str, data: str, calls: int, sampling: Mapping[str, Any]) -> tuple[float, float, float]:
    """p50 and p99 in ms of `act` on a recorded observation, and the most memory of this process in MB.

    For a process of its own: nothing here loads torch unless the policy does.
    """
    from data.reader import Dataset
    from eval.check import recorded_observations, recorded_robot
    from eval.policies import choose_policy

    choice = choose_policy(policy)
    if choice.folder is not None and not is_export(choice.folder):
        import torch

        torch.set_num_threads(1)
    loaded = choice.load(sampling)
    dataset = Dataset(data)
    loaded.bind(recorded_robot(dataset, loaded.spec))
    observation = next(iter(recorded_observations(dataset, 0, loaded.spec)))
    latency = policy_latency(loaded, observation, calls)
    return latency.p50_ms, latency.p99_ms, peak_memory()
