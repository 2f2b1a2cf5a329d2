"""Our MuJoCo arm as a ROS 2 robot: joint states and cameras out, joint trajectories in, in real or simulated time."""

from __future__ import annotations

import io
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from robot import panda, ros_messages
from robot.errors import TongsError, unknown
from robot.interface import EE_DELTA
from robot.ros.chunk import chunk_message
from robot.ros.clock import SteppedClock, stamp
from robot.ros.quality import LATCHED, SENSOR
from robot.ros.trajectory import TRAJECTORY, Trajectory, limit_speed
from robot.ros.transport import Transport
from robot.topic_map import SECOND
from sim.expert import ScriptedExpert
from sim.language import Wording
from sim.world import World

RATE = 50.0
"""Joint states and looks at the trajectory per second."""
Clock = Literal["real", "simulated", "stepped"]
CLOCKS: tuple[Clock, ...] = ("real", "simulated", "stepped")
_RESET, _EXPERT, _ADVANCE = "tongs_msgs/srv/ResetScene", "tongs_msgs/srv/AskExpert", "tongs_msgs/srv/Advance"
_BEHIND = 0.2
"""s by which the world may be late before it gives up catching up."""
_AGAIN = 0.2
"""s after which a clock that waits says again what time it is."""
_NEVER = 2**62


