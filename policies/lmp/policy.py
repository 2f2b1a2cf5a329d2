"""Language-model programs as a policy: the program runs in a thread of its own, an action at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

import numpy as np

from policies.lmp.api.api import make_api
from policies.lmp.api.arm import Arm
from policies.lmp.api.speech import Speech
from policies.lmp.domain import domain_for, find_domain
from policies.lmp.errors import Interrupted, ProgramError
from policies.lmp.executor import MakeExecutor
from policies.lmp.language_models import LanguageModel, ModelSettings, make_model
from policies.lmp.log import Command, EpisodeLog
from policies.lmp.program import Manners, Session
from robot.errors import ContractError, TongsError
from robot.interface import ActionChunk, Observation, Policy, PolicySpec, RobotSpec, Scene
from robot.skills import POSE_STATE, Action, Pose


@dataclass(frozen=True)
class LmpSettings:
    """What decides what a policy of language-model programs does.

    Attributes:
        model: the language model.
        domain: one of ours, the path of a folder of your own, or "auto" for the one that fits the scene.
        repairs: how often in a command a program that failed is given back to the model with its error.
        hierarchical: functions that a program calls and nobody has defined are asked for as well.
        dry_run: programs are asked for and logged, and nothing is run.
        skills: a checkpoint whose policy programs may let follow an instruction; "" for none.
        wait: seconds for which an action is waited for before the arm holds its pose instead; null for ever, which
            suits a simulation: its time stands still while a model thinks.
    """

    model: ModelSettings = field(default_factory=ModelSettings)
    domain: str = "auto"
    repairs: int = 2
    hierarchical: bool = True
    dry_run: bool = False
    skills: str = ""
    wait: float | None = None

    def __post_init__(self) -> None:
        if self.repairs < 0:
            raise TongsError(f"lmp.repairs has to be 0 or more, got {self.repairs}")


class LmpPolicy:
    """A `Policy` of horizon 1 for the robot and the scene that it was made for.

    An instruction that was not there before is a new command of the session; "undo that" means something therefore. A
    program that is running when the instruction changes is ended first. When it has ended, the arm holds its pose.

    Args:
        settings: see there.
        robot: what the robot offers.
        scene: where things are, in the robot's base frame: ground truth in simulation, a detector on a table.
        learned: the policy that `settings.skills` names, bound to the robot.
        model: in place of the one that the settings name.
        make_executor: in place of a sandbox.
        tell, answer: what the programs say goes to one, what they ask is answered by the other.

    Attributes:
        log: of the present episode.
    """

    def __init__(
        self,
        settings: LmpSettings,
        robot: RobotSpec,
        scene: Scene,
        learned: Policy | None = None,
        model: LanguageModel | None = None,
        make_executor: MakeExecutor | None = None,
        tell: Callable[[str], None] | None = None,
        answer: Callable[[str], str] | None = None,
    ) -> None:
        if not isinstance(scene, Scene):
            raise ContractError(f"policy lmp needs a scene that tells where things are, not a {type(scene).__name__}")
        self.settings, self._scene = settings, scene
        self._model = model or make_model(settings.model)
        self._make_executor = make_executor or sandboxed
        self._tell = tell
        inner = learned.spec if learned is not None else None
        names = dict.fromkeys((*POSE_STATE, *(inner.state_names if inner else ())))
        self._spec = PolicySpec(dict(inner.cameras) if inner else {}, tuple(names), robot.action_space, horizon=1)
        if settings.domain != "auto":
            find_domain(settings.domain)
        self._arm = Arm(robot, self._newest, self._perform)
        self._speech = Speech(self._hear, answer)
        self._api = make_api(self._arm, scene, self._speech, learned)
        self._sessions: dict[str, Session] = {}
        self.log = EpisodeLog(model=self._model.name)
        self._session: Session | None = None
        self._held_at: Pose | None = None
        self._worker: _Worker | None = None
        self._instruction: str | None = None
        self._observation: Observation | None = None

    @property
    def spec(self) -> PolicySpec:
        return self._spec

    def reset(self, seed: int) -> None:
        """Forget the episode, and end the program that is running."""
        self._end_command()
        self._session, self._instruction, self._held_at = None, None, None
        self._api.reset()
        self.log = EpisodeLog(model=self._model.name)

    def act(self, observation: Observation) -> ActionChunk:
        """The next action of the program that follows from the instruction.

        Raises:
            TongsError: the language model cannot be asked.
        """
        self._observation = observation
        if self._session is None:
            self._begin()
        if observation.instruction != self._instruction:
            self._end_command()
            self._instruction = observation.instruction
            if observation.instruction.strip():
                self._begin_command(observation)
        action = self._worker.next_action(observation, self.settings.wait) if self._worker else None
        if action is None:
            action = self._hold()
        else:
            self._held_at = None
        return ActionChunk(action[None], np.array([observation.time]))

    def act_batch(self, observations: Sequence[Observation]) -> list[ActionChunk]:
        if len(observations) != 1:
            raise ValueError(f"policy lmp drives one robot, got {len(observations)} observations")
        return [self.act(observations[0])]

    def listen(self, tell: Callable[[str], None] | None, answer: Callable[[str], str] | None) -> None:
        """From now on, what programs say goes to one and what they ask is answered by the other."""
        self._tell = tell
        self._speech.answer = answer

    def stop(self) -> None:
        """End the running program, from any thread."""
        if self._session is not None:
            self._session.stop()

    def close(self) -> None:
        """End everything that runs."""
        self._end_command()
        for session in self._sessions.values():
            session.close()
        self._sessions, self._session = {}, None

    @property
    def busy(self) -> bool:
        """Whether a program is still running."""
        return self._worker is not None and not self._worker.ended

    # --- one episode

    def _begin(self) -> None:
        """Take up the session of the domain that fits the scene, without anything of an earlier episode."""
        settings = self.settings
        domain = domain_for(self._scene.objects()) if settings.domain == "auto" else find_domain(settings.domain)
        if domain.name not in self._sessions:
            manners = Manners(settings.repairs, settings.hierarchical, settings.dry_run)
            functions, model = self._api.functions, self._model
            self._sessions[domain.name] = Session(
                domain, functions, model, self._make_executor, manners, settings.model, self._context
            )
        self._session = self._sessions[domain.name]
        self._session.begin()
        self.log = self._session.log

    def _context(self) -> str:
        return f"objects = {self._api.perception.get_obj_names()}"

    def _hear(self, text: str) -> None:
        if self.log.commands:
            self.log.commands[-1].said.append(text)
        if self._tell is not None:
            self._tell(text)

    def _begin_command(self, observation: Observation) -> None:
        session = self._session
        assert session is not None
        command = Command(observation.instruction, observation.time)
        self.log.commands.append(command)
        self._api.begin()
        session.withdrawn = False

        def work() -> None:
            try:
                session.command(command.instruction)
                command.ending = "finished"
            except Interrupted:
                command.ending = "interrupted"
            except ProgramError as error:
                command.ending, command.reason = "failed", str(error)
                self._hear(f"I could not do that: {_last_line(str(error))}")

        self._worker = _Worker(work)  # before it starts: it is what the work hands its actions to
        self._worker.start()

    def _end_command(self) -> None:
        if self._worker is not None:
            if self._session is not None and not self._worker.ended:
                self._session.stop()
            self._worker.cancel()
            self._worker = None

    # --- called by the program's thread

    def _newest(self) -> Observation:
        assert self._observation is not None
        return self._observation

    def _perform(self, action: Action) -> None:
        worker, session = self._worker, self._session
        assert worker is not None and session is not None
        if session.executor.stopping.is_set():
            raise Interrupted
        worker.hand_over(action)

    def _hold(self) -> Action:
        """Stay where the arm was when the last program ended."""
        if self._held_at is None:
            self._held_at = self._arm.pose()
        return self._arm.skills.step(self._held_at, self._held_at, self._arm.gripper)


class _Worker:
    """A thread that gives one action after another; either it runs or the one that asks for actions, never both."""

    def __init__(self, work: Callable[[], None]) -> None:
        self._actions: SimpleQueue[Action | None] = SimpleQueue()
        self._done: SimpleQueue[bool] = SimpleQueue()
        self._owed = self._cancelled = False
        self.ended = False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(work,), name="language-model program", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def _run(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - raised again by `next_action`
            self._error = error
        self._actions.put(None)

    def next_action(self, observation: Observation, wait: float | None) -> Action | None:
        """The action after what was carried out last; None if there is none (any more, or not within `wait` s)."""
        if self.ended:
            return None
        if self._owed:
            self._owed = False
            self._done.put(True)
        try:
            action = self._actions.get(timeout=wait)
        except Empty:
            return None
        if action is None:
            self.ended = True
            self._thread.join()
            if self._error is not None and not self._cancelled:
                raise self._error
            return None
        self._owed = True
        return action

    def hand_over(self, action: Action) -> None:
        """Called by the work: give an action and wait until it was carried out."""
        if self._cancelled:
            raise Interrupted
        self._actions.put(action)
        if not self._done.get() or self._cancelled:
            raise Interrupted

    def cancel(self) -> None:
        """End the work at its next action, or when the program has been stopped."""
        self._cancelled = True
        self._done.put(False)
        self._thread.join(timeout=10.0)
        self.ended = True


def sandboxed(functions: Mapping[str, Callable[..., Any]]) -> Any:
    """The executor that programs run in unless a test says otherwise."""
    from policies.lmp.sandbox import Sandbox

    return Sandbox(functions)


def write_log(policy: LmpPolicy, path: Path, **outcome: Any) -> None:
    """Write the log of the present episode with how that ended."""
    policy.log.outcome = outcome
    policy.log.write(path)


def _last_line(text: str) -> str:
    lines = [line for line in text.strip().splitlines() if line.strip()]
    return lines[-1].strip() if lines else "no reason given"
