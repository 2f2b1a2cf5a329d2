"""What a worker of an evaluation over topics does: it is the simulated robot, and has a policy runner beside it.

Both are nodes of a ROS 2 graph of their own on this machine, in step on a simulated clock, so that the result depends
on the machine's speed as little as that of a world that waits.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from eval.policies import EXPERT
from eval.protocol import EvaluationConfig
from eval.ros_nodes import NodeConfig, run_node
from eval.worker import PolicyDescription, Worker
from robot.errors import TongsError

if TYPE_CHECKING:
    from robot.ros.client import Client
    from sim.episode import EpisodeResult
    from sim.ros_robot import SimulatedRobot
    from sim.world import World

_FIRST_DOMAIN, _DOMAINS = 101, 131
_START = 1800.0
"""s within which a runner has to be ready: one that lives and loads is waited for, however busy the machine is."""
_CAMERAS = ("front", "wrist")


class TopicWorker(Worker):
    """Runs single episodes over topics; see `Worker`."""

    def _load_policies(self, checkpoint: Mapping[str, bytes] | None) -> None:
        self._graph: _Graph | None = None  # the runner has the policy

    def describe(self) -> PolicyDescription:
        return Worker(self._config).describe()

    def run(self, task: str, scene: int) -> EpisodeResult:
        from sim.episode import EpisodeRecord, policy_seed

        if self._graph is None:
            self._graph = _Graph(self._config, task)
        graph, config = self._graph, self._config
        robot, client = graph.robot, graph.client
        graph.require_alive()
        client.bring_to_rest(graph.go_on)
        before = graph.limits()
        began = time.perf_counter()
        robot.put_up(task, config.split, scene, config.variant, config.wording)
        world = robot.world
        record = EpisodeRecord(world, config.split, scene, config.variant, config.wording, began)
        told, steps = world.instruction, world.steps
        client.call(
            "run", "tongs_msgs/srv/StartRun", instruction=told, seed=policy_seed(task, config.split, scene) % 2**32
        )
        while not world.finished:
            robot.step()
            if world.instruction != told:
                told = world.instruction
                client.call("set_instruction", "tongs_msgs/srv/SetInstruction", text=told)
            if world.steps != steps or world.finished:
                steps = world.steps
                record.look()
        status = client.wait("status", lambda status: True, _START)
        if "policy_dead" in status.faults:
            raise TongsError(f"the policy runner held the arm in scene {scene} of {task}: {status.reason}")
        counts = zip(status.limits, status.limit_counts.tolist(), strict=True)
        events = {f"limit: {name}": count - before.get(name, 0) for name, count in counts}
        latencies = (float(status.latency_p50), float(status.latency_p99))
        return record.result(latencies, {name: count for name, count in events.items() if count})


class _Graph:
    """A simulated robot of this process, a policy runner in another, and a client of both."""

    def __init__(self, config: EvaluationConfig, task: str) -> None:
        from robot.ros.client import Client
        from robot.ros.dds import DdsTransport
        from sim.ros_robot import SimulatedRobot

        domain = _FIRST_DOMAIN + os.getpid() % _DOMAINS
        self._log = Path(config.output) / f"runner-{os.getpid()}.log"
        transport = DdsTransport(domain, local=True, on_error=lambda name, error: print(f"{name}: {error}"))
        self.robot: SimulatedRobot = SimulatedRobot(transport, task, "stepped", make=partial(_world, config))
        self.client: Client = Client(transport, silence=_START, patience=_START)
        node = NodeConfig(
            node="runner",
            policy=config.policy,
            task=task,
            map=None,
            limits=None,
            execution=config.execution,
            execute=1 if config.policy == EXPERT else config.execute,
            command_rate=50.0,
            domain=domain,
            local=True,
            device="cpu",
            priority=None,
            clock="stepped",
            latency_ms=config.latency_ms,
            jitter_ms=config.jitter_ms,
            sampling=config.sampling,
            lerobot=config.lerobot,
        )
        context = multiprocessing.get_context("spawn")
        self._runner = context.Process(target=_run_quietly, args=(node, str(self._log)), name="runner", daemon=True)
        self._runner.start()
        deadline = time.monotonic() + _START
        while True:
            self.robot.stand()
            status = self.client.latest("status")
            if status is not None and status.state == "idle" and self.robot.followers:
                return
            self.require_alive()
            if time.monotonic() > deadline:
                raise TongsError(f"the policy runner was not ready within {_START:g} s; {self._log} is what it said")

    def require_alive(self) -> None:
        """Raise a TongsError with the runner's last words if it has ended."""
        if not self._runner.is_alive():
            lines = [line for line in self._log.read_text().splitlines() if line.strip()]
            raise TongsError(f"the policy runner ended: {lines[-1] if lines else 'it said nothing'}")

    def go_on(self, seconds: float) -> None:
        from sim.ros_robot import RATE

        for _ in range(round(seconds * RATE)):
            self.robot.step()

    def limits(self) -> dict[str, int]:
        """The limits that the runner's filter has met, and how often."""
        status = self.client.wait("status", lambda status: True, _START)
        return dict(zip(status.limits, status.limit_counts.tolist(), strict=True))


def _world(config: EvaluationConfig, task: str) -> World:
    from sim.world import World

    size = (config.image_size, config.image_size)
    return World(task, dict.fromkeys(_CAMERAS, size), config.quality, config.engine)


def _end_with_parent() -> None:
    """A worker that is killed takes nobody with it by itself."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _run_quietly(node: NodeConfig, log: str) -> None:
    """The process of a runner, which says what it has to say to a file, and ends with the one that began it."""
    threading.Thread(target=_end_with_parent, name="parent", daemon=True).start()
    with Path(log).open("a", buffering=1) as file:
        sys.stdout = sys.stderr = file
        try:
            run_node(node)
        except TongsError as error:
            print(error)
