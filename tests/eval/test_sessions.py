"""A person's session with a robot behind topics, and with an arm of this process."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

pytest.importorskip("rosbags")

from data.reader import Dataset  # noqa: E402
from data.recorder import INTERVENTION, called  # noqa: E402
from eval.sessions import SessionConfig, open_session, require_meant  # noqa: E402
from robot import panda  # noqa: E402
from robot.adapters import template  # noqa: E402
from robot.control.status import State  # noqa: E402
from robot.errors import ContractError, TongsError  # noqa: E402
from robot.interface import EE_DELTA, ActionChunk, Observation, PolicySpec  # noqa: E402
from robot.session.holder import Holder  # noqa: E402
from robot.session.session import Session  # noqa: E402
from tests.domains import new_domain  # noqa: E402
from tests.robot.remote.toy import served  # noqa: E402
from tests.robot.ros.memory import MemoryTransport  # noqa: E402

ME = "me"
ROOT = Path(__file__).resolve().parents[2]
MAP = Path(str(resources.files("configs"))) / "topic_map" / "simulated.yaml"
CAMERA = {"type": "sensor_msgs/msg/Image", "max_age": None}
FORWARD = [1, 0, 0, 0, 0, 0]
PATIENT = {"patience": 60.0}


class Graph(MemoryTransport):
    """On the machine's clock."""

    @property
    def time(self) -> int:  # type: ignore[override]
        return time.time_ns()

    @time.setter
    def time(self, value: int) -> None:
        pass

    def close(self) -> None:
        self.closed = True


class Arm:
    """A Panda behind the simulated robot's topics: it is where the last trajectory told it to be.

    Attributes:
        told: every position that came on the arm's topic, and on the hand's.
        silent: names of what it says no more, of "joints" and the cameras.
    """

    def __init__(self, joints: Sequence[float] = panda.HOME, finger: float = 0.04) -> None:
        self.graph, self.joints, self.finger = Graph(), np.array(joints), finger
        self.told: list[np.ndarray] = []
        self.told_hand: list[float] = []
        self.silent: set[str] = set()
        graph = self.graph
        self._states = graph.publisher("/joint_states", "sensor_msgs/msg/JointState")
        self._cameras = {
            name: graph.publisher(f"/{name}/image_raw", "sensor_msgs/msg/Image") for name in ("front", "wrist")
        }
        kind = "trajectory_msgs/msg/JointTrajectory"
        graph.subscribe("/arm_controller/joint_trajectory", kind, self._hear_arm)
        graph.subscribe("/hand_controller/joint_trajectory", kind, self._hear_hand)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._live, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._ended.set()
        self._thread.join()

    @property
    def tool(self) -> np.ndarray:
        """Position of its tool, m."""
        from robot.kinematics import ArmKinematics

        return ArmKinematics().forward(self.joints)[0]

    def press(self, pressed: bool) -> None:
        """Its emergency stop."""
        make = self.graph.make("std_msgs/msg/Bool", data=pressed)
        self.graph.publisher("/emergency_stop", "std_msgs/msg/Bool").publish(make)

    def _hear_arm(self, message: Any, _: int) -> None:
        self.joints = np.array(message.points[-1].positions)
        self.told.append(self.joints)

    def _hear_hand(self, message: Any, _: int) -> None:
        self.finger = float(message.points[-1].positions[0])
        self.told_hand.append(self.finger)

    def _live(self) -> None:
        make, graph = self.graph.make, self.graph
        pixels = np.full(48 * 64 * 3, 90, np.uint8)
        fields = {"height": 48, "width": 64, "encoding": "rgb8", "step": 192, "data": pixels}
        while not self._ended.wait(0.02):
            now = graph.now()
            stamp = make("builtin_interfaces/msg/Time", sec=now // 10**9, nanosec=now % 10**9)
            header = make("std_msgs/msg/Header", stamp=stamp)
            for name, camera in self._cameras.items():
                if name not in self.silent:
                    camera.publish(make("sensor_msgs/msg/Image", header=header, **fields))
            if "joints" not in self.silent:
                names, positions = [*panda.JOINTS, "finger_left"], np.array([*self.joints, self.finger])
                kind = "sensor_msgs/msg/JointState"
                self._states.publish(make(kind, header=header, name=names, position=positions))


class Pusher:
    """Goes left where it is told so, otherwise right, at 5 cm/s; "wait for ever" makes it do that."""

    def __init__(self, **changes: Any) -> None:
        told: dict[str, Any] = {"cameras": {"front": (48, 64)}, "state_names": ("x", "y", "z")}
        self.spec = PolicySpec(**told | changes, action_space=EE_DELTA, horizon=8)
        self.hanging = threading.Event()

    def reset(self, seed: int) -> None:
        pass

    def act(self, observation: Observation) -> ActionChunk:
        if "wait" in observation.instruction:
            self.hanging.wait(60)
        actions = np.zeros((8, 7), np.float32)
        actions[:, 1] = 0.005 if "left" in observation.instruction else -0.005
        actions[:, 6] = 1.0
        return ActionChunk(actions, observation.time + np.arange(8) / EE_DELTA.rate)

    def act_batch(self, observations: Sequence[Observation]) -> list[ActionChunk]:
        return [self.act(observation) for observation in observations]


@pytest.fixture
def arm(monkeypatch: pytest.MonkeyPatch) -> Iterator[Arm]:
    there = Arm()
    monkeypatch.setattr("robot.ros.graph.join_graph", lambda *_: there.graph)
    yield there
    there.close()


def topic_map(folder: Path, **changes: Any) -> str:
    cameras = {name: {"topic": f"/{name}/image_raw", **CAMERA} for name in ("front", "wrist")}
    path = folder / "map.yaml"
    path.write_text(yaml.safe_dump({**yaml.safe_load(MAP.read_text()), "cameras": cameras, "max_age": 1.0, **changes}))
    return str(path)


@contextmanager
def session(folder: Path, wait: float = 20.0, **settings: Any) -> Iterator[Session]:
    told: dict[str, Any] = {"robot": "ros", "policy": "none", "output": str(folder / "episodes")}
    with open_session(SessionConfig(**told | settings), lambda text: None, wait, Holder(60, 120)) as opened:
        yield opened


def begin(folder: Path, **settings: Any) -> None:
    """A session that ends at once."""
    with session(folder, **settings):
        pass


def until(condition: Callable[[], object], timeout: float = 30.0) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.01)


