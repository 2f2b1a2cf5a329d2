"""Collecting demonstrations: scripted experts in many processes, successes written as a LeRobot dataset."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import BrokenExecutor, Future
from dataclasses import dataclass, replace
from functools import partial
from itertools import count, dropwhile, islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from data.events import LanguageEvent, subtask
from data.features import ACTION, ENVIRONMENT_STATE, IMAGES, SCENE, SCENE_NAMES, STATE, robot_features, vector
from data.reader import Dataset
from data.writer import DatasetWriter
from robot.chunk_queue import ChunkQueue
from robot.errors import TongsError
from robot.interface import EE_DELTA, Policy
from sim.block_push.scene import NAME as BLOCK_PUSH
from sim.engines import DEFAULT, require_engine
from sim.executors import LOCAL, make_executor, require_executor
from sim.expert import ScriptedExpert
from sim.perturbation import disturb
from sim.play import PLAY_SECONDS, Play
from sim.scenes import generator
from sim.tasks import SINGLE, find_task
from sim.world import CAMERA_SIZE, ENVIRONMENT_STATE_NAMES, STATE_NAMES, World
from train.push_demonstrations import collect_pushing
from train.recording import Demonstration, add_episode, encoded

if TYPE_CHECKING:
    from policies.base import PolicyModule

_TOLD = ("original", "other_target", "other_goal")
"""Variants of a scene that are demonstrated, by their number in the dataset's column `scene`."""
_PARAPHRASES = 8
_FOLLOWED = 4
"""Actions of a learner's chunk that are followed before it is asked again, as in an evaluation."""
_CAMERAS = {"front": CAMERA_SIZE, "wrist": CAMERA_SIZE}


@dataclass(frozen=True)
class CollectConfig:
    """What to collect.

    Attributes:
        task: names of the tasks; each gets its own dataset `output/<task>`.
        episodes: demonstrations that each dataset shall hold in the end.
        split, start: scenes are taken in order from number `start` of this split.
        instructions: how many instructions each scene is demonstrated with: 1, its own; 2, also the one for the other
            thing or for another value, by turns; 3, both.
        perturb: fraction of the episodes that begin after a disturbance in the middle of the task.
        midway: fraction of the episodes that begin where the expert has just stopped for another value, between start
            and the goal: what has been done must be seen, it cannot be guessed from how the arm stands.
        dagger: a checkpoint's folder; this policy begins every episode, and the expert takes over from it at a random
            moment, from which on is recorded (as DAgger with whole corrections; Ross et al. 2011). None for no policy.
        play: record play without a goal or an instruction instead of demonstrations.
        images: record the cameras.
        quality: rendering, `fast` or `presentation`.
        engine: physics engine, `mujoco` or `bullet`.
        executor: where the expert works, `local` for this machine or `ray` for a Ray cluster; same dataset.
        processes: worker processes on this machine; same dataset.
    """

    task: Sequence[str]
    episodes: int
    output: str
    split: str = "train"
    start: int = 0
    instructions: int = 2
    perturb: float = 0.0
    midway: float = 0.0
    dagger: str | None = None
    play: bool = False
    quality: str = "fast"
    engine: str = DEFAULT
    images: bool = True
    executor: str = LOCAL
    processes: int = 2


def collect(config: CollectConfig) -> list[Path]:
    """Record `episodes` successes of every task; a folder that has some already is continued.

    Returns the dataset folders. Ctrl-C loses at most the episodes in progress.

    Raises:
        TongsError: bad settings, an engine or executor that is not installed, a lost worker process, or a folder that
            cannot be continued.
    """
    for name in config.task:
        if name == BLOCK_PUSH:
            _require_pushing(config)
        else:
            find_task(name)
    require_engine(config.engine)
    require_executor(config.executor)
    if config.episodes < 1 or config.processes < 1:
        raise TongsError(f"episodes and processes must be at least 1, got {config.episodes} and {config.processes}")
    if not 1 <= config.instructions <= len(_TOLD):
        raise TongsError(f"instructions must be from 1 to {len(_TOLD)}, got {config.instructions}")
    if config.dagger is not None:
        if config.play:
            raise TongsError("dagger needs demonstrations of a task, and play has none; leave one of them out")
        from policies.checkpoint import read_header

        read_header(Path(config.dagger))
    try:
        return [_collect_task(config, name) for name in config.task]
    except BrokenExecutor as error:
        raise TongsError(
            "a worker process died, most likely for lack of memory; the same command continues with what is collected"
        ) from error


