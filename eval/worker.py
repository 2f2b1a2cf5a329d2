"""What a worker process of an evaluation does: it loads the policy once and keeps one world per task."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from eval.goal_pictures import GoalPictures, require_goal_fits
from eval.policies import EXPERT, LMP, ORACLE, PolicyChoice, RandomPolicy, choose_policy, sampling_settings
from eval.protocol import EvaluationConfig
from robot.errors import TongsError
from robot.interface import Policy, Scene
from sim.protocols import action_space, require_protocol

if TYPE_CHECKING:
    from eval.policies import LearnedPolicy
    from policies.lmp.policy import LmpPolicy, LmpSettings
    from sim.episode import EpisodeResult
    from sim.worlds import SimulatedWorld

PROGRAMS, MOTIONS = "programs", "motions"
"""Folders, in that of an evaluation, of what a language model wrote in each episode, and of the language motions of
each."""
FILM_SIZE = 256
FILM_RATE = 10
"""Side of a film in pixels, and its pictures per second, about."""


@dataclass(frozen=True)
class Film:
    """An episode as an mp4 file, and the picture by which the policy was told its goal as a PNG file, if it was."""

    video: bytes
    goal: bytes | None = None


@dataclass(frozen=True)
class PolicyDescription:
    """What a worker found the policy to be: its spec as JSON fields, its sampling settings, and of a policy on a server
    the SHA-256 of its checkpoint's files."""

    spec: dict[str, Any]
    sampling: dict[str, Any]
    served: dict[str, str] = field(default_factory=dict)


class Worker:
    """Runs single episodes. Each depends on nothing but its task, its scene and the policy.

    Args:
        config: the protocol.
        checkpoint: the files of the policy's checkpoint by name, for a machine that does not have its folder.
        goal: the content of the goal's picture file, for a machine that does not have it.
    """

    def __init__(
        self, config: EvaluationConfig, checkpoint: Mapping[str, bytes] | None = None, goal: bytes | None = None
    ) -> None:
        self._config = config
        self._goal = goal
        self._pictures: dict[str, GoalPictures] = {}
        self._worlds: dict[str, SimulatedWorld] = {}
        self._policies: dict[str, Policy] = {}
        self._learned: LearnedPolicy | None = None
        self._programs: LmpSettings | None = None
        self._load_policies(checkpoint)

    def _load_policies(self, checkpoint: Mapping[str, bytes] | None) -> None:
        config = self._config
        if config.policy == LMP:
            from policies.configuration import configuration
            from policies.lmp.policy import LmpSettings

            self._programs = configuration(LmpSettings, config.lmp)
            if self._programs.skills:
                self._learned = self._load(choose_policy(self._programs.skills))
            return
        if checkpoint is not None:
            with tempfile.TemporaryDirectory() as folder:
                for name, content in checkpoint.items():
                    (Path(folder) / name).write_bytes(content)
                self._learned = self._load(PolicyChoice(config.policy, Path(folder)))
        elif (choice := choose_policy(config.policy)).learned:
            self._learned = self._load(choice)

    def _load(self, choice: PolicyChoice) -> LearnedPolicy:
        import torch

        torch.set_num_threads(1)
        return choice.load(self._config.sampling, self._config.lerobot)

    def world(self, task: str) -> SimulatedWorld:
        if task not in self._worlds:
            from sim.world import GOAL_NAMES
            from sim.worlds import make_world

            spec = self._learned.spec if self._learned else None
            size = (self._config.image_size, self._config.image_size)
            cameras = dict.fromkeys(spec.cameras if spec else (), size)
            told = bool(spec and set(GOAL_NAMES) & set(spec.state_names))
            self._worlds[task] = make_world(task, cameras, self._config.quality, self._config.engine, told)
        return self._worlds[task]

    def policy(self, task: str) -> Policy:
        if task not in self._policies:
            self._policies[task] = self._build_policy(task)
        return self._policies[task]

    def _build_policy(self, task: str) -> Policy:
        world, config = self.world(task), self._config
        policy = self._language_model_programs(world) if self._programs else self._learned or _scripted(config, world)
        require_protocol(policy.spec, world.spec, config.protocol, config.policy)
        require_goal_fits(config.goal, policy.spec, config.policy)
        self._pictures[task] = GoalPictures(config, policy.spec, self._goal)
        if self._learned is not None:
            self._learned.bind(world.spec)
        return policy

    def _language_model_programs(self, world: SimulatedWorld) -> LmpPolicy:
        """A policy that may ask the world where things are, and nothing else of it: `robot.interface.Scene`."""
        from policies.lmp.policy import LmpPolicy

        assert self._programs is not None
        if not isinstance(world, Scene):
            raise TongsError(f"policy lmp has to be told where things are, which {world.task.name} does not do")
        return LmpPolicy(self._programs, world.spec, world, self._learned)

    def describe(self) -> PolicyDescription:
        spec = self.policy(self._config.tasks[0]).spec.to_json()
        served = getattr(self._learned, "checkpoint", {})
        return PolicyDescription(spec, sampling_settings(self._learned), served)

    def run(self, task: str, scene: int) -> EpisodeResult:
        from eval.corrector import MotionLog, SimulatedCorrector, corrector_config, require_corrector
        from sim.episode import run_episode

        config, world, policy = self._config, self.world(task), self.policy(task)
        companion = MotionLog()
        if config.corrector:
            companion = SimulatedCorrector(corrector_config(config.corrector))
            require_corrector(companion.config, policy.spec, config.policy)
        result = run_episode(
            world,
            policy,
            config.split,
            scene,
            execute=config.execute,
            variant=config.variant,
            wording=config.wording,
            protocol=config.protocol,
            real_time=config.real_time,
            goal_image=self._pictures[task].picture(world, scene),
            companion=companion,
        )
        if isinstance(companion, SimulatedCorrector):
            result = replace(result, corrections=len(companion.corrections))
        if companion.chose:
            companion.write(Path(config.output) / MOTIONS / f"{task}-{scene}.jsonl")
        if self._programs:
            from policies.lmp.policy import LmpPolicy, write_log

            assert isinstance(policy, LmpPolicy)
            log = Path(config.output) / PROGRAMS / f"{task}-{scene}.json"
            write_log(policy, log, success=bool(result.success), failure=result.failure, length=result.length)
        return result

    def film(self, result: EpisodeResult) -> Film | None:
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
            return Film(path.read_bytes(), None if result.goal_image is None else _png(result.goal_image))


def _png(picture: NDArray[np.uint8]) -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG")
    return file.getvalue()


def _scripted(config: EvaluationConfig, world: SimulatedWorld) -> Policy:
    if config.policy == EXPERT:
        from sim.expert import ScriptedExpert

        return ScriptedExpert(world)
    if config.policy == ORACLE:
        from sim.keypose import Oracle

        return Oracle(world)
    space = action_space(world.spec, config.protocol)
    return RandomPolicy(space, horizon=1, smoothing=1.0) if config.protocol == "keypose" else RandomPolicy(space)