def drive(running: Session, velocity: Sequence[float], reached: Callable[[], object], opening: Any = None) -> None:
    def again() -> bool:
        if running.loop_state == State.PAUSED:  # the pictures of a busy machine were late
            running.take_over(ME)
        running.drive(ME, velocity, opening)
        time.sleep(0.03)
        return bool(reached())

    until(again)


def test_a_robot_behind_topics_is_corrected_taken_over_and_recorded(arm: Arm, tmp_path: Path) -> None:
    """With the policy of a server, at its address."""
    with (
        served(Pusher()) as server,
        session(tmp_path, policy=f"remote:{server.url}", map=topic_map(tmp_path), **PATIENT) as running,
    ):
        running.take_control(ME, "Ada")
        with pytest.raises(TongsError, match="say what is wanted first"):
            running.start(ME)
        time.sleep(0.2)
        assert not arm.told and not arm.told_hand  # looking, loading and taking control move nothing
        begun = arm.tool
        running.correct(ME, "push it right")
        running.start(ME)
        until(lambda: arm.tool[1] < begun[1] - 0.02)
        running.correct(ME, "push it left")
        until(lambda: arm.tool[1] > begun[1] - 0.01)
        assert running.correct(ME, "stop") == "paused"
        assert running._loop.wait(State.PAUSED, 5.0)
        running.take_over(ME)
        ahead = arm.tool[0] + 0.03
        drive(running, FORWARD, lambda: arm.tool[0] > ahead, opening=0.0)
        until(lambda: arm.finger == 0.0)
        running.hand_back(ME)
        until(lambda: running.loop_state == State.RUNNING)
        left = arm.tool[1]
        until(lambda: arm.tool[1] > left + 0.01)
        assert running.view().success is None and running.stage is None
        running.finish(ME, True).result(60)
        sent = len(arm.told)
        running.reset(ME)
        until(lambda: running.loop_state == State.IDLE)
        time.sleep(0.1)
        settled = len(arm.told)
        time.sleep(0.2)
        assert len(arm.told) == settled >= sent  # after a reset nothing is sent
        with pytest.raises(TongsError, match="no scenes to choose from; reset, and put things up by hand"):
            running.put_up(ME, "open_drawer", "test", 1)
        assert running.instruction == "push it right"  # again, if nothing else is said
    dataset = Dataset(tmp_path / "episodes")
    assert len(dataset.episodes) == 1 and dataset.robot_type == "panda_mujoco"
    assert set(dataset.camera_keys) == {"observation.images.front", "observation.images.wrist"}
    events = dataset.events(0)
    assert [event.text for event in events if event.text] == ["push it left", "stop"]
    names = [name for _, name, _ in called(events)]
    assert names == ["pause", "take_over", "hand_back", "verdict"] and called(events)[-1][2] == {"success": True}
    operated = dataset.columns[INTERVENTION][:, 0]
    assert operated.any() and not operated[0] and not operated[-1]
    moved = dataset.columns["action"][operated, :3].sum(axis=0)
    assert moved[0] > 0.02 and np.abs(moved[1:]).max() < 1e-3
    assert {"push it right", "push it left"} == set(dataset.frame_tasks(0))


