"""What a worker process of an evaluation does: it loads the policy once and keeps one world per task."""

from __future__ import annotations

import multiprocessing
import os
import signal
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from eval.policies import EXPERT, ORACLE, RandomPolicy, choose_policy, load_checkpoint
from eval.protocol import EvaluationConfig
from robot.interface import Policy
from sim.protocols import PROTOCOLS, require_protocol

if TYPE_CHECKING:
    from policies.base import PolicyModule
    from sim.episode import EpisodeResult
    from sim.world import World

FILM_SIZE = 256


@dataclass(frozen=True)
class PolicyDescription:
    """What a worker found the policy to be: its spec as JSON fields and its sampling settings."""

    spec: dict[str, Any]
    sampling: dict[str, Any]


class Worker:
    """Runs single episodes. Each depends on nothing but its task, its scene and the policy."""

    def __init__(self, config: EvaluationConfig) -> None:
        self._config = config
        self._worlds: dict[str, World] = {}
        self._policies: dict[str, Policy] = {}
        choice = choose_policy(config.policy)
        self._learned: PolicyModule | None = None
        if choice.folder is not None:
            import torch

            torch.set_num_threads(1)
            self._learned = load_checkpoint(choice.folder, config.sampling)

    def world(self, task: str) -> World:
        if task not in self._worlds:
            from sim.world import World

            names = self._learned.spec.cameras if self._learned else {}
            size = (self._config.image_size, self._config.image_size)
            cameras = dict.fromkeys(names, size)
            self._worlds[task] = World(task, cameras, self._config.quality, self._config.engine)
        return self._worlds[task]

    def policy(self, task: str) -> Policy:
        if task not in self._policies:
            self._policies[task] = self._build_policy(task)
        return self._policies[task]

    def _build_policy(self, task: str) -> Policy:
        world, config = self.world(task), self._config
        policy = self._learned or _scripted(config, world)
        require_protocol(policy.spec, world.spec, config.protocol, config.policy)
        if self._learned is not None:
            self._learned.bind(world.spec)
        return policy

    def describe(self) -> PolicyDescription:
        sampling = getattr(self._learned, "sampling", None)
        spec = self.policy(self._config.tasks[0]).spec.to_json()
        return PolicyDescription(spec, asdict(sampling) if is_dataclass(sampling) else {})  # type: ignore[arg-type]

    def run(self, task: str, scene: int) -> EpisodeResult:
        from sim.episode import run_episode

        config = self._config
        return run_episode(
            self.world(task),
            self.policy(task),
            config.split,
            scene,
            execute=config.execute,
            variant=config.variant,
            wording=config.wording,
            protocol=config.protocol,
        )

    def film(self, result: EpisodeResult) -> bytes | None:
        """The episode as an H.264 mp4 file.

        One without states is run again; None if it ends otherwise here, as it may on another machine.
        """
        from data.video import encode_video
        from sim.episode import replay

        if not len(result.states):
            again = self.run(result.task, result.scene)
            if (again.success, again.failure) != (result.success, result.failure):
                return None
            result = again
        world = self.world(result.task)
        frames = np.stack(list(replay(world, result, height=FILM_SIZE, width=FILM_SIZE)))
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "episode.mp4"
            encode_video(path, frames, round(world.spec.action_space.rate), quality=24, key_interval=30)
            return path.read_bytes()


def _scripted(config: EvaluationConfig, world: World) -> Policy:
    if config.policy == EXPERT:
        from sim.expert import ScriptedExpert

        return ScriptedExpert(world)
    if config.policy == ORACLE:
        from sim.keypose import Oracle

        return Oracle(world)
    if config.protocol == "keypose":
        return RandomPolicy(PROTOCOLS[config.protocol], horizon=1, smoothing=1.0)
    return RandomPolicy(PROTOCOLS[config.protocol])


_config: EvaluationConfig | None = None
_worker: Worker | None = None


def initialise(config: EvaluationConfig) -> None:
    """Called once in each new process; the policy is loaded by the first job, so that its errors have a way back."""
    global _config
    _config = config
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A killed parent closes nothing; its workers would wait for jobs for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _this_worker() -> Worker:
    global _worker
    if _worker is None:
        assert _config is not None
        _worker = Worker(_config)
    return _worker


def describe() -> PolicyDescription:
    return _this_worker().describe()


def run(task: str, scene: int) -> EpisodeResult:
    return _this_worker().run(task, scene)


def film(result: EpisodeResult) -> bytes | None:
    return _this_worker().film(result)


@contextmanager
def child_settings() -> Iterator[None]:
    """Processes started inside use one thread each and leave Ctrl-C to their parent, from the very beginning."""
    threads = {name: os.environ.get(name) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
    os.environ.update(dict.fromkeys(threads, "1"))
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
        for name, value in threads.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
