"""What a worker process of an evaluation does: it loads the policy once and keeps one world per task."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from eval.policies import EXPERT, ORACLE, RandomPolicy, choose_policy, load_checkpoint
from eval.protocol import EvaluationConfig
from robot.interface import Policy
from sim.protocols import action_space, require_protocol

if TYPE_CHECKING:
    from policies.base import PolicyModule
    from sim.episode import EpisodeResult
    from sim.worlds import SimulatedWorld

FILM_SIZE = 256
FILM_RATE = 10
"""Side of a film in pixels, and its pictures per second, about."""


@dataclass(frozen=True)
class PolicyDescription:
    """What a worker found the policy to be: its spec as JSON fields and its sampling settings."""

    spec: dict[str, Any]
    sampling: dict[str, Any]


class Worker:
    """Runs single episodes. Each depends on nothing but its task, its scene and the policy.

    Args:
        config: the protocol.
        checkpoint: the files of the policy's checkpoint by name, for a machine that does not have its folder.
    """

    def __init__(self, config: EvaluationConfig, checkpoint: Mapping[str, bytes] | None = None) -> None:
        self._config = config
        self._worlds: dict[str, SimulatedWorld] = {}
        self._policies: dict[str, Policy] = {}
        self._learned: PolicyModule | None = None
        if checkpoint is not None:
            with tempfile.TemporaryDirectory() as folder:
                for name, content in checkpoint.items():
                    (Path(folder) / name).write_bytes(content)
                self._learned = self._load(Path(folder))
        elif (choice := choose_policy(config.policy)).folder is not None:
            self._learned = self._load(choice.folder)

    def _load(self, folder: Path) -> PolicyModule:
        import torch

        torch.set_num_threads(1)
        return load_checkpoint(folder, self._config.sampling)

    def world(self, task: str) -> SimulatedWorld:
        if task not in self._worlds:
            from sim.worlds import make_world

            names = self._learned.spec.cameras if self._learned else {}
            size = (self._config.image_size, self._config.image_size)
            cameras = dict.fromkeys(names, size)
            self._worlds[task] = make_world(task, cameras, self._config.quality, self._config.engine)
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
        rate = world.spec.action_space.rate
        every = max(1, round(rate / FILM_RATE))
        frames = np.stack(list(replay(world, result, height=FILM_SIZE, width=FILM_SIZE, every=every)))
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "episode.mp4"
            encode_video(path, frames, round(rate / every), quality=24, key_interval=30)
            return path.read_bytes()


def _scripted(config: EvaluationConfig, world: SimulatedWorld) -> Policy:
    if config.policy == EXPERT:
        from sim.expert import ScriptedExpert

        return ScriptedExpert(world)
    if config.policy == ORACLE:
        from sim.keypose import Oracle

        return Oracle(world)
    space = action_space(world.spec, config.protocol)
    return RandomPolicy(space, horizon=1, smoothing=1.0) if config.protocol == "keypose" else RandomPolicy(space)
