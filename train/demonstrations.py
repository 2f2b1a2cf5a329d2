"""Collecting demonstrations: scripted experts in many processes, successes written as a LeRobot dataset."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import BrokenExecutor, Future
from dataclasses import dataclass, field
from functools import partial
from itertools import count, dropwhile, islice
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
from sim.executors import LOCAL, make_executor, require_executor
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
    play: bool = False
    quality: str = "fast"
    engine: str = DEFAULT
    images: bool = True
    executor: str = LOCAL
    processes: int = 2


@dataclass(frozen=True)
class Demonstration:
    """One recorded success: numeric columns (N, D), the wording at each frame, finished mp4 files as bytes."""

    columns: dict[str, NDArray]
    instructions: list[str]
    videos: dict[str, bytes] = field(default_factory=dict)


def collect(config: CollectConfig) -> list[Path]:
    """Record `episodes` successes of every task; a folder that has some already is continued.

    Returns the dataset folders. Ctrl-C loses at most the episodes in progress.

    Raises:
        TongsError: bad settings, an engine or executor that is not installed, a lost worker process, or a folder that
            cannot be continued.
    """
    for name in config.task:
        find_task(name)
    require_engine(config.engine)
    require_executor(config.executor)
    if config.episodes < 1 or config.processes < 1:
        raise TongsError(f"episodes and processes must be at least 1, got {config.episodes} and {config.processes}")
    if not 1 <= config.instructions <= len(_TOLD):
        raise TongsError(f"instructions must be from 1 to {len(_TOLD)}, got {config.instructions}")
    try:
        return [_collect_task(config, name) for name in config.task]
    except BrokenExecutor as error:
        raise TongsError(
            "a worker process died, most likely for lack of memory; the same command continues with what is collected"
        ) from error


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
    with DatasetWriter(folder, round(EE_DELTA.rate), features, robot_type) as writer, bar:
        shown = bar.add_task(task, total=config.episodes, completed=writer.episodes, failed=0)
        failed = 0
        for demonstration in _demonstrations(config, task, jobs, config.episodes - writer.episodes):
            if demonstration is None:
                failed += 1
                bar.update(shown, failed=failed)
                continue
            _add(writer, demonstration)
            bar.update(shown, advance=1)
    return folder


def _jobs(config: CollectConfig) -> Iterator[tuple[int, int]]:
    """(scene, number of the variant) of every demonstration to try, in order, without end."""
    told = 1 if config.play else config.instructions  # play has no instruction to vary
    for scene in count(config.start):
        turn = scene % 2
        yield from ((scene, variant) for variant in sorted((0, 1 + turn, 2 - turn)[:told]))


def _add(writer: DatasetWriter, demonstration: Demonstration) -> None:
    with tempfile.TemporaryDirectory(prefix="tongs-collect-") as scratch:
        videos = {key: Path(scratch) / f"{key}.mp4" for key in demonstration.videos}
        for key, path in videos.items():
            path.write_bytes(demonstration.videos[key])
        writer.add_episode(demonstration.columns, demonstration.instructions, videos=videos)


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

    def demonstrate(self, scene: int, variant: int) -> Demonstration | None:
        """Run the expert on a variant of a scene, by its number; None if it fails."""
        if self._config.play:
            return play(self._world, self._config.split, scene)
        return demonstrate(self._world, self._config.split, scene, self._config.perturb, _TOLD[variant])


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
    world: World, split: str, scene: int, perturb: float, variant: str = "original"
) -> Demonstration | None:
    """One episode of the expert in a variant of a scene; None if it fails."""
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
    return recording.finish(scene, variant) if world.success else None


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

    def finish(self, scene: int, variant: str = "original") -> Demonstration:
        """The episode as arrays and encoded videos."""
        videos = {IMAGES + name: _encoded(images) for name, images in self._frames.items()}
        columns = {key: np.stack(rows) for key, rows in self._columns.items()}
        columns[SCENE] = np.tile(np.array([scene, _TOLD.index(variant)]), (len(self._instructions), 1))
        return Demonstration(columns, self._instructions, videos)


def _encoded(images: list[NDArray[np.uint8]]) -> bytes:
    with tempfile.TemporaryDirectory(prefix="tongs-collect-") as scratch:
        path = Path(scratch) / "episode.mp4"
        encode_video(path, np.stack(images), round(EE_DELTA.rate))
        return path.read_bytes()
