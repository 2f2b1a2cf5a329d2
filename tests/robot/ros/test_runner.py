"""What the policy runner's services and topics do to the arm, over a transport within this process."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("rosbags")

from robot import panda  # noqa: E402
from robot.errors import ContractError, TongsError  # noqa: E402
from robot.ros.runner import Lifecycle, PolicyRunner  # noqa: E402
from tests.robot.control.arms import Line, ToolArm  # noqa: E402
from tests.robot.ros.memory import MemoryTransport  # noqa: E402

TRIGGER = "std_srvs/srv/Trigger"


class Bench:
    def __init__(self) -> None:
        self.graph, self.arm = MemoryTransport(), ToolArm(rate=50.0)
        self.statuses: list[Any] = []
        self.graph.subscribe(
            "/policy_runner/status", "tongs_msgs/msg/PolicyStatus", lambda m, _: self.statuses.append(m)
        )
        self.policies = {"line": Line(), "blind": Line(cameras={"top": (8, 8)})}
        self.runner = PolicyRunner(self.graph, lambda: self.arm, lambda name, robot: self.policies[name], panda.LIMITS)

    def ask(self, service: str, kind: str = TRIGGER, **fields: Any) -> str:
        """The sentence of a refusal, or "" for a yes."""
        request = self.graph.make(f"{kind}_Request", **fields)
        response = self.graph.call(f"/policy_runner/{service}", kind, request)
        assert response.success != bool(response.message)
        return response.message

    def instruct(self, text: str) -> str:
        return self.ask("set_instruction", "tongs_msgs/srv/SetInstruction", text=text)

    def press(self, pressed: bool) -> None:
        button = self.graph.publisher("/emergency_stop", "std_msgs/msg/Bool")
        button.publish(self.graph.make("std_msgs/msg/Bool", data=pressed))

    def moved(self, seconds: float = 0.3) -> float:
        """m that the arm was told to go in that time."""
        before = self.arm.told.copy()
        time.sleep(seconds)
        return float(abs(self.arm.told - before).max())

    def state(self) -> str:
        return self.runner.status().state.value


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    made.runner.shutdown()


def test_nothing_moves_before_it_is_active_and_has_been_told_what_is_wanted(bench: Bench) -> None:
    assert "unconfigured" in bench.ask("start")
    bench.runner.configure("line")
    assert "inactive" in bench.ask("start")
    bench.runner.activate()
    assert "say what is wanted first" in bench.ask("start")
    assert "needs words" in bench.instruct("  ")
    assert bench.moved() == 0
    assert bench.instruct("go") == "" and bench.ask("start") == ""
    assert bench.moved(1.0) > 0.005
    bench.runner.deactivate()
    assert bench.runner.lifecycle == Lifecycle.INACTIVE and bench.moved() == 0
    assert "inactive" in bench.ask("start")


def test_the_emergency_stop_holds_until_it_is_released_and_rearmed(bench: Bench) -> None:
    bench.runner.configure("line")
    bench.runner.activate()
    bench.instruct("go")
    bench.ask("start")
    assert bench.moved(1.0) > 0
    bench.press(True)
    time.sleep(0.1)
    assert bench.arm.stops == 1 and bench.state() == "emergency" and bench.moved() == 0
    for service in ("start", "resume", "rearm"):
        assert "is pressed; release it first" in bench.ask(service)
    bench.press(False)
    assert bench.ask("start") and bench.moved() == 0
    assert bench.ask("rearm") == "" and bench.moved() == 0
    assert bench.ask("start") == "" and bench.moved(1.0) > 0


def test_a_policy_that_does_not_fit_is_refused_and_the_old_one_stays(bench: Bench) -> None:
    bench.runner.configure("line")
    bench.runner.activate()
    assert "needs camera top" in bench.ask("load_policy", "tongs_msgs/srv/LoadPolicy", policy="blind")
    bench.instruct("go")
    assert bench.ask("start") == "" and bench.moved(1.0) > 0
    refused = bench.ask("load_policy", "tongs_msgs/srv/LoadPolicy", policy="line")
    assert "stop before loading" in refused
    time.sleep(0.3)
    assert bench.statuses[-1].policy == "line" and bench.statuses[-1].instruction == "go"


def test_an_unfit_policy_configures_nothing() -> None:
    bench = Bench()
    with pytest.raises(ContractError, match="needs camera top"):
        bench.runner.configure("blind")
    assert bench.runner.lifecycle == Lifecycle.UNCONFIGURED and not len(bench.arm.commands)
    with pytest.raises(TongsError, match="needs it inactive"):
        bench.runner.activate()
    bench.runner.shutdown()
