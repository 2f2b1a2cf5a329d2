"""A session without any page: who controls, what is said and driven, what goes wrong, and what is recorded of it."""

import io
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from data.reader import Dataset
from data.recorder import INTERVENTION, SessionRecorder, called
from robot import panda
from robot.control.settings import Execution, Settings
from robot.control.status import State
from robot.errors import TongsError
from robot.interface import EE_DELTA, ActionChunk, PolicySpec
from robot.session.holder import Holder
from robot.session.session import Session
from tests.robot.control.arms import START, ToolArm

ME, OTHER = "me", "other"
CAMERAS = {"front": (16, 16)}


class Listener:
    """Goes left where it is told so, otherwise right, at 5 cm/s; "crash" makes it raise."""

    spec = PolicySpec({}, (), EE_DELTA, horizon=8)

    def reset(self, seed):
        pass

    def act(self, observation):
        if "crash" in observation.instruction:
            raise ValueError("no such thing")
        actions = np.zeros((8, 7), np.float32)
        actions[:, 1] = 0.005 if "left" in observation.instruction else -0.005
        actions[:, 6] = 1.0
        return ActionChunk(actions, observation.time + 0.1 * np.arange(8))

    def act_batch(self, observations):
        return [self.act(observation) for observation in observations]


def session(folder=None, policy: object = None, **settings) -> Session:
    recorder = SessionRecorder(folder, "test arm") if folder else None
    chosen = Listener() if policy is None else policy
    made = Session(
        ToolArm(cameras=CAMERAS),
        panda.LIMITS,
        chosen or None,  # type: ignore[arg-type]
        recorder=recorder,
        settings=Settings(Execution("asynchronous", 4)),
        **({"holder": Holder(60, 120)} | settings),  # most tests give no signs of life
    )
    return made


def until(condition, timeout: float = 8.0) -> bool:
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def state(running: Session) -> State:
    return running.view().status.state


def drive(running: Session, velocity, seconds: float, opening=None) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        running.drive(ME, velocity, opening)
        time.sleep(0.05)


def test_an_episode_with_a_correction_a_motion_and_a_take_over_is_read_back(tmp_path):
    with session(tmp_path / "episodes") as running:
        arm = running.robot
        running.take_control(ME, "Ada")
        running.start(ME, "go right")
        assert until(lambda: arm.position[1] < START[1] - 0.01)
        running.correct(ME, "go left")
        assert until(lambda: arm.position[1] > START[1] - 0.005)
        assert running.correct(ME, "move up") == "motion: move arm up"
        assert until(lambda: arm.position[2] > START[2] + 0.05) and until(lambda: state(running) == State.RUNNING)
        running.take_over(ME)
        drive(running, [1, 0, 0, 0, 0, 0], 0.6, opening=0.0)
        assert arm.position[0] > START[0] + 0.03 and arm.gripper == 0.0
        running.hand_back(ME)
        assert until(lambda: state(running) == State.RUNNING)
        time.sleep(0.3)
        assert running.finish(ME, True).result(60).startswith("episode 0")
        assert state(running) == State.STOPPED and running.view().saved == 1
    dataset = Dataset(tmp_path / "episodes")
    assert len(dataset.episodes) == 1
    events = dataset.events(0)
    assert [(e.style, e.role, e.text) for e in events if e.text] == [
        ("interjection", "user", "go left"),
        ("motion", "user", "move arm up"),
    ]
    assert [name for _, name, _ in called(events)] == ["take_over", "hand_back", "verdict"]
    assert called(events)[-1][2] == {"success": True}
    tasks = dataset.frame_tasks(0)
    heard = round(events[0].time * dataset.fps)
    assert set(tasks[:heard]) == {"go right"} and tasks[heard + 1 :] == ["go left"] * (len(tasks) - heard - 1)
    columns = dataset.columns
    taken, back = (round(time * dataset.fps) for time, _, _ in called(events)[:2])
    operated = columns[INTERVENTION][:, 0]
    assert operated[taken + 1 : back].all() and not operated[:heard].any() and not operated[-1]
    moved = columns["action"][:, :3].cumsum(axis=0)
    seen = columns["observation.state"][:, :3] - columns["observation.state"][0, :3]
    assert (
        np.abs(moved[:-1] - seen[1:]).max() < 0.016
    )  # actions add up to what the arm did, up to a period begun by another


