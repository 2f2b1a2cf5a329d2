"""A robot behind topics, as a topic map says: a `StreamedRobot` that is told joint positions, or twists."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot.errors import ContractError, TongsError
from robot.interface import EE_DELTA, GRIPPER, ActionSpace, Observation, RobotSpec
from robot.limits import Limits
from robot.resample import Resampler
from robot.ros import quality
from robot.ros.clock import stamp
from robot.ros.servo import TWIST_STAMPED, Watchdog
from robot.ros.trajectory import TRAJECTORY
from robot.ros.transport import Publisher, Transport
from robot.topic_map import SECOND, TWIST, Numbers, Source, TopicMap

ARRAY = "std_msgs/msg/Float64MultiArray"
_PICTURES = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")
_STRETCH = 2.0
"""Command periods that a trajectory controller is given for the way to a command: the next one comes before it is
there, so that it never has to brake in between."""
WATCHDOG = 0.1
"""s: MoveIt Servo's own patience with whoever commands it."""
_CHANGE = 1e-3
"""The least change (share of its range) of a gripper's opening that is sent."""


class TopicArm:
    """The newest of what the map's topics say, and commands to the topics of its action.

    With an `ee_twist` action its own action space is `ee_delta`: what the tool shall move in a period goes out as a
    velocity, a TwistStamped in the map's frame, and a watch-dog sends zero when the commands cease.

    Args:
        transport: of the topics; its clock is that of the header stamps.
        topic_map: with a `joint_position` or `ee_twist` action and the type of every topic.
        limits: the range of each joint.
        command_rate: Hz.
        watchdog: s without a command, or two periods of commands if that is longer, after which a tool that moves is
            told to stand; None for never, on a clock that is not the machine's.

    Raises:
        ContractError: the map does not describe an arm that can be told something; the sentence says why.
    """

    def __init__(
        self,
        transport: Transport,
        topic_map: TopicMap,
        limits: Limits,
        command_rate: float = 50.0,
        watchdog: float | None = WATCHDOG,
    ) -> None:
        self._transport, self._map, self.command_rate = transport, topic_map, command_rate
        self._commands, self._space = arm_commands(topic_map, limits)
        self._resampler = Resampler(topic_map)
        self._lock = threading.Lock()
        self._epoch = self._sampled = transport.now()
        self._problem = ""
        self._spec: RobotSpec | None = None
        self._sent: dict[str, NDArray[np.float64]] = {}
        for source in {source.topic: source for source in (*topic_map.observed, *_told(topic_map))}.values():
            transport.subscribe(source.topic, require_type(source), self._hear(source.topic), quality_of(source))
        self._publishers: list[Publisher] = [
            transport.publisher(entry.topic, require_type(entry)) for entry in self._commands
        ]
        self._twist = self._commands[0].twist
        self._watchdog: Watchdog | None = None
        if self._twist and watchdog is not None:
            self._watchdog = Watchdog(self._stand, max(watchdog, 2 / command_rate))

    def open(self, patience: float = 10.0) -> TopicArm:
        """Wait until every topic has spoken and somebody listens to the commands.

        Raises:
            TongsError: a topic is silent, says something else than the map says, or nobody takes the commands.
        """
        deadline = time.monotonic() + patience
        while True:
            try:
                first = self._sample()
                silent = [
                    entry.topic
                    for entry, publisher in zip(self._commands, self._publishers, strict=True)
                    if not publisher.subscribers
                ]
                if silent:
                    raise TongsError(f"nobody listens to {', '.join(silent)}")
                break
            except TongsError as error:
                if time.monotonic() > deadline:
                    raise TongsError(
                        f"the robot is not there after {patience:g} s: {self._problem or error}"
                    ) from error
            time.sleep(0.02)
        sizes = {name: (image.shape[0], image.shape[1]) for name, image in first.images.items()}
        self._spec = RobotSpec(sizes, self._map.state_names, self._space)
        return self

    @property
    def spec(self) -> RobotSpec:
        if self._spec is None:
            raise TongsError("open the robot first")
        return self._spec

    def observe(self) -> Observation:
        """The newest message of each topic; the time is that of the oldest of the state's, since the arm was made."""
        with self._lock:
            problem, self._problem = self._problem, ""
        if problem:
            raise TongsError(problem)
        return self._sample()

    def command(self, command: NDArray[np.float32]) -> None:
        values = command.astype(np.float64)
        if self._twist:
            values[: len(TWIST)] *= self.command_rate
        self._send(values, hold=False)
        if self._watchdog is not None:
            self._watchdog.feed()

    def stop(self) -> None:
        """Tell the controllers to stay where the joints were measured, or the tool to stand.

        Joints that are measured no more are told nothing: the last command ends within two periods, and an old
        measurement would be a place to go to.
        """
        if self._twist:
            self._stand()
            if self._watchdog is not None:
                self._watchdog.feed()  # it says so again, since a message may be lost
            return
        try:
            measured = self._sample().state
        except TongsError:
            return
        names = self._map.state_names
        positions = [measured[names.index(name)] if name in names else np.nan for name in self._space.names]
        self._send(np.array(positions, np.float64), hold=True)

    def _stand(self) -> None:
        self._send(np.array([0.0] * len(TWIST) + [np.nan] * (self._space.dimension - len(TWIST))), hold=True)

    # --- topics

    def _hear(self, topic: str) -> Any:
        def heard(message: Any, arrived: int) -> None:
            with self._lock:
                try:
                    self._resampler.push(topic, message, arrived)
                except TongsError as error:
                    self._problem = str(error)

        return heard

    def _sample(self) -> Observation:
        with self._lock:
            now = self._transport.now()
            if now < self._sampled - SECOND:  # a simulated clock was begun anew
                self._resampler = Resampler(self._map)
            self._sampled = now
            sample = self._resampler.sample_at(now)
            self._resampler.forget_before(now)
        measured = min(sample.stamps[entry.topic] for entry in self._map.state)
        return Observation(
            dict(sample.images),
            sample.state,
            sample.instruction,
            (measured - self._epoch) / SECOND,
            image_times={name: (sample.stamps[name] - self._epoch) / SECOND for name in self._map.cameras},
        )

    def _send(self, command: NDArray[np.float64], hold: bool) -> None:
        if hold:
            self._sent.clear()  # whoever drives next says it anew
        start = 0
        for entry, publisher in zip(self._commands, self._publishers, strict=True):
            wanted = command[start : start + len(entry.names)]
            start += len(entry.names)
            if not np.isfinite(wanted).all():  # a gripper that is not measured stays as it is
                continue
            if entry.names == (GRIPPER,):
                sent = self._sent.get(entry.topic)
                if hold or (sent is not None and np.abs(wanted - sent).max() < _CHANGE):
                    continue
                self._sent[entry.topic] = wanted
            publisher.publish(self._message(entry, entry.written(wanted)))

    def _message(self, entry: Numbers, values: NDArray[np.float64]) -> Any:
        make = self._transport.make
        if entry.type == ARRAY:
            return make(ARRAY, data=values)
        if entry.twist:
            linear, angular = (
                make("geometry_msgs/msg/Vector3", **dict(zip("xyz", part.tolist(), strict=True)))
                for part in (values[:3], values[3:])
            )
            header = make(
                "std_msgs/msg/Header", stamp=stamp(self._transport, self._transport.now()), frame_id=entry.frame
            )
            return make(
                TWIST_STAMPED, header=header, twist=make("geometry_msgs/msg/Twist", linear=linear, angular=angular)
            )
        seconds = _STRETCH / self.command_rate
        after = make("builtin_interfaces/msg/Duration", sec=int(seconds), nanosec=int(seconds % 1 * SECOND))
        point = make("trajectory_msgs/msg/JointTrajectoryPoint", positions=values, time_from_start=after)
        return make(TRAJECTORY, joint_names=list(entry.joints), points=[point])  # no stamp: from now on


