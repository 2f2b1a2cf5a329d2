"""How long a policy takes to answer, on one thread."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from robot.interface import Observation, Policy


@dataclass(frozen=True)
class Latency:
    """Milliseconds per call of `Policy.act`: median and 99th percentile."""

    p50_ms: float
    p99_ms: float


def policy_latency(policy: Policy, observation: Observation, calls: int = 100, warmup: int = 5) -> Latency:
    """Time `calls` calls of `policy.act` after `warmup` calls that do not count; torch is held to one thread."""
    import torch

    threads = torch.get_num_threads()
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
        torch.set_num_threads(threads)
    p50, p99 = np.percentile(durations, [50, 99]) * 1000
    return Latency(float(p50), float(p99))