def test_the_emergency_stop_works_while_the_policy_hangs(arm: Arm, tmp_path: Path) -> None:
    pusher = Pusher()
    with (
        served(pusher) as server,
        session(tmp_path, policy=f"remote:{server.url}", map=topic_map(tmp_path), **PATIENT) as running,
    ):
        running.take_control(ME, "Ada")
        running.start(ME, "push it left")
        begun = arm.tool
        until(lambda: arm.tool[1] > begun[1] + 0.005)
        running.correct(ME, "push and wait for ever")
        began = time.monotonic()
        running.emergency_stop("Bob")
        assert time.monotonic() - began < 1.0 and running.loop_state == State.EMERGENCY
        time.sleep(0.1)
        stood = len(arm.told)
        time.sleep(0.2)
        assert len(arm.told) == stood
        running.rearm(ME)
        assert running.loop_state == State.IDLE
        pusher.hanging.set()
        arm.press(True)
        until(lambda: running.loop_state == State.EMERGENCY)
        with pytest.raises(TongsError, match="the emergency stop /emergency_stop is pressed; release it first"):
            running.rearm(ME)
        arm.press(False)
        running.rearm(ME)
        arm.silent = {"joints"}
        time.sleep(1.2)  # the map's max_age: nobody knows any more where the joints are
        stood = len(arm.told)
        running.emergency_stop("Bob")
        assert running.loop_state == State.EMERGENCY and len(arm.told) == stood


def test_fingers_that_hold_something_stay_closed_when_a_person_takes_over(arm: Arm, tmp_path: Path) -> None:
    arm.finger = 0.01
    with session(tmp_path, map=topic_map(tmp_path)) as running:
        running.take_control(ME, "Ada")
        until(lambda: running.opening == pytest.approx(0.25, abs=1e-3))
        running.take_over(ME)
        begun = arm.tool
        drive(running, FORWARD, lambda: arm.tool[0] > begun[0] + 0.01)
        assert arm.finger == pytest.approx(0.01, abs=1e-4)
        running.correct(ME, "open gripper")
        until(lambda: arm.finger > 0.039)
        running.discard(ME)


def test_an_episode_is_not_recorded_with_pictures_that_stand_still(arm: Arm, tmp_path: Path) -> None:
    with session(tmp_path, map=topic_map(tmp_path)) as running:
        running.take_control(ME, "Ada")
        running.take_over(ME, "push it")
        begun = arm.tool
        drive(running, FORWARD, lambda: arm.tool[0] > begun[0] + 0.01)
        arm.silent = {"wrist"}
        until(lambda: running.loop_state == State.PAUSED)
        assert "Camera wrist has given no new picture for" in running.view().message
        arm.silent = set()
        running.take_over(ME)
        drive(running, FORWARD, lambda: arm.tool[0] > begun[0] + 0.03)
        assert running.loop_state == State.OPERATOR
        running.finish(ME, False).result(60)
    assert [name for _, name, _ in called(Dataset(tmp_path / "episodes").events(0))] == [
        "take_over",
        "pause",
        "take_over",
        "verdict",
    ]


