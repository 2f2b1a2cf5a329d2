"""Milliseconds per call of a checkpoint on one core, for several numbers of denoising steps.

    taskset -c 0 python benchmarks/policy.py beso

The observation holds two 128 px cameras; a call scales them down, encodes them, reads the instruction (cached after the
first time) and samples one action chunk.
"""

from __future__ import annotations

import argparse
from dataclasses import is_dataclass, replace

from eval.latency import policy_latency
from eval.policies import choose_policy
from sim.world import GOAL_NAMES, World


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("policy", help="a checkpoint's name or folder, or lerobot:<folder or hub id>")
    parser.add_argument("--calls", type=int, default=200)
    arguments = parser.parse_args()
    policy = choose_policy(arguments.policy).load()
    world = World("open_drawer", tell_goal=bool(set(GOAL_NAMES) & set(policy.spec.state_names)))
    world.reset("test", 0)
    policy.bind(world.spec)
    policy.reset(0)
    observation = world.observe()
    print(f"{arguments.policy}: chunk of {policy.spec.horizon} actions, {arguments.calls} calls, one thread")
    if not is_dataclass(policy.sampling):  # one of LeRobot's, as its checkpoint says
        latency = policy_latency(policy, observation, arguments.calls)
        print(f"{policy.sampling or 'no sampling'}: p50 {latency.p50_ms:.1f} ms, p99 {latency.p99_ms:.1f} ms")
        return
    print("sampler | steps | p50 ms | p99 ms")
    for sampler, steps in (("ddim", 1), ("ddim", 3), ("ddim", 10), ("heun", 3)):
        policy.sampling = replace(policy.sampling, sampler=sampler, steps=steps)  # type: ignore[attr-defined]
        latency = policy_latency(policy, observation, arguments.calls)
        print(f"{sampler:7} | {steps:5} | {latency.p50_ms:6.1f} | {latency.p99_ms:6.1f}")
    world.close()


if __name__ == "__main__":
    main()
