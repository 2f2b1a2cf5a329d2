"""A clock that goes on when those who follow it say so, over a transport within this process."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

pytest.importorskip("rosbags")

from robot import panda  # noqa: E402
from robot.control.inference import SimulatedInference  # noqa: E402
from robot.control.loop import ControlLoop, Step  # noqa: E402
from robot.control.settings import Execution, Settings  # noqa: E402
from robot.errors import TongsError  # noqa: E402
from robot.ros import clock as clocks  # noqa: E402
from robot.ros.clock import SimulatedTime, SteppedClock  # noqa: E402
from robot.topic_map import SECOND  # noqa: E402
from tests.robot.control.arms import Line, ToolArm  # noqa: E402
from tests.robot.ros.memory import MemoryTransport  # noqa: E402

TICK = SECOND // 50


def soon(condition: Any, patience: float = 20.0) -> bool:
    deadline = time.monotonic() + patience
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.002)
    return True


def follower(graph: MemoryTransport, clock: SteppedClock, node: str = "/runner") -> SimulatedTime:
    there = threading.Event()

    def tell() -> None:
        while not there.wait(0.01):
            clock.tell()

    teller = threading.Thread(target=tell)
    teller.start()
    made = SimulatedTime(graph, node)
    there.set()
    teller.join()
    return made


def test_nobody_gives_the_time() -> None:
    with pytest.raises(TongsError, match="nobody has given the time on /clock for 0.05 s"):
        SimulatedTime(MemoryTransport(), "/runner", 0.05)


def test_the_clock_waits_for_the_slowest_and_for_nobody_who_has_left() -> None:
    graph = MemoryTransport()
    clock = SteppedClock(graph, lambda: None)
    assert not clock.waits_for(clock.time + TICK)
    fast, slow = follower(graph, clock, "/fast"), follower(graph, clock, "/slow")
    ended = threading.Event()
    ended.set()
    fast.wait(clock.time + 2 * TICK, ended)
    slow.wait(clock.time + TICK, ended)
    assert clock.followers == 2 and not clock.waits_for(clock.time + TICK)
    assert clock.waits_for(clock.time + 2 * TICK) == ["/slow"]
    slow.leave()
    assert clock.followers == 1 and not clock.waits_for(clock.time + 2 * TICK)
    fast.leave()


def test_a_follower_that_has_died_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = MemoryTransport()
    clock = SteppedClock(graph, lambda: None)
    when = clocks.stamp(graph, clock.time)
    graph.publisher(clocks.GRANTS, "tongs_msgs/msg/TimeGrant").publish(
        graph.make("tongs_msgs/msg/TimeGrant", node="/dead", until=when)
    )
    assert clock.waits_for(clock.time + TICK) == ["/dead"]
    monkeypatch.setattr(clocks, "_PATIENCE", 0.0)
    time.sleep(0.001)
    assert not clock.waits_for(clock.time + TICK) and clock.followers == 0


def test_what_is_heard_arrives_on_the_clock_and_it_may_begin_anew() -> None:
    graph = MemoryTransport()
    clock = SteppedClock(graph, lambda: None)
    time_ = follower(graph, clock)
    arrived: list[int] = []
    time_.subscribe("/word", "std_msgs/msg/String", lambda _, at: arrived.append(at))
    for at in (7 * SECOND, 7 * SECOND - TICK, 5 * SECOND):  # on, out of turn, anew
        clock.time = at
        clock.tell()
        graph.publisher("/word", "std_msgs/msg/String").publish(graph.make("std_msgs/msg/String", data="x"))
    assert arrived == [7 * SECOND, 7 * SECOND, 5 * SECOND]
    time_.leave()


def test_a_control_loop_takes_one_period_per_tick_however_long_that_takes() -> None:
    """What is commanded is a function of the clock alone: twice the same, with a policy that thinks for 60 ms of it."""

    def drive(pause: float) -> list[list[float]]:
        graph, steps = MemoryTransport(), list[Step]()
        clock = SteppedClock(graph, lambda: None)
        time_ = follower(graph, clock)
        arm, policy = ToolArm(rate=50.0), Line()
        arm.clock = time_.pace.now
        inference = SimulatedInference(policy, 0.06, 0.0, 0)
        settings = Settings(Execution("asynchronous", 2))
        loop = ControlLoop(
            arm, policy, panda.LIMITS, settings, on_step=steps.append, inference=inference, pace=time_.pace
        )
        with loop:
            assert soon(lambda: not clock.waits_for(clock.time + TICK))
            loop.start("go")
            for tick in range(40):
                time.sleep(pause if tick % 10 == 0 else 0.0)
                clock.time += TICK
                clock.tell()
                assert soon(lambda: not clock.waits_for(clock.time + TICK))
            told = [step.command.tolist() for step in steps if step.command is not None]
            assert len(steps) == 41 and len(told) == 40
            clock.time += SECOND  # a jump of the clock is one period, and what is over is not made up for
            clock.tell()
            assert soon(lambda: not clock.waits_for(clock.time + TICK)) and len(steps) == 42
            time_.leave()
        return told

    assert drive(0.0) == drive(0.05)