def test_a_robot_that_falls_silent_is_held(arm: Arm, tmp_path: Path) -> None:
    with session(tmp_path, map=topic_map(tmp_path, max_age=0.3)) as running:
        running.take_control(ME, "Ada")
        running.take_over(ME, "push it")
        begun = arm.tool
        drive(running, FORWARD, lambda: arm.tool[0] > begun[0] + 0.01)
        arm.silent = {"joints"}
        drive(running, FORWARD, lambda: "stale_observation" in running.view().status.faults)
        stood = arm.tool
        drive(running, FORWARD, lambda: running.view().status.observation_age or 0 > 1.0)
        assert np.abs(arm.tool - stood).max() < 0.01
        arm.silent = set()
        drive(running, FORWARD, lambda: arm.tool[0] > stood[0] + 0.02)
        running.discard(ME)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"cameras": {"side": (48, 64)}}, "it needs camera side and the robot has front, wrist"),
        ({"cameras": {"front": (96, 128)}}, "camera front is wanted at 96x128 and the robot gives 48x64"),
        ({"state_names": ("elbow",)}, "it reads state elbow which the robot does not have"),
    ],
)
def test_a_policy_that_does_not_fit_is_refused(arm: Arm, tmp_path: Path, changes: Any, sentence: str) -> None:
    with served(Pusher(**changes)) as server:
        with pytest.raises(ContractError, match=rf"does not fit the robot \(policy here, robot there\): .*{sentence}"):
            begin(tmp_path, policy=f"remote:{server.url}", map=topic_map(tmp_path))
        with session(tmp_path, map=topic_map(tmp_path)) as running:
            running.take_control(ME, "Ada")
            with pytest.raises(ContractError, match=sentence):
                running.use(ME, f"remote:{server.url}")
            assert running.view().policy == ""
    assert not arm.told and not arm.told_hand and not (tmp_path / "episodes").exists()


def test_a_robot_that_is_not_there_is_one_sentence(arm: Arm, tmp_path: Path) -> None:
    arm.silent = {"front"}
    time.sleep(0.1)
    with pytest.raises(TongsError, match="the robot is not there after 0.3 s: /front/image_raw has said nothing yet"):
        begin(tmp_path, wait=0.3, map=topic_map(tmp_path))
    assert arm.graph.closed and not arm.told


def arm_file(folder: Path, joints: Sequence[str] = template.JOINTS) -> dict[str, Any]:
    """The adapter template's arm, and limits for some of its joints."""
    (folder / "my_arm.yaml").write_text("driver: robot.adapters.template:make\nsettings: {rate: 50}")
    limits = {"joints": {name: {"range": [-1.0, 1.0], "speed": 0.4} for name in joints}}
    (folder / "limits.yaml").write_text(yaml.safe_dump(limits))
    return {"robot": "arm", "arm": str(folder / "my_arm.yaml"), "limits": str(folder / "limits.yaml")}


def test_an_arm_of_this_process_is_driven_joint_by_joint_and_recorded(tmp_path: Path) -> None:
    with session(tmp_path, **arm_file(tmp_path)) as running:
        running.take_control(ME, "Ada")
        with pytest.raises(TongsError, match="no policy is loaded"):
            running.start(ME)
        with pytest.raises(TongsError, match="take over before driving"):
            running.drive(ME, [0, 1, 0, 0, 0, 0])
        assert running.drive_keys[:2] == (("A D", "base"), ("W S", "shoulder"))
        running.take_over(ME, "wave")
        drive(running, [0, 1, 0, 0, 0, 0], lambda: running.state()["base"] > 0.3)
        running.drive(ME, [0.0] * 6)
        with pytest.raises(TongsError, match="of motions it takes those of the gripper alone"):
            running.correct(ME, "move left")
        running.correct(ME, "close gripper")
        until(lambda: running.state()["gripper"] < 0.01)
        drive(running, [0, 1, 0, 0, 0, 0], lambda: running.state()["base"] > 0.99)  # the limits file's range
        drive(running, [-1, 0, 0, 0, 0, 0], lambda: running.state()["shoulder"] < -0.2)
        assert running.state()["base"] <= 1.0 + 1e-6
        running.finish(ME, True).result(60)
    dataset = Dataset(tmp_path / "episodes")
    assert dataset.robot_type == "my_arm" and set(dataset.frame_tasks(0)) == {"wave"}
    actions, states = dataset.columns["action"], dataset.columns["observation.state"]
    assert np.abs(np.diff(actions[:, :4], axis=0)).max() <= 0.04 + 1e-5  # 0.4 rad/s at 10 Hz
    assert np.abs(actions[:-1, :4] - states[1:, :4]).max() < 0.03 and dataset.columns[INTERVENTION].all()
    assert actions[-1, 0] == pytest.approx(1.0, abs=1e-3) and actions[-1, 1] < -0.15