def test_one_holds_the_control_and_the_emergency_stop_is_for_all():
    with session() as running:
        with pytest.raises(TongsError, match="nobody holds"):
            running.start(ME)
        running.take_control(ME, "Ada")
        with pytest.raises(TongsError, match="Ada holds the control"):
            running.take_control(OTHER, "Bob")
        with pytest.raises(TongsError, match="Ada holds the control"):
            running.correct(OTHER, "go left")
        running.start(ME, "go left")
        running.emergency_stop("Bob")
        assert state(running) == State.EMERGENCY and running.robot.stops >= 1
        sent = len(running.robot.commands)
        time.sleep(0.1)
        assert len(running.robot.commands) <= sent + 1
        with pytest.raises(TongsError, match="re-arm"):
            running.start(ME)
        with pytest.raises(TongsError, match="Ada holds"):
            running.rearm(OTHER)
        running.rearm(ME)
        running.release_control(ME)
        running.take_control(OTHER, "Bob")
        assert running.view().holder == "Bob"


def test_a_lost_connection_holds_and_then_stops_and_saves(tmp_path):
    with session(tmp_path / "lost", holder=Holder(0.3, 1.0)) as running:
        running.take_control(ME, "Ada")
        running.start(ME, "go left")
        for _ in range(6):
            time.sleep(0.1)
            running.alive(ME)
        assert state(running) == State.RUNNING
        assert until(lambda: state(running) == State.PAUSED, 1.0)
        assert until(lambda: running.view().saved == 1)
        assert state(running) == State.STOPPED and running.view().holder == ""
        assert "Connection lost" in running.view().message
    names = [name for _, name, _ in called(Dataset(tmp_path / "lost").events(0))]
    assert names == ["pause"]


def test_a_policy_that_raises_stops_the_arm_and_the_episode_is_saved(tmp_path):
    with session(tmp_path / "raised") as running:
        running.take_control(ME, "Ada")
        running.start(ME, "go left")
        assert until(lambda: running.view().frames > 3)
        running.correct(ME, "crash now")
        assert until(lambda: state(running) == State.STOPPED) and until(lambda: running.view().saved == 1)
        assert "no such thing" in running.view().message
        running.alive(ME)
        running.take_over(ME)  # a person can drive all the same
        before = running.robot.position[0]
        drive(running, [1, 0, 0, 0, 0, 0], 0.4)
        assert running.robot.position[0] > before + 0.02
        running.discard(ME)
    dataset = Dataset(tmp_path / "raised")
    assert [name for _, name, _ in called(dataset.events(0))] == ["fault"]


class Hanging(Listener):
    def act(self, observation):
        time.sleep(60)


def test_the_emergency_stop_works_while_the_policy_hangs():
    with session(policy=Hanging()) as running:
        running.take_control(ME, "Ada")
        running.start(ME, "go left")
        time.sleep(0.1)
        began = time.monotonic()
        running.emergency_stop("Ada")
        assert running.robot.stops >= 1 and time.monotonic() - began < 0.1


@pytest.mark.parametrize(
    ("said", "answer"),
    [
        ("  ", "correction is empty"),
        ("move lefft", "unknown motion 'move lefft'; the nearest known are: move arm left"),
        ("grasp", "unknown command 'grasp'; the nearest known are: go right"),
    ],
)
def test_what_is_not_understood_moves_nothing(said, answer):
    with session(commands=("go left", "go right")) as running:
        running.take_control(ME, "Ada")
        with pytest.raises(TongsError, match=answer):
            running.correct(ME, said)
        with pytest.raises(TongsError, match="start an episode"):
            running.correct(ME, "move left")
        time.sleep(0.05)
        assert not running.robot.commands and state(running) == State.IDLE


def test_a_stop_word_pauses_a_step_is_one_action_and_resuming_goes_on():
    with session() as running:
        running.take_control(ME, "Ada")
        running.start(ME, "go left")
        assert until(lambda: running.robot.position[1] > START[1] + 0.01)
        assert running.correct(ME, "Stop!") == "paused"
        assert until(lambda: running._loop.wait(State.PAUSED, 0.1))
        held = running.robot.told[1]
        running.step(ME)
        assert until(lambda: state(running) == State.PAUSED and running.robot.told[1] > held)
        assert running._loop.wait(State.PAUSED, 2.0)
        assert 0.003 < running.robot.told[1] - held < 0.012  # one action of 5 mm, and coming to rest
        running.start(ME)
        assert state(running) == State.RUNNING
        running.discard(ME)


