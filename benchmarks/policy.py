"""Milliseconds per call of a checkpoint on one core, for several numbers of denoising steps.

    taskset -c 0 python benchmarks/policy.py beso

The observation holds two 128 px cameras; a call scales them down, encodes them, reads the instruction (cached after the
first time) and samples one action chunk.
"""

from __future__ import annotations

import argparse
from dataclasses import replace

from eval.latency import policy_latency
from eval.policies import choose_policy, load_checkpoint
from sim.world import World


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("policy", help="name of a shipped checkpoint, or a checkpoint folder")
    parser.add_argument("--calls", type=int, default=200)
    arguments = parser.parse_args()
    choice = choose_policy(arguments.policy)
    if choice.folder is None:
        parser.error(f"{arguments.policy} is not a learned policy")
    policy = load_checkpoint(choice.folder, {})
    world = World("open_drawer")
    world.reset("test", 0)
    policy.bind(world.spec)
    policy.reset(0)
    observation = world.observe()
    print(f"{arguments.policy}: chunk of {policy.spec.horizon} actions, {arguments.calls} calls, one thread")
    print("sampler | steps | p50 ms | p99 ms")
    for sampler, steps in (("ddim", 1), ("ddim", 3), ("ddim", 10), ("heun", 3)):
        policy.sampling = replace(policy.sampling, sampler=sampler, steps=steps)  # type: ignore[attr-defined]
        latency = policy_latency(policy, observation, arguments.calls)
        print(f"{sampler:7} | {steps:5} | {latency.p50_ms:6.1f} | {latency.p99_ms:6.1f}")
    world.close()


if __name__ == "__main__":
    main()
