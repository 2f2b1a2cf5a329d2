"""GRIF: control from a task vector that is read from words or from two pictures, and the two stages of its training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

import torch
from torch import Tensor, nn

from policies.base import Batch, TrainingData
from policies.beso.model import Beso
from policies.configuration import configuration
from policies.goal_conditioned.config import GOAL_KINDS, GoalConditionedConfig
from policies.goal_conditioned.goals import goal_frames
from policies.goal_conditioned.masking import mask_goals
from policies.goal_conditioned.model import ACTION, GoalConditioned, weighted_mean
from policies.grif.alignment import INITIAL, info_nce, retrieval, same_task
from policies.grif.config import AlignedConfig, GrifBesoConfig, GrifConfig
from policies.grif.heads import GaussianHead, log_probability
from policies.grif.towers import TransitionTower, text_tower
from policies.normalisation import Standardise, Statistics
from policies.randomness import GeneratorShare, Randomness
from policies.sampling import Sampled, Temperature
from robot.interface import PolicySpec

if TYPE_CHECKING:
    from typing_extensions import Self

TOWERS = ("text_tower", "transition_tower", "log_temperature")
"""The parts that alignment trains."""
Told: TypeAlias = "tuple[str | Tensor, ...]"
"""How a batch is told its tasks: its instructions, or the pictures of start and goal."""


class Aligned(GoalConditioned):
    """A goal-conditioned policy whose goal is one task vector z: f(l), or h(s0, g) (GRIF, arXiv 2307.00117).

    It is trained in two stages. In the first, words and transitions of whole episodes are brought together. In the
    second, control is learned by imitation, from z = h(s0, g) on all data and from z = f(l) where there are words; the
    alignment goes on (`joint`) or is left as it is.

    Attributes:
        stage: the loss that `loss` gives; `enter` changes it.
    """

    _seen: tuple[Told, Tensor] | None = None
    goal_rules: ClassVar[Mapping[str, float]] = {"last": 0.5, "future": 0.5, "language_keep": 1.0}
    config: AlignedConfig

    def __init__(self, config: Any, spec: PolicySpec, statistics: Statistics) -> None:
        super().__init__(config, spec, statistics)
        self.enter("control")

    def add_goal_readers(self, config: AlignedConfig, spec: PolicySpec) -> None:
        self.goal_camera = next(iter(spec.cameras))
        if config.goal != "image":
            self.text_tower = text_tower(config)
        if config.goal != "language":
            self.transition_tower = TransitionTower(config, spec.cameras[self.goal_camera])
        if config.aligns:
            self.log_temperature = nn.Parameter(torch.tensor(INITIAL))
        width = self.token_width
        self.task_layers = nn.Sequential(
            nn.Linear(config.embedding_width, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU()
        )

    @classmethod
    def new(cls, settings: Mapping[str, Any], spec: PolicySpec, data: TrainingData) -> Self:
        """As in `GoalConditioned`, without a state head: the privileged state tells the goal, which labels are to."""
        config = configuration(cls.config_class, settings)
        policy = cls(config, replace(spec, goals=GOAL_KINDS[config.goal]), data.statistics)
        if config.goal != "image":
            policy.text_tower.hear(data.instructions, policy.device)
        return policy

    @classmethod
    def untrained(cls, config: GoalConditionedConfig) -> GoalConditionedConfig:
        return replace(super().untrained(config), tower_pretrained=False)  # type: ignore[call-arg]

    @property
    def stages(self) -> tuple[str, ...]:
        return ("align", "control") if self.config.aligns else ("control",)

    def enter(self, stage: str) -> None:
        """From now on `loss` is that of "align" or of "control", and only what that stage trains has gradients."""
        self.stage, config = stage, self.config
        for name, parameter in self.named_parameters():
            part = name.partition(".")[0]
            if stage == "align" or part not in TOWERS:
                trained = (part in TOWERS) == (stage == "align")
            elif not config.joint and config.aligns:
                trained = False
            else:
                trained = config.train_text or part != "text_tower"
            parameter.requires_grad_(trained)

    @property
    def learning_rate_factors(self) -> Mapping[str, float]:
        return {"transition_tower.": self.config.tower_rate} if self.stage == "control" else {}

    @property
    def heavy_parts(self) -> list[nn.Module]:
        tower = [self.transition_tower] if self.config.goal != "language" else []
        return [*super().heavy_parts, *tower]

    def prepare(self, instructions: Sequence[str]) -> None:
        if self.config.goal != "image":
            self.text_tower.remember(instructions, self.device)

    def reset(self, seed: int) -> None:
        super().reset(seed)
        self._seen = None

    def loss(self, batch: Batch, generator: Randomness = None) -> dict[str, Tensor]:
        """Of the present stage; see `PolicyModule.loss`.

        Names: loss; alignment, and as retrieved how many texts find their transition in the batch; image_<term> and
        language_<term> for each term of `action_losses`.
        """
        if self.stage == "align":
            start, goal, _ = self._look(batch, generator, observations=False)
            texts = self.text_tower(batch["instruction"], self.device)
            losses = self._align(self.transition_tower(start, goal), texts, batch, batch["labelled"])
        else:
            losses = self._control(batch, generator)
        total = torch.stack([value for name, value in losses.items() if name != "retrieved"]).sum()
        return {"loss": total, **{name: value.detach() for name, value in losses.items()}}

    def _control(self, batch: Batch, generator: Randomness) -> dict[str, Tensor]:
        start, goal, pictures = self._look(batch, generator)
        losses: dict[str, Tensor] = {}
        transitions = None
        if self.config.goal != "language":
            transitions = self.transition_tower(start, goal)
            every = torch.arange(len(transitions), device=self.device)
            losses |= self._imitate("image", transitions, batch, pictures, every, None, generator)
        if self.config.goal == "image":
            return losses
        labelled = batch["labelled"]
        # Which rows are read has to be alike on all processes; alone, those without words are left out.
        shared = isinstance(generator, GeneratorShare)
        rows = torch.arange(len(labelled), device=self.device) if shared else labelled.nonzero()[:, 0]
        if not len(rows):
            rows = labelled.new_zeros(1, dtype=torch.int64)  # which counts for nothing
        texts = self.text_tower([batch["instruction"][row] for row in rows.tolist()], self.device)
        losses |= self._imitate("language", texts, batch, pictures, rows, labelled[rows], generator)
        if transitions is not None and self.config.aligns and self.config.joint:
            chosen = {key: batch[key][rows] for key in ("episode", "dataset")}
            chosen["instruction"] = [batch["instruction"][row] for row in rows.tolist()]
            losses |= self._align(transitions[rows], texts, chosen, labelled[rows])
        return losses

    def _imitate(
        self,
        name: str,
        tasks: Tensor,
        batch: Batch,
        pictures: Mapping[str, Tensor],
        rows: Tensor,
        counted: Tensor | None,
        generator: Randomness,
    ) -> dict[str, Tensor]:
        """The imitation losses of some rows, each told its task as a vector (len(rows), embedding_width)."""
        goals = self.task_layers(tasks)[:, None]
        if self.training and self.config.goal_mask:
            goals, _ = mask_goals(goals, self.config.goal_mask, self.config.goal_mask_per_element, generator)
        state = self.state_scaling(batch["state"][rows])
        seen = {camera: values[rows].flatten(0, 1) for camera, values in pictures.items()}
        states = self.observation_encoder.encode(seen, state, goals.mean(dim=1))
        weight = batch.get("weight")
        weight = torch.ones(len(rows), device=self.device) if weight is None else weight[rows]
        if counted is not None:
            weight = weight * counted
        actions = {key: batch[key][rows] for key in ("actions", "action_is_pad")}
        terms = self.action_losses(actions, states, goals, weight, generator)
        return {f"{name}_{term}": value for term, value in terms.items()}

    def _align(self, transitions: Tensor, texts: Tensor, batch: Batch, labelled: Tensor) -> dict[str, Tensor]:
        positives = same_task(batch["instruction"], batch["episode"])
        comparable = batch["dataset"][:, None] == batch["dataset"] if self.config.mask_datasets else None
        loss = info_nce(transitions, texts, self.log_temperature, positives, labelled, comparable)
        with torch.no_grad():
            found = retrieval(texts[labelled], transitions[labelled], positives[labelled][:, labelled], 1)
        retrieved = found.float().mean() if len(found) else loss.new_zeros(())
        return {"alignment": self.config.alignment * loss, "retrieved": retrieved}

    def _look(
        self, batch: Batch, generator: Randomness, observations: bool = True
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Start and goal (B, 3, H, W) in [-1, 1] and observations {camera: (B, T, 3, H, W)}, all augmented alike."""
        encoder, camera = self.observation_encoder, self.goal_camera
        if self.config.goal != "language":
            goal_frames(batch, "goal_images", 1)
        goals = [] if self.config.goal == "language" else [batch["initial_images"], batch["goal_images"]]
        parts = [batch["images"]] if observations else []
        together = torch.cat([part[camera] for part in (*goals, *parts)], dim=1)  # (B, G + T, H, W, 3)
        values = encoder.prepare(camera, {camera: together}, generator).unflatten(0, together.shape[:2])
        pictures = {camera: values[:, len(goals) :]}
        for other in encoder.encoders if observations else ():
            if other != camera:
                shape = batch["images"][other].shape[:2]
                pictures[other] = encoder.prepare(other, batch["images"], generator).unflatten(0, shape)
        return values[:, 0], values[:, min(1, values.shape[1] - 1)], pictures

    def embed_transitions(self, batch: Batch) -> Tensor:
        """h(s0, g) of a batch's initial_images and goal_images: unit vectors (B, embedding_width)."""
        start, goal, _ = self._look(batch, None, observations=False)
        return self.transition_tower(start, goal)

    def embed_instructions(self, instructions: Sequence[str]) -> Tensor:
        """f(l): unit vectors (len(instructions), embedding_width)."""
        return self.text_tower(instructions, self.device)

    def train(self, mode: bool = True) -> Self:
        self._seen = None  # which other weights may have made
        return super().train(mode)

    def read_goals(self, batch: Batch, generator: Randomness = None) -> Tensor:
        """Goal tokens (B, 1, token_width): of the goal pictures if the batch has any, else of the instructions.

        The task vectors of an episode are computed once.
        """
        if self.config.goal == "image" or (self.config.goal == "aligned" and "goal_images" in batch):
            goal_frames(batch, "goal_images", 1)
            told: Told = tuple(batch[key][self.goal_camera] for key in ("initial_images", "goal_images"))
        else:
            told = tuple(batch["instruction"])
        if self._seen is None or not _equal(self._seen[0], told):
            by_picture = isinstance(told[0], Tensor)
            vectors = self.embed_transitions(batch) if by_picture else self.embed_instructions(batch["instruction"])
            self._seen = (told, vectors)
        return self.task_layers(self._seen[1])[:, None]


