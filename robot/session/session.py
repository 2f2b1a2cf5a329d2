"""A person, a policy and a recorder around one control loop: all that a page or a terminal does, without any of it."""

from __future__ import annotations

import queue
import re
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from typing import Literal

from robot.control.collision import ArmModel
from robot.control.inference import PolicyProcess
from robot.control.loop import ControlLoop, Step
from robot.control.settings import Behaviours, Settings
from robot.control.status import Event, State, Status
from robot.errors import ContractError, TongsError
from robot.grip import OPENING_STATES
from robot.interface import (
    GRIPPER,
    ActionChunk,
    ActionSpace,
    Images,
    Observation,
    Policy,
    PolicySpec,
    Robot,
    StreamedRobot,
)
from robot.limits import Limits
from robot.motions import RELEASE_WORDS, STOP_WORDS, Motion, parse_motion
from robot.session.drive import JointDrive, ToolDrive, make_drive, require_velocity
from robot.session.holder import Holder
from robot.session.recording import Frames, Happening, HappeningKind, Recorder
from robot.session.replay import Replay
from robot.session.stage import Stage

MOTION_TIME = 1.0
"""s for which a motion that is said moves the arm, where the policy takes none."""
_TICK = 0.05
_PATIENCE = 30.0
_SAVING = 120.0
"""s for the last episode to be saved: a busy machine takes its time to encode the pictures."""
_DIGITS = 3
_OPEN = 0.97
"""A gripper that is measured to be more open than this was told to open."""
_PATIENT = 2.0
"""Times the control loop's patience with a camera after which an episode is not recorded any further."""
_HELD = 0.3
"""s for which what a person holds down counts without being said again, where the control loop's thread asks for it."""

Source = Literal["human", "model"]


class Nobody:
    """The policy of a session without one: it cannot be followed."""

    def __init__(self, space: ActionSpace) -> None:
        self.spec = PolicySpec({}, (), space, horizon=1, goals=())

    def reset(self, seed: int) -> None:
        pass

    def act(self, observation: Observation) -> ActionChunk:
        raise TongsError("no policy is loaded; choose one, or take over")

    def act_batch(self, observations: Sequence[Observation]) -> list[ActionChunk]:
        return [self.act(observation) for observation in observations]


@dataclass(frozen=True)
class View:
    """What there is to show.

    Attributes:
        status: of the control loop.
        holder: who holds the control; "" if nobody does.
        episode: whether an episode is under way.
        recording: whether it, or the next one, is recorded.
        frames: of this episode so far.
        saved: episodes that this session has saved.
        policy: name of the policy, "" if there is none.
        message: the last thing that a person has to know, "" if nothing.
        said: the last correction, and who said it.
        success: whether the goal is reached, None if that is not known.
    """

    status: Status
    holder: str
    episode: bool
    recording: bool
    frames: int
    saved: int
    policy: str
    message: str
    said: tuple[str, Source] | None
    success: bool | None


@dataclass
class _Episode:
    """One that is under way, or was: whether it is recorded, and what is kept of it to be looked at. `closed` is set,
    and the replay filled, by the recording thread only."""

    recorded: bool
    replay: Replay
    closed: bool = False


@dataclass(frozen=True)
class _Seen:
    """A period for the recording thread."""

    step: Step
    operated: bool
    instruction: str


@dataclass(frozen=True)
class _Close:
    """Asks the recording thread to end an episode."""

    success: bool | None
    keep: bool
    done: Future[str] = field(default_factory=Future)


