"""Episodes in which a made-up person, who sees the truth, tells a policy of two levels what to do when it is wrong."""

from __future__ import annotations

import shutil
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from robot.chunk_queue import ChunkQueue
from robot.errors import TongsError
from robot.interface import Policy
from robot.session.recording import Frame, Happening
from sim.executors import LOCAL, Executor, make_executor
from sim.scenes import generator

if TYPE_CHECKING:
    from sim.world import World

_EPS = 1e-6
_SCENES_EACH = 4
"""Scenes that are tried for every correction wanted; a policy that is hardly ever wrong needs none."""


class Told(Protocol):
    """What the low level is told at the moment."""

    @property
    def command(self) -> str: ...


class CommandedPolicy(Policy, Protocol):
    """A policy of two levels that says what it is about."""

    @property
    def commanded(self) -> Sequence[Told]: ...


class Corrector:
    """Says the right command once another one has been followed for a while.

    Args:
        patience: s for which a wrong command is looked at; a person's reaction.
    """

    def __init__(self, patience: float = 1.0) -> None:
        self._patience = patience
        self._wrong_since: float | None = None

    def listen(self, now: float, commanded: str, right: str) -> str | None:
        """What it says now (s); None if nothing."""
        if commanded == right:
            self._wrong_since = None
            return None
        if self._wrong_since is None:
            self._wrong_since = now
        if now - self._wrong_since < self._patience - _EPS:
            return None
        self._wrong_since = None
        return right


@dataclass(frozen=True)
class CorrectedEpisode:
    """What happened in scene number `scene`: of `subgoals` sub-goals the first `reached` were reached in `length`
    control steps; `corrections` are what was said, at s since the start; `frames` are empty unless it was recorded."""

    scene: int
    success: bool
    reached: int
    subgoals: int
    length: int
    corrections: tuple[tuple[float, str], ...]
    frames: tuple[Frame, ...] = field(default=(), repr=False)


def run_corrected(
    world: World,
    policy: CommandedPolicy,
    split: str,
    index: int,
    corrector: Corrector,
    execute: int = 4,
    record: bool = False,
) -> CorrectedEpisode:
    """One episode, as `sim.episode.run_episode` runs it in closed loop, with a person beside it.

    A correction is in force from the next control step on, for as long as the policy's commands hold or until another
    one. Then the task is said again, which leaves the policy to itself.
    """
    world.reset(split, index)
    queue = ChunkQueue(policy, execute)
    queue.reset(int(generator(world.task.name, split, index, "policy").integers(2**31)))
    period = 1.0 / world.spec.action_space.rate
    task = said = world.instruction
    until = 0.0
    corrections: list[tuple[float, str]] = []
    frames: list[Frame] = []
    while not world.finished:
        now = world.steps * period
        if said != task and now > until - _EPS:
            said = task
        observation = replace(world.observe(images=record or queue.wants_images(said)), instruction=said)
        action = queue.action(observation)
        correction = corrector.listen(now, policy.commanded[0].command, world.command)
        if record:
            frames.append(Frame(observation, action, False, said))
        world.execute(action)
        if correction is not None and not world.finished:
            said, until = correction, now + period + policy.spec.command_time
            corrections.append((now + period, correction))
    subgoals = max(len(world.subgoals), 1)
    return CorrectedEpisode(
        index, world.success, world.reached, subgoals, world.steps, tuple(corrections), tuple(frames)
    )


@dataclass(frozen=True)
class Help:
    """How a checkpoint's policy is corrected.

    Attributes:
        policy: checkpoint folder of a policy of two levels.
        task, split: whose scenes.
        patience: see `Corrector`.
        execute: actions of a chunk that are followed.
        image_size: side in pixels of what is rendered and recorded.
        processes: worker processes; same result.
    """

    policy: str
    task: str = "compose"
    split: str = "test"
    patience: float = 1.0
    execute: int = 4
    image_size: int = 128
    processes: int = 2


class CorrectingWorker:
    """What works in each process: one policy, one world, and the person."""

    def __init__(self, settings: Help) -> None:
        import torch

        from policies.base import load_policy
        from policies.yay.model import Yay
        from sim.world import World

        torch.set_num_threads(1)
        policy = load_policy(settings.policy)
        if not isinstance(policy, Yay):
            raise TongsError(f"{settings.policy} holds a {policy.family} policy, which takes no corrections")
        size = (settings.image_size, settings.image_size)
        self._settings, self._policy = settings, policy
        self._world = World(settings.task, dict.fromkeys(policy.spec.cameras, size))
        policy.bind(self._world.spec)

    def run(self, scene: int, record: bool) -> CorrectedEpisode:
        settings = self._settings
        corrector = Corrector(settings.patience)
        return run_corrected(self._world, self._policy, settings.split, scene, corrector, settings.execute, record)


def corrected_episodes(settings: Help, scenes: range, record: bool = False) -> Generator[CorrectedEpisode, None, None]:
    """These scenes in their order; close the generator to stop."""
    with make_executor(LOCAL, partial(CorrectingWorker, settings), settings.processes) as executor:
        yield from _in_order(executor, scenes, record)


def _in_order(executor: Executor, scenes: range, record: bool) -> Iterator[CorrectedEpisode]:
    jobs, pending = iter(scenes), deque[Future[CorrectedEpisode]]()
    while True:
        more = islice(jobs, executor.slots + 1 - len(pending))
        pending += executor.submit("run", [(scene, record) for scene in more])
        if not pending:
            return
        yield pending.popleft().result()


def collect_corrections(settings: Help, folder: Path, wanted: int, start: int) -> int:
    """Record episodes with corrections into a dataset, as a session does, until `wanted` corrections were said; scenes
    from number `start` on. What there is of an earlier collection is made again.

    Returns:
        How many corrections were recorded: fewer if the policy is hardly ever wrong, and no dataset for none.
    """
    from data.recorder import SessionRecorder
    from robot.interface import EE_DELTA, RobotSpec
    from sim.world import STATE_NAMES

    partial_folder = folder.with_name(folder.name + ".partial")
    for unfinished in (partial_folder, folder):
        shutil.rmtree(unfinished, ignore_errors=True)
    recorder, said = SessionRecorder(partial_folder, "panda_mujoco"), 0
    episodes = corrected_episodes(settings, range(start, start + _SCENES_EACH * wanted), record=True)
    for episode in episodes:
        heard = episode.corrections[: wanted - said]
        if heard:
            pictures = episode.frames[0].observation.images
            sizes = {name: (image.shape[0], image.shape[1]) for name, image in pictures.items()}
            recorder.begin(RobotSpec(sizes, STATE_NAMES, EE_DELTA))
            for frame in episode.frames:
                recorder.frame(frame)
            for time, text in heard:
                recorder.happened(Happening(time, "correction", text))
            recorder.save(episode.success)
            said += len(heard)
        if said == wanted:
            break
    episodes.close()
    recorder.close()
    if said:
        partial_folder.rename(folder)
    return said