class SimulatedRobot:
    """Publishes `/joint_states` (50 Hz), `/<camera>/image_raw/compressed` (10 Hz, sensor data) and `<name>/scene`
    (latched); takes `/arm_controller/joint_trajectory` and `/hand_controller/joint_trajectory`, each of which replaces
    the one before; offers `<name>/reset` (ResetScene) and `<name>/expert` (AskExpert).

    Its clock is one of `CLOCKS`: `real` is the machine's; `simulated` is its own, given on `/clock` (`robot.ros.clock`)
    and no faster than the machine's; `stepped` as well, but standing until `<name>/advance` (Advance) lets it go on.

    Args:
        transport: of the topics.
        task: its name.
        clock: see above.
        name: of the node.
        on_error: told what was wrong with a message.
        make: makes the world of a task.

    All methods but the constructor belong to one thread, since drawing does.
    """

    def __init__(
        self,
        transport: Transport,
        task: str,
        clock: Clock = "real",
        name: str = "/simulated_robot",
        on_error: Callable[[str], None] = print,
        make: Callable[[str], World] = World,
    ) -> None:
        if clock not in CLOCKS:
            raise unknown("clock", clock, CLOCKS)
        self._transport, self._kind, self._on_error = transport, clock, on_error
        self._work: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._make = make
        self.world = make(task)
        self._split, self._index = "test", 0
        self.world.reset(self._split, self._index)
        self._per_tick = round(1.0 / RATE / self.world.engine.timestep)
        self._lock = threading.Lock()
        self._path: Trajectory | None = None
        self._opening = 1.0
        self._tick = 0
        self._expert: ScriptedExpert[World] | None = None
        self._joints = transport.publisher("/joint_states", "sensor_msgs/msg/JointState")
        self._cameras = {
            camera: transport.publisher(f"/{camera}/image_raw/compressed", "sensor_msgs/msg/CompressedImage", SENSOR)
            for camera in self.world.spec.cameras
        }
        self._pictures: dict[str, Any] = {}
        self._scene = transport.publisher(f"{name}/scene", "tongs_msgs/msg/SceneStatus", LATCHED)
        transport.subscribe("/arm_controller/joint_trajectory", TRAJECTORY, self._hear_arm)
        transport.subscribe("/hand_controller/joint_trajectory", TRAJECTORY, self._hear_hand)
        self._clock = None if clock == "real" else SteppedClock(transport, lambda: self._work.put(_nothing))
        self._until = -1 if clock == "stepped" else _NEVER
        self._wanted_followers = 0
        transport.serve(f"{name}/reset", _RESET, self._on_world(self._reset))
        transport.serve(f"{name}/expert", _EXPERT, self._on_world(self._ask_expert))
        if clock == "stepped":
            transport.serve(f"{name}/advance", _ADVANCE, self._on_world(self._advance))

    def run(self, ended: threading.Event) -> None:
        """Keep the world going until `ended`."""
        try:
            self.tell()
            if self._clock is None:
                self._keep_time(ended)
                return
            due = time.monotonic()
            while not ended.is_set():
                if self.standing:
                    self.stand()
                    continue
                self.step(ended)
                if self._kind == "simulated":
                    due = max(due + 1.0 / RATE, time.monotonic() - _BEHIND)
                    time.sleep(max(due - time.monotonic(), 0.0))
        finally:
            self.world.close()

    def _keep_time(self, ended: threading.Event) -> None:
        due = time.monotonic()
        while not ended.is_set():
            self.step()
            due += 1.0 / RATE
            wait = due - time.monotonic()
            if wait > 0:
                time.sleep(wait)
            elif wait < -_BEHIND:
                due = time.monotonic()

    # --- the world's thread

    @property
    def standing(self) -> bool:
        """Whether the clock waits for leave to go on."""
        clock = self._clock
        return clock is not None and (clock.time >= self._until or clock.followers < self._wanted_followers)

    @property
    def followers(self) -> int:
        """How many nodes go with its clock step by step."""
        return 0 if self._clock is None else self._clock.followers

    def put_up(self, task: str, split: str, index: int, variant: str = "original", wording: Wording = "seen") -> None:
        """Another scene. A clock of its own goes on by a control period, so that everybody sees what is there.

        Raises:
            TongsError: there is no such scene.
        """
        if task != self.world.task.name:
            other = self._make(task)
            self.world.close()
            self.world = other
        self.world.reset(split, index, variant, wording)
        self._split, self._index = split, index
        self._expert, self._tick = None, 0
        with self._lock:
            self._path, self._opening = None, 1.0
        if self._clock is not None:
            self._clock.time += round(SECOND / EE_DELTA.rate)
            self._until = self._clock.time if self._kind == "stepped" else _NEVER
        self.tell()
        self._await_followers()

    def step(self, ended: threading.Event | None = None) -> None:
        """One tick: the arm goes on, everybody is told, and on a clock of its own everybody has had their say."""
        before = self.world.finished
        self._move()
        self._tick += 1
        if self._clock is not None:
            self._clock.time += round(SECOND / RATE)
            if self._kind == "stepped" and self.world.finished and not before:
                self._until = self._clock.time
        self.tell()
        self._await_followers(ended)

    def stand(self, patience: float = _AGAIN) -> None:
        """While nothing moves: say again what is, for who came late, and do what services are asked for."""
        if not self._serve(patience):
            self.tell(again=True)

    def _await_followers(self, ended: threading.Event | None = None) -> None:
        """Until the clock may go on to the next tick."""
        clock = self._clock
        while clock is not None and clock.waits_for(clock.time + round(SECOND / RATE)):
            if ended is not None and ended.is_set():
                return
            if not self._serve(_AGAIN):
                clock.tell()
        while self._serve(0.0):
            pass

    def _serve(self, patience: float) -> bool:
        """Do what was asked for next. False if nothing was within `patience` s."""
        try:
            work = self._work.get(timeout=patience) if patience else self._work.get_nowait()
        except queue.Empty:
            return False
        work()
        return True

    def _move(self) -> None:
        """Along the trajectory, linear between its points, from where the arm was told to be."""
        step = self.world.engine.timestep
        now = self.world.commanded_joints
        with self._lock:
            opening = self._opening
            targets = np.repeat(now[None], self._per_tick, 0)
            if self._path is not None:
                targets, self._path = self._path.walk(now, step * np.arange(1.0, self._per_tick + 1))
        targets, speeds = limit_speed(now, targets, step, np.asarray(panda.JOINT_VELOCITY))
        self.world.follow(targets, speeds, opening)

    # --- what comes in

    def _hear_arm(self, message: Any, arrived: int) -> None:
        try:
            path = Trajectory.read("/arm_controller/joint_trajectory", message, panda.JOINTS)
        except TongsError as error:
            self._on_error(str(error))
            return
        with self._lock:
            self._path = path

    def _hear_hand(self, message: Any, arrived: int) -> None:
        try:
            (position,) = ros_messages.joints(message, "position", panda.FINGERS[:1])
        except TongsError as error:
            self._on_error(f"/hand_controller/joint_trajectory: {error}")
            return
        with self._lock:
            self._opening = float(np.clip(position / panda.FINGER_TRAVEL, 0.0, 1.0))

    def _on_world(self, answer: Callable[[Any], Any]) -> Callable[[Any], Future[Any]]:
        """A service that the world's thread answers."""

        def ask(request: Any) -> Future[Any]:
            asked: Future[Any] = Future()

            def work() -> None:
                try:
                    asked.set_result(answer(request))
                except Exception as error:
                    asked.set_exception(error)

            self._work.put(work)
            return asked

        return ask

    def _reset(self, request: Any) -> Any:
        try:
            self.put_up(
                request.task or self.world.task.name,
                request.split or "test",
                int(request.index),
                request.variant or "original",
            )
        except TongsError as error:
            return self._transport.make(f"{_RESET}_Response", success=False, message=str(error))
        return self._transport.make(f"{_RESET}_Response", success=True, instruction=self.world.instruction)

    def _advance(self, request: Any) -> Any:
        assert self._clock is not None
        kind = f"{_ADVANCE}_Response"
        if not 0 < request.seconds < 1e6:
            text = f"the clock goes on by a time above 0 and below 1e6 s, got {request.seconds:g}"
            return self._transport.make(kind, success=False, message=text)
        self._until = self._clock.time + max(round(request.seconds * SECOND), 1)
        self._wanted_followers = int(request.followers)
        return self._transport.make(kind, success=True, now=self._when())

    def _ask_expert(self, request: Any) -> Any:
        make, kind = self._transport.make, f"{_EXPERT}_Response"
        try:
            if self._expert is None or request.begin:
                self._expert = ScriptedExpert(self.world)
                self._expert.reset(int(request.seed))
            chunk = self._expert.act(self.world.observe(images=False))
        except TongsError as error:
            return make(kind, success=False, message=str(error))
        return make(kind, success=True, chunk=chunk_message(self._transport, self._header(), chunk.actions))

    # --- what it tells

    def tell(self, again: bool = False) -> None:
        """All that is due at this tick; `again` all that is known."""
        make, world, header = self._transport.make, self.world, self._header()
        finger = world.engine.finger()
        self._joints.publish(
            make(
                "sensor_msgs/msg/JointState",
                header=header,
                name=[*panda.JOINTS, *panda.FINGERS],
                position=np.array([*world.engine.arm(), finger, finger]),
            )
        )
        due = self._tick % round(RATE / EE_DELTA.rate) == 0
        if due and not (again and self._pictures):
            for camera, size in world.spec.cameras.items():
                data = _png(world.render(camera, *size))
                picture = make("sensor_msgs/msg/CompressedImage", header=header, format="png", data=data)
                self._pictures[camera] = picture
        if due or again:
            for camera, publisher in self._cameras.items():
                publisher.publish(self._pictures[camera])
        if due or again or self.standing:
            self._scene.publish(self._scene_message(header))
        if self._clock is not None:
            self._clock.tell()  # last: who hears it has heard the rest

    def _when(self) -> Any:
        return stamp(self._transport, self._transport.now() if self._clock is None else self._clock.time)

    def _header(self) -> Any:
        return self._transport.make("std_msgs/msg/Header", stamp=self._when(), frame_id="base")

    def _scene_message(self, header: Any) -> Any:
        world, period = self.world, 1.0 / EE_DELTA.rate
        return self._transport.make(
            "tongs_msgs/msg/SceneStatus",
            header=header,
            task=world.task.name,
            split=self._split,
            index=self._index,
            instruction=world.instruction,
            elapsed=world.steps * period,
            horizon=world.horizon * period,
            value=float(world.value),
            goal=float(world.goal),
            success=bool(world.success),
            finished=bool(world.finished),
            standing=self.standing,
        )


def _nothing() -> None:
    """Wakes who waits."""


def _png(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Without loss, so that a policy sees what it sees without ROS; small pictures cost little this way."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=1)
    return np.frombuffer(buffer.getvalue(), np.uint8)