def test_without_a_policy_a_person_demonstrates(tmp_path):
    with session(tmp_path / "by_hand", policy=False) as running:
        running.take_control(ME, "Ada")
        with pytest.raises(TongsError, match="no policy is loaded"):
            running.start(ME)
        running.take_over(ME, "go forward")
        drive(running, [1, 0, 0, 0, 0, 0], 0.5)
        running.finish(ME, False).result(60)
    dataset = Dataset(tmp_path / "by_hand")
    assert set(dataset.frame_tasks(0)) == {"go forward"} and dataset.columns[INTERVENTION].all()
    assert called(dataset.events(0))[-1][1:] == ("verdict", {"success": False})


def test_a_said_motion_is_seen_at_the_next_control_step():
    with session() as running:
        running.take_control(ME, "Ada")
        running.start(ME, "go left")
        assert until(lambda: running.robot.position[1] > START[1] + 0.005)
        height, began = running.robot.told[2], time.monotonic()
        running.correct(ME, "move up")
        assert until(lambda: running.robot.told[2] > height, 1.0)
        assert time.monotonic() - began < 0.15
        running.discard(ME)


class Steered(Listener):
    """Takes motions: goes up where it is told to, and otherwise right, as it chooses itself."""

    spec = PolicySpec({}, (), EE_DELTA, horizon=8, goals=("language", "motion"))

    def act(self, observation):
        up = observation.motion == "move arm up"
        actions = np.zeros((8, 7), np.float32)
        actions[:, 2 if up else 1] = 0.005 if up else -0.005
        actions[:, 6] = 1.0
        times = observation.time + 0.1 * np.arange(8)
        source = "human" if observation.motion else "model"
        return ActionChunk(actions, times, motion=observation.motion or "move arm right", motion_source=source)


def test_a_policy_that_takes_motions_carries_one_out_until_it_is_released(tmp_path):
    with session(tmp_path / "steered", policy=Steered()) as running:
        arm = running.robot
        running.take_control(ME, "Ada")
        running.start(ME, "go right")
        assert until(lambda: arm.position[1] < START[1] - 0.01)
        assert until(lambda: running.view().status.motion == "move arm right")
        assert running.view().status.motion_source == "model"
        assert running.correct(ME, "move up") == "motion: move arm up"
        assert until(lambda: arm.position[2] > START[2] + 0.03)
        assert state(running) == State.RUNNING  # the policy moves it, and nobody has taken over
        status = running.view().status
        assert (status.motion, status.motion_source) == ("move arm up", "human")
        with pytest.raises(TongsError, match="unknown motion 'move upp'; the nearest known are: move arm up"):
            running.correct(ME, "move upp")
        assert running.correct(ME, "go on") == "released"
        sideways = arm.position[1]
        assert until(lambda: arm.position[1] < sideways - 0.01)
        with pytest.raises(TongsError, match="nothing to release"):
            running.correct(ME, "go on")
        running.finish(ME, True).result(60)
    dataset = Dataset(tmp_path / "steered")
    said = [(event.text, event.role) for event in dataset.events(0) if event.style == "motion"]
    assert said == [("move arm right", "assistant"), ("move arm up", "user"), ("move arm right", "assistant")]
    assert [name for _, name, _ in called(dataset.events(0))] == ["hand_back", "verdict"]
    assert not dataset.columns[INTERVENTION].any()


class Obedient(Listener):
    """Says itself what to do, one command at a time."""

    spec = PolicySpec({}, (), EE_DELTA, horizon=8, commands=("go left", "open the drawer"), command_time=1.0)


def test_a_policy_of_two_levels_is_told_its_task_again_after_a_correction(tmp_path):
    with session(tmp_path / "episodes", Obedient()) as running:
        running.take_control(ME, "Ada")
        running.start(ME, "open and close the drawer")
        assert running.suggestions() == ["open the drawer", "go left"]  # what the task speaks of comes first
        for said, answer in (
            ("dance wildly", "unknown command 'dance wildly'; the nearest known are: .*go left"),
            ("  ", "is empty"),
        ):
            with pytest.raises(TongsError, match=answer):
                running.correct(ME, said)
        assert until(lambda: running.robot.position[1] < START[1] - 0.005)  # to the right, as by itself
        assert running.instruction == "open and close the drawer"
        for _ in range(2):  # the same may be said again
            there = running.robot.position[1]
            running.correct(ME, "go left")
            assert until(lambda there=there: running.instruction == "go left" and running.robot.position[1] > there)
            assert until(lambda: running.instruction == "open and close the drawer")
        recorded = running.view().frames
        assert until(lambda: running.view().frames > recorded + 2)
        running.finish(ME, True).result(60)
    dataset = Dataset(tmp_path / "episodes")
    said = [event for event in dataset.events(0) if event.style == "interjection"]
    assert [event.text for event in said] == ["go left", "go left"]
    tasks = dataset.frame_tasks(0)
    assert tasks[0] == tasks[-1] == "open and close the drawer" and "go left" in tasks


