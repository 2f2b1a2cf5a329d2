"""Recording a policy that a simulated person corrects: successes become a dataset that the policy can learn from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from itertools import count, islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from data.events import LanguageEvent
from data.features import ACTION, ENVIRONMENT_STATE, IMAGES, SCENE, SCENE_NAMES, STATE, Feature, robot_features, vector
from data.motions import write_table
from data.reader import Dataset
from data.recorder import INTERVENTION
from data.writer import DatasetWriter
from eval.corrector import SimulatedCorrector, corrector_config, require_corrector
from eval.policies import choose_policy
from robot.errors import TongsError
from robot.interface import EE_DELTA, ActionChunk, Observation
from robot.motions import TABLE
from sim.executors import LOCAL, Executor, make_executor
from sim.tasks import find_task
from sim.world import ENVIRONMENT_STATE_NAMES, STATE_NAMES, World
from sim.worlds import SimulatedWorld

CAMERAS = ("front", "wrist")


@dataclass(frozen=True)
class CorrectionsConfig:
    """What is recorded.

    Attributes:
        policy: a learned policy's name or checkpoint folder.
        task: names of tasks; each gets a dataset of its own, `output`/<task>.
        output: folder of the datasets; those that have some episodes already are continued.
        episodes: successes with at least one correction that each dataset shall hold in the end.
        corrections: stop at so many corrections, in however many episodes, instead of at `episodes`.
        attempts: scenes that are tried for them, as a multiple of `episodes`.
        split, start: scenes are taken in order from number `start` of this split.
        corrector: fields of `eval.corrector.CorrectorConfig`.
        execute: actions of a chunk that are followed before the policy is asked again.
        sampling: sampling settings that replace the checkpoint's.
        image_size: side in pixels of the recorded pictures.
        processes: worker processes; same datasets.
    """

    policy: str
    task: Sequence[str]
    output: str
    episodes: int = 30
    corrections: int | None = None
    attempts: int = 5
    split: str = "train"
    start: int = 100_000
    corrector: Mapping[str, Any] = field(default_factory=dict)
    execute: int = 4
    sampling: Mapping[str, Any] = field(default_factory=dict)
    image_size: int = 128
    processes: int = 2

    def __post_init__(self) -> None:
        object.__setattr__(self, "task", (self.task,) if isinstance(self.task, str) else tuple(self.task))
        for task in self.task:
            find_task(task)
        for name in ("episodes", "attempts", "execute", "image_size", "processes"):
            if getattr(self, name) < 1:
                raise TongsError(f"{name} must be at least 1, got {getattr(self, name)}")
        corrector_config(self.corrector)


@dataclass(frozen=True)
class Collected:
    """What came of a task: episodes kept, scenes tried, corrections in the episodes that were kept."""

    task: str
    episodes: int
    attempts: int
    corrections: int


@dataclass(frozen=True)
class _Episode:
    """A success with corrections: columns (N, D), pictures {feature: uint8 (N, H, W, 3)}, wordings and events."""

    columns: dict[str, NDArray[Any]]
    images: dict[str, NDArray[np.uint8]]
    tasks: list[str]
    events: list[LanguageEvent]
    corrections: int


def collect_corrections(config: CorrectionsConfig) -> list[Collected]:
    """Record until every task has its episodes, or its attempts are used up.

    A frame that a person drove is marked in the column `intervention`; motions, of person and policy, are in the
    language columns with who chose them.

    Raises:
        TongsError: the policy takes no such corrections, or a folder holds another dataset.
    """
    choice = choose_policy(config.policy)
    if not choice.learned:
        raise TongsError(f"only a learned policy learns from corrections, and {config.policy!r} is none")
    return [_collect(config, task) for task in config.task]


def _collect(config: CorrectionsConfig, task: str) -> Collected:
    folder = Path(config.output) / task
    sizes: dict[str, tuple[int, int]] = {name: (config.image_size, config.image_size) for name in CAMERAS}
    features = robot_features(sizes, STATE_NAMES, EE_DELTA.names, ENVIRONMENT_STATE_NAMES)
    features |= {SCENE: vector(SCENE_NAMES, "int64"), INTERVENTION: Feature("bool", (1,))}
    first, tally = config.start, _Tally(config)
    if (folder / "meta" / "info.json").exists() and Dataset(folder).total_frames:
        before = Dataset(folder)
        first = int(before.columns[SCENE][-1, 0]) + 1
        tally.corrections = sum(_count(before, episode.index) for episode in before.episodes)
    progress = Progress(TextColumn("{task.description:16}"), BarColumn(), MofNCompleteColumn())
    with (
        DatasetWriter(folder, round(EE_DELTA.rate), features, "panda_mujoco", language="episodes") as writer,
        progress,
        make_executor(LOCAL, partial(_Rollouts, config, task), config.processes) as executor,
    ):
        write_table(folder, TABLE)
        shown = progress.add_task(task, total=config.episodes, completed=writer.episodes)
        tally.episodes, tally.attempts = writer.episodes, first - config.start
        scenes = islice(count(first), max(config.attempts * config.episodes - tally.attempts, 0))
        for episode in _in_order(executor, scenes, tally):
            tally.attempts += 1
            if episode is None:
                continue
            writer.add_episode(episode.columns, episode.tasks, images=episode.images, events=episode.events)
            tally.episodes += 1
            tally.corrections += episode.corrections
            progress.update(shown, advance=1)
    return Collected(task, tally.episodes, tally.attempts, tally.corrections)


@dataclass
class _Tally:
    """What there is so far."""

    config: CorrectionsConfig
    episodes: int = 0
    attempts: int = 0
    corrections: int = 0

    @property
    def complete(self) -> bool:
        if self.config.corrections is not None:
            return self.corrections >= self.config.corrections
        return self.episodes >= self.config.episodes


def _in_order(executor: Executor, scenes: Iterator[int], tally: _Tally) -> Iterator[_Episode | None]:
    """What comes of the scenes, in their order, until there is enough."""
    pending: list[Future[_Episode | None]] = []
    while not tally.complete:
        pending += executor.submit("run", [(scene,) for scene in islice(scenes, 2 * executor.slots - len(pending))])
        if not pending:
            return
        yield pending.pop(0).result()


def _count(dataset: Dataset, episode: int) -> int:
    """Corrections in a recorded episode: motions of a person, and times that a person took the arm."""
    span = dataset.episodes[episode]
    driven = dataset.columns[INTERVENTION][span.start : span.stop, 0].astype(int)
    taken = int(np.sum(np.diff(driven, prepend=0) > 0))
    return taken + sum(event.style == "motion" and event.role == "user" for event in dataset.events(episode))


class _Recorded(SimulatedCorrector):
    """A corrector that keeps everything that an episode of a dataset holds."""

    images = True

    def begin(self, world: SimulatedWorld) -> None:
        super().begin(world)
        self.rows: dict[str, list[Any]] = {STATE: [], ENVIRONMENT_STATE: [], ACTION: [], INTERVENTION: []}
        self.pictures: dict[str, list[NDArray[np.uint8]]] = {IMAGES + name: [] for name in world.spec.cameras}

    def saw(self, observation: Observation, action: NDArray[np.float32], chunk: ActionChunk | None) -> None:
        super().saw(observation, action, chunk)
        row = (observation.state, self._world.environment_state(), action, [chunk is None])
        for key, value in zip(self.rows, row, strict=True):
            self.rows[key].append(value)
        for name, picture in observation.images.items():
            self.pictures[IMAGES + name].append(picture)

    def events(self) -> list[LanguageEvent]:
        """A motion event wherever the motion, or who chose it, changes."""
        found, before = [], ("", "")
        for number, step in enumerate(self.steps):
            said = (str(step["motion"]), str(step["source"]))
            if said != before and said[0]:
                role = "user" if said[1] == "human" else "assistant"
                found.append(LanguageEvent(number / EE_DELTA.rate, said[0], "motion", role))
            before = said
        return found


class _Rollouts:
    """What works in each process: one world and one policy."""

    def __init__(self, config: CorrectionsConfig, task: str) -> None:
        import torch

        torch.set_num_threads(1)
        self._config = config
        self._world = World(task, dict.fromkeys(CAMERAS, (config.image_size, config.image_size)))
        self._policy = choose_policy(config.policy).load(config.sampling)
        self._policy.bind(self._world.spec)
        self._corrector = _Recorded(corrector_config(config.corrector))
        require_corrector(self._corrector.config, self._policy.spec, config.policy)

    def run(self, scene: int) -> _Episode | None:
        """None unless the episode succeeds with at least one correction."""
        from sim.episode import run_episode

        corrector = self._corrector
        result = run_episode(
            self._world,
            self._policy,
            self._config.split,
            scene,
            execute=self._config.execute,
            companion=corrector,
        )
        if not result.success or not corrector.corrections:
            return None
        columns = {key: np.array(rows) for key, rows in corrector.rows.items()}
        columns[SCENE] = np.tile(np.array([scene, 0]), (len(corrector.steps), 1))
        images = {key: np.stack(pictures) for key, pictures in corrector.pictures.items()}
        tasks = [str(step["task"]) for step in corrector.steps]
        return _Episode(columns, images, tasks, corrector.events(), len(corrector.corrections))
