"""The policy runner as a lifecycle node, with the action `~/run_policy`."""

from __future__ import annotations

import threading
import time
from typing import Any

from rclpy.action import ActionServer, CancelResponse, GoalResponse
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from tongs_msgs.action import RunPolicy

from eval.ros_nodes import NodeConfig, make_runner
from robot.control.status import State
from robot.errors import TongsError
from robot.ros.runner import Lifecycle, PolicyRunner
from tongs_ros.parameters import POLICY_RUNNER, declare, read
from tongs_ros.spinning import run
from tongs_ros.transport import RclpyTransport

_FEEDBACK = 5.0
"""Hz."""


class PolicyRunnerNode(LifecycleNode):
    """Life cycle and action around `robot.ros.runner.PolicyRunner`, which has the topics and services.

    Configuring waits for the robot and loads the policy; activating allows runs; deactivating brings the arm to rest;
    cleaning up lets go of the policy and its memory; an error comes to rest as well. Another policy may be configured
    after cleaning up; the other parameters are read once.
    """

    def __init__(self) -> None:
        super().__init__("policy_runner")
        declare(self, POLICY_RUNNER)
        self._transport = RclpyTransport(self)
        self._runner: PolicyRunner | None = None
        self._busy = threading.Lock()
        self._runs = ActionServer(
            self,
            RunPolicy,
            "~/run_policy",
            execute_callback=self._run,
            goal_callback=self._accept,
            cancel_callback=lambda _: CancelResponse.ACCEPT,
            callback_group=ReentrantCallbackGroup(),
        )

    # --- life cycle

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        try:
            values = read(self, POLICY_RUNNER)
            simulated = self.get_parameter("use_sim_time").value
            config = NodeConfig(
                node="runner",
                policy=values["policy"],
                task="",
                map=values["topic_map"] or None,
                limits=values["limits"] or None,
                urdf=values["urdf"] or None,
                servo=values["servo"] or None,
                execution=values["execution"],
                execute=values["execute"],
                command_rate=values["command_rate"],
                domain=None,
                local=False,
                device=values["device"],
                priority=None,
                clock="simulated" if simulated else "real",
                latency_ms=0.0,
                jitter_ms=0.0,
                sampling={},
                lerobot={"action_space": values["lerobot_action_space"]} if values["lerobot_action_space"] else {},
            )
            if self._runner is None:
                self._runner = make_runner(
                    config,
                    self._transport,
                    self.get_fully_qualified_name(),
                    values["estop_topic"] or None,
                    values["estop_required"],
                    values["patience"],
                )
            self._runner.configure(values["policy"])
        except TongsError as error:
            self.get_logger().error(str(error))
            return TransitionCallbackReturn.FAILURE
        except Exception as error:  # rclpy would say nothing of it
            self.get_logger().error(f"{type(error).__name__}: {error}")
            return TransitionCallbackReturn.ERROR
        return super().on_configure(state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self._change(lambda runner: runner.activate(), super().on_activate, state)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self._change(lambda runner: runner.deactivate(), super().on_deactivate, state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self._change(lambda runner: runner.clean_up(), super().on_cleanup, state)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self._change(lambda runner: runner.shutdown(), super().on_shutdown, state)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self._change(lambda runner: runner.clean_up(), super().on_error, state)

    def _change(self, change: Any, then: Any, state: LifecycleState) -> TransitionCallbackReturn:
        try:
            if self._runner is not None:
                change(self._runner)
        except TongsError as error:
            self.get_logger().error(str(error))
            return TransitionCallbackReturn.FAILURE
        return then(state)

    def close(self) -> None:
        """Bring the arm to rest, however the node is ended."""
        if self._runner is not None and self._runner.lifecycle != Lifecycle.FINALIZED:
            self._runner.shutdown()

    # --- the action

    def _accept(self, goal: Any) -> GoalResponse:
        """One run at a time, and only while active."""
        active = self._runner is not None and self._runner.lifecycle == Lifecycle.ACTIVE
        return GoalResponse.ACCEPT if active and not self._busy.locked() else GoalResponse.REJECT

    def _run(self, goal_handle: Any) -> Any:
        request, runner = goal_handle.request, self._runner
        result = RunPolicy.Result(outcome="unknown")
        began = time.monotonic()
        if runner is None or not self._busy.acquire(blocking=False):
            result.termination_reason = "another run is going on"
            goal_handle.abort()
            return result
        try:
            runner.run(request.instruction, request.seed)
            reason = self._follow(goal_handle, runner, began)
        except TongsError as error:
            reason = str(error)
        finally:
            self._busy.release()
        result.termination_reason = reason
        result.duration = time.monotonic() - began
        {"time": goal_handle.succeed, "cancelled": goal_handle.canceled}.get(reason, goal_handle.abort)()
        return result

    def _follow(self, goal_handle: Any, runner: PolicyRunner, began: float) -> str:
        """Until the run ends; why it did."""
        longest = goal_handle.request.max_duration or float("inf")
        while runner.lifecycle == Lifecycle.ACTIVE:
            time.sleep(1.0 / _FEEDBACK)
            status = runner.status()
            if goal_handle.is_cancel_requested:
                runner.stop("the run was cancelled")
                return "cancelled"
            if status.state in (State.STOPPED, State.EMERGENCY, State.IDLE):
                return f"fault: {', '.join(status.faults)}" if status.faults else status.state.value
            if time.monotonic() - began > longest:
                runner.stop("the time of the run is over")
                return "time"
            feedback = RunPolicy.Feedback(rate=float(status.timing.rate), queue=float(status.queue))
            feedback.steps, feedback.state = int(status.timing.periods), status.state.value
            goal_handle.publish_feedback(feedback)
        return f"the node is {runner.lifecycle.value}"


def main() -> None:
    def work(node: PolicyRunnerNode, ended: threading.Event) -> None:
        try:
            ended.wait()
        finally:
            node.close()

    run(PolicyRunnerNode, work)