def test_the_last_episode_can_be_looked_at_recorded_or_not(tmp_path):
    with session(tmp_path / "episodes") as running:
        running.take_control(ME, "Ada")
        assert running.replay() is None
        running.record(ME, False)
        running.start(ME, "go right")
        assert until(lambda: running.view().frames > 4)
        running.correct(ME, "go left")
        first = running.replay()
        assert first is not None and first.number == 1
        running.discard(ME)
        assert running.replay() is first and not running.view().saved  # forgotten by the recorder, not by the page
        running.record(ME, True)
        running.start(ME, "go right")
        assert until(lambda: running.view().frames > 4)
        running.correct(ME, "go left")
        seen = running.view().frames
        assert until(lambda: running.view().frames > seen + 4)
        running.finish(ME, True).result(60)
        replay = running.replay()
    assert replay is not None and replay.number == 2
    dataset = Dataset(tmp_path / "episodes")
    assert len(replay.moments) == replay.frames == dataset.episodes[0].length
    assert np.array([moment.state for moment in replay.moments]) == pytest.approx(dataset.columns["observation.state"])
    assert np.array([moment.action for moment in replay.moments]) == pytest.approx(dataset.columns["action"])
    assert [moment.instruction for moment in replay.moments] == dataset.frame_tasks(0)
    (said,) = [one for one in replay.happenings if one.kind == "correction"]
    assert said.time == pytest.approx(dataset.events(0)[0].time)
    with Image.open(io.BytesIO(replay.moments[3].pictures["front"])) as picture:
        assert picture.size == CAMERAS["front"]


class Slow:
    """A stage that takes its time, and whose every scene begins with the arm somewhere else."""

    tasks, splits, scene = ("open_drawer",), ("test",), {}
    robot: ToolArm

    def __init__(self):
        self.putting = threading.Event()

    def put(self, task, split, index):
        self.putting.set()
        time.sleep(0.5)
        self.robot.position = self.robot.told = START + [0.1, 0.0, -0.1]

    def suggestions(self):
        return []

    def success(self):
        return None

    def pictures(self):
        return {}


def test_what_begins_while_a_scene_is_put_up_waits_until_it_is_seen():
    stage = Slow()
    with session(stage=stage) as running:
        stage.robot = running.robot
        running.take_control(ME, "Ada")
        with ThreadPoolExecutor() as person:
            up = person.submit(running.put_up, ME, "open_drawer", "test", 0)
            assert stage.putting.wait(8)
            running.start(ME, "go left")
            up.result()
        assert until(lambda: len(running.robot.commands) > 20)
        assert running.view().status.state == State.RUNNING, running.view().status.reason
        assert running.robot.positions[0] == pytest.approx(START + [0.1, 0.0, -0.1], abs=0.01)


def test_whoever_is_gone_for_good_leaves_a_saved_episode_and_the_control(tmp_path):
    with session(tmp_path / "left") as running:
        running.take_control(ME, "Ada")
        running.start(ME, "go left")
        assert until(lambda: running.view().frames > 3)
        running.leave(OTHER)  # who has no control changes nothing by going
        assert state(running) == State.RUNNING and running.view().holder == "Ada"
        running.leave(ME)
        assert until(lambda: running.view().saved == 1, 60.0)
        assert state(running) == State.STOPPED and running.view().holder == ""
    assert called(Dataset(tmp_path / "left").events(0)) == []  # without a verdict


def test_a_session_that_ends_within_an_episode_saves_it_or_says_that_it_could_not(tmp_path, monkeypatch):
    def begin(running):
        running.take_control(ME, "Ada")
        running.start(ME, "go left")
        assert until(lambda: running.view().frames > 3)

    with session(tmp_path / "episodes") as running:
        begin(running)
    assert len(Dataset(tmp_path / "episodes").episodes) == 1

    def full(recorder, success):
        raise OSError("no space left on device")

    monkeypatch.setattr(SessionRecorder, "save", full)
    with pytest.raises(TongsError, match="Not saved: no space left on device"), session(tmp_path / "full") as running:
        begin(running)
    assert not running._recording_thread.is_alive()