def _require_pushing(config: CollectConfig) -> None:
    """The pushing world has one engine and demonstrations of one kind."""
    if config.play or config.perturb or config.midway or config.dagger or config.engine != DEFAULT:
        have = "play, perturb, midway or dagger"
        raise TongsError(f"task={BLOCK_PUSH} has no {have}, and runs with engine={DEFAULT} only")


def _collect_task(config: CollectConfig, task: str) -> Path:
    if task == BLOCK_PUSH:
        return collect_pushing(config.output, config.episodes, config.split, config.start, config.images)
    folder = Path(config.output) / task
    cameras = _CAMERAS if config.images else {}
    features = robot_features(cameras, STATE_NAMES, EE_DELTA.names, ENVIRONMENT_STATE_NAMES)
    features[SCENE] = vector(SCENE_NAMES, "int64")
    jobs = _jobs(config)
    if (folder / "meta" / "info.json").exists():
        dataset = Dataset(folder)
        if dataset.total_frames:
            last = tuple(int(number) for number in dataset.columns[SCENE][-1])
            jobs = dropwhile(lambda job: job <= last, jobs)
    bar = Progress(
        TextColumn("{task.description:16}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[failed]} failed"),
        TimeRemainingColumn(),
    )
    robot_type = f"panda_{config.engine}"
    language = None if task in SINGLE else "episodes"
    with DatasetWriter(folder, round(EE_DELTA.rate), features, robot_type, language=language) as writer, bar:
        shown = bar.add_task(task, total=config.episodes, completed=writer.episodes, failed=0)
        failed = 0
        for demonstration in _demonstrations(config, task, jobs, config.episodes - writer.episodes):
            if demonstration is None:
                failed += 1
                bar.update(shown, failed=failed)
                continue
            add_episode(writer, demonstration)
            bar.update(shown, advance=1)
    return folder


def _jobs(config: CollectConfig) -> Iterator[tuple[int, int]]:
    """(scene, number of the variant) of every demonstration to try, in order, without end."""
    told = 1 if config.play else config.instructions  # play has no instruction to vary
    for scene in count(config.start):
        turn = scene % 2
        yield from ((scene, variant) for variant in sorted((0, 1 + turn, 2 - turn)[:told]))


def _demonstrations(
    config: CollectConfig, task: str, jobs: Iterator[tuple[int, int]], wanted: int
) -> Iterator[Demonstration | None]:
    """Results job by job, in order, until `wanted` of them are demonstrations; None for a failure."""
    pending: list[Future[Demonstration | None]] = []
    done = 0
    with make_executor(config.executor, partial(Demonstrator, config, task), config.processes) as executor:
        while done < wanted:
            pending += executor.submit("demonstrate", list(islice(jobs, 2 * executor.slots - len(pending))))
            result = pending.pop(0).result()
            done += result is not None
            yield result


class Demonstrator:
    """What works in each process: one world for all the scenes of a task."""

    def __init__(self, config: CollectConfig, task: str) -> None:
        self._config = config
        self._world = World(task, _CAMERAS if config.images else {}, config.quality, config.engine)
        self._learner = None if config.dagger is None else _learner(config.dagger, self._world)

    def demonstrate(self, scene: int, variant: int) -> Demonstration | None:
        """Run the expert on a variant of a scene, by its number; None if it fails."""
        config, told = self._config, _TOLD[variant]
        if config.play:
            return play(self._world, config.split, scene)
        return demonstrate(self._world, config.split, scene, config.perturb, config.midway, told, self._learner)


def _learner(folder: str, world: World) -> PolicyModule:
    """A policy that is to be corrected, in a process of its own.

    Raises:
        TongsError: there is no such checkpoint, or it does not fit the world.
    """
    import torch

    from policies.base import load_policy

    torch.set_num_threads(1)
    policy = load_policy(folder)
    policy.bind(world.spec)
    return policy


