"""Collecting demonstrations: scripted experts in parallel processes, successes written as a LeRobot dataset."""

from __future__ import annotations

import multiprocessing
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count, dropwhile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from data.features import ACTION, ENVIRONMENT_STATE, IMAGES, SCENE, SCENE_NAMES, STATE, robot_features, vector
from data.reader import Dataset
from data.video import encode_video
from data.writer import DatasetWriter
from robot.errors import TongsError
from robot.interface import EE_DELTA, Policy
from sim.engines import DEFAULT, require_engine
from sim.expert import ScriptedExpert
from sim.perturbation import disturb
from sim.play import PLAY_SECONDS, Play
from sim.scenes import generator
from sim.tasks import find_task
from sim.world import CAMERA_SIZE, ENVIRONMENT_STATE_NAMES, STATE_NAMES, World

_TOLD = ("original", "other_target", "other_goal")
"""Variants of a scene that are demonstrated, by their number in the dataset's column `scene`."""
_PARAPHRASES = 8
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
        play: record play without a goal or an instruction instead of demonstrations.
        images: record the cameras.
        quality: rendering, `fast` or `presentation`.
        engine: physics engine, `mujoco` or `bullet`.
    """

    task: Sequence[str]
    episodes: int
    output: str
    split: str = "train"
    start: int = 0
    instructions: int = 2
    perturb: float = 0.0
    play: bool = False
    quality: str = "fast"
    engine: str = DEFAULT
    images: bool = True
    processes: int = 2


@dataclass(frozen=True)
class Demonstration:
    """One recorded success: numeric columns (N, D), the wording at each frame, finished videos."""

    columns: dict[str, NDArray]
    instructions: list[str]
    videos: dict[str, Path] = field(default_factory=dict)


def collect(config: CollectConfig) -> list[Path]:
    """Record `episodes` successes of every task; a folder that has some already is continued.

    Returns the dataset folders. Ctrl-C loses at most the episodes in progress.
    """
    for name in config.task:
        find_task(name)
    require_engine(config.engine)
    if config.episodes < 1 or config.processes < 1:
        raise TongsError(f"episodes and processes must be at least 1, got {config.episodes} and {config.processes}")
    if not 1 <= config.instructions <= len(_TOLD):
        raise TongsError(f"instructions must be from 1 to {len(_TOLD)}, got {config.instructions}")
    return [_collect_task(config, name) for name in config.task]


def _collect_task(config: CollectConfig, task: str) -> Path:
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
    with DatasetWriter(folder, round(EE_DELTA.rate), features, robot_type) as writer, bar, _scratch() as scratch:
        shown = bar.add_task(task, total=config.episodes, completed=writer.episodes, failed=0)
        failed = 0
        for demonstration in _demonstrations(config, task, jobs, config.episodes - writer.episodes, scratch):
            if demonstration is None:
                failed += 1
                bar.update(shown, failed=failed)
                continue
            writer.add_episode(demonstration.columns, demonstration.instructions, videos=demonstration.videos)
            bar.update(shown, advance=1)
    return folder


def _jobs(config: CollectConfig) -> Iterator[tuple[int, int]]:
    """(scene, number of the variant) of every demonstration to try, in order, without end."""
    told = 1 if config.play else config.instructions  # play has no instruction to vary
    for scene in count(config.start):
        turn = scene % 2
        yield from ((scene, variant) for variant in sorted((0, 1 + turn, 2 - turn)[:told]))


@contextmanager
def _scratch() -> Iterator[Path]:
    """A folder for videos on their way into the dataset."""
    folder = Path(tempfile.mkdtemp(prefix="tongs-collect-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _demonstrations(
    config: CollectConfig, task: str, jobs: Iterator[tuple[int, int]], wanted: int, scratch: Path
) -> Iterator[Demonstration | None]:
    """Results job by job, in order, until `wanted` of them are demonstrations; None for a failure."""
    pool = ProcessPoolExecutor(
        config.processes, multiprocessing.get_context("spawn"), _start_worker, (config, task, str(scratch))
    )
    pending: list[Future[Demonstration | None]] = []
    done = 0
    try:
        while done < wanted:
            while len(pending) < 2 * config.processes:
                pending.append(pool.submit(_demonstrate, *next(jobs)))
            result = pending.pop(0).result()
            done += result is not None
            yield result
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


_WORKER: dict[str, object] = {}


def _start_worker(config: CollectConfig, task: str, scratch: str) -> None:
    world = World(task, _CAMERAS if config.images else {}, config.quality, config.engine)
    _WORKER.update(config=config, world=world, scratch=Path(scratch))


def _demonstrate(scene: int, variant: int) -> Demonstration | None:
    """Run the expert on a variant of a scene; None if it fails."""
    config, world, scratch = _WORKER["config"], _WORKER["world"], _WORKER["scratch"]
    assert isinstance(config, CollectConfig) and isinstance(world, World) and isinstance(scratch, Path)
    if config.play:
        return play(world, config.split, scene, scratch)
    return demonstrate(world, config.split, scene, config.perturb, scratch, _TOLD[variant])


def play(world: World, split: str, scene: int, scratch: Path) -> Demonstration:
    """Half a minute of play in a scene; every frame's instruction is "play"."""
    world.reset(split, scene)
    player = Play(world)
    player.reset(int(generator(world.task.name, split, scene, "play").integers(2**31)))
    recording = Recording(world)
    for _ in range(round(PLAY_SECONDS * EE_DELTA.rate)):
        recording.step(player, "play")
    return recording.finish(scene, scratch)


