"""What every learned policy is: a network with a configuration, a spec and statistics, saved and run the same way."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from policies.adapters import Adapter, adapter_state, describe, merged_state
from policies.bits import BITS, linear_layers, put_in_bits
from policies.checkpoint import Checkpoint, read_checkpoint, read_header, write_checkpoint
from policies.configuration import configuration, merged
from policies.exporting.parts import Parts
from policies.normalisation import Statistics, plain
from policies.randomness import Randomness
from robot.errors import ContractError, TongsError, unknown
from robot.exported import is_export
from robot.images import scale_down
from robot.interface import ActionChunk, Observation, PolicySpec, RobotSpec, episode_seed, require_compatible
from robot.motions import MotionTable

if TYPE_CHECKING:
    from typing_extensions import Self

FAMILIES = {
    "bc": ("policies.baselines.bc", "BehaviourCloning"),
    "beso": ("policies.beso.model", "Beso"),
    "bet": ("policies.baselines.bet", "BehaviourTransformer"),
    "ddpm": ("policies.baselines.ddpm", "DdpmPolicy"),
    "gmm": ("policies.baselines.gmm", "MixtureCloning"),
    "grif": ("policies.grif.model", "Grif"),
    "grif_beso": ("policies.grif.model", "GrifBeso"),
    "rth": ("policies.rth.model", "Rth"),
    "vla": ("policies.vla.policy", "Vla"),
    "yay": ("policies.yay.model", "Yay"),
}
"""Policy family -> module and class, imported only when it is needed."""

PRECISIONS = ("fp32", "bf16", *BITS)

Batch = Mapping[str, Any]
"""Windows of demonstrations as tensors on the policy's device.