def play(world: World, split: str, scene: int) -> Demonstration:
    """Half a minute of play in a scene; every frame's instruction is "play"."""
    world.reset(split, scene)
    player = Play(world)
    player.reset(int(generator(world.task.name, split, scene, "play").integers(2**31)))
    recording = Recording(world)
    for _ in range(round(PLAY_SECONDS * EE_DELTA.rate)):
        recording.step(player, "play")
    return recording.finish(scene)


def demonstrate(
    world: World,
    split: str,
    scene: int,
    perturb: float,
    midway: float = 0.0,
    variant: str = "original",
    learner: Policy | None = None,
) -> Demonstration | None:
    """One episode of the expert in a variant of a scene, after `learner` has begun it; None if either leaves nothing to
    show: the expert fails, or the learner succeeds."""
    world.reset(split, scene, variant)
    rng = generator(world.task.name, split, scene, f"demonstration {variant}")
    expert = ScriptedExpert(world)
    expert.reset(int(rng.integers(2**31)))
    if learner is not None and not begin(world, learner, rng):
        return None
    if midway and rng.random() < midway and not bring_midway(world, expert, rng):
        return None
    if rng.random() < perturb and not disturb(world, expert, rng):
        return None
    paraphrases = [world.instruction] + [world.paraphrase() for _ in range(_PARAPHRASES - 1)]
    recording = Recording(world, subtasks=True)
    while not world.finished:
        recording.step(expert, paraphrases[int(rng.integers(_PARAPHRASES))])
    return recording.finish(scene, variant) if world.success else None


def begin(world: World, learner: Policy, rng: np.random.Generator) -> bool:
    """Let a policy work for a random while; False if it is done by then."""
    queue = ChunkQueue(learner, _FOLLOWED)
    queue.reset(int(rng.integers(2**31)))
    for _ in range(int(rng.integers(world.horizon))):
        world.execute(queue.action(world.observe(images=queue.wants_images(world.instruction))))
        if world.success:
            return False
    world.restart_clock()
    return True


def bring_midway(world: World, expert: ScriptedExpert, rng: np.random.Generator) -> bool:
    """Let the expert work for another value of the first goal, between where its variable is and what is asked for, and
    stop after holding that for a random while; False if it fails."""
    asked, goal = world.goals, world.goal_spec
    value = world.value + rng.uniform(0.15, 1.0) * (goal.value - world.value)
    world.pursue((replace(goal, value=value, hold=rng.uniform(0.0, goal.hold)),))
    while not world.finished:
        world.execute(expert.act(world.observe(images=False)).actions[0])
    stopped = world.success
    world.pursue(asked)
    world.restart_clock()
    expert.replan()
    return stopped


class Recording:
    """Everything that is kept of an episode while it runs; with `subtasks` also which of several sub-goals it is at."""

    def __init__(self, world: World, subtasks: bool = False) -> None:
        self._world = world
        self._subtasks = subtasks and bool(world.subgoals)
        self._frames: dict[str, list[NDArray[np.uint8]]] = {name: [] for name in world.spec.cameras}
        self._columns: dict[str, list[NDArray]] = {STATE: [], ENVIRONMENT_STATE: [], ACTION: []}
        self._instructions: list[str] = []
        self._events: list[LanguageEvent] = []

    def step(self, policy: Policy, instruction: str) -> None:
        """Observe, let the policy act, keep both, and move on by one control step."""
        observation = self._world.observe()
        for name, image in observation.images.items():
            self._frames[name].append(image)
        action = policy.act(observation).actions[0]
        row = {STATE: observation.state, ENVIRONMENT_STATE: self._world.environment_state(), ACTION: action}
        for key, values in row.items():
            self._columns[key].append(values)
        command = self._world.command if self._subtasks else ""
        if command and (not self._events or command != self._events[-1].text):
            self._events.append(subtask(len(self._instructions) / EE_DELTA.rate, command))
        self._instructions.append(instruction)
        self._world.execute(action)

    def finish(self, scene: int, variant: str = "original") -> Demonstration:
        """The episode as arrays and encoded videos."""
        videos = {IMAGES + name: encoded(images, EE_DELTA.rate) for name, images in self._frames.items()}
        columns = {key: np.stack(rows) for key, rows in self._columns.items()}
        columns[SCENE] = np.tile(np.array([scene, _TOLD.index(variant)]), (len(self._instructions), 1))
        return Demonstration(columns, self._instructions, videos, self._events)
