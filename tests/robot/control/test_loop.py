"""The control loop on a real clock: its thread, calls from other threads, emergencies, and a policy elsewhere."""

from __future__ import annotations

import os
import signal
import threading
import time
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from robot import panda
from robot.control.inference import PolicyProcess
from robot.control.loop import ControlLoop, Step
from robot.control.settings import Execution, Patience, Settings
from robot.control.status import State
from robot.errors import ContractError, TongsError
from robot.interface import EE_DELTA, Observation, RobotSpec
from robot.skills import POSE_STATE
from tests.robot.control.arms import Line, ToolArm, tool_state

ASYNCHRONOUS = Settings(Execution("asynchronous", execute=2))


def until(condition, seconds: float = 10.0) -> bool:
    """A busy machine takes its time; only what never happens fails."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.005)
    return False


def test_an_arm_is_driven_while_the_policy_thinks():
    arm, policy = ToolArm(), Line(latency=0.08)
    steps: list[Step] = []
    with ControlLoop(arm, policy, panda.LIMITS, ASYNCHRONOUS, on_step=steps.append) as loop:
        assert loop.status().state == State.IDLE and not arm.commands
        loop.start("close it", seed=3)
        assert until(lambda: arm.told[0] > 0.5)
        status = loop.status()
        loop.stop()
        assert loop.wait(State.STOPPED, 5.0)
        rested = len(arm.positions) - 1
        time.sleep(0.1)
        assert np.allclose(arm.positions[rested], arm.positions[-1])
    assert policy.seeds == [3] and policy.asked[0].instruction == "close it"
    assert status.state == State.RUNNING and status.instruction == "close it"
    assert 0.08 <= status.latency_p50 < 1.0 and status.timing.rate > 50
    assert len(policy.asked) >= 3 and arm.stops >= 1
    commanded = [step for step in steps if step.command is not None]
    assert all(np.array_equal(step.command, step.filtered.action) for step in commanded)
    assert any(step.state == State.RUNNING for step in commanded)
    texts = [event.text for event in loop.events()]
    assert texts[:1] == ["running: started"] and texts[-1].startswith("stopped")


def test_a_simulated_robot_is_driven_by_its_own_steps():
    class Stepped:
        spec = RobotSpec({}, (*POSE_STATE, "gripper_opening"), replace(EE_DELTA, rate=50.0))

        def __init__(self):
            self.position, self.steps, self.stops = np.array([0.45, 0.0, 0.35]), 0, 0

        def observe(self):
            return Observation({}, tool_state(self.position), "go", self.steps / 50)

        def execute(self, action):
            self.position = self.position + action[:3]
            self.steps += 1

        def stop(self):
            self.stops += 1

    class Quick(Line):
        def __init__(self):
            super().__init__()
            self.spec = replace(self.spec, action_space=Stepped.spec.action_space)

        def act(self, observation):
            chunk = super().act(observation)
            return replace(chunk, times=observation.time + np.arange(8) / 50)

    robot = Stepped()
    with ControlLoop(robot, Quick(), panda.LIMITS) as loop:
        loop.start()
        assert until(lambda: robot.position[0] > 0.5)
    assert robot.stops >= 1


def test_an_emergency_stop_comes_within_two_periods_and_needs_rearming():
    arm = ToolArm()
    with ControlLoop(arm, Line(), panda.LIMITS, ASYNCHRONOUS) as loop:
        loop.start()
        assert until(lambda: len(arm.commands) > 20)
        loop.emergency_stop("button")
        sent = len(arm.commands)
        assert arm.stops == 1 and loop.status().state == State.EMERGENCY and loop.status().reason == "button"
        time.sleep(0.1)
        assert len(arm.commands) == sent
        with pytest.raises(TongsError, match="the emergency stop is on; re-arm before starting"):
            loop.start()
        loop.rearm()
        time.sleep(0.05)
        assert len(arm.commands) == sent and loop.status().state == State.IDLE
        loop.start()
        assert until(lambda: len(arm.commands) > sent + 10)


def test_an_emergency_stop_reaches_the_robot_though_the_loop_hangs():
    class Stuck(ToolArm):
        stuck = threading.Event()

        def observe(self):
            if self.stuck.is_set():
                time.sleep(1.0)
            return super().observe()

    arm = Stuck()
    with ControlLoop(arm, Line(), panda.LIMITS) as loop:
        loop.start()
        assert until(lambda: len(arm.commands) > 5)
        arm.stuck.set()
        time.sleep(0.05)
        began = time.monotonic()
        loop.emergency_stop()
        assert time.monotonic() - began < 0.5 and arm.stops == 1
        arm.stuck.clear()


def test_a_robot_that_fails_is_told_to_stop_and_the_reason_is_kept():
    class Failing(ToolArm):
        def command(self, command):
            if len(self.commands) > 10:
                raise OSError("bus error")
            super().command(command)

    arm = Failing()
    with ControlLoop(arm, Line(), panda.LIMITS) as loop:
        loop.start()
        assert until(lambda: arm.stops > 0)
        assert until(lambda: "bus error" in loop.status().reason)
        with pytest.raises(TongsError, match="the control loop failed: OSError: bus error"):
            loop.start()


def test_calls_from_many_threads_leave_a_loop_that_works():
    arm, failures = ToolArm(), []

    def pester(number: int) -> None:
        rng = np.random.default_rng(number)
        for _ in range(60):
            call = [
                *(loop.pause, loop.resume, loop.start, loop.stop, loop.take_over, loop.hand_back, loop.status),
                *(loop.emergency_stop, loop.rearm, loop.events, lambda: loop.instruct(f"do {number}")),
                lambda: loop.operate(rng.normal(size=7) * 0.01),
            ][rng.integers(12)]
            try:
                call()
            except TongsError:
                pass
            except Exception as error:
                failures.append(error)
            time.sleep(0.002)

    with ControlLoop(arm, Line(latency=0.01), panda.LIMITS, ASYNCHRONOUS) as loop:
        threads = [threading.Thread(target=pester, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failures and loop.status().reason.find("failed") < 0
        if loop.status().state == State.EMERGENCY:
            loop.rearm()
        if loop.status().state == State.OPERATOR:
            loop.hand_back()
        loop.start("go on")
        sent = len(arm.commands)
        assert until(lambda: len(arm.commands) > sent + 5)
    speeds = np.array([command[:3] for command in arm.commands]) * 100
    assert np.linalg.norm(speeds, axis=1).max() <= panda.LIMITS.translation.speed


def test_a_policy_and_a_robot_that_disagree_are_refused_before_anything_moves():
    arm, policy = ToolArm(), Line(cameras={"wrist": (64, 64)})
    policy.spec = replace(policy.spec, action_space=replace(EE_DELTA, rate=20.0))
    with pytest.raises(
        ContractError, match=r"rate is 20.0 here and 10.0 there; it needs camera wrist and the robot has"
    ):
        ControlLoop(arm, policy, panda.LIMITS)
    assert not arm.commands and not arm.stops


def test_a_robot_without_observations_is_refused():
    class Dark(ToolArm):
        def observe(self):
            raise TongsError("no message on /joint_states yet")

    loop = ControlLoop(Dark(), Line(), panda.LIMITS)
    with pytest.raises(TongsError, match="the robot has given no observation for 0.3 s"):
        loop.open(patience=0.3)


def test_another_policy_is_loaded_while_the_arm_stands():
    arm, first, second = ToolArm(), Line(), Line(speed=-0.1)
    with ControlLoop(arm, first, panda.LIMITS, ASYNCHRONOUS) as loop:
        loop.start()
        with pytest.raises(TongsError, match="stop before loading another policy"):
            loop.use(second)
        loop.stop()
        assert loop.wait(State.STOPPED, 5.0)
        turned = arm.told[0]
        loop.use(second)
        loop.start()
        assert until(lambda: arm.told[0] < turned - 0.01)


class Elsewhere(Line):
    """A policy whose spec and process can be asked for; picklable."""

    def act(self, observation):
        if observation.instruction == "crash":
            os.kill(os.getpid(), signal.SIGKILL)
        if observation.instruction == "hang":
            time.sleep(60)
        return super().act(observation)


def unwilling() -> Line:
    raise TongsError("no such checkpoint")


def test_a_policy_in_another_process_answers_the_same():
    policy = PolicyProcess(partial(Elsewhere, 0.2))
    try:
        assert policy.spec == Line().spec and not policy.continues
        seen = ToolArm().observe()
        policy.reset(0)
        chunk, same = policy.act(seen), Line(0.2).act(seen)
        assert np.array_equal(chunk.actions, same.actions) and np.array_equal(chunk.times, same.times)
        with pytest.raises(TongsError, match="AttributeError"):
            policy.remember([seen])
    finally:
        policy.close()
    with pytest.raises(TongsError, match="could not be made: TongsError: no such checkpoint"):
        PolicyProcess(unwilling)


def test_a_policy_whose_process_dies_leaves_the_arm_held():
    arm = ToolArm()
    policy = PolicyProcess(Elsewhere)
    with ControlLoop(arm, policy, panda.LIMITS, replace(ASYNCHRONOUS, patience=Patience(policy=0.5))) as loop:
        loop.start("open it")
        assert until(lambda: arm.told[0] > 0.47)
        loop.instruct("crash")
        assert until(lambda: "policy_dead" in loop.status().faults)
        assert until(lambda: "the policy's process" in loop.status().reason)
        held = arm.told.copy()
        time.sleep(0.3)
        assert np.allclose(arm.told, held) and loop.status().state == State.RUNNING
        loop.stop()
        loop.wait(State.STOPPED, 5.0)
        loop.use(Line())
        loop.start("open it")
        assert until(lambda: arm.told[0] > held[0] + 0.01)


def test_a_policy_that_hangs_is_ended_with_its_process():
    policy = PolicyProcess(Elsewhere, patience=0.3)
    with pytest.raises(TongsError, match="gave no answer for 0.3 s; its process was ended"):
        policy.act(replace(ToolArm().observe(), instruction="hang"))
    policy.close()
