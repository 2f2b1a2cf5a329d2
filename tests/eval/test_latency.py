"""The latency of a policy whose duration is known."""

from __future__ import annotations

import time

import numpy as np
import torch

from eval.latency import policy_latency
from eval.policies import RandomPolicy
from robot.interface import EE_DELTA, ActionChunk, Observation


class Slow(RandomPolicy):
    threads: set[int]

    def act(self, observation: Observation) -> ActionChunk:
        self.threads.add(torch.get_num_threads())
        time.sleep(0.02)
        return super().act(observation)


def test_latency_is_measured_on_one_thread() -> None:
    policy = Slow(EE_DELTA)
    policy.threads = set()
    threads = torch.get_num_threads()
    latency = policy_latency(policy, Observation({}, np.zeros(1, np.float32), "", 0.0), calls=5, warmup=1)
    assert 20 <= latency.p50_ms <= latency.p99_ms < 2000
    assert policy.threads == {1}
    assert torch.get_num_threads() == threads
