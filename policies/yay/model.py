"""YAY Robot as a policy of the robot contract: who commands the low level at the moment, and for how long."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from policies.base import Batch, Episode, PolicyModule, policy_class
from policies.configuration import configuration
from policies.encoders.augmentation import colour_change, random_shift
from policies.encoders.sentences import SentenceEncoder
from policies.normalisation import Statistics
from policies.randomness import Randomness
from policies.yay.config import LowLevel, YayConfig
from policies.yay.high_level import HighLevel
from robot.errors import ContractError, TongsError
from robot.images import scale_down
from robot.interface import ActionChunk, Observation, PolicySpec, RobotSpec, episode_seed

if TYPE_CHECKING:
    from typing_extensions import Self

Pictures = Mapping[str, NDArray[np.uint8]]
_EPS = 1e-6


@dataclass(frozen=True)
class Commanded:
    """What an episode's low level is told, from whom, and until when (s); `heard` is the observation's instruction at
    that time, `task` that of the episode's first."""

    task: str
    heard: str
    command: str
    until: float
    by_person: bool


@dataclass
class TwoLevelEpisode(Episode):
    """What is kept of one episode beside `Episode`: the low level's own, what was seen, and what is commanded."""

    low: Any = None
    seen: deque[tuple[float, Pictures]] = field(default_factory=deque)
    commanded: Commanded | None = None


