"""A person's session with a robot by its settings: the simulated table, a robot behind topics, or an arm of this
process, with its policy and its recorder; what `tongs gui` and `tongs teleop` open."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from data.recorder import SessionRecorder
from eval.policies import EXPERT, REMOTE, bound_policy, choose_policy
from robot.control.collision import ArmModel
from robot.control.inference import PolicyProcess
from robot.control.settings import Execution, Mode, Patience, Settings
from robot.errors import TongsError, unknown
from robot.interface import Policy, Robot, StreamedRobot
from robot.limits import Limits
from robot.ros.transport import Transport
from robot.session.holder import Holder
from robot.session.session import Session
from robot.session.stage import Stage

SIM, ROS, ARM = "sim", "ros", "arm"
ROBOTS = (SIM, ROS, ARM)
NOBODY = "none"
"""The name of no policy."""
NODE = "tongs_session"
ESTOP = "/emergency_stop"
"""The topic (std_msgs/Bool) of a robot's emergency stop, as the policy runner hears it."""
_OF: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(("task", "split", "scene", "engine", "image_size", "view_size"), (SIM,)),
    **dict.fromkeys(("map", "servo", "command_rate", "domain", "local"), (ROS,)),
    **dict.fromkeys(("limits", "urdf"), (ROS, ARM)),
    "arm": (ARM,),
}
"""For which robots a setting means something; the others are for all."""
_WAIT = 30.0
"""s for a robot's topics to speak."""


@dataclass(frozen=True)
class SessionConfig:
    """What a session is of.

    Attributes:
        robot: `sim` (the simulated table), `ros` (a robot behind topics) or `arm` (one that this process drives).
        policy: a name that `choose_policy` knows, `none`, or with `ros` `expert` of a simulated robot.
        output: dataset folder, None to record nothing.
        execution, execute, patience: of the control loop, see `Execution` and `Patience`.
        device, sampling, lerobot: of the policy, see `PolicyChoice.load`.
        task, split, scene, engine, image_size, view_size: of the simulated table, see `sim.live.LiveWorld`.
        map, servo, command_rate, domain, local: of a robot behind topics, as for the policy runner; map None is the
            simulated robot's.
        arm: the arm file of one that this process drives.
        limits, urdf: files of a robot that is not simulated.
    """

    robot: str
    policy: str
    output: str | None
    execution: Mode = "asynchronous"
    execute: int = 4
    patience: float = 5.0
    device: str = "cpu"
    sampling: Mapping[str, Any] = field(default_factory=dict)
    lerobot: Mapping[str, Any] = field(default_factory=dict)
    task: str = "open_drawer"
    split: str = "test"
    scene: int = 0
    engine: str = "mujoco"
    image_size: int = 128
    view_size: int = 0
    map: str | None = None
    servo: str | None = None
    command_rate: float = 50.0
    domain: int | None = None
    local: bool = False
    arm: str | None = None
    limits: str | None = None
    urdf: str | None = None

    def __post_init__(self) -> None:
        if self.robot not in ROBOTS:
            raise unknown("robot", self.robot, ROBOTS)
        if self.robot == ARM and self.arm is None:
            raise TongsError("which arm? robot=arm needs arm=<its YAML file>, such as configs/arm/so101.yaml of Tongs")


def require_meant(robot: str, keys: Iterable[str]) -> None:
    """Raise TongsError if one of the keys that a person gave means nothing to the robot."""
    if robot not in ROBOTS:
        raise unknown("robot", robot, ROBOTS)
    for key in keys:
        if robot not in _OF.get(key, ROBOTS):
            meant = " and ".join(f"robot={one}" for one in _OF[key])
            raise TongsError(f"{key} means nothing to robot={robot}; it is for {meant}")


@dataclass(frozen=True)
class _Robot:
    """One that is there, and what belongs to it; `heard` has a session hear what comes from it beside observations."""

    robot: Robot | StreamedRobot
    limits: Limits
    kind: str
    load: Callable[[str], Policy]
    stage: Stage | None = None
    model: ArmModel | None = None
    heard: Callable[[Session], None] = lambda session: None


