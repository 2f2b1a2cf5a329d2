"""The nodes of `tongs ros`: a policy by name on a robot behind topics, and arms as such robots: ours, or a real one."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from robot.errors import TongsError, unknown
from robot.interface import Policy, StreamedRobot
from robot.ros.transport import Transport

if TYPE_CHECKING:
    from robot.limits import Limits
    from robot.ros.runner import PolicyRunner
    from robot.topic_map import TopicMap

NODES = ("robot", "arm", "runner", "recorder", "teleop")


@dataclass(frozen=True)
class NodeConfig:
    """The keys of `configs/ros.yaml`."""

    node: str
    policy: str
    task: str
    map: str | None
    limits: str | None
    execution: str
    execute: int
    command_rate: float
    domain: int | None
    local: bool
    device: str
    priority: int | None
    clock: str
    latency_ms: float
    jitter_ms: float
    sampling: Mapping[str, Any]
    lerobot: Mapping[str, Any]
    urdf: str | None = None
    output: str = "outputs/bags"
    arm: str | None = None
    servo: str | None = None


def run_node(config: NodeConfig) -> None:
    """Run a node until SIGINT or SIGTERM. Raises TongsError if it cannot begin."""
    from robot.ros.dds import DdsTransport
    from sim.ros_robot import CLOCKS

    if config.node not in NODES:
        raise unknown("node", config.node, NODES)
    if config.clock not in CLOCKS:
        raise unknown("clock", config.clock, CLOCKS)
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    transport = DdsTransport(config.domain, config.local, lambda name, error: print(f"{name}: {error}", flush=True))
    try:
        nodes = {"robot": _robot, "arm": _arm, "runner": _runner, "recorder": _recorder, "teleop": _teleop}
        nodes[config.node](config, transport, ended)
    finally:
        transport.close()


def _robot(config: NodeConfig, transport: Transport, ended: threading.Event) -> None:
    from sim.ros_robot import Clock, SimulatedRobot

    clock = cast(Clock, config.clock)
    robot = SimulatedRobot(transport, config.task, clock, on_error=lambda text: print(text, flush=True))
    print("simulated robot: ready", flush=True)
    robot.run(ended)


def _arm(config: NodeConfig, transport: Transport, ended: threading.Event) -> None:
    from robot.adapters.opening import open_arm
    from robot.ros.arm_server import ArmServer

    if config.arm is None:
        raise TongsError("which arm? node=arm needs arm=<its YAML file>, such as configs/arm/so101.yaml of Tongs")
    arm = open_arm(config.arm)
    try:
        server = ArmServer(transport, arm, on_error=lambda text: print(text, flush=True))
        print(f"arm: {', '.join(arm.spec.action_space.names)} at {arm.command_rate:g} Hz, ready", flush=True)
        server.run(ended)
    finally:
        arm.close()


def make_runner(
    config: NodeConfig,
    transport: Transport,
    name: str = "/policy_runner",
    estop: str | None = "/emergency_stop",
    estop_required: bool = False,
    patience: float = 60.0,
) -> PolicyRunner:
    """A policy runner that is not configured yet.

    Args:
        config: its settings.
        transport: of the graph.
        name, estop, estop_required: see `PolicyRunner`.
        patience: s to wait for the robot's topics.

    Raises:
        TongsError: a file or a setting is wrong, or nobody gives the time of a simulated clock.
    """
    from eval.policies import EXPERT, bound_policy, choose_policy
    from eval.robots import arm_limits, collision_model
    from robot.control.inference import PolicyProcess, SimulatedInference
    from robot.control.settings import Execution, Patience, Settings
    from robot.ros.clock import SimulatedTime
    from robot.ros.expert import TopicExpert
    from robot.ros.runner import PolicyRunner
    from robot.topic_map import TopicMap

    if config.policy != EXPERT and not choose_policy(config.policy).learned:
        raise TongsError(
            f"a runner follows a learned policy, a remote one, or {EXPERT} on a simulated robot; "
            f"{config.policy!r} is none of them"
        )
    topic_map = TopicMap.read(_map(config))
    limits = arm_limits(topic_map, config.urdf, config.limits)
    latency, jitter = config.latency_ms / 1000, config.jitter_ms / 1000
    if config.clock == "real" and (latency or jitter):
        raise TongsError("latency_ms and jitter_ms are of a simulated clock; with clock=real leave them out")
    settings = Settings(Execution(config.execution, config.execute))  # type: ignore[arg-type]
    simulated = None if config.clock == "real" else SimulatedTime(transport, name)
    graph = simulated or transport
    open_robot = _robot_behind_topics(config, graph, topic_map, limits, patience)

    def load(policy: str, robot: StreamedRobot) -> Policy:
        if policy == EXPERT:
            return TopicExpert(graph)
        make = partial(bound_policy, policy, config.sampling, config.lerobot, config.device, robot.spec)
        return make() if simulated else PolicyProcess(make)

    if simulated is not None:
        settings = replace(settings, patience=Patience(policy=max(Patience.policy, 10 * latency)))
    return PolicyRunner(
        graph,
        open_robot,
        load,
        limits,
        settings,
        collision_model(topic_map, config.urdf, limits),
        name,
        estop,
        estop_required,
        None if simulated is None else simulated.pace,
        None if simulated is None else lambda policy: SimulatedInference(policy, latency, jitter, 0),
    )


def _robot_behind_topics(
    config: NodeConfig, graph: Transport, topic_map: TopicMap, limits: Limits, patience: float
) -> Callable[[], StreamedRobot]:
    """What opens the robot, as policies drive it; the arm's subscriptions last as long as the node."""
    from eval.robots import TopicRobot
    from robot.ros.arm import WATCHDOG

    watchdog = WATCHDOG if config.clock == "real" else None
    robot = TopicRobot(graph, topic_map, limits, config.urdf, config.servo, config.command_rate, watchdog)
    return lambda: robot.open(patience)


def _runner(config: NodeConfig, transport: Transport, ended: threading.Event) -> None:
    runner = make_runner(config, transport)
    try:
        runner.configure(config.policy)
        runner.activate()
        print(f"policy runner: {config.policy} is ready", flush=True)
        ended.wait()
    finally:
        runner.shutdown()


def _recorder(config: NodeConfig, transport: Transport, ended: threading.Event) -> None:
    from robot.ros.clock import SimulatedTime
    from robot.ros.recorder import NAME, EpisodeRecorder
    from robot.settings_file import read_yaml

    content = read_yaml(_map(config))
    simulated = None if config.clock == "real" else SimulatedTime(transport, NAME)
    recorder = EpisodeRecorder(simulated or transport, content, config.output)
    print(f"episode recorder: bags go to {config.output}", flush=True)
    try:
        ended.wait()
    finally:
        recorder.close()
        if simulated is not None:
            simulated.leave()


def _teleop(config: NodeConfig, transport: Transport, ended: threading.Event) -> None:
    from robot.ros.teleop import Teleop

    teleop = Teleop(transport, on_error=lambda text: print(text, flush=True))
    print("teleop: ready", flush=True)
    try:
        ended.wait()
    finally:
        teleop.close()


def _map(config: NodeConfig) -> str:
    """The file of the robot's topic map."""
    from eval.robots import simulated_map

    return config.map or simulated_map()
