"""What an evaluation runs: which policy, on which tasks and scenes, told in which words."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from robot.errors import TongsError, unknown
from sim.engines import DEFAULT
from sim.executors import EXECUTORS, LOCAL
from sim.language import Wording
from sim.protocols import PROTOCOLS, Protocol
from sim.scenes import WORDINGS
from sim.tasks import SINGLE
from sim.worlds import all_tasks, require_scenes, tasks_of

QUALITIES = ("fast", "presentation")


@dataclass(frozen=True)
class EvaluationConfig:
    """The protocol of one evaluation; everything that decides its result is here.

    Attributes:
        policy: "expert", "oracle" (true key poses), "random", the name of a shipped checkpoint, or a checkpoint folder.
        tasks: names of the engine's tasks (`sim.worlds.tasks_of`).
        scenes: scene indices (start, stop), stop excluded; the same for every task.
        split: a name from `sim.splits.SPLITS`, such as "test", "novel_object" or "perturbed:0.8".
        variant: "original", or the instruction of the distractor ("other_target"), of another goal ("other_goal"), to
            leave it alone ("negated"), or none ("empty").
        wording: "seen" or "unseen" instruction templates.
        engine: "mujoco" or "bullet" for our table, or "robosuite" for the tasks of that package.
        protocol: "closed_loop", or "keypose": the policy is asked twice, for a grasp pose and a goal pose (ARNOLD).
        execute: actions of a chunk that are followed before the policy is asked again; in closed loop only.
        sampling: sampling settings of the policy that differ from its checkpoint's, such as {"steps": 10}.
        image_size: side in pixels of the square images that the cameras render.
        quality: "fast" or "presentation" rendering.
        executor: where the episodes run, "local" for this machine or "ray" for a Ray cluster; never changes the result.
        processes: worker processes on this machine; they change the duration, never the result.
        videos: successes and failures filmed per task, that many of each.
        output: folder of `results.json`, `report.html` and, for going on after an interruption, `episodes.jsonl`.
        resume: go on with what the output folder holds of this very evaluation; otherwise start anew.
    """

    policy: str
    tasks: tuple[str, ...]
    scenes: tuple[int, int]
    output: str
    split: str = "test"
    variant: str = "original"
    wording: Wording = "seen"
    engine: str = DEFAULT
    protocol: Protocol = "closed_loop"
    execute: int = 4
    sampling: Mapping[str, Any] = field(default_factory=dict)
    image_size: int = 128
    quality: str = "fast"
    executor: str = LOCAL
    processes: int = 2
    videos: int = 4
    resume: bool = True

    def __post_init__(self) -> None:
        known_tasks = tasks_of(self.engine)
        for task in self.tasks:
            if task not in known_tasks:
                raise unknown("task", task, ["all", *known_tasks])
        require_scenes(self.engine, self.split, self.variant)
        for kind, given, known in (
            ("wording", self.wording, WORDINGS),
            ("protocol", self.protocol, PROTOCOLS),
            ("quality", self.quality, QUALITIES),
            ("executor", self.executor, EXECUTORS),
        ):
            if given not in known:
                raise unknown(kind, given, known)
        for key, least in (("execute", 1), ("image_size", 16), ("processes", 1), ("videos", 0)):
            _require_integer(key, getattr(self, key), least)
        others = [task for task in self.tasks if task not in SINGLE]
        if self.protocol == "keypose" and others:
            raise TongsError(f"protocol=keypose has the tasks {', '.join(SINGLE)}; {others[0]} is not one of them")
        if not isinstance(self.resume, bool):
            raise TongsError(f"resume must be true or false, got {self.resume!r}")

    @property
    def jobs(self) -> list[tuple[str, int]]:
        """(task, scene) of every episode; the tasks alternate so that an interrupted run has seen all of them."""
        return [(task, scene) for scene in range(*self.scenes) for task in self.tasks]

    @property
    def command(self) -> str:
        """The command line that repeats this evaluation."""
        settings = {
            "policy": self.policy,
            "task": ",".join(self.tasks),
            "split": self.split,
            "scenes": f"{self.scenes[0]}:{self.scenes[1]}",
            "variant": self.variant,
            "wording": self.wording,
            "engine": self.engine,
            "protocol": self.protocol,
            "execute": self.execute,
            "image_size": self.image_size,
            "quality": self.quality,
        } | {f"sampling.{key}": value for key, value in self.sampling.items()}
        return shlex.join(["tongs", "eval", *(f"{key}={value}" for key, value in settings.items())])


def expand_tasks(task: str | Sequence[str], engine: str = DEFAULT) -> tuple[str, ...]:
    """Task names in the order given, without repeats; "all" stands for ARNOLD's eight or for robosuite's."""
    names = [task] if isinstance(task, str) else list(task)
    expanded = [name for given in names for name in (all_tasks(engine) if given == "all" else [given])]
    if not expanded:
        raise TongsError(f"task is empty; give one or more of all, {', '.join(tasks_of(engine))}")
    return tuple(dict.fromkeys(expanded))


def expand_scenes(scenes: str | int | None, episodes: int | None) -> tuple[int, int]:
    """The range (start, stop) meant by `scenes` ("200:300", or one index) or by `episodes` (the first ones; 50)."""
    if scenes is None:
        count = 50 if episodes is None else episodes
        _require_integer("episodes", count, 1)
        return 0, count
    if episodes is not None:
        raise TongsError(f"give either scenes or episodes, not both (scenes={scenes}, episodes={episodes})")
    parts = str(scenes).split(":")
    if len(parts) > 2 or not all(part.isdecimal() for part in parts):
        raise TongsError(f"scenes must be a range such as 200:300 or one index such as 7, got {scenes!r}")
    start, stop = int(parts[0]), int(parts[-1]) + (len(parts) == 1)
    if start >= stop:
        raise TongsError(f"scenes {scenes!r} is an empty range; the start must be below the end, as in 200:300")
    return start, stop


def _require_integer(key: str, value: object, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise TongsError(f"{key} must be a whole number of at least {least}, got {value!r}")
