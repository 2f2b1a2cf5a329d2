"""What an evaluation runs: which policy, on which tasks and scenes, told in which words."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from eval.goal_pictures import LANGUAGE, require_goal
from robot.control.settings import Mode
from robot.errors import TongsError, unknown
from sim.engines import DEFAULT, ENGINES
from sim.executors import EXECUTORS, LOCAL
from sim.language import Wording
from sim.protocols import PROTOCOLS, Protocol
from sim.realtime import RealTime
from sim.scenes import WORDINGS
from sim.tasks import PLANNING, SINGLE, TABLETOP
from sim.worlds import ROBOSUITE, all_tasks, require_scenes, tasks_of

QUALITIES = ("fast", "presentation")
ROBOTS = ("sim", "dds")
_BESIDE_THE_WORLD = ("oracle", "random", "lmp")


@dataclass(frozen=True)
class EvaluationConfig:
    """The protocol of one evaluation; everything that decides its result is here.

    Attributes:
        policy: "expert", "oracle" (true key poses), "random", "lmp" (language-model programs), the name of a shipped
            checkpoint, a checkpoint folder, "lerobot:" and the folder or hub id of a LeRobot policy, or "remote:" and
            the address of a policy server.
        tasks: names of the engine's tasks (`sim.worlds.tasks_of`).
        scenes: scene indices (start, stop), stop excluded; the same for every task.
        split: a name from `sim.splits.SPLITS`, such as "test", "novel_object" or "perturbed:0.8".
        variant: "original", or the instruction of the distractor ("other_target"), of another goal ("other_goal"), to
            leave it alone ("negated"), or none ("empty").
        wording: "seen" or "unseen" instruction templates.
        engine: "mujoco" or "bullet" for our table, or "robosuite" for the tasks of that package.
        protocol: "closed_loop", or "keypose": the policy is asked twice, for a grasp pose and a goal pose (ARNOLD).
        goal: how the policy is told what to do: "language", or by a picture of the wanted outcome: "image:expert" (made
            by the expert in the same scene), "image:7" (made in scene 7) or "image:" and a file. In closed loop only.
        execute: actions of a chunk that are followed before the policy is asked again; in closed loop only.
        sampling: sampling settings of the policy that differ from its checkpoint's, such as {"steps": 10}.
        lerobot: what a LeRobot checkpoint does not say of itself, fields of `policies.lerobot.fit.LeRobotSettings`.
        lmp: settings of policy "lmp", fields of `policies.lmp.policy.LmpSettings`.
        corrector: a simulated person who corrects, fields of `eval.corrector.CorrectorConfig`, `by` at least; in closed
            loop, with our own worlds. Nobody if it is empty.
        image_size: side in pixels of the square images that the cameras render.
        quality: "fast" or "presentation" rendering.
        executor: where the episodes run, "local" for this machine or "ray" for a Ray cluster; never changes the result.
        processes: worker processes on this machine; they change the duration, never the result.
        robot: "sim" for a world that the policy drives itself, or "dds" for one behind ROS 2 topics: simulated robot
            and policy runner in step on a simulated clock, the control loop between them (`eval.topic_worker`).
        realtime: the world goes on while the policy thinks, and the arm is driven by the control loop (`sim.realtime`).
        latency_ms, jitter_ms: mean and standard deviation of the time from an observation to its chunk, in real time
            and behind topics.
        execution: how chunks are followed there: "synchronous", "asynchronous", "ensemble" or "rtc".
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
    goal: str = LANGUAGE
    execute: int = 4
    sampling: Mapping[str, Any] = field(default_factory=dict)
    lerobot: Mapping[str, Any] = field(default_factory=dict)
    lmp: Mapping[str, Any] = field(default_factory=dict)
    corrector: Mapping[str, Any] = field(default_factory=dict)
    image_size: int = 128
    quality: str = "fast"
    robot: str = ROBOTS[0]
    realtime: bool = False
    latency_ms: float = 0.0
    jitter_ms: float = 0.0
    execution: Mode = "synchronous"
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
            ("robot", self.robot, ROBOTS),
        ):
            if given not in known:
                raise unknown(kind, given, known)
        require_goal(self.goal)
        if self.goal != LANGUAGE and self.protocol != "closed_loop":
            raise TongsError(f"goal={self.goal} means nothing to protocol={self.protocol}; it takes goal={LANGUAGE}")
        for key, least in (("execute", 1), ("image_size", 16), ("processes", 1), ("videos", 0)):
            _require_integer(key, getattr(self, key), least)
        others = [task for task in self.tasks if task not in SINGLE]
        if self.protocol == "keypose" and others:
            raise TongsError(f"protocol=keypose has the tasks {', '.join(SINGLE)}; {others[0]} is not one of them")
        if self.lmp and self.policy != "lmp":
            raise TongsError(f"settings lmp.* are for policy=lmp, not {self.policy!r}")
        for key in ("resume", "realtime"):
            if not isinstance(getattr(self, key), bool):
                raise TongsError(f"{key} must be true or false, got {getattr(self, key)!r}")
        self._require_real_time()
        if self.corrector:
            self._require_corrector()

    def _require_real_time(self) -> None:
        given = {"latency_ms": self.latency_ms, "jitter_ms": self.jitter_ms, "execution": self.execution}
        for key in ("latency_ms", "jitter_ms"):
            if isinstance(given[key], bool) or not isinstance(given[key], (int, float)):
                raise TongsError(f"{key} must be a number, got {given[key]!r}")
        RealTime(self.latency_ms / 1000, self.jitter_ms / 1000, self.execution)
        setting = "robot=dds" if self.topics else "realtime=true"
        if self.topics and self.realtime:
            raise TongsError("robot=dds has the control loop anyway; leave realtime=true out")
        looped = self.topics or self.realtime
        if looped and (self.protocol != "closed_loop" or self.engine == ROBOSUITE):
            raise TongsError(
                f"{setting} is for protocol=closed_loop and engine {' or '.join(ENGINES)}, "
                f"got {self.protocol} and {self.engine}"
            )
        if looped and self.goal != LANGUAGE:
            raise TongsError(f"{setting} is for goals in words, got goal={self.goal}")
        if self.topics and self.executor != LOCAL:
            raise TongsError(f"robot=dds is for executor={LOCAL}, got {self.executor}")
        if self.topics and self.policy in _BESIDE_THE_WORLD:
            raise TongsError(
                f"robot=dds is for learned policies, policy servers and the expert; {self.policy!r} needs the world"
            )
        usual = {"latency_ms": 0.0, "jitter_ms": 0.0, "execution": "synchronous"}
        if not looped and (other := [key for key in given if given[key] != usual[key]]):
            raise TongsError(f"{other[0]}={given[other[0]]} means nothing without realtime=true or robot=dds")

    @property
    def topics(self) -> bool:
        """Whether the robot is behind topics."""
        return self.robot != ROBOTS[0]

    def _require_corrector(self) -> None:
        from eval.corrector import MOTIONS, corrector_config

        by = corrector_config(self.corrector).by
        if "by" not in self.corrector:
            raise TongsError(f"say how it corrects: corrector.by={MOTIONS} or driving")
        if self.realtime or self.protocol != "closed_loop" or self.engine not in ENGINES:
            raise TongsError(
                f"corrector.by={by} is for protocol=closed_loop, engine {' or '.join(ENGINES)} and realtime=false"
            )

    @property
    def real_time(self) -> RealTime | None:
        """What an episode is told; None for a world that waits."""
        if not self.realtime:
            return None
        return RealTime(self.latency_ms / 1000, self.jitter_ms / 1000, self.execution)

    @property
    def real_time_words(self) -> dict[str, Any]:
        """The settings that say how time passes while the policy thinks; empty for a world that waits."""
        if not self.realtime and not self.topics:
            return {}
        names = ("robot" if self.topics else "realtime", "latency_ms", "jitter_ms", "execution")
        return {name: getattr(self, name) for name in names}

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
        } | ({} if self.goal == LANGUAGE else {"goal": self.goal})
        settings |= {key: str(value).lower() if value is True else value for key, value in self.real_time_words.items()}
        settings |= _words("sampling", self.sampling) | _words("lerobot", self.lerobot) | _words("lmp", self.lmp)
        settings |= _words("corrector", self.corrector)
        return shlex.join(["tongs", "eval", *(f"{key}={value}" for key, value in settings.items())])


def _words(prefix: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Nested settings by the keys that a command line gives them."""
    words: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            words |= _words(f"{prefix}.{key}", value)
        else:
            listed = isinstance(value, Sequence) and not isinstance(value, str)
            words[f"{prefix}.{key}"] = ",".join(map(str, value)) if listed else value
    return words


def expand_tasks(task: str | Sequence[str], engine: str = DEFAULT) -> tuple[str, ...]:
    """Task names in the order given, without repeats; "all" stands for ARNOLD's eight or for robosuite's, "tabletop"
    for the six of the table-top suite, "planning" for the four of requests for a planner."""
    names = [task] if isinstance(task, str) else list(task)
    several = {"all": all_tasks(engine), "tabletop": TABLETOP, "planning": PLANNING}
    expanded = [name for given in names for name in several.get(given, (given,))]
    if not expanded:
        raise TongsError(f"task is empty; give one or more of all, tabletop, planning, {', '.join(tasks_of(engine))}")
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
