"""What a policy server adds to a call: the same calls made locally and over loopback, in turn, in the same run.

    taskset -c 0,1 python benchmarks/server.py                   # a policy that answers at once: the overhead alone
    taskset -c 0,1 python benchmarks/server.py --policy beso     # a real one

The observation holds two pictures of the simulator at 224 px. The server is a process of its own. JPEG files are made
by the client, and read by the server, within a call. Local and remote calls alternate, since machines drift; what is
reported is the median over calls of each, percentiles of the difference between neighbours, and the processor time that
a remote call takes more, of client and server together: on a busy machine the others measure who else is there.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from robot.interface import EE_DELTA, ActionChunk, Observation, Policy, PolicySpec, RobotSpec
from robot.remote.client import RemotePolicy
from robot.remote.server import PolicyServer, ServerConfig, serve
from robot.remote.session import canonical_robot

SIZE = 224
CAMERAS = ("front", "wrist")
QUALITY = 90


class Immediate:
    """A policy that looks at nothing."""

    spec = PolicySpec(dict.fromkeys(CAMERAS, (SIZE, SIZE)), (), EE_DELTA, horizon=8)
    _chunk = np.zeros((8, 7), np.float32)

    def bind(self, robot: RobotSpec) -> None: ...

    def reset(self, seed: int) -> None: ...

    def act(self, observation: Observation) -> ActionChunk:
        return ActionChunk(self._chunk, observation.time + np.arange(8) / 10)

    def act_batch(self, observations: Sequence[Observation]) -> list[ActionChunk]:
        return [self.act(observation) for observation in observations]


def load(name: str | None, robot: RobotSpec | None = None) -> Policy:
    """The policy, bound to a robot or to what a server shows it."""
    if name is None:
        return Immediate()
    import torch

    from eval.policies import choose_policy

    torch.set_num_threads(1)
    policy = choose_policy(name).load()
    policy.bind(robot or canonical_robot(policy.spec))
    return policy


def host(name: str | None, pipe: Connection) -> None:
    server = PolicyServer(load(name), name or "immediate", ServerConfig(port=0))
    serve(server, lambda running: pipe.send(running.url))


def see() -> tuple[Observation, RobotSpec]:
    """Two pictures of a scene, and the robot that took them."""
    from sim.world import World

    world = World("open_drawer", cameras=dict.fromkeys(CAMERAS, (SIZE, SIZE)))
    world.reset("test", 0)
    seen, spec = world.observe(), world.spec
    world.close()
    return seen, spec


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--policy", help="a checkpoint's name or folder; by default one that answers at once")
    parser.add_argument("--calls", type=int, default=500)
    arguments = parser.parse_args()
    observation, robot = see()
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=host, args=(arguments.policy, theirs), daemon=True)
    process.start()
    url = ours.recv()
    local = load(arguments.policy, robot)
    print("pictures | local ms | remote ms | added ms: p10 | p50 | p99 | added processor ms")
    for name, jpeg in (("raw", None), ("JPEG", QUALITY)):
        remote = RemotePolicy(url, jpeg=jpeg)
        remote.bind(robot)
        durations = np.array(measure(local, remote, observation, arguments.calls))  # (calls, 2)
        own, other = np.median(durations, axis=0)
        shares = [f"{share:.2f}" for share in np.percentile(durations[:, 1] - durations[:, 0], [10, 50, 99])]
        computed = [processor_time(policy, observation, arguments.calls, process.pid) for policy in (local, remote)]
        print(f"{name:8} | {own:8.2f} | {other:9.2f} | {' | '.join(shares)} | {computed[1] - computed[0]:.2f}")
        remote.close()
    process.terminate()


def processor_time(policy: Policy, observation: Observation, calls: int, server: int | None) -> float:
    """Milliseconds of this process and the server's per call."""

    def now() -> float:
        fields = Path(f"/proc/{server}/stat").read_text().rpartition(")")[2].split()
        return time.process_time() + (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    start = now()
    for _ in range(calls):
        policy.act(observation)
    return 1000 * (now() - start) / calls


def measure(local: Policy, remote: Policy, observation: Observation, calls: int) -> list[tuple[float, float]]:
    """Milliseconds of a local and of a remote call, many times, after some that do not count."""
    durations = []
    for policy in (local, remote):
        policy.reset(0)
    for _ in range(calls + 20):
        pair = []
        for policy in (local, remote):
            start = time.perf_counter()
            policy.act(observation)
            pair.append(1000 * (time.perf_counter() - start))
        durations.append((pair[0], pair[1]))
    return durations[20:]


if __name__ == "__main__":
    main()