images: {camera: uint8 (B, T, H, W, 3)}; state: float32 (B, T, D) in the spec's order, physical units; instruction: B
strings. For `loss` also actions: float32 (B, T-1+H, A) in physical units; action_is_pad: bool (B, T-1+H); labelled:
bool (B,), whether there is an instruction; episode and dataset: int64 (B,), their numbers; optional environment_state:
float32 (B, E); optional weight: float32 (B,); for policies that learn language motions `motion` and `motion_ahead`, B
strings each: that of now and the one to be predicted (empty where none is known). For `predict` with T > 1 also
past_actions: float32 (B, T-1, A) in physical units. With goals that are seen: goal_state float32 (B, G, D), goal_images
{camera: uint8 (B, G, H, W, 3)}, initial_images {camera: uint8 (B, 1, H, W, 3)}, what was seen when the task began.
"""


@dataclass(frozen=True)
class TrainingData:
    """What a new policy may know of its training data before training.

    Attributes:
        statistics: of the features, in the spec's order of entries.
        instructions: the distinct ones.
        environment_names: of the privileged `environment_state` in its batches.
        chunks: gives up to so many action chunks (N, H, A) in physical units, drawn at random.
        motions: the distinct language motions, the most frequent first, and the table that they are meant by.
    """

    statistics: Statistics
    instructions: Sequence[str]
    environment_names: tuple[str, ...]
    chunks: Callable[[int], NDArray[np.float32]]
    motions: Sequence[str] = ()
    motion_table: MotionTable | None = None


@dataclass
class Episode:
    """What a policy keeps of one episode: its randomness, the last window - 1 observations and executed actions, and
    the observation with which the present task began."""

    generator: torch.Generator
    history: deque[Observation]
    past_actions: deque[NDArray[np.float32]]
    begun: Observation | None = None

    def beginning(self, observation: Observation) -> Observation:
        """The observation with which its task began; a new goal picture is a new task, which begins with it."""
        if self.begun is None or not _same_picture(self.begun.goal_image, observation.goal_image):
            return observation
        return self.begun


class PolicyModule(nn.Module):
    """Base of every learned policy; implements `robot.interface.SharedPolicy` on top of `predict`.

    A family gives `family`, `config_class`, `loss` and `predict`. Its constructor takes (config, spec, statistics).
    """

    family: ClassVar[str]
    config_class: ClassVar[type]
    goal_rules: ClassVar[Mapping[str, float]] = {}
    """How later frames become goals where a training does not say: fields of `data.goals.GoalRelabelling`."""

    def __init__(self, config: Any, spec: PolicySpec, statistics: Statistics, window: int = 1) -> None:
        """Args: `window` is T, the number of observations that one prediction sees."""
        super().__init__()
        self.config = config
        self.statistics = plain(statistics)
        self.window = window
        self._spec = spec
        self.trained_on: tuple[str, ...] = ()  # see `Checkpoint`
        self.adapter: Adapter | None = None  # what it is trained with, if that is less than everything
        self.precision = "fp32"
        self.robot_state_names: tuple[str, ...] | None = None
        self._state_columns: NDArray[np.intp] | None = None
        self._seed: int | None = None
        self._episodes: list[Episode] = []

    @property
    def spec(self) -> PolicySpec:
        return self._spec

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    @classmethod
    def new(cls, settings: Mapping[str, Any], spec: PolicySpec, data: TrainingData) -> Self:
        """An untrained policy for a dataset; `settings` are fields of `config_class`."""
        return cls(configuration(cls.config_class, settings), spec, data.statistics)

    def changed(self, settings: Mapping[str, Any], statistics: Statistics | None = None) -> Self:
        """The same weights with other settings, fields of `config_class`, or with other statistics; itself if nothing
        changes.

        Raises:
            TongsError: there is no such setting, or it asks for other weights.
        """
        config = configuration(self.config_class, merged(asdict(self.config), settings))
        if statistics is None and all(getattr(config, name) == getattr(self.config, name) for name in settings):
            return self
        again = type(self)(self.untrained(config), self.spec, statistics or self.statistics)  # type: ignore[call-arg]
        weights = self.state_dict()
        require_same_weights(again.state_dict(), weights, f"a trained {self.family} policy with {dict(settings)}")
        again.load_state_dict(weights)
        again.trained_on = self.trained_on
        return again

    def continued(self, settings: Mapping[str, Any], spec: PolicySpec, data: TrainingData) -> Self:
        """The policy that goes on from this one with other settings, see `changed`, and another spec.

        Raises:
            TongsError: such a change is not possible.
        """
        if spec != self.spec:
            reads = ",".join(self.spec.state_names)
            raise TongsError(f"a trained {self.family} policy reads what it was trained with: give state=[{reads}]")
        return self.changed(settings)

    @classmethod
    def motion_ahead(cls, settings: Mapping[str, Any]) -> int | None:
        """By how many frames the language motion lies ahead that such a policy learns to predict; None if it learns
        none."""
        return None

    def hear(self, motions: Sequence[str], table: MotionTable | None) -> None:
        """Told, before a trained policy is trained further, which language motions its data has."""

    @classmethod
    def untrained(cls, config: Any) -> Any:
        """The configuration of a network that is about to receive a checkpoint's weights, so needs no others."""
        return config

    @property
    def heavy_parts(self) -> list[nn.Module]:
        """The modules whose forward takes most of the time and has fixed shapes in training: worth compiling."""
        return []

    @property
    def parts(self) -> Mapping[str, Sequence[nn.Module]]:
        """Modules that can be trained alone: "vision", all between the cameras and the trunk, and "last", the end of
        the trunk. Empty if the family does not tell."""
        return {}

    def exported(self) -> Parts:
        """The policy as modules for graphs, see `policies.exporting`.

        Raises:
            TongsError: this family, or this policy, cannot be exported.
        """
        raise TongsError(f"a {self.family} policy cannot be exported; beso and vla can")

    @property
    def couples_rows(self) -> bool:
        """Whether the rows of a batch change each other's actions; then `act_episodes` predicts one at a time."""
        return False

    @property
    def stages(self) -> tuple[str, ...]:
        """The stages of its training, in order; each is a run of its own that begins with `enter`."""
        return ("control",)

    def enter(self, stage: str) -> None:
        """Prepare for one of the `stages`: what is trained, and what `loss` is."""

    @property
    def learning_rate_factors(self) -> Mapping[str, float]:
        """Beginnings of parameter names -> the learning rate of those parameters as a multiple of the run's."""
        return {}

    def prepare(self, instructions: Sequence[str]) -> None:
        """Told before training which instructions will come; a policy may compute what it keeps of each."""

    def loss(self, batch: Batch, generator: Randomness = None) -> dict[str, Tensor]:
        """Scalars by name; "loss" is what is minimised, the others are for the log.

        In training mode images are augmented and goals masked. Randomness comes from `generator`, on the policy's
        device, through `policies.randomness.draw`, so that it does not depend on how a batch is divided.
        """
        raise NotImplementedError

    def predict(self, batch: Batch, generator: Randomness) -> Tensor:
        """Actions (B, H, A) in physical units, the first for the newest observation of each window.

        Randomness comes from `generator` through `policies.randomness`; when the policy acts, every row has its own.
        """
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
        self._seed, self._episodes = seed, []

    def begin(self, seed: int) -> Episode:
        """A new episode, as after `reset(seed)`; the one of `reset` and `act` stays what it is."""
        generator = torch.Generator(self.device).manual_seed(seed)
        return Episode(generator, deque(maxlen=self.window - 1), deque(maxlen=self.window - 1))

    def act(self, observation: Observation) -> ActionChunk:
        """The chunk that starts at `observation.time`."""
        return self.act_batch([observation])[0]

    def act_batch(self, observations: Sequence[Observation]) -> list[ActionChunk]:
        """One chunk per observation, of independent episodes that were all reset together.

        Raises:
            ContractError: the policy was not bound to a robot or not reset, an observation does not fit the spec, or
                the network gave NaN.
        """
        with torch.inference_mode():
            return self._act(observations, {})

    def _act(self, observations: Sequence[Observation], told: Mapping[str, Any]) -> list[ActionChunk]:
        """One chunk per observation; `told` is what `predict` gets besides the observations."""
        if self._seed is None:
            raise ContractError(f"{self.family}: call reset(seed) before the first act of an episode")
        known, given = len(self._episodes), len(observations)
        if known != given and known and self.window > 1:
            raise ContractError(f"{self.family}: {given} observations after {known} in the same episodes")
        self._episodes += [self.begin(episode_seed(self._seed, row)) for row in range(known, given)]
        return self._act_episodes(self._episodes[:given], observations, told)

    def act_episodes(self, episodes: Sequence[Episode], observations: Sequence[Observation]) -> list[ActionChunk]:
        """One chunk per episode of `begin`. If it raises, all episodes are as they were.

        Raises:
            ContractError: as for `act_batch`.
        """
        with torch.inference_mode():
            return self._act_episodes(episodes, observations, {})

    def _act_episodes(
        self, episodes: Sequence[Episode], observations: Sequence[Observation], told: Mapping[str, Any]
    ) -> list[ActionChunk]:
        if not observations:
            raise ContractError(f"{self.family}: act_batch needs at least one observation")
        before = [episode.generator.get_state() for episode in episodes]
        training = self.training
        if training:
            self.eval()
        try:
            actions = self._actions(episodes, observations, told)
        except BaseException:
            for episode, state in zip(episodes, before, strict=True):
                episode.generator.set_state(state)
            raise
        finally:
            if training:
                self.train()
        for episode, observation, chunk in zip(episodes, observations, actions, strict=True):
            episode.begun = episode.beginning(observation)
            episode.history.append(observation)
            episode.past_actions.append(chunk[0])
        elapsed = np.arange(self.spec.horizon) / self.spec.action_space.rate
        return [
            ActionChunk(chunk, observation.time + elapsed)
            for chunk, observation in zip(actions, observations, strict=True)
        ]

    def _actions(
        self, episodes: Sequence[Episode], observations: Sequence[Observation], told: Mapping[str, Any]
    ) -> NDArray[np.float32]:
        """Actions (B, H, A) within their bounds; episodes that began at different times have windows of their own, and
        those that are told by a picture or not are apart."""
        groups: dict[Any, list[int]] = {}
        for row, (episode, seen) in enumerate(zip(episodes, observations, strict=True)):
            alike = (len(episode.history), seen.goal_image is None)
            groups.setdefault(row if self.couples_rows else alike, []).append(row)
        actions = np.empty((len(episodes), self.spec.horizon, self.spec.action_space.dimension), np.float32)
        for rows in groups.values():
            batch = self._batch([episodes[row] for row in rows], [observations[row] for row in rows])
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision != "fp32"):
                predicted = self.predict(batch | dict(told), [episodes[row].generator for row in rows])
            actions[rows] = self.spec.action_space.clip(predicted.float().cpu().numpy())
        return actions

    def _batch(self, episodes: Sequence[Episode], observations: Sequence[Observation]) -> dict[str, Any]:
        """New observations, after those that are remembered, as what `predict` takes."""
        if self._state_columns is None or self.robot_state_names is None:
            raise ContractError(f"{self.family}: call bind(robot_spec) once before it acts")
        for observation in observations:
            if len(observation.state) != len(self.robot_state_names):
                raise ContractError(
                    f"{self.family}: the robot declares {len(self.robot_state_names)} state entries "
                    f"and the observation has {len(observation.state)}"
                )
        windows = [[*episode.history, observation] for episode, observation in zip(episodes, observations, strict=True)]
        images = {}
        for camera, size in self.spec.cameras.items():
            absent = [observation for observation in observations if camera not in observation.images]
            if absent:
                has = ", ".join(sorted(absent[0].images)) or "none"
                raise ContractError(f"{self.family} needs camera {camera!r}; the observation has: {has}")
            stacked = np.stack([[scale_down(seen.images[camera], size) for seen in window] for window in windows])
            images[camera] = torch.from_numpy(stacked).to(self.device)
        state = np.stack([[seen.state[self._state_columns] for seen in window] for window in windows])
        batch: dict[str, Any] = {
            "images": images,
            "state": torch.from_numpy(state).to(self.device),
            "instruction": [observation.instruction for observation in observations],
        }
        begun = [episode.beginning(observation) for episode, observation in zip(episodes, observations, strict=True)]
        batch |= self._goals(observations, begun)
        if self.window > 1:
            past = np.array([list(episode.past_actions) for episode in episodes], dtype=np.float32)
            past = past.reshape(len(windows), -1, self.spec.action_space.dimension)
            batch["past_actions"] = torch.from_numpy(past).to(self.device)
        return batch

    def _goals(self, newest: Sequence[Observation], begun: Sequence[Observation]) -> dict[str, Any]:
        """What the observations say of goals that are seen, as what `predict` takes; tasks began at `begun`."""
        goals: dict[str, Any] = {}
        if "state" in self.spec.goals:
            states = [observation.goal_state for observation in newest if observation.goal_state is not None]
            if len(states) < len(newest):
                raise ContractError(f"{self.family} is told its goal as a state; an observation has no goal_state")
            stacked = np.stack([np.atleast_2d(state)[:, self._state_columns] for state in states])
            goals["goal_state"] = torch.from_numpy(stacked).to(self.device)
        if "image" in self.spec.goals:
            pictures = [observation.goal_image for observation in newest if observation.goal_image is not None]
            if not pictures and "language" in self.spec.goals:
                return goals
            if len(pictures) < len(newest):
                raise ContractError(f"{self.family} is told its goal as a picture; an observation has no goal_image")
            camera, size = next(iter(self.spec.cameras.items()))
            moments = [picture if picture.ndim == 4 else picture[None] for picture in pictures]
            scaled = np.stack([[scale_down(picture, size) for picture in of_one] for of_one in moments])
            goals["goal_images"] = {camera: torch.from_numpy(scaled).to(self.device)}
            first = np.stack([[scale_down(observation.images[camera], size)] for observation in begun])
            goals["initial_images"] = {camera: torch.from_numpy(first).to(self.device)}
        return goals

    def lower(self, precision: str) -> None:
        """Compute in "bf16", or with linear layers in "int8" or "int4" by bitsandbytes; not undone.

        Raises:
            TongsError: there is no such precision, or this machine cannot do it.
        """
        if precision not in PRECISIONS:
            raise unknown("precision of backend torch", precision, PRECISIONS)
        if precision in BITS:
            put_in_bits(self, linear_layers(self), precision)
        self.precision = precision

    def save(self, folder: Path | str, card: str | None = None) -> None:
        """Write a checkpoint folder, whole or not at all; `card` is the text of its model card.

        A policy with an adapter is written with the adapter merged, or as the adapter alone if `Adapter.merge` is
        false.
        """
        folder, config, alone = Path(folder), asdict(self.config), None
        if self.adapter is None:
            weights = self.state_dict()
        elif self.adapter.merge:
            weights = merged_state(self)
        else:
            weights, alone = adapter_state(self), describe(self.adapter, folder)
        if self.precision in BITS:
            raise TongsError(
                f"a policy in {self.precision} cannot be saved; it is made of its bf16 checkpoint when loaded"
            )
        if self.precision == "bf16":
            weights = {
                name: value.bfloat16() if value.is_floating_point() else value for name, value in weights.items()
            }
        about = (self.trained_on, alone, self.precision)
        checkpoint = Checkpoint(self.family, config, self.spec, self.statistics, weights, *about)
        write_checkpoint(folder, checkpoint, card if card is not None else self._minimal_card())

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
        if checkpoint.precision != "fp32":
            policy.lower(checkpoint.precision)
        return policy.eval()


