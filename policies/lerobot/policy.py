"""A LeRobot policy (ACT, diffusion, SmolVLA) as a `Policy` of ours."""

# pyright: reportMissingImports=false

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from policies.lerobot.fit import LeRobotSettings, fit
from policies.lerobot.loading import load
from robot.errors import ContractError
from robot.images import scale_down
from robot.interface import ActionChunk, GoalKind, Observation, PolicySpec, RobotSpec, require_compatible

ENSEMBLED = ("ensembled_actions", "ensembled_actions_count")
"""What LeRobot's temporal ensembling of an episode has averaged so far, and how many chunks are in it."""


@dataclass
class Episode:
    """What a policy keeps of one episode, or of several that were reset together: observations, the states of torch's
    generators, and what temporal ensembling has averaged."""

    histories: list[deque[Observation]]
    randomness: list[Tensor]
    ensembled: dict[str, Any]

    def copy(self) -> Episode:
        tensors = {key: value.clone() if isinstance(value, Tensor) else value for key, value in self.ensembled.items()}
        return Episode([history.copy() for history in self.histories], list(self.randomness), tensors)


class LeRobotPolicy:
    """Runs a LeRobot checkpoint: its preprocessor, its network, its postprocessor.

    - A chunk is all that the network predicts: `chunk_size` actions of ACT and SmolVLA, `n_action_steps` of diffusion.
      How many of them are executed is up to the caller; LeRobot itself executes `n_action_steps`.
    - ACT with temporal ensembling gives chunks of one action and is asked at every step.
    - Diffusion sees its last `n_obs_steps` observations, one control period apart; the first one stands in for those
      before the episode, as in LeRobot.
    - Only SmolVLA reads the instruction; the `goals` of the others are empty.

    Args:
        folder: a `pretrained_model` folder.
        settings: what the checkpoint does not say about itself.
        sampling: sampling settings that differ from the checkpoint's, see `policies.lerobot.loading.SAMPLING`.

    Raises:
        TongsError: the checkpoint is incomplete, or does not say what its numbers mean.
    """

    def __init__(
        self, folder: Path | str, settings: LeRobotSettings | None = None, sampling: Mapping[str, Any] | None = None
    ) -> None:
        settings = settings or LeRobotSettings()
        loaded = load(Path(folder), settings.device, sampling or {})
        self._loaded, self._policy = loaded, loaded.policy
        config: Any = loaded.policy.config
        self.family: str = config.type
        self.sampling = loaded.sampling
        self._ensembles = getattr(config, "temporal_ensemble_coeff", None) is not None
        self._ensembler: Any = getattr(self._policy, "temporal_ensembler", None) if self._ensembles else None
        self._fit = fit(Path(folder), loaded.inputs, config.action_feature.shape[0], loaded.renamed, settings)
        horizon = config.n_action_steps if self.family == "diffusion" else config.chunk_size
        goals: tuple[GoalKind, ...] = ("language",) if self.family == "smolvla" else ()
        self._spec = PolicySpec(
            cameras=self._fit.sizes,
            state_names=self._fit.state_names,
            action_space=self._fit.action_space,
            horizon=1 if self._ensembles else horizon,
            goals=goals,
            history=config.n_obs_steps,
        )
        self._device = torch.device(settings.device)
        self._columns: dict[str, NDArray[np.intp]] | None = None
        self._robot: RobotSpec | None = None
        self._histories: list[deque[Observation]] = []
        self._randomness: list[Tensor] = []

    @property
    def spec(self) -> PolicySpec:
        return self._spec

    def bind(self, robot: RobotSpec) -> None:
        """Prepare to act on a robot: from now on `Observation.state` is read by this robot's names.

        Raises:
            ContractError: the policy does not fit the robot.
        """
        require_compatible(self.spec, robot, f"the {self.family} policy")
        self._robot = robot
        self._columns = {
            key: np.array([robot.state_names.index(name) for name in names], dtype=np.intp)
            for key, names in self._fit.vectors.items()
        }

    def reset(self, seed: int) -> None:
        """Forget the episode; all randomness until the next reset follows from `seed`."""
        self._histories = []
        self._policy.reset()
        with torch.random.fork_rng(self._gpus):
            torch.manual_seed(seed)
            self._randomness = self._random_states()

    def remember(self, observations: Sequence[Observation]) -> None:
        """One observation per episode, at a control step at which no chunk is asked for."""
        if not self._randomness:
            raise ContractError(f"{self.family}: call reset(seed) before the first act of an episode")
        if not observations:
            raise ContractError(f"{self.family}: act_batch needs at least one observation")
        if not self._histories or (self.spec.history == 1 and not self._ensembles):
            self._histories = [deque(maxlen=self.spec.history) for _ in observations]
        if len(self._histories) != len(observations):
            raise ContractError(
                f"{self.family}: {len(observations)} observations after {len(self._histories)} in the same episodes"
            )
        for history, observation in zip(self._histories, observations, strict=True):
            missing = 0 if history else self.spec.history - 1
            history.extend([observation] * (missing + 1))

    def begin(self, seed: int) -> Episode:
        """A new episode, as after `reset(seed)`; the one of `reset` and `act` stays what it is."""
        kept = self._episode
        self.reset(seed)
        begun, self._episode = self._episode, kept
        return begun

    def act_episodes(self, episodes: Sequence[Episode], observations: Sequence[Observation]) -> list[ActionChunk]:
        """One chunk per episode of `begin`, one after another, since LeRobot's policies draw from one generator. If it
        raises, all episodes are as they were."""
        kept, acted, chunks = self._episode, [], []
        try:
            for episode, observation in zip(episodes, observations, strict=True):
                self._episode = episode.copy()
                chunks.append(self.act(observation))
                acted.append(self._episode)
        finally:
            self._episode = kept
        for episode, after in zip(episodes, acted, strict=True):
            episode.histories, episode.randomness = after.histories, after.randomness
            episode.ensembled = after.ensembled
        return chunks

    def remember_episodes(self, episodes: Sequence[Episode], observations: Sequence[Observation]) -> None:
        """One observation per episode, at a control step at which no chunk is asked for."""
        kept = self._episode
        try:
            for episode, observation in zip(episodes, observations, strict=True):
                self._episode = episode
                self.remember([observation])
                episode.histories = self._histories
        finally:
            self._episode = kept

    @property
    def _episode(self) -> Episode:
        averages = {name: getattr(self._ensembler, name) for name in ENSEMBLED} if self._ensembler else {}
        return Episode(self._histories, self._randomness, averages)

    @_episode.setter
    def _episode(self, episode: Episode) -> None:
        self._histories, self._randomness = episode.histories, episode.randomness
        for name, value in episode.ensembled.items():
            setattr(self._ensembler, name, value)

    def act(self, observation: Observation) -> ActionChunk:
        """The chunk that starts at `observation.time`."""
        return self.act_batch([observation])[0]

    @torch.inference_mode()
    def act_batch(self, observations: Sequence[Observation]) -> list[ActionChunk]:
        """One chunk per observation, of independent episodes that were all reset together.

        Raises:
            ContractError: the policy was not bound to a robot or not reset, an observation does not fit the spec, or
                the network gave NaN.
        """
        self.remember(observations)
        moments = [self._batch([history[step] for history in self._histories]) for step in range(self.spec.history)]
        with self._own_randomness():
            actions = self._predict(moments)  # (B, H, A), normalised
        flat = self._loaded.postprocessor(actions.reshape(-1, actions.shape[-1]))
        space = self.spec.action_space
        physical = space.clip(flat.reshape(actions.shape).float().cpu().numpy() / self._fit.scale(space.names))
        elapsed = np.arange(self.spec.horizon) / self.spec.action_space.rate
        return [
            ActionChunk(chunk, observation.time + elapsed)
            for chunk, observation in zip(physical, observations, strict=True)
        ]

    def _batch(self, observations: Sequence[Observation]) -> dict[str, Any]:
        """Observations of one moment as LeRobot's environments give them: images float32 (B, 3, H, W) in 0..1."""
        if self._columns is None or self._robot is None:
            raise ContractError(f"{self.family}: call bind(robot_spec) once before it acts")
        declared = len(self._robot.state_names)
        for observation in observations:
            if len(observation.state) != declared:
                raise ContractError(
                    f"{self.family}: the robot declares {declared} state entries "
                    f"and the observation has {len(observation.state)}"
                )
        batch: dict[str, Any] = {"task": [observation.instruction for observation in observations]}
        for key, columns in self._columns.items():
            scale = self._fit.scale(self._fit.vectors[key])
            batch[key] = torch.from_numpy(
                np.stack([scale * observation.state[columns] for observation in observations])
            )
        for key, camera in self._fit.cameras.items():
            size, pictures = self.spec.cameras[camera], []
            for observation in observations:
                if camera not in observation.images:
                    has = ", ".join(sorted(observation.images)) or "none"
                    raise ContractError(f"{self.family} needs camera {camera!r}; the observation has: {has}")
                pictures.append(scale_down(observation.images[camera], size))
            stacked = torch.from_numpy(np.stack(pictures))
            batch[key] = stacked.permute(0, 3, 1, 2).contiguous().float() / 255
        return batch

    def _predict(self, moments: Sequence[dict[str, Any]]) -> Tensor:
        """Normalised actions (B, H, A) from the observations of the last moments, oldest first."""
        policy: Any = self._policy
        if self.family != "diffusion":
            actions = policy.predict_action_chunk(self._loaded.preprocessor(moments[-1]))
            return policy.temporal_ensembler.update(actions)[:, None] if self._ensembles else actions
        # Diffusion predicts from queues of its own that only `select_action` fills; this fills them the same way.
        from lerobot.policies.utils import populate_queues

        policy.reset()
        batch: dict[str, Any] = {}
        for moment in moments:
            batch = self._loaded.preprocessor(moment)
            batch = {key: value for key, value in batch.items() if key in policy.config.input_features}
            if policy.config.image_features:
                pictures = [batch.pop(key) for key in policy.config.image_features]
                batch["observation.images"] = torch.stack(pictures, dim=-4)
            policy._queues = populate_queues(policy._queues, batch)
        return policy.predict_action_chunk(batch)

    @property
    def _gpus(self) -> list[torch.device]:
        return [self._device] if self._device.type == "cuda" else []

    def _random_states(self) -> list[Tensor]:
        return [torch.get_rng_state(), *(torch.cuda.get_rng_state(gpu) for gpu in self._gpus)]

    @contextmanager
    def _own_randomness(self) -> Iterator[None]:
        """LeRobot draws from torch's global generators: here they are this episode's, and afterwards what they were."""
        with torch.random.fork_rng(self._gpus):
            torch.set_rng_state(self._randomness[0])
            for gpu, state in zip(self._gpus, self._randomness[1:], strict=True):
                torch.cuda.set_rng_state(state, gpu)
            yield
            self._randomness = self._random_states()
