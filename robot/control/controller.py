"""The control loop without clock or thread: observations and answers in, commands out, one period at a time."""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from math import ceil, inf, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot.control.collision import ArmModel
from robot.control.inference import Answer, Inference, Request
from robot.control.safety import Filtered, SafetyFilter
from robot.control.settings import BEHAVIOURS, Behaviour, Settings
from robot.control.status import EventLog, State, Status
from robot.control.timeline import Timeline, require_chunk
from robot.errors import ContractError, TongsError
from robot.interface import Continuation, Observation, PolicySpec, RobotSpec, require_compatible
from robot.limits import Limits

_REMEMBERED = 20
_PREVIEW = 128
"""Latencies that the next one is expected from."""
_SECOND_CHANCE = 1.0
"""s after which commands are tried again that were rejected too often."""
_CLOCKS = 0.05
"""s by which a time stamp may be ahead of the clock."""


class Controller:
    """Decides what the arm does next. `robot.control.loop.ControlLoop` runs it against a real clock, `sim.realtime` in
    simulated time; both call `begin` and then `tick` once a period. Nothing in it blocks or knows of threads.

    Args:
        robot, policy: what drives and what is driven; they have to fit.
        inference: where the policy runs.
        limits: of the safety filter.
        period: s between two commands.
        settings: see `Settings`.
        arm: the arm's model for collisions, None to check none.
        continues: whether the policy can go on from a chunk before.

    Raises:
        ContractError: policy and robot do not fit, or mode `rtc` is asked for and the policy cannot do it.
    """

    def __init__(
        self,
        robot: RobotSpec,
        policy: PolicySpec,
        inference: Inference,
        limits: Limits,
        period: float,
        settings: Settings | None = None,
        arm: ArmModel | None = None,
        continues: bool = False,
    ) -> None:
        self.robot, self.period = robot, period
        self.settings = settings or Settings()
        self.filter = SafetyFilter(robot, limits, period, arm)
        self.log = EventLog()
        self._action_period = 1.0 / robot.action_space.rate
        self._motion = 6 if robot.action_space.kind == "ee_delta" else 0
        self.use(policy, inference, continues)
        self.state, self._reason = State.IDLE, ""
        self.followed = False
        self.instruction: str | None = None
        self._seen: Observation | None = None
        self._seen_at = self._now = -inf
        self._operator: NDArray[np.float64] | None = None
        self._operator_at = -inf
        self._rejections = 0
        self._faults: dict[str, str] = {}
        self._rejected_at = -inf

    def use(self, policy: PolicySpec, inference: Inference, continues: bool = False) -> None:
        """Another policy, while none is followed."""
        require_compatible(policy, self.robot)
        execution = self.settings.execution
        if execution.mode == "rtc" and not continues:
            raise ContractError(
                "execution=rtc needs a policy whose chunks can go on from the one before (continue_chunk); "
                "this one takes synchronous, asynchronous or ensemble"
            )
        self.policy, self.inference = policy, inference
        ensemble = execution.mode == "ensemble"
        self.timeline = Timeline(self.robot.action_space, execution.decay if ensemble else None)
        self._latencies: deque[float] = deque(maxlen=_REMEMBERED)
        self._number = self._dropped_before = 0
        self._asked: Request | None = None
        self._asked_at = -inf
        self._policy_problem = ""
        self._before: list[Observation] = []
        self._remembered_at = -inf
        self._path_time: float | None = None
        self._speed, self._stood_still, self._starved = 1.0, True, False
        self._newest_chunk = -inf
        self._seed: int | None = None
        self._wants = False
        self._told = ("", "")
        self.motion = ""
        self.said: tuple[str, str] = ("", "model")
        self._command = ""

    # --- what it is told from outside

    def start(self, now: float, instruction: str | None = None, seed: int = 0) -> None:
        """Follow the policy from a fresh start: it is reset, and the arm begins at its measured pose.

        Raises:
            TongsError: after an emergency stop that was not re-armed, while a person has taken over, or without an
                observation.
        """
        if self.state == State.EMERGENCY:
            raise TongsError("the emergency stop is on; re-arm before starting")
        if self.state == State.OPERATOR:
            raise TongsError("a person has taken over; hand back before starting")
        if instruction is not None:
            self.instruction = instruction
        self._seed, self.motion = seed, ""
        self._before = []
        self._policy_problem, self._rejections = "", 0
        self._forget_plan()
        self._enter_motion(now, State.RUNNING, "started")

    def pause(self, now: float, reason: str = "paused") -> None:
        """Decelerate and hold until `resume`."""
        if self.state in (State.RUNNING, State.OPERATOR):
            self._set(now, State.PAUSED, reason)
            self._forget_plan()

    def resume(self, now: float) -> None:
        """Go on after `pause` or a stop, from where the arm is now; the policy is not reset."""
        if self.state not in (State.PAUSED, State.STOPPED):
            raise TongsError(f"there is nothing to resume in state {self.state.value}")
        self._rejections, self._policy_problem = 0, ""
        self._forget_plan()
        self._enter_motion(now, State.RUNNING, "resumed")

    def stop(self, now: float, reason: str = "stopped") -> None:
        """Decelerate and hold until `start` or `resume`."""
        if self.state not in (State.IDLE, State.EMERGENCY):
            self._set(now, State.STOPPED, reason)
            self._forget_plan()

    def emergency_stop(self, now: float, reason: str) -> None:
        """Send nothing any more. Telling the robot to stop is the caller's part."""
        self._set(now, State.EMERGENCY, reason)
        self._forget_plan()

    def rearm(self, now: float) -> None:
        """Allow starting again after an emergency stop; nothing moves by it."""
        if self.state != State.EMERGENCY:
            raise TongsError(f"there is nothing to re-arm in state {self.state.value}")
        self._set(now, State.IDLE, "re-armed")

    def release(self, now: float, reason: str = "released") -> None:
        """Send nothing any more, so that the arm may be moved by other means; the next motion begins at the measured
        pose.

        Raises:
            TongsError: the arm is moving, or the emergency stop is on.
        """
        if self.state == State.EMERGENCY:
            raise TongsError("the emergency stop is on; re-arm instead")
        if self.state in (State.RUNNING, State.OPERATOR) or not (self.state == State.IDLE or self.filter.resting):
            raise TongsError(f"stop before releasing the arm; the loop is {self.state.value}")
        self._set(now, State.IDLE, reason)

    def instruct(self, now: float, instruction: str) -> None:
        """From now on the policy is told this instead of what the robot's observations say; the old chunk is dropped
        at once, and another one asked for."""
        self.instruction = instruction
        self.log.add(now, "instruction", instruction)
        self._ask_anew(now)

    def steer(self, now: float, motion: str) -> None:
        """From now on the policy carries out this language motion instead of those that it chooses; an empty one gives
        the choice back. The old chunk is dropped at once, and another one asked for.

        Raises:
            TongsError: the policy takes no motions.
        """
        if motion and "motion" not in self.policy.goals:
            raise TongsError(f"this policy takes no motions ({', '.join(self.policy.goals) or 'no goals'} only)")
        self.motion = motion
        self.log.add(now, "motion", motion or "released")
        self._ask_anew(now)

    def _ask_anew(self, now: float) -> None:
        """Between two periods, with the newest observation: a policy that is fast has answered by the next one, where
        asking then would cost a period."""
        if self.state == State.RUNNING:
            self._listen(now)
            self._ask(now)

    def take_over(self, now: float, who: str = "operator") -> None:
        """A person drives from now on; the policy's plan is dropped.

        Raises:
            TongsError: after an emergency stop that was not re-armed.
        """
        if self.state == State.EMERGENCY:
            raise TongsError("the emergency stop is on; re-arm before taking over")
        self._forget_plan()
        self._operator, self._operator_at = None, now
        self._enter_motion(now, State.OPERATOR, f"{who} took over")

    def operate(self, now: float, action: NDArray[np.floating]) -> None:
        """What the person wants, an action (A,) of the robot's space at its rate: in force until the next one, or until
        the person is gone.

        Raises:
            TongsError: nobody has taken over.
        """
        if self.state != State.OPERATOR:
            raise TongsError(f"take over before operating; the loop is {self.state.value}")
        try:
            self._operator, self._operator_at = np.asarray(action, dtype=np.float64), now
        except (TypeError, ValueError) as error:
            raise TongsError(f"an operator's action must be numbers, got {action!r}") from error

    def hand_back(self, now: float) -> None:
        """The policy goes on from where the person left the arm, with a chunk that begins there."""
        if self.state != State.OPERATOR:
            raise TongsError(f"nobody has taken over; the loop is {self.state.value}")
        self._operator = None
        self._forget_plan()
        self._enter_motion(now, State.RUNNING, "handed back")

    def _enter_motion(self, now: float, state: State, reason: str) -> None:
        if self._seen is None:
            raise TongsError("the robot has given no observation yet")
        if self.state in (State.IDLE, State.EMERGENCY):
            self.filter.start(self._seen.state)
        self.filter.let_go()
        self._speed = 1.0
        self._set(now, state, reason)

    def _set(self, now: float, state: State, reason: str) -> None:
        if (state, reason) != (self.state, self._reason):
            self.log.add(now, "state", f"{state.value}: {reason}")
        self.state, self._reason = state, reason

    def _forget_plan(self) -> None:
        self.timeline.clear()
        self._dropped_before = self._number
        self._path_time, self._stood_still, self._starved = None, True, False

    # --- one period

    def begin(self, now: float) -> bool:
        """Take in what the policy has answered. True if the observation of this period needs images."""
        self._take_answer(now)
        self._wants = self._wants_chunk(now)
        return bool(self.policy.cameras) and (self._wants or self._wants_to_remember(now))

    def tick(self, now: float, observation: Observation | None) -> Filtered | None:
        """The command for the period that begins now, None for none.

        Args:
            now: s on the robot's clock.
            observation: the newest, or None if there was none.
        """
        self._now = now
        self._look(now, observation)
        self._listen(now)
        self._judge(now)
        self.followed = False
        if self.state in (State.IDLE, State.EMERGENCY):
            return None
        self._ask(now)
        action = self._action(now)
        self.followed = action is not None
        self._stood_still = self._stood_still and action is None
        filtered = self.filter.apply(action)
        for hit in filtered.hits:
            self.log.add_throttled(now, "limit", hit.limit, hit.sentence)
        if filtered.rejected:
            self._rejections += 1
            self._rejected_at = now
        elif action is not None:
            self._rejections = 0
        return filtered

    # --- observations

    def _picture_problem(self, observation: Observation) -> str:
        """The first camera whose picture has another size than the robot said, "" if none has."""
        for camera, image in observation.images.items():
            height, width = self.robot.cameras.get(camera, image.shape[:2])
            if image.shape[:2] != (height, width):
                given = f"{image.shape[0]}x{image.shape[1]}"
                return f"camera {camera} gives {given}, and gave {height}x{width} when the robot was opened"
        return ""

    def _look(self, now: float, observation: Observation | None) -> None:
        """Take in an observation if it is newer, and nothing but numbers."""
        if observation is None:
            return
        before = self._seen
        if before is not None and observation.time == before.time and observation.state is before.state:
            return
        what = problem = ""
        if before is not None and observation.time < before.time:
            what, problem = "order", f"observation of {observation.time:.3f} s after one of {before.time:.3f} s"
        elif observation.time > now + _CLOCKS:
            what, problem = "future", f"observation of {observation.time:.3f} s at {now:.3f} s lies in the future"
        elif observation.state.shape != (len(self.robot.state_names),):
            wanted = len(self.robot.state_names)
            what, problem = "size", f"observation with {len(observation.state)} state entries instead of {wanted}"
        else:
            what, problem = "picture", self._picture_problem(observation)
        if problem:
            self.log.add_throttled(now, "observation", f"observation {what}", problem)
            if before is not None and before.time - observation.time > 1.0:  # the robot's clock began anew
                self._seen = None
            return
        if before is None or observation.time > before.time:
            self._seen_at = now
        self._seen = observation
        if self.state not in (State.IDLE, State.EMERGENCY):
            self.filter.measure(observation.state)
        if self._wants_to_remember(now):
            self._remembered_at = now
            told = observation.instruction if self.instruction is None else self.instruction
            self._before.append(replace(observation, instruction=told, motion=self.motion))

    def _listen(self, now: float) -> None:
        """Drop the plan if the instruction, or the motion that somebody chose, is another one."""
        if self._seen is None:
            return
        told = (self._seen.instruction if self.instruction is None else self.instruction, self.motion)
        if told == self._told:
            return
        if self.state == State.RUNNING and self.timeline.covers(self._place(now)):
            what = "instruction" if told[0] != self._told[0] else "motion"
            self.log.add(now, "chunk", f"dropped: another {what}")
        if self.state == State.RUNNING:
            self._forget_plan()
            self.filter.let_go()
        self._told = told
        self._wants = self._wants_chunk(now)

    def _judge(self, now: float) -> None:
        """Which faults are present, and what that means for the state."""
        if self.state in (State.IDLE, State.EMERGENCY):
            self._faults = {}
            return
        faults: dict[str, str] = {}
        patience = self.settings.patience
        if now - self._seen_at > patience.observation:
            faults["stale_observation"] = f"the newest observation is {now - self._seen_at:.2f} s old"
        if camera := self._lost_camera(now):
            faults["camera_lost"] = camera
        if self.state == State.OPERATOR:
            pass  # a person drives, whatever has become of the policy
        elif self._asked is not None and now - self._asked_at > patience.policy:
            faults["policy_dead"] = f"no answer of the policy for {now - self._asked_at:.2f} s"
        elif self._policy_problem:
            faults["policy_dead"] = self._policy_problem
        if self.state == State.OPERATOR and now - self._operator_at > patience.operator:
            faults["operator_gone"] = f"no command of the operator for {now - self._operator_at:.2f} s"
        if self._rejections >= patience.rejections:
            faults["commands_rejected"] = f"{self._rejections} commands in a row were rejected"
        if self.filter.astray > patience.astray:
            faults["not_following"] = f"the robot is {self.filter.astray:.1f} times further off than allowed"
        for name, text in faults.items():
            if name not in self._faults:
                self.log.add(now, "fault", f"{name}: {text} ({getattr(self.settings.behaviours, name)})")
                self.log.counts[name] += 1
        for name in self._faults:
            if name not in faults:
                self.log.add(now, "fault", f"{name}: over")
        self._faults = faults
        if self._behaviour == "stop" and self.state in (State.RUNNING, State.OPERATOR):
            self.stop(now, "; ".join(faults.values()))
        if "commands_rejected" in faults and self._behaviour != "ignore":
            self._forget_plan()  # nothing good comes of it, also at less speed
            if now - self._rejected_at > _SECOND_CHANCE:
                self._rejections = 0

    def _lost_camera(self, now: float) -> str:
        """What is wrong with the cameras of the policy. Periods without images say nothing of them."""
        if self._seen is None or not self.policy.cameras:
            return ""
        if not self._seen.images:
            return "no camera gives a picture" if self._wants else self._faults.get("camera_lost", "")
        for camera in self.policy.cameras:
            if camera not in self._seen.images:
                return f"camera {camera} gives no picture"
            taken = self._seen.image_times.get(camera)
            if taken is not None and now - taken > self.settings.patience.camera:
                return f"the picture of camera {camera} is {now - taken:.2f} s old"
        return ""

    @property
    def _behaviour(self) -> Behaviour:
        present = [getattr(self.settings.behaviours, name) for name in self._faults]
        return max(present, key=BEHAVIOURS.index, default="ignore")

    # --- the policy

    def _wants_to_remember(self, now: float) -> bool:
        due = now - self._remembered_at > (1 - 1e-6) * self._action_period
        return self.policy.history > 1 and due and self.state == State.RUNNING

    def _wants_chunk(self, now: float) -> bool:
        if self.state != State.RUNNING or self._asked is not None:
            return False
        if self._policy_problem and now - self._asked_at < self.settings.patience.policy:
            return False
        execution = self.settings.execution
        path_time = self._place(now)
        if not self.timeline.covers(path_time):
            return True
        length = (1 - 1e-6) * self._action_period
        if execution.mode == "synchronous":
            return path_time - self.timeline.start > execution.execute * length
        if execution.mode == "ensemble":
            return now - self._asked_at > length
        return now - self._asked_at > execution.execute * length

    def _ask(self, now: float) -> None:
        behaviours = self.settings.behaviours
        hindered = any(getattr(behaviours, name) != "ignore" for name in self._faults if name != "policy_dead")
        if not self._wants or self._seen is None or hindered:
            return
        observation = replace(self._seen, instruction=self._told[0], motion=self._told[1])
        if set(self.policy.cameras) - set(observation.images):
            return
        self._wants = False
        self._number += 1
        before = tuple(seen for seen in self._before if seen.time < observation.time)
        request = Request(self._number, observation, before, self._previous(now, observation.time), self._seed)
        self._before, self._seed = [], None
        self._asked, self._asked_at, self._stood_still = request, now, not self._moving(now)
        self.inference.submit(request, now)
        self._take_answer(now)

    def _moving(self, now: float) -> bool:
        if self.settings.execution.mode == "synchronous":
            return False
        return self.timeline.covers(self._place(now))

    def _previous(self, now: float, start: float) -> Continuation | None:
        """What a chunk that begins at `start`, the time of the observation, has to go on from."""
        if self.settings.execution.mode != "rtc":
            return None
        begin, period = start + self._place(now) - now, self._action_period
        actions = self.timeline.following([begin + k * period for k in range(self.policy.horizon)])
        if not len(actions):
            return None
        expected = now - start + max(self._latencies, default=0.0)
        return Continuation(actions, min(ceil(expected / period - 1e-6), len(actions)))

    def _take_answer(self, now: float) -> None:
        while (answer := self.inference.poll(now)) is not None:
            request, self._asked = self._asked, None
            if request is None or answer.number != request.number:
                continue
            latency = now - self._asked_at
            self._latencies.append(latency)
            if answer.number <= self._dropped_before or self.state != State.RUNNING:
                self.log.add(now, "chunk", "dropped: asked for before the plan changed")
                continue
            self._policy_problem = self._chunk_problem(answer, request)
            if self._policy_problem:
                self.log.add_throttled(now, "policy", "policy", self._policy_problem)
                continue
            assert answer.chunk is not None
            waited = self._stood_still or self.settings.execution.mode == "synchronous"
            self.timeline.add(answer.chunk, now if waited else None)
            if answer.chunk.command != self._command:
                self._command = answer.chunk.command
                if self._command:
                    self.log.add(now, "command", f"the policy chose: {self._command}")
            self._newest_chunk = float(request.observation.time)
            self.said = (answer.chunk.motion, answer.chunk.motion_source)
            self._path_time, self._starved = None, False

    def _chunk_problem(self, answer: Answer, request: Request) -> str:
        """What is wrong with an answer, "" if nothing is."""
        if answer.problem is not None or answer.chunk is None:
            return f"the policy failed: {answer.problem}"
        try:
            require_chunk(answer.chunk, self.robot.action_space)
        except ContractError as error:
            return str(error)
        begins, asked = float(answer.chunk.times[0]), request.observation.time
        if abs(begins - asked) > 1.5 * self._action_period:
            return f"a chunk that begins at {begins:.3f} s was given for an observation of {asked:.3f} s"
        if asked < self._newest_chunk:
            return f"a chunk for an observation of {asked:.3f} s came after one of {self._newest_chunk:.3f} s"
        return ""

    # --- motion

    def _place(self, now: float) -> float:
        """Where on the timeline the arm is; behind the clock after it was slowed down."""
        return now if self._path_time is None else self._path_time

    def _action(self, now: float) -> Any:
        """What is wanted in this period, before the safety filter; None for coming to rest."""
        if self.state == State.OPERATOR:
            gone = now - self._operator_at > self.settings.patience.operator or self._behaviour in ("hold", "stop")
            return None if gone or self._operator is None else self._shared(self._operator)
        if self.state != State.RUNNING:
            return None
        path_time = self._place(now)
        end = self._end
        if not self.timeline.covers(path_time) or path_time >= end - 1e-6 * self._action_period:
            self._note_starvation(now)
            return None
        self._speed = self._share_of_speed(end - path_time)
        if self._speed == 0.0:
            self._forget_plan()
            self.filter.let_go()
            return None
        stop = min(path_time + self._speed * self.period, end)
        self._path_time = stop
        return self.timeline.take(path_time, stop)

    @property
    def _end(self) -> float:
        execution = self.settings.execution
        if execution.mode != "synchronous":
            return self.timeline.end
        return min(self.timeline.end, self.timeline.start + execution.execute * self._action_period)

    def _share_of_speed(self, remaining: float) -> float:
        """The speed along the path as a share of the policy's. It ends at rest: share^2 = 2 remaining / stop_time."""
        behaviour, settings = self._behaviour, self.settings
        wanted = {"ignore": 1.0, "slow": settings.slow}.get(behaviour, 0.0)
        if wanted < self._speed:
            wanted = max(wanted, self._speed - self.period / settings.stop_time)
        share = min(wanted, sqrt(2 * remaining / settings.stop_time))
        return 1.0 if share > 1 - 1e-4 else share

    def _note_starvation(self, now: float) -> None:
        waiting = self.settings.execution.mode == "synchronous" and not self._faults
        if not self._starved and not waiting and self.timeline.end > -inf:
            self.log.add(now, "starved", "no chunk is left to follow; holding")
        self._starved = True

    def _shared(self, action: NDArray[np.float64]) -> NDArray[np.float64]:
        """An action at the robot's rate as a command for one period."""
        if not self._motion or action.shape != (self.robot.action_space.dimension,):
            return action
        share = np.ones(len(action))
        share[: self._motion] = self.period / self._action_period
        return action * share

    # --- what it tells

    def plan(self) -> NDArray[np.float32]:
        """The actions (N, A) that are known and still to come, the one in force first."""
        begin = self._place(self._now)
        return self.timeline.following([begin + i * self._action_period for i in range(_PREVIEW)])

    def status(self) -> Status:
        reason = self._reason
        if self.state in (State.RUNNING, State.OPERATOR):
            holding = (
                "waiting for a chunk" if self.state == State.RUNNING and not self.timeline.covers(self._now) else ""
            )
            reason = "; ".join(self._faults.values()) or holding
        known = self.timeline.end - self._now if self.timeline.covers(self._now) else 0.0
        p50, p99 = np.percentile(self._latencies, [50, 99]).tolist() if self._latencies else (None, None)
        return Status(
            state=self.state,
            reason=reason,
            instruction=self._told[0],
            motion=self.said[0],
            motion_source=self.said[1],
            command=self._command if self.state == State.RUNNING else "",
            time=self._now,
            faults=tuple(self._faults),
            queue=known,
            asking=self._asked is not None,
            latency_p50=p50,
            latency_p99=p99,
            observation_age=None if self._seen is None else self._now - self._seen_at,
            speed=self._speed if self.state == State.RUNNING else 0.0,
            limits=dict(self.filter.counts),
            counts=dict(self.log.counts),
        )