@contextmanager
def open_session(
    config: SessionConfig, say: Callable[[str], None] = print, wait: float = _WAIT, holder: Holder | None = None
) -> Iterator[Session]:
    """A session that is open; nothing moves before a person starts it. At its end the arm comes to rest, and what was
    recorded is saved.

    Args:
        config: see there.
        say: told what takes long, and what goes wrong in the graph until the session is there to tell it.
        wait: s for a robot's topics to speak.
        holder: of the control; None for one that suits a browser.

    Raises:
        TongsError: a setting is wrong, the robot is not there, or the policy cannot be loaded; ContractError, it does
            not fit the robot. Nothing has moved then.
    """
    _require_followed(config)
    told = [say]
    settings = Settings(Execution(config.execution, config.execute), patience=Patience(policy=config.patience))
    with ExitStack() as stack:
        if config.robot == SIM:
            there = _simulated(config, stack)
        elif config.robot == ROS:
            there = _behind_topics(config, stack, lambda text: told[0](text), wait)
        else:
            there = _of_this_process(config, stack)
        session = Session(
            there.robot,
            there.limits,
            None if config.policy == NOBODY else there.load(config.policy),
            "" if config.policy == NOBODY else config.policy,
            SessionRecorder(config.output, there.kind) if config.output else None,
            there.stage,
            settings,
            there.model,
            load=there.load,
            holder=holder or Holder(1.5, 6.0),  # a browser's hidden page is woken only once a second
        )
        stack.enter_context(session)
        told[0] = session.warn
        there.heard(session)
        yield session


def _require_followed(config: SessionConfig) -> None:
    """Raise TongsError for a policy that a session cannot follow, before anything is opened."""
    if config.policy == NOBODY or (config.policy == EXPERT and config.robot == ROS):
        return
    if not choose_policy(config.policy).learned:
        raise TongsError(
            f"a session follows a learned policy, a remote one, {NOBODY}, or with robot={ROS} the {EXPERT} of a "
            f"simulated robot; {config.policy!r} with robot={config.robot} is none of them"
        )


def _simulated(config: SessionConfig, stack: ExitStack) -> _Robot:
    from robot.panda import LIMITS
    from sim.live import LiveWorld

    world = LiveWorld(config.task, config.split, config.scene, config.image_size, config.view_size, config.engine)
    stack.callback(world.close)
    return _Robot(world, LIMITS, f"panda_{config.engine}", partial(_load, config, world), world)


def _behind_topics(config: SessionConfig, stack: ExitStack, say: Callable[[str], None], wait: float) -> _Robot:
    from eval.robots import TopicRobot, arm_limits, collision_model, simulated_map
    from robot.ros.arm import WATCHDOG
    from robot.ros.expert import TopicExpert
    from robot.ros.graph import join_graph
    from robot.topic_map import TopicMap

    topic_map = TopicMap.read(config.map or simulated_map())
    limits = arm_limits(topic_map, config.urdf, config.limits)
    transport = join_graph(NODE, config.domain, config.local, say)
    stack.callback(transport.close)
    topics = TopicRobot(transport, topic_map, limits, config.urdf, config.servo, config.command_rate, WATCHDOG)
    say(f"waiting for the robot's topics, {wait:g} s at most")
    robot = topics.open(wait)

    def load(name: str) -> Policy:
        return TopicExpert(transport) if name == EXPERT else _load(config, robot, name)

    model = collision_model(topic_map, config.urdf, limits)
    return _Robot(robot, limits, topic_map.robot_type, load, None, model, partial(_hear_estop, transport))


def _of_this_process(config: SessionConfig, stack: ExitStack) -> _Robot:
    from eval.robots import open_adapter

    assert config.arm is not None
    opened = open_adapter(config.arm, config.urdf, config.limits)
    stack.callback(opened.arm.close)
    load = partial(_load, config, opened.driven)
    return _Robot(opened.driven, opened.limits, Path(config.arm).stem, load, None, opened.model)


def _load(config: SessionConfig, robot: Robot | StreamedRobot, name: str) -> Policy:
    """A policy for a control loop: in a process of its own, unless it is on another machine already."""
    choose_policy(name)
    make = partial(bound_policy, name, config.sampling, config.lerobot, config.device, robot.spec)
    return make() if name.startswith(REMOTE) else PolicyProcess(make)


def _hear_estop(transport: Transport, session: Session) -> None:
    transport.subscribe(ESTOP, "std_msgs/msg/Bool", lambda message, _: session.stop_button(ESTOP, bool(message.data)))
