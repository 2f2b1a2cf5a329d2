"""An arm that this process drives, as a ROS 2 robot: joint states and pictures out, joint trajectories in."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot import ros_messages
from robot.errors import ContractError, TongsError
from robot.images import jpeg
from robot.interface import GRIPPER, Observation, StreamedRobot
from robot.ros.quality import SENSOR
from robot.ros.trajectory import TRAJECTORY, Trajectory, limit_speed
from robot.ros.transport import Transport
from robot.topic_map import SECOND

ARM, HAND = "/arm_controller/joint_trajectory", "/hand_controller/joint_trajectory"
_FASTEST = 3.0
"""rad/s: of joints whose robot does not say how fast they may go."""
_LOOKS = 30.0
"""Hz: how often it is looked for newer pictures."""
_QUALITY = 90
"""Of the JPEG files."""
_COMPLAINT = 1.0
"""s between two complaints about the same."""


class ArmServer:
    """Publishes `/joint_states` with every reading, the opening of the gripper as its joint "gripper", and
    `/<camera>/image_raw/compressed` (JPEG, sensor data) with every new picture; takes
    `/arm_controller/joint_trajectory` and `/hand_controller/joint_trajectory`, each of which replaces the one before.

    A trajectory begins when it arrives, and at its end the arm stays. One that leaves a joint's range is refused, and
    one that is too fast takes longer. Before the first trajectory nothing is sent to the arm. The topics are those of
    the simulated robot.

    Args:
        transport: of the topics.
        arm: takes joint positions, all of them measured, and maybe "gripper".
        on_error: told what was wrong with a message, or what the arm complains of.

    Raises:
        ContractError: the arm takes something else, or does not measure a joint that it is told.
    """

    def __init__(self, transport: Transport, arm: StreamedRobot, on_error: Callable[[str], None] = print) -> None:
        space, names = arm.spec.action_space, arm.spec.state_names
        if space.kind != "joint_position":
            raise ContractError(f"an arm behind topics takes joint_position, this one takes {space.kind}")
        if missing := [name for name in space.names if name != GRIPPER and name not in names]:
            raise ContractError(f"the arm is told {', '.join(missing)} and does not measure it: {', '.join(names)}")
        self._transport, self._arm, self._on_error = transport, arm, on_error
        self._joints = [name for name in space.names if name != GRIPPER]
        self._has_gripper = GRIPPER in space.names
        self._columns = [names.index(name) for name in self._joints]
        self._places = [space.names.index(name) for name in self._joints]
        self._low, self._high = np.array(space.low)[self._places], np.array(space.high)[self._places]
        known = getattr(arm, "joint_limits", {})
        self._fastest = np.array([known[name].rates.speed if name in known else _FASTEST for name in self._joints])
        self._lock = threading.Lock()
        self._path: Trajectory | None = None
        self._opening: float | None = None
        self._held: float | None = None
        self._at: NDArray[np.float64] | None = None
        self._offset = np.inf
        self._complained: dict[str, float] = {}
        self._states = transport.publisher("/joint_states", "sensor_msgs/msg/JointState")
        self._cameras = {
            camera: transport.publisher(f"/{camera}/image_raw/compressed", "sensor_msgs/msg/CompressedImage", SENSOR)
            for camera in arm.spec.cameras
        }
        transport.subscribe(ARM, TRAJECTORY, self._hear_arm)
        if self._has_gripper:
            transport.subscribe(HAND, TRAJECTORY, self._hear_hand)

    def run(self, ended: threading.Event) -> None:
        """Keep the arm going until `ended`; then it holds."""
        looking = threading.Thread(target=self._look, args=(ended,), name="cameras", daemon=True)
        looking.start()
        period, told = 1.0 / self._arm.command_rate, -np.inf
        due = time.monotonic()
        try:
            while not ended.is_set():
                seen = self._observe()
                if seen is not None:
                    if seen.time > told:
                        told = seen.time
                        self._states.publish(self._joint_state(seen))
                    self._move(seen, period)
                due = max(due + period, time.monotonic() - period)  # what is over cannot be made up for
                ended.wait(max(due - time.monotonic(), 0.0))
        finally:
            ended.set()
            looking.join(timeout=2.0)
            self._arm.stop()

    def _observe(self) -> Observation | None:
        try:
            return self._arm.observe()
        except TongsError as error:
            self._complain(str(error))
            with self._lock:
                self._path = self._at = None  # who drives begins anew at what is measured then
            return None

    def _move(self, seen: Observation, period: float) -> None:
        """Along the trajectory, from where the arm was told to be; nothing is sent while nothing was asked for."""
        with self._lock:
            path, opening = self._path, self._opening
            if path is None and opening is None:
                return
            at = seen.state[self._columns].astype(np.float64) if self._at is None else self._at
            targets = at[None]
            if path is not None:
                targets, self._path = path.walk(at, np.array([period]))
            targets, _ = limit_speed(at, targets, period, self._fastest)
            self._at, self._opening = targets[-1], None
        space = self._arm.spec.action_space
        command = np.zeros(space.dimension, np.float32)
        command[self._places] = targets[-1]
        if self._has_gripper:
            if opening is not None:
                self._held = opening
            elif self._held is None:
                self._held = self._measured_opening(seen)
            command[space.names.index(GRIPPER)] = self._held
        self._arm.command(command)

    def _measured_opening(self, seen: Observation) -> float:
        names = self._arm.spec.state_names
        return float(seen.state[names.index(GRIPPER)]) if GRIPPER in names else 1.0

    # --- what comes in

    def _hear_arm(self, message: Any, arrived: int) -> None:
        try:
            path = self._checked(Trajectory.read(ARM, message, self._joints))
        except TongsError as error:
            self._on_error(str(error))
            return
        with self._lock:
            self._path = path

    def _checked(self, path: Trajectory) -> Trajectory:
        outside = (path.points < self._low - 1e-6) | (path.points > self._high + 1e-6)
        if outside.any():
            point, joint = np.argwhere(outside)[0]
            raise TongsError(
                f"{ARM}: joint {self._joints[joint]} would go to {path.points[point, joint]:.3f}, its range is "
                f"{self._low[joint]:.3f} to {self._high[joint]:.3f}"
            )
        return path

    def _hear_hand(self, message: Any, arrived: int) -> None:
        try:
            (opening,) = ros_messages.joints(message, "position", [GRIPPER])
            if not np.isfinite(opening):
                raise TongsError("NaN or infinity")
        except TongsError as error:
            self._on_error(f"{HAND}: {error}")
            return
        with self._lock:
            self._opening = float(np.clip(opening, 0.0, 1.0))

    # --- what it tells

    def _look(self, ended: threading.Event) -> None:
        """New pictures, apart from the arm: making a JPEG file takes longer than a command may wait."""
        shown: dict[str, float] = {}
        while not ended.wait(1.0 / _LOOKS):
            try:
                seen = self._arm.observe()
            except TongsError:
                continue  # the other thread says so
            for camera, publisher in self._cameras.items():
                when = seen.image_times.get(camera, seen.time)
                if shown.get(camera) != when:
                    shown[camera] = when
                    publisher.publish(self._picture(seen.images[camera], self._header(when)))

    def _joint_state(self, seen: Observation) -> Any:
        names = [*self._joints, *[GRIPPER] * (self._has_gripper and GRIPPER in self._arm.spec.state_names)]
        columns = [self._arm.spec.state_names.index(name) for name in names]
        return self._transport.make(
            "sensor_msgs/msg/JointState",
            header=self._header(seen.time),
            name=names,
            position=seen.state[columns].astype(np.float64),
        )

    def _picture(self, pixels: NDArray[np.uint8], header: Any) -> Any:
        data = np.frombuffer(jpeg(pixels, _QUALITY), np.uint8)
        return self._transport.make("sensor_msgs/msg/CompressedImage", header=header, format="jpeg", data=data)

    def _header(self, when: float) -> Any:
        """With a time of the arm's clock on that of the topics: no reading is older than the one that came soonest."""
        now = self._transport.now()
        self._offset = min(self._offset, now - when * SECOND)
        at = min(int(when * SECOND + self._offset), now)
        make = self._transport.make
        return make(
            "std_msgs/msg/Header", stamp=make("builtin_interfaces/msg/Time", sec=at // SECOND, nanosec=at % SECOND)
        )

    def _complain(self, text: str) -> None:
        now = time.monotonic()
        if now - self._complained.get(text, -np.inf) > _COMPLAINT:
            self._complained = {text: now}
            self._on_error(text)