def test_an_arm_without_limits_or_of_another_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match="joint elbow of .*my_arm.yaml has no limits; known are base, shoulder"):
        begin(tmp_path, **arm_file(tmp_path, ("base", "shoulder")))
    with pytest.raises(TongsError, match="which arm"):
        SessionConfig("arm", "none", None)
    with pytest.raises(TongsError, match="'expert' with robot=arm is none of them"):
        begin(tmp_path, policy="expert", **arm_file(tmp_path))
    with pytest.raises(TongsError, match="servo means nothing to robot=arm; it is for robot=ros"):
        require_meant("arm", ["policy", "servo"])


@pytest.mark.slow
def test_the_simulated_robot_of_another_process_is_driven_over_dds(tmp_path: Path) -> None:
    """With the expert, who knows where the drawer is: corrected, taken over, handed back and stopped on the way."""
    pytest.importorskip("cyclonedds")
    domain, log = new_domain(), tmp_path / "robot.log"
    command = [sys.executable, str(ROOT / "tongs.py"), "ros", "node=robot", "task=open_drawer", f"domain={domain}"]
    with log.open("wb") as file:
        robot = subprocess.Popen([*command, "local=true"], cwd=ROOT, stdout=file, stderr=subprocess.STDOUT)
    # a machine that is busy is late with everything
    content = {**yaml.safe_load(MAP.read_text()), "max_age": 60.0}
    (tmp_path / "map.yaml").write_text(yaml.safe_dump(content))
    settings = {"map": str(tmp_path / "map.yaml"), "domain": domain, "local": True, "execution": "synchronous"}
    try:
        with session(tmp_path, 300.0, policy="expert", execute=1, patience=120.0, **settings) as running:
            running.take_control(ME, "Ada")
            assert running.robot.spec.cameras == {"front": (128, 128), "wrist": (128, 128)}
            begun = place(running)
            assert np.abs(place(running) - begun).max() < 1e-4
            running.correct(ME, "open the drawer")
            running.start(ME)
            going_on(running, lambda: np.linalg.norm(place(running) - begun) > 0.03, lambda: running.start(ME))
            assert running.correct(ME, "move up") == "motion: move arm up"
            going_on(running, lambda: running.loop_state == State.RUNNING, lambda: running.start(ME))
            running.take_over(ME)
            ahead = place(running)[0] + 0.02

            def push() -> bool:
                if running.loop_state == State.OPERATOR:
                    running.drive(ME, FORWARD)
                return bool(place(running)[0] > ahead)

            going_on(running, push, lambda: running.take_over(ME))
            running.hand_back(ME)
            going_on(running, lambda: running.view().status.latency_p50 is not None, lambda: running.start(ME))
            running.emergency_stop("Bob")
            rested = running.state()
            time.sleep(1.0)
            stood = place(running)
            time.sleep(1.0)
            assert np.abs(place(running) - stood).max() < 2e-3, (rested, running.state())
            running.rearm(ME)
            assert running.finish(ME, False).result(120).startswith("episode 0")
        assert robot.poll() is None, log.read_text()
    finally:
        robot.kill()
        robot.wait()
    dataset = Dataset(tmp_path / "episodes")
    names = [name for _, name, _ in called(dataset.events(0)) if name not in ("pause", "resume")]
    assert names[0] == "take_over" and "hand_back" in names and names[-2:] == ["emergency_stop", "verdict"]
    assert [event.text for event in dataset.events(0) if event.text] == ["move arm up"]
    operated = dataset.columns[INTERVENTION][:, 0]
    assert operated.any() and not operated[0]
    assert dataset.columns["action"][operated, 0].sum() > 0.015
    assert set(dataset.frame_tasks(0)) == {"open the drawer"}


def place(running: Session) -> np.ndarray:
    """Of the tool, m."""
    return np.array([running.state()[name] for name in "xyz"])


def going_on(running: Session, reached: Callable[[], object], again: Callable[[], None]) -> None:
    """Until it has come to that; an arm that held because the cameras of a busy machine were late is sent on."""

    def look() -> object:
        if running.loop_state == State.PAUSED and "no new picture" in running.view().status.reason:
            again()
        time.sleep(0.02)
        return reached()

    until(look, 600.0)