def demonstrate(
    world: World, split: str, scene: int, perturb: float, scratch: Path, variant: str = "original"
) -> Demonstration | None:
    """One episode of the expert in a variant of a scene; None if it fails. Videos go to `scratch`."""
    world.reset(split, scene, variant)
    rng = generator(world.task.name, split, scene, f"demonstration {variant}")
    expert = ScriptedExpert(world)
    expert.reset(int(rng.integers(2**31)))
    if rng.random() < perturb and not disturb(world, expert, rng):
        return None
    paraphrases = [world.instruction] + [world.paraphrase() for _ in range(_PARAPHRASES - 1)]
    recording = Recording(world)
    while not world.finished:
        recording.step(expert, paraphrases[int(rng.integers(_PARAPHRASES))])
    return recording.finish(scene, scratch, variant) if world.success else None


class Recording:
    """Everything that is kept of an episode while it runs."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._frames: dict[str, list[NDArray[np.uint8]]] = {name: [] for name in world.spec.cameras}
        self._columns: dict[str, list[NDArray]] = {STATE: [], ENVIRONMENT_STATE: [], ACTION: []}
        self._instructions: list[str] = []

    def step(self, policy: Policy, instruction: str) -> None:
        """Observe, let the policy act, keep both, and move on by one control step."""
        observation = self._world.observe()
        for name, image in observation.images.items():
            self._frames[name].append(image)
        action = policy.act(observation).actions[0]
        row = {STATE: observation.state, ENVIRONMENT_STATE: self._world.environment_state(), ACTION: action}
        for key, values in row.items():
            self._columns[key].append(values)
        self._instructions.append(instruction)
        self._world.execute(action)

    def finish(self, scene: int, scratch: Path, variant: str = "original") -> Demonstration:
        """The episode as arrays, its videos encoded into `scratch`."""
        videos = {}
        for name, images in self._frames.items():
            videos[IMAGES + name] = scratch / f"{self._world.task.name}-{scene}-{variant}-{name}.mp4"
            encode_video(videos[IMAGES + name], np.stack(images), round(EE_DELTA.rate))
        columns = {key: np.stack(rows) for key, rows in self._columns.items()}
        columns[SCENE] = np.tile(np.array([scene, _TOLD.index(variant)]), (len(self._instructions), 1))
        return Demonstration(columns, self._instructions, videos)
