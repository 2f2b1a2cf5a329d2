"""What every learned policy is: a network with a configuration, a spec and statistics, saved and run the same way."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from policies.checkpoint import Checkpoint, read_checkpoint, read_header, write_checkpoint
from policies.configuration import configuration
from policies.normalisation import Statistics, plain
from robot.errors import ContractError, TongsError, unknown
from robot.images import scale_down
from robot.interface import ActionChunk, Observation, PolicySpec, RobotSpec, require_compatible

if TYPE_CHECKING:
    from typing_extensions import Self

FAMILIES = {"beso": ("policies.beso.model", "Beso")}
"""Policy family -> module and class, imported only when a checkpoint of the family is loaded."""

Batch = Mapping[str, Any]
"""Windows of demonstrations as tensors on the policy's device.

images: {camera: uint8 (B, T, H, W, 3)}; state: float32 (B, T, D) in the spec's order, physical units; instruction: B
strings. For `loss` also actions: float32 (B, T-1+H, A) in physical units; action_is_pad: bool (B, T-1+H); optional
environment_state: float32 (B, E); optional weight: float32 (B,). For `predict` with T > 1 also past_actions: float32
(B, T-1, A) in physical units.
"""


class PolicyModule(nn.Module):
    """Base of every learned policy; implements `robot.interface.Policy` on top of `predict`.

    A family gives `family`, `config_class`, `loss` and `predict`. Its constructor takes (config, spec, statistics).
    """

    family: ClassVar[str]
    config_class: ClassVar[type]

    def __init__(self, config: Any, spec: PolicySpec, statistics: Statistics, window: int = 1) -> None:
        """Args: `window` is T, the number of observations that one prediction sees."""
        super().__init__()
        self.config = config
        self.statistics = plain(statistics)
        self.window = window
        self._spec = spec
        self.trained_on: tuple[str, ...] = ()  # see `Checkpoint`
        self.robot_state_names: tuple[str, ...] | None = None
        self._state_columns: NDArray[np.intp] | None = None
        self._generator: torch.Generator | None = None
        self._histories: list[deque[Observation]] = []
        self._past_actions: list[deque[NDArray[np.float32]]] = []

    @property
    def spec(self) -> PolicySpec:
        return self._spec

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    @classmethod
    def untrained(cls, config: Any) -> Any:
        """The configuration of a network that is about to receive a checkpoint's weights, so needs no others."""
        return config

    @property
    def heavy_parts(self) -> list[nn.Module]:
        """The modules whose forward takes most of the time and has fixed shapes in training: worth compiling."""
        return []

    def prepare(self, instructions: Sequence[str]) -> None:
        """Told before training which instructions will come; a policy may compute what it keeps of each."""

    def loss(self, batch: Batch, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """Scalars by name; "loss" is what is minimised, the others are for the log.

        In training mode images are augmented and goals masked. Randomness comes from `generator`, on the policy's
        device, or else from torch's own generator.
        """
        raise NotImplementedError

    def predict(self, batch: Batch, generator: torch.Generator) -> Tensor:
        """Actions (B, H, A) in physical units, the first for the newest observation of each window."""
        raise NotImplementedError

    def bind(self, robot: RobotSpec) -> None:
        """Prepare to act on a robot: from now on `Observation.state` is read by this robot's names.

        Raises:
            ContractError: the policy does not fit the robot.
        """
        require_compatible(self.spec, robot, self.family)
        self.robot_state_names = tuple(robot.state_names)
        self._state_columns = np.array([robot.state_names.index(name) for name in self.spec.state_names], dtype=np.intp)

    def reset(self, seed: int) -> None:
        """Forget the episode; all randomness until the next reset follows from `seed`."""
        self._generator = torch.Generator(self.device).manual_seed(seed)
        self._histories, self._past_actions = [], []

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
        self._remember(observations)
        batch = self._batch()
        training = self.training
        if training:
            self.eval()
        try:
            actions = self.predict(batch, self._require_generator()).cpu().numpy()
        finally:
            if training:
                self.train()
        actions = self.spec.action_space.clip(actions)
        if self.window > 1:
            for past, chunk in zip(self._past_actions, actions, strict=True):
                past.append(chunk[0])
        elapsed = np.arange(self.spec.horizon) / self.spec.action_space.rate
        return [
            ActionChunk(chunk, observation.time + elapsed)
            for chunk, observation in zip(actions, observations, strict=True)
        ]

    def _require_generator(self) -> torch.Generator:
        if self._generator is None:
            raise ContractError(f"{self.family}: call reset(seed) before the first act of an episode")
        return self._generator

    def _remember(self, observations: Sequence[Observation]) -> None:
        self._require_generator()
        if not observations:
            raise ContractError(f"{self.family}: act_batch needs at least one observation")
        if not self._histories:
            self._histories = [deque(maxlen=self.window) for _ in observations]
            self._past_actions = [deque(maxlen=self.window - 1) for _ in observations]
        elif self.window == 1:
            self._histories = [deque(maxlen=1) for _ in observations]
        if len(self._histories) != len(observations):
            raise ContractError(
                f"{self.family}: {len(observations)} observations after {len(self._histories)} in the same episodes"
            )
        for history, observation in zip(self._histories, observations, strict=True):
            history.append(observation)

    def _batch(self) -> dict[str, Any]:
        """The remembered observations and actions as what `predict` takes."""
        if self._state_columns is None or self.robot_state_names is None:
            raise ContractError(f"{self.family}: call bind(robot_spec) once before it acts")
        windows = [list(history) for history in self._histories]
        newest = [window[-1] for window in windows]
        for observation in newest:
            if len(observation.state) != len(self.robot_state_names):
                raise ContractError(
                    f"{self.family}: the robot declares {len(self.robot_state_names)} state entries "
                    f"and the observation has {len(observation.state)}"
                )
        images = {}
        for camera, size in self.spec.cameras.items():
            absent = [observation for observation in newest if camera not in observation.images]
            if absent:
                has = ", ".join(sorted(absent[0].images)) or "none"
                raise ContractError(f"{self.family} needs camera {camera!r}; the observation has: {has}")
            stacked = np.stack([[scale_down(seen.images[camera], size) for seen in window] for window in windows])
            images[camera] = torch.from_numpy(stacked).to(self.device)
        state = np.stack([[seen.state[self._state_columns] for seen in window] for window in windows])
        batch: dict[str, Any] = {
            "images": images,
            "state": torch.from_numpy(state).to(self.device),
            "instruction": [observation.instruction for observation in newest],
        }
        if self.window > 1:
            past = np.array([list(actions) for actions in self._past_actions], dtype=np.float32)
            past = past.reshape(len(windows), -1, self.spec.action_space.dimension)
            batch["past_actions"] = torch.from_numpy(past).to(self.device)
        return batch

    def save(self, folder: Path | str, card: str | None = None) -> None:
        """Write a checkpoint folder, whole or not at all; `card` is the text of its model card."""
        weights, config = self.state_dict(), asdict(self.config)
        checkpoint = Checkpoint(self.family, config, self.spec, self.statistics, weights, self.trained_on)
        write_checkpoint(Path(folder), checkpoint, card if card is not None else self._minimal_card())

    def _minimal_card(self) -> str:
        weights = sum(parameter.numel() for parameter in self.parameters())
        cameras = ", ".join(f"{name} at {height}x{width}" for name, (height, width) in self.spec.cameras.items())
        space = self.spec.action_space
        return (
            f"# A {self.family} policy\n\n"
            f"- {weights:,} parameters\n- cameras: {cameras or 'none'}\n- state: {', '.join(self.spec.state_names)}\n"
            f"- actions: {space.kind} ({', '.join(space.names)}), {self.spec.horizon} per chunk at {space.rate:g} Hz\n"
        )

    @classmethod
    def load(cls, folder: Path | str) -> Self:
        """The policy in a checkpoint folder, in evaluation mode on the CPU.

        Raises:
            TongsError: the folder is no checkpoint of this family, or its parts do not fit together.
        """
        folder = Path(folder)
        checkpoint = read_checkpoint(folder)
        if checkpoint.policy != cls.family:
            raise TongsError(f"{folder} holds a {checkpoint.policy!r} policy, not {cls.family!r}")
        config = cls.untrained(configuration(cls.config_class, checkpoint.config, complete=True))
        policy = cls(config, checkpoint.spec, checkpoint.statistics)  # type: ignore[call-arg]
        require_same_weights(policy.state_dict(), checkpoint.weights, str(folder))
        policy.load_state_dict(dict(checkpoint.weights))
        policy.trained_on = checkpoint.trained_on
        return policy.eval()


def require_same_weights(wanted: Mapping[str, Tensor], given: Mapping[str, Tensor], source: str) -> None:
    """Raise a TongsError that names the first missing and the first unexpected weight, or one of another shape."""
    missing = [name for name in wanted if name not in given]
    unexpected = [name for name in given if name not in wanted]
    problems = [f"weight {missing[0]!r} is missing ({len(missing)} in all)"] if missing else []
    problems += [f"weight {unexpected[0]!r} is not expected ({len(unexpected)} in all)"] if unexpected else []
    if problems:
        raise TongsError(f"{source} does not fit its configuration: {' and '.join(problems)}")
    for name, value in wanted.items():
        if given[name].shape != value.shape:
            raise TongsError(
                f"{source} does not fit its configuration: weight {name!r} has shape {tuple(given[name].shape)} "
                f"and should have {tuple(value.shape)}"
            )


def load_policy(folder: Path | str) -> PolicyModule:
    """The policy in a checkpoint folder, of whichever family its config.json names.

    Raises:
        TongsError: the folder is no checkpoint, is damaged, or names an unknown family.
    """
    family = read_header(Path(folder))["policy"]
    if family not in FAMILIES:
        raise unknown("policy family", family, list(FAMILIES))
    module, name = FAMILIES[family]
    return getattr(import_module(module), name).load(folder)