class Yay(PolicyModule):
    """A high level that chooses one of `spec.commands` every few seconds, and a frozen low level that carries it out.

    The instruction of an episode's first observation is its task, which the high level reads. Another one later on is
    a correction: the low level is told that instead, whatever it says, for `skill` s, in which the high level is not
    asked. After that, or when the task is said again, the high level goes on.

    Only the high level is trained. Batches are those of `data.commands.CommandSamples`.

    Attributes:
        low: the low level.
    """

    family: ClassVar[str] = "yay"
    config_class: ClassVar[type] = YayConfig
    config: YayConfig

    def __init__(self, config: YayConfig, spec: PolicySpec, statistics: Statistics) -> None:
        super().__init__(config, spec, statistics)
        if not spec.commands:
            raise TongsError("a high level needs at least one command to choose")
        self._sentences = SentenceEncoder(config.text_encoder, config.max_tokens)
        self._candidates: Tensor | None = None
        kind = policy_class(config.low.family)
        own = kind.untrained(configuration(kind.config_class, config.low.config, complete=True))
        self.low: PolicyModule = kind(own, PolicySpec.from_json(config.low.spec), statistics)  # type: ignore[call-arg]
        self.low.requires_grad_(False)
        width = self._sentences.dimension
        sizes = {camera: spec.cameras[camera] for camera in config.cameras}
        self.high = HighLevel(config, sizes, width, len(spec.commands) if config.one_hot else width)
        if not config.train_vision:
            self.high.vision.requires_grad_(False)
        if config.one_hot:
            self.high.temperature.requires_grad_(False)
        self.train(self.training)

    @classmethod
    def over(
        cls,
        low: PolicyModule,
        settings: Mapping[str, Any],
        commands: Sequence[str],
        sizes: Mapping[str, tuple[int, int]],
    ) -> Self:
        """A new high level over a trained policy.

        Args:
            low: takes its goal in words.
            settings: fields of `YayConfig` without `low` and `cameras`.
            commands: that it may give.
            sizes: {camera: (height, width)} that it sees, in the order of its tokens.

        Raises:
            TongsError: the low level cannot be told in words, or sees a camera at another size.
        """
        spec = low.spec
        if "language" not in spec.goals or spec.history > 1 or spec.commands:
            raise TongsError(
                f"the low level has to be a policy that is told in words and needs no history, such as beso or vla; "
                f"this {low.family} takes {', '.join(spec.goals) or 'no goals'} and a history of {spec.history}"
            )
        for camera, size in sizes.items():
            if spec.cameras.get(camera, size) != size:
                raise TongsError(
                    f"the low level sees camera {camera!r} at {spec.cameras[camera]} and the high level would at "
                    f"{size}; give it the same image_size"
                )
        held = LowLevel(low.family, asdict(low.config), spec.to_json(), weights_hash(low))
        config = configuration(cls.config_class, {**settings, "low": held, "cameras": tuple(sizes)})
        own = _own_spec(config, spec, {**spec.cameras, **sizes}, commands)
        policy = cls(config, own, low.statistics)
        policy.low.load_state_dict(low.state_dict())
        policy.trained_on = low.trained_on
        return policy

    @classmethod
    def untrained(cls, config: YayConfig) -> YayConfig:
        return replace(config, vision_pretrained=False)

    @classmethod
    def load(cls, folder: Any) -> Self:
        policy = super().load(folder)
        if weights_hash(policy.low) != policy.config.low.sha256:
            raise TongsError(f"the low level in {folder} is not the one that its high level was trained over")
        return policy

    def learning(self, commands: Sequence[str]) -> Self:
        """The same policy with the commands that it does not know yet added after its own."""
        known = self.spec.commands
        new = [command for command in dict.fromkeys(commands) if command not in known]
        spec = replace(self.spec, commands=(*known, *new))
        grown = type(self)(self.untrained(self.config), spec, self.statistics)
        weights = grown.state_dict()
        for name, value in self.state_dict().items():
            (weights[name][: len(value)] if value.ndim else weights[name]).copy_(value)  # one-hot has more rows now
        grown.trained_on = self.trained_on
        return grown.train(self.training)

    @property
    def sampling(self) -> Any:
        """How the low level draws actions; see its family."""
        return getattr(self.low, "sampling", None)

    @sampling.setter
    def sampling(self, sampling: Any) -> None:
        self.low.sampling = sampling

    @property
    def heavy_parts(self) -> list[nn.Module]:
        return [self.high.transformer]

    @property
    def couples_rows(self) -> bool:
        return self.low.couples_rows

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        self.low.eval()
        if not self.config.train_vision:
            self.high.vision.eval()
        return self

    # --- choosing a command

    def prepare(self, instructions: Sequence[str]) -> None:
        self._sentences.remember([*instructions, *self.spec.commands], self.device)

    def candidates(self) -> Tensor:
        """Unit vectors (N, E) of the commands."""
        if self._candidates is None or self._candidates.device != self.device:
            with torch.inference_mode(False), torch.no_grad():  # training may use what acting has made
                self._candidates = self._sentences(self.spec.commands, self.device)
        return self._candidates

    def scores(self, batch: Batch, generator: Randomness = None) -> Tensor:
        """How well each command fits, (B, N): cosine over temperature, or the logits of the one-hot variant.

        The batch has images {camera: uint8 (B, T, H, W, 3)}, T = history + 1, and instruction.
        """
        pictures = {camera: self._prepare(batch["images"], camera, generator) for camera in self.config.cameras}
        tasks = self._sentences(batch["instruction"], self.device) if self.config.task_token else None
        prediction = self.high(pictures, tasks)
        return prediction.float() if self.config.one_hot else self.high.score(prediction, self.candidates())

    def loss(self, batch: Batch, generator: Randomness = None) -> dict[str, Tensor]:
        """Cross entropy of the command that is in force a moment later.

        Raises:
            TongsError: a command is none of `spec.commands`.
        """
        numbers = {command: number for number, command in enumerate(self.spec.commands)}
        if unknown := [command for command in batch["command"] if command not in numbers]:
            raise TongsError(
                f"the high level does not know the command {unknown[0]!r}; it learns new ones with stage=post"
            )
        targets = torch.tensor([numbers[command] for command in batch["command"]], device=self.device)
        scores = self.scores(batch, generator)
        accuracy = (scores.argmax(dim=-1) == targets).float().mean()
        return {
            "loss": cross_entropy(scores, targets),
            "accuracy": accuracy.detach(),
            "temperature": self.high.temperature.detach()[0].clone(),
        }

    def _prepare(self, images: Mapping[str, Tensor], camera: str, generator: Randomness) -> Tensor:
        """A camera's pictures (B, T, H, W, 3) as (B, T, 3, H, W) in [-1, 1], in training augmented alike in a row."""
        pictures = images[camera]
        count, window, height = pictures.shape[:3]
        if pictures.shape[1] != self.config.history + 1 or tuple(pictures.shape[2:4]) != self.spec.cameras[camera]:
            raise TongsError(
                f"camera {camera!r}: expected {self.config.history + 1} pictures of {self.spec.cameras[camera]}, "
                f"got {tuple(pictures.shape[1:4])}"
            )
        flat = pictures.flatten(0, 1)
        if self.training and self.config.shift:
            flat = random_shift(flat, max(1, round(self.config.shift * height / 96)), window, generator)
        values = flat.permute(0, 3, 1, 2).float() * (2 / 255) - 1
        if self.training and self.config.colour:
            factor, offset = colour_change(count, self.config.colour, generator, values.device)
            changed = [part.repeat_interleave(window, dim=0)[..., None, None] for part in (factor, offset)]
            black = (flat.flatten(1).amax(dim=1) == 0)[:, None, None, None]  # what was never seen stays black
            values = torch.where(black, values, torch.addcmul(changed[1], values, changed[0]))
        return values.unflatten(0, (count, window))

    # --- acting

    def bind(self, robot: RobotSpec) -> None:
        super().bind(robot)
        self.low.bind(robot)

    def begin(self, seed: int) -> TwoLevelEpisode:
        """A new episode, as after `reset(seed)`; the one of `reset` and `act` stays what it is."""
        generator = torch.Generator(self.device).manual_seed(seed)
        remembered = deque(maxlen=2 * self.spec.history)
        return TwoLevelEpisode(generator, deque(), deque(), low=self.low.begin(seed), seen=remembered)

    @property
    def commanded(self) -> tuple[Commanded, ...]:
        """What is commanded in the episodes of `act`, empty before the first chunk."""
        episodes = cast(Sequence[TwoLevelEpisode], self._episodes)
        return tuple(episode.commanded for episode in episodes if episode.commanded is not None)

    def remember(self, observations: Sequence[Observation]) -> None:
        """One observation per episode, at a control step at which no chunk is asked for."""
        if self._seed is None:
            raise ContractError(f"{self.family}: call reset(seed) before anything is remembered")
        known = len(self._episodes)
        if known and known != len(observations):
            raise ContractError(f"{self.family}: {len(observations)} observations after {known} in the same episodes")
        self._episodes += [self.begin(episode_seed(self._seed, row)) for row in range(known, len(observations))]
        self.remember_episodes(cast(Any, self._episodes), observations)

    def remember_episodes(self, episodes: Sequence[TwoLevelEpisode], observations: Sequence[Observation]) -> None:
        """One observation per episode of `begin`, at a control step at which no chunk is asked for."""
        for episode, observation in zip(episodes, observations, strict=True):
            episode.seen.append((observation.time, self._look(observation)))

    def _look(self, observation: Observation) -> Pictures:
        """What the high level keeps of an observation: its cameras' pictures, scaled down."""
        absent = [camera for camera in self.config.cameras if camera not in observation.images]
        if absent:
            has = ", ".join(sorted(observation.images)) or "none"
            raise ContractError(f"{self.family} needs camera {absent[0]!r}; the observation has: {has}")
        sizes = self.spec.cameras
        return {camera: scale_down(observation.images[camera], sizes[camera]) for camera in self.config.cameras}

    def _act_episodes(
        self, episodes: Sequence[Episode], observations: Sequence[Observation], told: Mapping[str, Any]
    ) -> list[ActionChunk]:
        if not observations:
            raise ContractError(f"{self.family}: act_batch needs at least one observation")
        ours = cast(Sequence[TwoLevelEpisode], episodes)
        pictures = [self._look(observation) for observation in observations]
        decided = self._decide(ours, observations, pictures)
        orders = [
            replace(observation, instruction=of.command) for observation, of in zip(observations, decided, strict=True)
        ]
        chunks = self.low.act_episodes([episode.low for episode in ours], orders)
        for episode, observation, seen, of in zip(ours, observations, pictures, decided, strict=True):
            episode.seen.append((observation.time, seen))
            episode.commanded = of
        return [
            replace(chunk, command="" if of.by_person else of.command)
            for chunk, of in zip(chunks, decided, strict=True)
        ]

    def _decide(
        self, episodes: Sequence[TwoLevelEpisode], observations: Sequence[Observation], pictures: Sequence[Pictures]
    ) -> list[Commanded]:
        """What each episode's low level is told now."""
        decided = [
            heard(episode.commanded, observation, self.config.skill)
            for episode, observation in zip(episodes, observations, strict=True)
        ]
        due = [row for row, of in enumerate(decided) if not of.by_person and observations[row].time > of.until - _EPS]
        if not due:
            return decided
        training = self.training
        self.eval()
        try:
            windows = [self._window(episodes[row].seen, observations[row].time, pictures[row]) for row in due]
            images = {
                camera: torch.from_numpy(np.stack([window[camera] for window in windows])).to(self.device)
                for camera in self.config.cameras
            }
            scores = self.scores({"images": images, "instruction": [decided[row].task for row in due]})
            chosen = scores.argmax(dim=-1).tolist()
        finally:
            self.train(training)
        for row, number in zip(due, chosen, strict=True):
            until = observations[row].time + self.config.skill
            decided[row] = replace(decided[row], command=self.spec.commands[number], until=until)
        return decided

    def _window(self, seen: deque[tuple[float, Pictures]], now: float, newest: Pictures) -> Pictures:
        """{camera: (T, H, W, 3)}, oldest first: what was the newest at each moment of the history, black where the
        episode had not begun."""
        half = 0.5 / self.spec.action_space.rate
        frames: list[Pictures] = []
        for back in range(self.config.history, 0, -1):
            moment = now - back * self.config.spacing + half
            black = {camera: np.zeros_like(picture) for camera, picture in newest.items()}
            frames.append(next((of for time, of in reversed(seen) if time <= moment), black))
        return {camera: np.stack([frame[camera] for frame in (*frames, newest)]) for camera in newest}