def _told(topic_map: TopicMap) -> Sequence[Source]:
    return (topic_map.instruction,) if isinstance(topic_map.instruction, Source) else ()


def quality_of(source: Source) -> quality.Quality:
    """The quality that a subscriber of a source asks for."""
    if source.type in _PICTURES:
        return quality.SENSOR
    if source.type == "std_msgs/msg/String":
        return quality.LATCHED
    return quality.Quality(reliable=False)  # takes what a reliable publisher offers, too


def require_type(source: Source) -> str:
    """The type of a source. Raises ContractError if the map does not say it."""
    if source.type is None:
        raise ContractError(f"the topic map does not say the type of {source.topic}; a live robot needs `type:`")
    return source.type


def arm_commands(topic_map: TopicMap, limits: Limits) -> tuple[tuple[Numbers, ...], ActionSpace]:
    """What is told on which topic, and the action space of it all. Raises ContractError, as `TopicArm` does."""
    action = topic_map.action
    if action is None or action.kind not in ("joint_position", "ee_twist"):
        kind = "no action" if action is None else f"the action {action.kind}"
        raise ContractError(f"a live robot is told joint_position or ee_twist, the topic map has {kind}")
    if action.kind == "ee_twist":
        return action.commands, _twist_space(action.commands, topic_map.rate)
    low, high = [], []
    for entry in action.commands:
        _require_sendable(entry)
        for name in entry.names:
            if name != GRIPPER and name not in limits.joints:
                known = ", ".join(limits.joints) or "none: give urdf= or limits="
                raise ContractError(f"joint {name} of {entry.topic} has no limits; known are {known}")
            if name != GRIPPER and name not in topic_map.state_names:
                raise ContractError(
                    f"joint {name} is told on {entry.topic} and not measured: the topic map's state has "
                    f"{', '.join(topic_map.state_names)}"
                )
            low.append(0.0 if name == GRIPPER else limits.joints[name].low)
            high.append(1.0 if name == GRIPPER else limits.joints[name].high)
    space = ActionSpace("joint_position", action.names, action.units, tuple(low), tuple(high), rate=topic_map.rate)
    return action.commands, space


def _require_sendable(entry: Numbers) -> None:
    if entry.type not in (TRAJECTORY, ARRAY):
        raise ContractError(f"commands go out as {TRAJECTORY} or {ARRAY}, the map has {entry.type} on {entry.topic}")
    if entry.type == TRAJECTORY and not entry.joints:
        raise ContractError(f"a trajectory needs the names of its joints: give {entry.topic} `joints:`")


def _twist_space(commands: Sequence[Numbers], rate: float) -> ActionSpace:
    """Of an arm that is told a twist and then, if it has a gripper, an opening."""
    twist, others = commands[0], commands[1:]
    if not twist.twist or twist.type != TWIST_STAMPED:
        raise ContractError(f"the first of the commands of ee_twist is `twist:` of type {TWIST_STAMPED}")
    if twist.frame is None:
        raise ContractError(f"a twist is in some frame: give {twist.topic} `frame:`, that of the arm's base")
    if [entry.names for entry in others] not in ([], [(GRIPPER,)]):
        told = ", ".join(name for entry in others for name in entry.names)
        raise ContractError(f"after the twist only {GRIPPER} can be told, the map has {told}")
    for entry in others:
        _require_sendable(entry)
    size = len(TWIST) + len(others)
    parts = {name: getattr(EE_DELTA, name)[:size] for name in ("names", "units", "low", "high")}
    return replace(EE_DELTA, rate=rate, **parts)