class Session:
    """Runs a robot for several clients, one of whom holds the control.

    Every method may be called from any thread. Those that move or change something take the client that asks, and raise
    TongsError if another one holds the control; the emergency stop is for everybody.

    Args:
        robot, limits, settings, arm: of the control loop. A policy that fails stops the arm here, whatever the
            settings say: a person is there to decide.
        policy: None to drive by hand only.
        name: of the policy.
        recorder: None if nothing can be recorded.
        stage: scenes and their success; None for a real table, where a person puts things up and judges.
        commands: if given, the only instructions that the policy knows.
        load: makes a policy from a name that a person chooses; None if they may not.
        holder: of the control.
    """

    def __init__(
        self,
        robot: Robot | StreamedRobot,
        limits: Limits,
        policy: Policy | None = None,
        name: str = "",
        recorder: Recorder | None = None,
        stage: Stage | None = None,
        settings: Settings | None = None,
        arm: ArmModel | None = None,
        commands: Sequence[str] = (),
        load: Callable[[str], Policy] | None = None,
        holder: Holder | None = None,
    ) -> None:
        settings = settings or Settings()
        settings = replace(settings, behaviours=_sterner(settings.behaviours))
        self.robot, self.stage, self.commands = robot, stage, tuple(commands)
        self._recorder, self._load = recorder, load
        self._holder = holder or Holder()
        space = robot.spec.action_space
        self._settings = settings
        self._loop = ControlLoop(robot, policy or Nobody(space), limits, settings, arm, self._on_step)
        self._policy = (name or "policy") if policy is not None else ""
        self._two_levels = policy.spec if policy is not None and policy.spec.commands else None
        self._task = ""
        self._corrected_until: float | None = None
        rate = robot.command_rate if isinstance(robot, StreamedRobot) else space.rate
        self._drive: ToolDrive | JointDrive | None = None
        with suppress(ContractError):  # said when somebody wants to take over
            self._drive = make_drive(space, limits, rate)
        self._held: tuple[tuple[float, ...], float] | None = None
        self._frames = Frames(robot.spec, rate)
        self._lock = threading.RLock()
        self._table = threading.RLock()  # held while a scene is put up: what sets the arm in motion waits for that
        self._episode: _Episode | None = None
        self._replay: Replay | None = None
        self._recording = recorder is not None
        self._saved = 0
        self._message = ""
        self._said: tuple[str, Source] | None = None
        self._motion: tuple[Motion, float, bool] | None = None
        self._steered = False
        self._chosen = ""
        self._opening: float | None = None
        self._instruction = self._asked = ""
        self._pressed: set[str] = set()
        self._stopped = False
        self._steps_left = 0
        self._periods = max(round(rate / space.rate), 1)
        self._newest: Step | None = None
        self._work: queue.SimpleQueue[tuple[_Episode, _Seen | Happening | _Close] | None] = queue.SimpleQueue()
        self._closing = threading.Event()
        self._recording_thread = threading.Thread(target=self._record, name="recording", daemon=True)
        self._watching_thread = threading.Thread(target=self._watch, name="watching", daemon=True)

    def open(self) -> Session:
        """Begin to look; nothing moves. Raises TongsError if the robot gives no observation."""
        self._loop.open(_PATIENCE)
        self._recording_thread.start()
        self._watching_thread.start()
        return self

    def close(self) -> None:
        """Come to rest, save what was recorded, end all threads.

        Raises:
            TongsError: the episode that was under way could not be saved.
        """
        self._closing.set()
        self._loop.stop("closed")
        saved = self._end(None, keep=True)
        self._work.put(None)
        for thread, patience in ((self._watching_thread, _PATIENCE), (self._recording_thread, _SAVING)):
            if thread.is_alive():
                thread.join(timeout=patience)
        self._loop.close()
        if self._recorder is not None:
            self._recorder.close()
        if not saved.done():
            raise TongsError(f"the last episode was not saved within {_SAVING:g} s")
        saved.result()

    def __enter__(self) -> Session:
        return self.open()

    def __exit__(self, *exception: object) -> None:
        self.close()

    # --- looking

    def view(self) -> View:
        status = self._loop.status()
        with self._lock:
            episode = self._episode
            return View(
                status=status,
                holder=self._holder.name,
                episode=episode is not None,
                recording=self._recording,
                frames=episode.replay.frames if episode else 0,
                saved=self._saved,
                policy=self._policy,
                message=self._message,
                said=self._said,
                success=self.stage.success() if self.stage else None,
            )

    @property
    def loop_state(self) -> State:
        """Of the control loop: cheaper than `view`."""
        return self._loop.state

    def events(self, after: int = 0) -> list[Event]:
        """The control loop's events with a higher number."""
        return self._loop.events(after)

    def pictures(self) -> Images:
        """The newest picture of every camera, uint8 (H, W, 3) RGB."""
        shown = self.stage.pictures() if self.stage else {}
        if shown:
            return shown
        newest = self._newest
        return newest.observation.images if newest and newest.observation else {}

    def state(self) -> dict[str, float]:
        """The newest state, by name."""
        newest = self._newest
        if newest is None or newest.observation is None:
            return {}
        return dict(zip(self.robot.spec.state_names, newest.observation.state.tolist(), strict=True))

    @property
    def instruction(self) -> str:
        """What the robot is told, or would be if it began now."""
        told = self._instruction if self._episode is not None else self._wanted("")
        return told or self._seen_instruction()

    @property
    def drive_keys(self) -> Sequence[tuple[str, str]]:
        """Which keys drive what by hand; empty for a robot that cannot be driven."""
        return self._drive.keys if self._drive is not None else ()

    def plan(self) -> list[list[float]]:
        """The actions that are known and still to come, (N, A)."""
        return self._loop.plan().tolist()

    def suggestions(self) -> list[str]:
        """What may be said: the scene's instructions, then what a policy of two levels tells itself, first what has
        most words in common with the task."""
        told = self.stage.suggestions() if self.stage else ()
        commands = self._two_levels.commands if self._two_levels else ()
        task = set((self._task or self.instruction).lower().split())
        nearest = sorted(commands, key=lambda command: -len(task & set(command.lower().split())))
        return list(self.commands or dict.fromkeys((*told, *nearest)))

    def replay(self) -> Replay | None:
        """The newest episode, recorded or not; None before the first."""
        return self._replay

    def holds(self, client: str) -> bool:
        return self._holder.holds(client)

    def require_control(self, client: str) -> None:
        """Raises TongsError, which says who, unless this client holds the control."""
        self._holder.require(client)

    def warn(self, text: str) -> None:
        """Have a person know of something, until they start anew or re-arm."""
        self._message = text

    # --- who controls

    def take_control(self, client: str, name: str) -> None:
        """Raises TongsError, which says who, if another client holds the control."""
        self._holder.take(client, name)

    def release_control(self, client: str) -> None:
        """Give the control to whoever takes it next; the arm holds."""
        if self._holder.holds(client):
            self._loop.pause("the control was released")
            self._holder.release(client)

    def leave(self, client: str) -> None:
        """The client is gone for good. If it held the control, the arm stops, the episode is saved without a verdict,
        and the control is free."""
        if self._holder.holds(client):
            self._gone()
            self._holder.release(client)

    def _gone(self) -> None:
        if self._episode is not None:
            self._let_go()
            self._loop.stop("the connection to whoever holds the control was lost")
            self._message = "Connection lost: the arm stopped and the episode was saved without a verdict."
            self._end(None, keep=True)

    def alive(self, client: str) -> None:
        """The client is still there. To be called a few times a second while it holds the control: without it, the arm
        holds, and then stops and the episode is saved."""
        self._holder.alive(client)

    # --- episodes

    def start(self, client: str, instruction: str = "", seed: int = 0) -> None:
        """Begin an episode, or go on with one that is paused. An empty instruction takes what was said since the last
        one ended, or else the scene's, or else that of the episode before.

        Raises:
            TongsError: there is no policy, it does not know the instruction, nobody has said what is wanted, or the
                loop cannot start now.
        """
        self._holder.require(client)
        if not self._policy:
            raise TongsError("no policy is loaded; choose one, or take over to demonstrate")
        said = instruction.strip()
        if said:
            self._require_known(said)
        with self._table:
            state = self._loop.state
            if self._episode is not None and state in (State.PAUSED, State.STOPPED):
                self._loop.resume()
                self._happened("resume", "resumed")
                return
            if state == State.RUNNING:
                raise TongsError("an episode is running; pause or finish it first")
            if self._episode is not None:
                self._end(None, keep=True)
            wanted = self._wanted(said)
            if not wanted and "language" in self._loop.policy.goals:
                raise TongsError("say what is wanted first; nobody has told the robot anything yet")
            self._instruction = wanted
            self._loop.start(wanted or None, seed)
            self._begin()

    def step(self, client: str) -> None:
        """Go on for one action, and hold again."""
        self._holder.require(client)
        if self._loop.state == State.RUNNING:
            raise TongsError("pause before going on step by step")
        self._steps_left = self._periods
        try:
            self.start(client)
        except TongsError:
            self._steps_left = 0
            raise

    def pause(self, client: str, reason: str = "paused") -> None:
        """Decelerate and hold."""
        self._holder.require(client)
        self._let_go()
        self._loop.pause(reason)
        self._happened("pause", reason)

    def finish(self, client: str, success: bool | None) -> Future[str]:
        """Stop, and save the episode with a verdict; the future tells where it is, "" if it was not recorded.

        Raises:
            TongsError: there is no episode; from the future: it could not be saved.
        """
        self._holder.require(client)
        if self._episode is None:
            raise TongsError("there is no episode to give a verdict on")
        self._let_go()
        self._loop.stop("finished")
        return self._end(success, keep=True)

    def discard(self, client: str) -> None:
        """Stop, and forget the episode."""
        self._holder.require(client)
        self._let_go()
        self._loop.stop("discarded")
        self._end(None, keep=False)

    def reset(self, client: str) -> None:
        """Come to rest and send nothing any more, so that a person can put up the table, and the arm, by hand; an
        episode that is under way is saved without a verdict. What begins next begins where the arm is then.

        Raises:
            TongsError: the emergency stop is on, or the arm does not come to rest.
        """
        self._holder.require(client)
        self._let_go()
        if self._loop.state == State.EMERGENCY:
            raise TongsError("the emergency stop is on; re-arm before resetting")
        self._loop.stop("reset")
        self._end(None, keep=True)
        if self._loop.state != State.IDLE and not self._loop.wait(State.STOPPED, 5.0):
            raise TongsError("the arm does not come to rest; it was not reset")
        self._loop.release()
        with self._lock:
            self._said, self._opening = None, None

    def put_up(self, client: str, task: str, split: str, index: int) -> None:
        """`reset`, and put up a scene. Returns when it is up and seen; what is to begin meanwhile waits for that.

        Raises:
            TongsError: see `reset`; or there are no scenes here.
        """
        self._holder.require(client)
        if self.stage is None or not self.stage.tasks:
            raise TongsError("this robot has no scenes to choose from; reset, and put things up by hand")
        with self._table:
            self.reset(client)
            self.stage.put(task, split, index)
            self._instruction = self._task = self._asked = ""
            self._opening = 1.0
            for _ in range(2):  # what comes first may have been seen before
                self._see_anew()

    def _see_anew(self) -> None:
        before, deadline = self._observation(), time.monotonic() + _PATIENCE
        while self._observation() is before:
            if time.monotonic() > deadline:
                raise TongsError(f"the robot has given no observation for {_PATIENCE:g} s")
            time.sleep(_TICK)

    def _observation(self) -> Observation | None:
        return self._newest.observation if self._newest else None

    def record(self, client: str, on: bool) -> None:
        """Record from the next episode on, or not. Raises TongsError during an episode, or without a recorder."""
        self._holder.require(client)
        if self._recorder is None:
            raise TongsError("this session records nothing; start it with output=<dataset folder>")
        if self._episode is not None:
            raise TongsError("finish the episode before switching the recorder")
        self._recording = on

    def use(self, client: str, name: str) -> None:
        """Load another policy by name; takes as long as that takes.

        Raises:
            TongsError: the loop is running, there is no such policy, or it does not fit the robot.
        """
        self._holder.require(client)
        if self._load is None:
            raise TongsError("policies cannot be chosen in this session")
        if self._episode is not None:
            raise TongsError("finish the episode before loading another policy")
        policy = self._load(name)
        try:
            self._loop.use(policy)
        except TongsError:
            if isinstance(policy, PolicyProcess):
                policy.close()
            raise
        self._policy = name
        self._two_levels = policy.spec if policy.spec.commands else None

    # --- speech

    def correct(self, client: str, text: str, source: Source = "human") -> str:
        """Say something to the robot: a stop word, a motion ("move left"), or an instruction for the policy. It is in
        force at the next control step, and goes into the episode.

        A policy that takes motions carries it out, as it understands it, until a release word ("go on"), another motion
        or an instruction; the arm of any other one is driven by it for `MOTION_TIME`.

        Returns:
            What was understood.

        Raises:
            TongsError: nothing was said, or it is not known; the nearest known ones are named and nothing moves.
        """
        self._holder.require(client)
        said = " ".join(text.split())
        if not said:
            raise TongsError("the correction is empty; say what to do, such as 'move left'")
        if said.lower().strip(".!") in STOP_WORDS:
            return self._stop_word(client, said, source)
        if said.lower().strip(".!") in RELEASE_WORDS:
            return self._release(said, source)
        known = {one.lower(): one for one in self.suggestions()}
        said = known.get(said.lower().rstrip(".!"), said)
        if said not in (*self.commands, *(self._two_levels.commands if self._two_levels else ())):
            motion = parse_motion(said)
            if motion is not None:
                self._move(motion, source)
                return f"motion: {motion.text}"
        self._require_known(said)
        self._let_go()
        self._steer("")
        with self._lock:
            self._instruction = said
            if self._episode is None:
                self._asked = said
            if self._two_levels is not None and self._episode is not None:
                self._corrected_until = time.monotonic() + self._two_levels.command_time
            self._loop.instruct(said)
        self._say("correction", said, source)
        return f"instruction: {said}"

    def hear(self, client: str, text: str) -> str:
        """What a transcriber made of something spoken: like `correct`, but a stop word stops wherever it is among the
        words, and whatever the others are.

        Returns:
            What was understood.

        Raises:
            TongsError: see `correct`; or there are no words.
        """
        self._holder.require(client)
        said = " ".join(text.split())
        words = re.findall(r"\w+", said.lower())
        if not words:
            raise TongsError("nothing was understood; speak closer to the microphone, or type it")
        if any(word in STOP_WORDS for word in words):
            return self._stop_word(client, said, "human")
        return self.correct(client, said.rstrip(".!?, "))

    def _stop_word(self, client: str, said: str, source: Source) -> str:
        self._say("correction", said, source)
        self.pause(client, f"told to stop: {said}")
        return "paused"

    def _require_known(self, said: str) -> None:
        """Raise TongsError for an instruction that the policy cannot know: none of its commands, or without a single
        word of what can be said here. A person who demonstrates may call it what they like."""
        known = self.suggestions()
        if not known or said in known or not self._policy:
            return
        words = {word for text in known for word in text.lower().split() if len(word) > _DIGITS}
        if not self.commands and words & set(said.lower().split()):
            return
        nearest = get_close_matches(said, known, 3, 0.0)
        raise TongsError(f"unknown command {said!r}; the nearest known are: {', '.join(nearest)}")

    def _move(self, motion: Motion, source: Source) -> None:
        """Override the policy's own motions, or the policy for a while."""
        if "motion" in self._loop.policy.goals and self._loop.state == State.RUNNING:
            self._steer(motion.text)
            self._say("motion", motion.text, source)
            return
        if self._drive is None:
            raise TongsError("this robot takes no motions: it is not told how its tool shall move")
        if isinstance(self._drive, JointDrive) and any(motion.velocity):
            raise TongsError("this robot is driven joint by joint; of motions it takes those of the gripper alone")
        state = self._loop.state
        if state not in (State.RUNNING, State.OPERATOR):
            raise TongsError(f"start an episode or take over before saying a motion; the loop is {state.value}")
        with self._lock:
            back = self._motion[2] if self._motion is not None else state == State.RUNNING
            if state == State.RUNNING:
                self._loop.take_over(f"motion {motion.text!r}")
            if motion.opening is not None:
                self._opening = motion.opening
            self._motion = (motion, time.monotonic() + MOTION_TIME, back)
            self._operate(motion.velocity)
        self._say("motion", motion.text, source)

    def _steer(self, motion: str) -> None:
        """Have the policy carry out a motion, or choose by itself again."""
        if motion or self._steered:
            self._loop.steer(motion)
        self._steered, self._chosen = bool(motion), ""

    def _release(self, said: str, source: Source) -> str:
        """Give the choice of motions back to the policy."""
        if not self._steered and self._motion is None:
            raise TongsError("no motion is held; there is nothing to release")
        self._let_go()
        self._steer("")
        self._loop.correct(said, source)
        self._happened("hand_back", said, source)
        return "released"

    def _say(self, kind: HappeningKind, text: str, source: Source) -> None:
        self._loop.correct(text, source)
        with self._lock:
            self._said = (text, source)
        self._happened(kind, text, source)

    # --- by hand

    def take_over(self, client: str, instruction: str = "") -> None:
        """The person drives. Without an episode under way, one begins: a demonstration of the instruction.

        Raises:
            TongsError: after an emergency stop, or the robot cannot be driven by hand.
        """
        self._holder.require(client)
        if self._drive is None:
            raise TongsError(
                "this robot is not told how its tool or its joints shall move: it cannot be driven by hand"
            )
        with self._table:
            with self._lock:
                self._motion = self._held = None
                if self._loop.state != State.OPERATOR:
                    self._loop.take_over(self._holder.name)
            if self._episode is None:
                self._instruction = self._wanted(instruction.strip())
                if self._instruction:
                    self._loop.instruct(self._instruction)
                self._begin()
            self._happened("take_over", f"{self._holder.name} took over")

    def drive(self, client: str, velocity: Sequence[float], opening: float | None = None) -> None:
        """What the person holds down now: a velocity (6,) in shares of full speed, and the gripper's opening (None
        leaves it). To be repeated at least every 0.2 s; without that the arm holds.

        Raises:
            TongsError: nobody has taken over, or these are no six numbers.
        """
        self._holder.require(client)
        with self._lock:
            if self._motion is not None:
                if not any(velocity) and opening is None:
                    return
                self._let_go()
            if opening is not None:
                self._opening = min(max(float(opening), 0.0), 1.0)
            self._operate(velocity)

    @property
    def opening(self) -> float:
        """Of the gripper, as the person or the policy wants it: 0 closed, 1 open. As it is measured, if neither has
        wanted anything since the arm was left to others: fingers that hold something must not open by being driven."""
        if self._opening is not None:
            return self._opening
        state = self.state()
        measured = next((state[name] for name in OPENING_STATES if name in state), 1.0)
        return 1.0 if measured > _OPEN else max(measured, 0.0)

    def hand_back(self, client: str) -> None:
        """The policy goes on from here; without one the arm holds."""
        self._holder.require(client)
        if self._loop.state != State.OPERATOR:
            raise TongsError("nobody has taken over")
        with self._lock:
            self._motion = None
        self._happened("hand_back", "handed back")
        if self._policy:
            self._loop.hand_back()
        else:
            self._loop.pause("handed back, and no policy is loaded")

    def _operate(self, velocity: Sequence[float]) -> None:
        if self._opening is None:
            self._opening = self.opening
        if isinstance(self._drive, ToolDrive):
            self._loop.operate(self._drive.action(velocity, self._opening))
            return
        require_velocity([*velocity, self._opening])
        if self._loop.state != State.OPERATOR:
            raise TongsError(f"take over before driving; the loop is {self._loop.state.value}")
        self._held = tuple(velocity), time.monotonic() + _HELD

    def _go_on_driving(self, drive: JointDrive, step: Step) -> None:
        """In the control loop's thread: where the joints are to be moves on with every command, by what is held."""
        if step.state != State.OPERATOR or step.command is None:
            drive.forget()
            return
        held = self._held
        if held is not None and time.monotonic() < held[1]:
            with suppress(TongsError):  # no more taken over
                self._loop.operate(drive.action(held[0], self.opening, step.command))

    def _let_go(self) -> None:
        """End a motion that was said."""
        with self._lock:
            if self._motion is None:
                return
            _, _, back = self._motion
            self._motion = None
            if back and self._loop.state == State.OPERATOR:
                self._loop.hand_back()

    # --- emergency

    def emergency_stop(self, who: str) -> None:
        """For everybody, at any time, on more than one way at once: the robot stops, and nothing is sent until it is
        re-armed."""
        self._loop.emergency_stop(f"emergency stop by {who}")
        with self._lock:
            stands, self._stopped, self._motion = self._stopped, True, None
            self._message = f"Emergency stop by {who}."
        if not stands:
            self._happened("emergency_stop", f"emergency stop by {who}")

    def rearm(self, client: str) -> None:
        """Allow starting again; nothing moves by it. Raises TongsError while a button of `stop_button` is pressed."""
        self._holder.require(client)
        if self._pressed:
            raise TongsError(f"the emergency stop {', '.join(sorted(self._pressed))} is pressed; release it first")
        self._stopped = False  # before: one that comes in between is told of
        self._loop.rearm()
        self._message = ""

    def stop_button(self, name: str, pressed: bool) -> None:
        """What an emergency stop elsewhere says, as often as it likes: pressed it stops as `emergency_stop` does, and
        until it is released nothing is re-armed."""
        if not pressed:
            self._pressed.discard(name)
        elif name not in self._pressed or self._loop.state != State.EMERGENCY:
            self._pressed.add(name)
            self.emergency_stop(name)

    # --- episodes, inside

    def _begin(self) -> None:
        with self._lock:
            self._message, self._steered, self._chosen = "", False, ""
            self._task, self._corrected_until, self._asked = self._instruction, None, ""
            number = self._replay.number + 1 if self._replay else 1
            self._replay = Replay(number, self.robot.spec.action_space.rate)
            self._episode = _Episode(self._recording and self._recorder is not None, self._replay)

    def _end(self, success: bool | None, keep: bool) -> Future[str]:
        """Hand the episode to the recording thread to be saved or forgotten."""
        close = _Close(success, keep)
        with self._lock:
            if self._episode is None:
                close.done.set_result("")
                return close.done
            self._work.put((self._episode, close))
            self._episode = None
        return close.done

    def _happened(self, kind: HappeningKind, text: str, source: Source = "human") -> None:
        with self._lock:
            if self._episode is not None:
                self._work.put((self._episode, Happening(0.0, kind, text, source)))

    def _wanted(self, said: str) -> str:
        """What an episode that begins is about, see `start`."""
        return said or self._asked or self._seen_instruction() or self._task

    def _seen_instruction(self) -> str:
        newest = self._newest
        return newest.observation.instruction if newest and newest.observation else ""

    # --- threads

    def _on_step(self, step: Step) -> None:
        """In the control loop's thread: nothing here waits for anybody but for the length of a few assignments."""
        self._newest = step
        if isinstance(self._drive, JointDrive):
            self._go_on_driving(self._drive, step)
        if step.state == State.RUNNING and step.command is not None and GRIPPER in self.robot.spec.action_space.names:
            told = float(step.command[self.robot.spec.action_space.names.index(GRIPPER)])
            self._opening = told if self.robot.spec.action_space.gripper_open == 1.0 else 1.0 - told
        episode = self._episode
        if step.state == State.RUNNING and step.motion_source == "model" and step.motion not in ("", self._chosen):
            self._chosen = step.motion  # while somebody steers, what the policy chose before is over
            if episode is not None and not self._steered:
                self._work.put((episode, Happening(0.0, "motion", step.motion, "model")))
        if episode is not None and step.state in (State.RUNNING, State.OPERATOR):
            told = self._instruction or self._seen_instruction()
            self._work.put((episode, _Seen(step, step.state == State.OPERATOR, told)))
        if self._steps_left and step.state == State.RUNNING and step.followed:
            self._steps_left -= 1
            if not self._steps_left:
                self._loop.pause("one step")

    def _record(self) -> None:
        """The recording thread: everything in the order in which it happened."""
        rate = self.robot.spec.action_space.rate
        begun, problem = False, ""
        while (given := self._work.get()) is not None:
            episode, item = given
            if episode.closed:
                continue
            replay, recorder = episode.replay, self._recorder if episode.recorded else None
            if isinstance(item, _Close):
                episode.closed = True
                where = ""
                try:
                    if recorder is not None and begun:
                        if item.keep and replay.frames and not problem:
                            where = recorder.save(item.success)
                            self._saved += 1
                        else:
                            recorder.discard()
                    if problem:
                        raise TongsError(f"the episode was not recorded: {problem}")
                    item.done.set_result(where)
                except Exception as error:
                    self._message = f"Not saved: {error}"
                    item.done.set_exception(TongsError(self._message))
                begun, problem = False, ""
                self._frames.clear()
                continue
            try:
                if recorder is not None and not begun and not problem:
                    recorder.begin(self.robot.spec)
                    begun = True
                if isinstance(item, Happening):
                    item = replace(item, time=replay.frames / rate)
                    replay.happenings.append(item)
                    if recorder is not None and not problem:
                        recorder.happened(item)
                else:
                    for frame in self._frames.add(item.step, item.operated, item.instruction):
                        replay.add(frame)
                        if recorder is not None and not problem:
                            recorder.frame(frame)
            except Exception as error:  # a recorder that fails must not end the session, and must be heard of
                problem = str(error)
                self._message = f"Recording failed: {error}"

    def _watch(self) -> None:
        """The watching thread: signs of life, motions that go on, and a loop that stopped by itself."""
        while not self._closing.wait(_TICK):
            with suppress(TongsError):
                self._look_after_motion()
            self._look_after_correction()
            self._look_after_cameras()
            presence = self._holder.presence()
            status = self._loop.status()
            moving = status.state in (State.RUNNING, State.OPERATOR)
            if presence == "silent" and moving:
                self._motion = None
                self._loop.pause("the connection to whoever holds the control was lost")
                self._happened("pause", "connection lost")
                self._message = "Connection lost: the arm holds."
            elif presence == "gone":
                self._gone()
            fault = status.state == State.STOPPED and bool(status.faults)
            if fault and self._episode is not None:
                self._happened("fault", status.reason, "model")
                self._message = f"The arm stopped: {status.reason}. The episode was saved without a verdict."
                self._end(None, keep=True)

    def _look_after_cameras(self) -> None:
        """An episode whose pictures stand still is not recorded: the arm holds until a person goes on."""
        episode, newest = self._episode, self._newest
        if episode is None or not episode.recorded or newest is None or newest.observation is None:
            return
        if newest.state not in (State.RUNNING, State.OPERATOR):
            return
        for camera, taken in newest.observation.image_times.items():
            if (age := newest.time - taken) > _PATIENT * self._settings.patience.camera:
                self._let_go()
                self._loop.pause(f"no new picture of camera {camera}")
                self._happened("pause", f"no new picture of camera {camera}", "model")
                self._message = f"Camera {camera} has given no new picture for {age:.1f} s: the arm holds."
                return

    def _look_after_correction(self) -> None:
        """A policy of two levels is told its task again when a correction is over, so the same may be said anew."""
        with self._lock:
            if self._corrected_until is None or time.monotonic() < self._corrected_until:
                return
            self._corrected_until = None
            if self._episode is None or not self._task:
                return
            self._instruction = self._task
            self._loop.instruct(self._task)

    def _look_after_motion(self) -> None:
        with self._lock:
            if self._motion is None:
                return
            motion, until, back = self._motion
            if time.monotonic() < until:
                self._operate(motion.velocity)
                return
            if back:
                self._let_go()
            else:
                self._motion = None


def _sterner(behaviours: Behaviours) -> Behaviours:
    return replace(behaviours, policy_dead="stop")
