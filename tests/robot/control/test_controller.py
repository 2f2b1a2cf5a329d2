"""The control loop without clock: chunks, latency, faults and people, in simulated time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from robot import panda
from robot.control.controller import Controller
from robot.control.inference import SimulatedInference
from robot.control.settings import Behaviours, Execution, Patience, Settings
from robot.control.status import State
from robot.errors import ContractError, TongsError
from robot.interface import ActionChunk, Continuation, Observation
from tests.robot.control.arms import Line, ToolArm

CAMERAS = {"front": (16, 16)}


class Continuing(Line):
    """Goes on from the chunk before, and keeps what it was given."""

    def __init__(self, **settings) -> None:
        super().__init__(**settings)
        self.given: list[Continuation] = []

    def continue_chunk(self, observation: Observation, previous: Continuation) -> ActionChunk:
        self.given.append(previous)
        return self.act(observation)


class Stage:
    """A controller, a policy and an arm that is where it was told to be, in simulated time."""

    def __init__(
        self,
        policy: Line | None = None,
        mode="synchronous",
        latency: float = 0.0,
        jitter: float = 0.0,
        rate: float = 10.0,
        execute: int = 4,
        cameras: dict | None = None,
        start: bool = True,
        **settings,
    ) -> None:
        self.arm = ToolArm(rate, cameras)
        self.policy = policy or Line(cameras=cameras)
        self.controller = Controller(
            self.arm.spec,
            self.policy.spec,
            SimulatedInference(self.policy, latency, jitter, seed=0),
            panda.LIMITS,
            1 / rate,
            Settings(Execution(mode, execute), **settings),
            continues=hasattr(self.policy, "continue_chunk"),
        )
        self.steps, self.period = 0, 1 / rate
        self.frozen = self.blind = False
        self._last: Observation | None = None
        self.controller.tick(0.0, self.observe())
        if start:
            self.controller.start(0.0)

    @property
    def now(self) -> float:
        return self.steps * self.period

    @property
    def x(self) -> float:
        return float(self.arm.position[0])

    def observe(self) -> Observation:
        if not self.frozen or self._last is None:
            images = {} if self.blind else self.arm.observe().images
            self._last = replace(self.arm.observe(), time=self.now, images=images)
        return self._last

    def run(self, seconds: float) -> list[float]:
        """Steps along x, one per period; a period without a command is none."""
        steps = []
        for _ in range(round(seconds / self.period)):
            self.controller.begin(self.now)
            filtered = self.controller.tick(self.now, self.observe())
            before = self.x
            if filtered is not None:
                self.arm.command(filtered.action)
            self.steps += 1
            steps.append(self.x - before)
        return steps

    def kinds(self) -> dict[str, int]:
        return dict(self.controller.log.counts)


def test_without_latency_chunks_follow_each_other_without_a_gap():
    for mode in ("synchronous", "asynchronous", "ensemble"):
        stage = Stage(mode=mode)
        assert stage.run(3.0) == pytest.approx([0.01] * 30, abs=1e-7), mode
        assert stage.policy.seeds == [0]
    assert len(Stage(mode="synchronous").policy.asked) == 0
    stage = Stage(mode="synchronous")
    stage.run(2.0)
    assert len(stage.policy.asked) == 5


def test_synchronous_execution_stands_still_while_the_policy_thinks():
    stage = Stage(mode="synchronous", latency=0.2)
    moved = np.array(stage.run(3.0)) > 1e-4
    assert moved.tolist() == [*[False] * 2, *([True] * 4 + [False] * 2) * 5][:30]


def test_asynchronous_execution_drops_what_is_late_and_goes_on():
    stage = Stage(mode="asynchronous", latency=0.2)
    moved = np.array(stage.run(3.0)) > 1e-4
    assert not moved[:2].any() and moved[2:].all()
    assert "starved" not in stage.kinds()
    stage = Stage(Line(horizon=3), mode="asynchronous", latency=0.2)
    stage.run(3.0)
    assert stage.kinds()["starved"] > 3


def test_an_action_is_carried_out_at_its_time_however_late_it_is_known():
    class Clock(Line):
        def act(self, observation):
            chunk = super().act(observation)
            chunk.actions[:, 0] = 1e-3 * chunk.times  # says when it is to be carried out
            return chunk

    stage = Stage(Clock(), mode="asynchronous", latency=0.23)
    steps = np.array(stage.run(4.0))
    late = 3  # periods before the first chunk, which then begins anew: nothing was done meanwhile
    first_known = 0.1 * np.arange(late, 40)
    taken_over = 1e3 * steps[late:]
    assert taken_over[:late] == pytest.approx(0.1 * np.arange(late), abs=1e-3)
    assert taken_over[8:] == pytest.approx(first_known[8:], abs=1e-3)


def test_real_time_chunking_is_told_what_will_have_been_executed():
    policy = Continuing(horizon=8)
    stage = Stage(policy, mode="rtc", latency=0.2)
    stage.run(3.0)
    assert len(policy.given) >= 5
    for previous in policy.given:
        assert previous.frozen == 2  # the measured latency, in actions
        assert 2 <= len(previous.actions) < 8
        assert previous.actions[:, 0] == pytest.approx(0.01)
    with pytest.raises(ContractError, match="execution=rtc needs a policy"):
        Stage(Line(), mode="rtc")


def test_what_is_frozen_counts_from_the_observation_however_old_it_is():
    class Late(Stage):
        def observe(self):
            return replace(super().observe(), time=self.now - 0.1)

    class Numbered(Continuing):
        def act(self, observation):
            chunk = super().act(observation)
            chunk.actions[:, 0] = 1e-3 * chunk.times
            return chunk

    policy = Numbered(horizon=10)
    stage = Late(policy, mode="rtc", latency=0.2, rate=50.0, patience=Patience(observation=1.0))
    stage.run(3.0)
    assert len(policy.given) >= 4
    for previous, asked in zip(policy.given[1:], policy.asked[2:], strict=True):
        assert previous.frozen == 3  # 0.1 s that the observation is old, and 0.2 s until the answer
        times = asked.time + 0.1 * np.arange(len(previous.actions))
        assert previous.actions[1:, 0] == pytest.approx(1e-3 * times[1:], abs=1.1e-4)


def test_frozen_actions_are_those_that_are_executed_meanwhile():
    class Numbered(Continuing):
        """Every action of every chunk is another one."""

        def act(self, observation):
            chunk = super().act(observation)
            chunk.actions[:, 0] = 1e-3 * len(self.asked) + 1e-4 * np.arange(self.spec.horizon)
            return chunk

    policy = Numbered(horizon=8)
    stage = Stage(policy, mode="rtc", latency=0.3)
    steps = np.array(stage.run(3.0))
    for previous, asked in zip(policy.given, policy.asked[1:], strict=True):
        begin = round(asked.time * 10)
        executed = steps[begin : begin + previous.frozen]
        assert previous.actions[: len(executed), 0] == pytest.approx(executed, abs=1e-6)


def test_jitter_is_repeatable():
    runs = [Stage(mode="asynchronous", latency=0.2, jitter=0.1).run(5.0) for _ in range(2)]
    assert runs[0] == runs[1]
    assert runs[0] != Stage(mode="asynchronous", latency=0.2).run(5.0)


def test_the_end_of_what_is_known_is_reached_at_rest_along_the_path():
    class Diagonal(Line):
        def act(self, observation):
            chunk = super().act(observation)
            chunk.actions[:, :3] = [0.01, 0.005, -0.002]
            if len(self.asked) > 1:
                raise RuntimeError("broken")
            return chunk

    stage = Stage(Diagonal(horizon=6), mode="asynchronous", rate=100.0, latency=0.05)
    stage.run(2.0)
    ways = np.diff(np.array(stage.arm.positions), axis=0)
    speeds = np.linalg.norm(ways, axis=1)
    moving = ways[speeds > 1e-6]
    assert moving / np.linalg.norm(moving, axis=1)[:, None] @ [0.8804, 0.4402, -0.1761] == pytest.approx(1, abs=0.01)
    last = int(np.nonzero(speeds > 1e-6)[0][-1])
    assert np.abs(np.diff(speeds[:last])).max() < 0.1 * speeds.max() + panda.LIMITS.translation.acceleration * 1e-4
    assert speeds[last] < 0.3 * speeds.max()  # slowed down, not stopped dead
    assert stage.controller.status().reason.startswith("the policy failed: RuntimeError: broken")
    assert stage.kinds()["policy_dead"] == 1


def test_another_instruction_drops_the_old_chunk_at_once():
    stage = Stage(Line(horizon=30), mode="synchronous", latency=0.3, execute=30)
    stage.run(1.0)
    stage.controller.instruct(stage.now, "close it")
    moved = np.array(stage.run(1.0)) > 1e-4
    assert moved.tolist() == [False] * 3 + [True] * 7
    assert [seen.instruction for seen in stage.policy.asked] == ["open it", "close it"]
    assert "dropped: another instruction" in [event.text for event in stage.controller.log.after(0)]


def test_a_fast_policy_follows_another_instruction_in_the_next_period():
    stage = Stage(Line(horizon=30), mode="asynchronous", latency=0.05)
    stage.run(1.0)
    told = stage.now - 0.5 * stage.period
    stage.controller.instruct(told, "close it")
    moved = np.array(stage.run(1.0)) > 1e-4
    assert moved.tolist() == [True] * 10
    assert next(seen for seen in stage.policy.asked if seen.instruction == "close it").time <= told


def test_an_answer_to_the_old_instruction_is_dropped():
    stage = Stage(Line(horizon=30), mode="asynchronous", latency=0.5)
    stage.run(0.3)
    stage.controller.instruct(stage.now, "close it")
    moved = np.array(stage.run(1.2)) > 1e-4
    assert moved.tolist() == [False] * 7 + [True] * 5  # at 0.5 s the old one is dropped and the new one asked for
    assert [seen.instruction for seen in stage.policy.asked[:2]] == ["open it", "close it"]


def test_a_stale_observation_holds_until_there_is_a_new_one():
    stage = Stage(Line(horizon=60), mode="asynchronous", rate=100.0)
    stage.run(1.0)
    stage.frozen = True
    stage.run(0.6)
    status = stage.controller.status()
    assert status.faults == ("stale_observation",) and "is 0." in status.reason
    assert stage.run(0.2) == pytest.approx([0.0] * 20)
    asked = len(stage.policy.asked)
    stage.frozen = False
    assert sum(stage.run(0.5)) > 0.02
    assert len(stage.policy.asked) > asked and stage.controller.status().faults == ()
    assert stage.kinds()["stale_observation"] == 1


def test_a_lost_camera_slows_down_and_then_holds():
    stage = Stage(Line(horizon=20, cameras=CAMERAS), mode="asynchronous", rate=50.0, cameras=CAMERAS)
    stage.run(1.0)
    stage.blind = True
    steps = np.array(stage.run(4.0)) * 50
    assert steps[30:60] == pytest.approx([0.025] * 30, abs=1e-3)  # a quarter of 0.1 m/s
    assert stage.controller.status().faults == ("camera_lost",)
    stage.run(6.0)
    assert stage.run(0.2) == pytest.approx([0.0] * 10)
    stage.blind = False
    assert sum(stage.run(0.5)) > 0.02


def test_a_policy_that_hangs_is_held_and_its_late_answer_used_no_more():
    stage = Stage(Line(horizon=6), mode="asynchronous", latency=5.0)
    stage.run(4.0)
    assert stage.controller.status().faults == ("policy_dead",)
    assert stage.x == pytest.approx(0.45)


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda chunk: ActionChunk(chunk.actions[:, :6], chunk.times), "actions of 6 numbers, the robot takes 7"),
        (lambda chunk: ActionChunk(chunk.actions, chunk.times + 9), "was given for an observation of"),
        (lambda chunk: ActionChunk(chunk.actions, chunk.times * 2), "must be 0.1 s apart"),
        (lambda chunk: ActionChunk(np.full_like(chunk.actions, np.nan), chunk.times), "NaN or infinity"),
    ],
)
def test_a_chunk_that_makes_no_sense_never_moves_the_arm(spoil, sentence):
    class Spoilt(Line):
        def act(self, observation):
            return spoil(super().act(observation))

    stage = Stage(start=False, rate=100.0)
    stage.policy = Spoilt()

    stage.controller.use(stage.policy.spec, SimulatedInference(stage.policy, 0.0, 0.0, 0))
    stage.controller.start(stage.now)
    stage.run(1.0)
    assert stage.x == pytest.approx(0.45)
    assert sentence in stage.controller.status().reason
    assert "policy_dead" in stage.controller.status().faults


def test_a_person_takes_over_drives_and_hands_back():
    stage = Stage(Line(horizon=30), mode="asynchronous", rate=50.0, execute=20)
    stage.run(1.0)
    stage.controller.take_over(stage.now)
    stage.run(0.5)
    assert stage.run(0.1) == pytest.approx([0.0] * 5)
    for _ in range(5):
        stage.controller.operate(stage.now, np.array([-0.02, 0, 0, 0, 0, 0, 0.3]))
        stage.run(0.1)
    assert stage.run(0.02)[0] == pytest.approx(-0.004, abs=1e-6)
    assert stage.arm.gripper == pytest.approx(0.3)
    assert stage.controller.status().state == State.OPERATOR
    asked, turned = len(stage.policy.asked), stage.x
    stage.controller.hand_back(stage.now)
    stage.run(2.0)
    assert stage.x > turned + 0.1 and len(stage.policy.asked) > asked
    speeds = np.diff(np.array(stage.arm.positions), axis=0) * 50
    assert np.abs(np.diff(speeds, axis=0)).max() * 50 <= 13.0


def test_a_person_who_is_gone_stops_the_arm():
    stage = Stage(rate=50.0)
    stage.controller.take_over(stage.now)
    stage.controller.operate(stage.now, np.array([-0.02, 0, 0, 0, 0, 0, 1.0]))
    assert sum(stage.run(0.2)) < -0.02
    stage.run(0.4)
    assert stage.run(0.2) == pytest.approx([0.0] * 10)
    assert stage.controller.status().faults == ("operator_gone",)


def test_a_persons_nonsense_does_not_pass_the_filter():
    stage = Stage(rate=50.0)
    with pytest.raises(TongsError, match="take over before operating"):
        stage.controller.operate(stage.now, np.zeros(7))
    stage.controller.take_over(stage.now)
    with pytest.raises(TongsError, match="must be numbers"):
        stage.controller.operate(stage.now, "left")  # type: ignore[arg-type]
    for action in (np.full(7, np.nan), np.zeros(3), np.full(7, 100.0)):
        stage.controller.operate(stage.now, action)
        assert stage.run(0.2) == pytest.approx([0.0] * 10)
    assert stage.controller.log.counts["commands_rejected"] == 1


def test_commands_that_are_rejected_over_and_over_hold_and_are_tried_again():
    stage = Stage(Line(speed=3.9, horizon=40), mode="asynchronous", execute=40)
    stage.run(1.0)
    assert stage.controller.status().faults == ("commands_rejected",)
    assert stage.x == pytest.approx(0.45)
    stage.policy.speed = 0.1
    stage.run(2.0)
    assert stage.x > 0.5 and stage.controller.status().faults == ()


def test_an_arm_that_does_not_follow_is_stopped_for_good():
    stage = Stage(Line(horizon=50), mode="asynchronous", rate=50.0)
    stage.run(1.0)
    stage.arm.follows = 0.0
    stage.arm.position = stage.arm.position + [0.0, 0.12, 0.0]  # pushed aside, by more than twice the leash
    stage.run(0.5)
    assert stage.controller.status().state == State.STOPPED
    assert "further off than allowed" in stage.controller.status().reason
    stage.arm.follows = 1.0
    stage.run(1.0)
    assert stage.controller.status().state == State.STOPPED
    stage.controller.resume(stage.now)
    assert sum(stage.run(0.5)) > 0.02


def test_behaviours_are_declared_one_by_one():
    for behaviour, state in (("ignore", State.RUNNING), ("stop", State.STOPPED)):
        stage = Stage(mode="asynchronous", behaviours=Behaviours(stale_observation=behaviour))
        stage.run(1.0)
        stage.frozen = True
        stage.run(0.5)
        assert stage.controller.status().state == state
    with pytest.raises(TongsError, match="unknown behaviour of camera_lost 'panic'; known are: hold, ignore"):
        Behaviours(camera_lost="panic")  # type: ignore[arg-type]
    with pytest.raises(TongsError, match="patience for operator must be positive, got 0"):
        Patience(operator=0)


def test_pause_stop_and_emergency():
    stage = Stage(Line(horizon=40), mode="asynchronous", rate=50.0)
    stage.run(1.0)
    stage.controller.pause(stage.now)
    stage.run(0.3)
    assert stage.run(0.2) == pytest.approx([0.0] * 10)
    stage.controller.resume(stage.now)
    assert sum(stage.run(0.5)) > 0.02
    stage.controller.emergency_stop(stage.now, "button")
    assert stage.controller.tick(stage.now, stage.observe()) is None
    for forbidden in (stage.controller.start, stage.controller.take_over):
        with pytest.raises(TongsError, match="re-arm before"):
            forbidden(stage.now)
    stage.controller.rearm(stage.now)
    assert stage.controller.tick(stage.now, stage.observe()) is None
    stage.controller.start(stage.now, "close it", seed=7)
    assert sum(stage.run(0.5)) > 0.02
    assert stage.policy.seeds == [0, 7] and stage.policy.asked[-1].instruction == "close it"
    states = [event.text for event in stage.controller.log.after(0) if event.kind == "state"]
    assert states == [
        *("running: started", "paused: paused", "running: resumed"),
        *("emergency: button", "idle: re-armed", "running: started"),
    ]


def test_observations_that_make_no_sense_are_not_used():
    stage = Stage(rate=50.0, mode="asynchronous")
    stage.run(1.0)
    good = stage.observe()
    stage.controller.tick(stage.now, good)
    for wrong in (
        replace(good, time=good.time - 0.5),
        replace(good, time=good.time + 10),
        replace(good, time=good.time + 0.01, state=np.zeros(3, np.float32)),
    ):
        stage.controller.tick(stage.now, wrong)
        assert stage.controller._seen is good
    texts = [event.text for event in stage.controller.log.after(0) if event.kind == "observation"]
    assert len(texts) == 3 and "lies in the future" in texts[1] and "3 state entries instead of 10" in texts[2]


def test_a_policy_with_a_history_is_shown_every_period_of_its_actions():
    class Remembering(Line):
        def __init__(self):
            super().__init__(cameras=CAMERAS)
            self.spec = replace(self.spec, history=3)
            self.seen: list[float] = []

        def remember(self, observations):
            (observation,) = observations  # one for each episode, and this is one
            self.seen.append(observation.time)

        def act(self, observation):
            self.seen.append(observation.time)
            assert observation.images
            return super().act(observation)

    stage = Stage(Remembering(), mode="asynchronous", rate=10.0, latency=0.2, cameras=CAMERAS)
    stage.run(3.0)
    assert np.diff(stage.policy.seen) == pytest.approx(0.1)