def _equal(one: Told, other: Told) -> bool:
    """Whether two tasks are told alike."""
    return len(one) == len(other) and all(
        torch.equal(a, b)
        if isinstance(a, Tensor) and isinstance(b, Tensor)
        else a is b or (type(a) is type(b) and a == b)
        for a, b in zip(one, other, strict=True)
    )


class Grif(Sampled[Temperature], Aligned):
    """GRIF with its Gaussian head: from observation and task vector to the mean of an action chunk."""

    family: ClassVar[str] = "grif"
    config_class: ClassVar[type] = GrifConfig
    config: GrifConfig

    def __init__(self, config: GrifConfig, spec: PolicySpec, statistics: Statistics) -> None:
        super().__init__(config, spec, statistics)
        size = spec.action_space.dimension
        self.action_standard = Standardise(statistics, ACTION, size)
        self.head = GaussianHead(self.token_width, config.hidden, (spec.horizon, size), config.dropout)

    def action_losses(
        self, batch: Batch, states: Tensor, goals: Tensor, weight: Tensor, generator: Randomness
    ) -> dict[str, Tensor]:
        """The mean of -log p of the actions, standardised."""
        surprise = -log_probability(self.action_standard(batch["actions"]), self.head(states[:, -1]))  # (B, H)
        return {"surprise": weighted_mean(surprise, ~batch["action_is_pad"] * weight[:, None])}

    def sample(self, batch: Batch, goals: Tensor, generator: torch.Generator) -> Tensor:
        actions = self.head(self.observe(batch, goals)[:, -1])
        if self.sampling.temperature:
            noise = torch.randn(actions.shape, generator=generator, device=actions.device)
            actions = actions + self.sampling.temperature * noise
        return self.action_scaling.scale(self.action_standard.inverse(actions))


class GrifBeso(Aligned, Beso):
    """BESO's diffusion with GRIF's task vector as its goal; a combination of ours, in neither paper."""

    family: ClassVar[str] = "grif_beso"
    config_class: ClassVar[type] = GrifBesoConfig
    config: GrifBesoConfig  # type: ignore[assignment]