def _same_picture(one: NDArray[np.uint8] | None, other: NDArray[np.uint8] | None) -> bool:
    return one is other or (one is not None and other is not None and np.array_equal(one, other))


def require_same_weights(wanted: Mapping[str, Tensor], given: Mapping[str, Tensor], source: str) -> None:
    """Raise a TongsError that names the first missing and the first unexpected weight, or one of another shape."""
    require_no_others(
        [name for name in wanted if name not in given],
        [name for name in given if name not in wanted],
        f"{source} does not fit its configuration",
    )
    for name, value in wanted.items():
        if given[name].shape != value.shape:
            raise TongsError(
                f"{source} does not fit its configuration: weight {name!r} has shape {tuple(given[name].shape)} "
                f"and should have {tuple(value.shape)}"
            )


def require_no_others(missing: Sequence[str], unexpected: Sequence[str], problem: str) -> None:
    """Raise a TongsError that begins with `problem` if any weight is missing or not expected."""
    parts = [f"weight {missing[0]!r} is missing ({len(missing)} in all)"] if missing else []
    parts += [f"weight {unexpected[0]!r} is not expected ({len(unexpected)} in all)"] if unexpected else []
    if parts:
        raise TongsError(f"{problem}: {' and '.join(parts)}")


def load_policy(folder: Path | str) -> PolicyModule:
    """The policy in a checkpoint folder, of whichever family its config.json names.

    Raises:
        TongsError: the folder is no checkpoint, is damaged, names an unknown family, or is an export.
    """
    if is_export(folder):
        raise TongsError(f"{folder} is an export and no network any more; take the checkpoint that it was made of")
    return policy_class(read_header(Path(folder))["policy"]).load(folder)


def policy_class(family: str) -> type[PolicyModule]:
    """The class of a policy family.

    Raises:
        TongsError: there is no such family.
    """
    if family not in FAMILIES:
        raise unknown("policy family", family, list(FAMILIES))
    module, name = FAMILIES[family]
    return getattr(import_module(module), name)