def heard(before: Commanded | None, observation: Observation, skill: float) -> Commanded:
    """What is commanded when an observation comes: as before, or what a person just said, for `skill` s. A command of
    the high level that has run out is still there, and is to be replaced.

    Raises:
        ContractError: a correction says nothing.
    """
    said, now = observation.instruction, observation.time
    if before is None:
        return Commanded(said, said, "", now, by_person=False)
    if said != before.heard:
        if said == before.task:
            return replace(before, heard=said, until=now, by_person=False)
        if not said.strip():
            raise ContractError("a correction is empty; say what to do, or the task again")
        return replace(before, heard=said, command=said, until=now + skill, by_person=True)
    if before.by_person and now > before.until - _EPS:
        return replace(before, until=now, by_person=False)
    return before


def weights_hash(module: nn.Module) -> str:
    """SHA-256 of all parameters and buffers that a checkpoint keeps, by name."""
    digest = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes() if value.ndim else b"")
        digest.update(str(value.item()).encode() if not value.ndim else b"")
    return digest.hexdigest()


def _own_spec(
    config: YayConfig, low: PolicySpec, cameras: Mapping[str, tuple[int, int]], commands: Sequence[str]
) -> PolicySpec:
    history = round(config.history * config.spacing * low.action_space.rate) + 1
    return replace(
        low,
        cameras=cameras,
        goals=("language",),
        history=history,
        commands=tuple(commands),
        command_time=config.skill,
    )
