"""The base of goal-conditioned imitation: from batches to state and goal tokens, and back to physical actions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from policies.base import Batch, PolicyModule, TrainingData
from policies.configuration import configuration, merged
from policies.encoders.text import TextEncoder
from policies.encoders.text_reader import TextReader
from policies.goal_conditioned.config import GOAL_KINDS, GoalConditionedConfig
from policies.goal_conditioned.goals import StateGoals, goal_frames
from policies.goal_conditioned.growth import take_over, widened_statistics
from policies.goal_conditioned.masking import mask_goals
from policies.goal_conditioned.observation_encoder import ObservationEncoder
from policies.normalisation import ActionScaling, Standardise, Statistics
from policies.randomness import Randomness
from robot.errors import TongsError
from robot.interface import PolicySpec

if TYPE_CHECKING:
    from typing_extensions import Self

STATE, ACTION, ENVIRONMENT = "observation.state", "action", "observation.environment_state"


class GoalConditioned(PolicyModule):
    """A policy over [goals, states]; a family makes its network and gives `action_losses` and `sample`.

    Goals are an instruction, future states, pictures of future moments, or nothing; a hidden goal is zero. States are
    fused observations of cameras and proprioception, or the proprioception itself.

    Args:
        config: see `GoalConditionedConfig`.
        spec: cameras, state names, action space, horizon and goals.
        statistics: of "observation.state" and "action", and of "observation.environment_state" if the config names
            it, one number per entry in the spec's (the config's) order.

    Attributes:
        goal_hidden: act as if there were no goal, as in training when it is masked.

    Raises:
        TongsError: statistics are missing, or config and spec do not go together.
    """

    config: GoalConditionedConfig

    def __init__(self, config: Any, spec: PolicySpec, statistics: Statistics) -> None:
        super().__init__(config, spec, statistics, config.window)
        _require_fit(config, spec)
        self.goal_hidden = False
        actions, fused = spec.action_space.dimension, config.observation == "fused"
        self.token_width = config.observation_width if fused else len(spec.state_names)
        self.state_scaling = Standardise(statistics, STATE, len(spec.state_names))
        self.action_scaling = ActionScaling(statistics, ACTION, actions, config.action_span)
        self.add_goal_readers(config, spec)
        if fused:
            self.observation_encoder = ObservationEncoder(config, spec)
        self.environment_size = len(config.environment_names) if fused else 0
        if self.environment_size:
            self.environment_scaling = Standardise(statistics, ENVIRONMENT, self.environment_size)
            self.state_head = _head(self.token_width, self.environment_size)
            if config.goal == "language" and "goal" in config.environment_names:
                self.goal_head = _head(self.token_width, 1)

    def add_goal_readers(self, config: Any, spec: PolicySpec) -> None:
        """Add the parts that `read_goals` needs."""
        if config.goal == "language":
            self.text_encoder = TextEncoder(config.text_encoder, config.max_tokens)
            self.text_reader = TextReader(
                self.text_encoder.dimension,
                self.token_width,
                config.goal_tokens,
                config.max_tokens,
                config.reader_width,
                config.reader_layers,
                config.reader_heads,
                config.reader_directions,
            )
        if config.goal == "state":
            fused = config.observation == "fused"
            self.state_goals = StateGoals(spec.state_names, config.goal_names, self.token_width, fused)
        if config.goal == "image":
            self.goal_camera = next(iter(spec.cameras))
            self.image_goals = nn.Linear(config.vision_features, self.token_width)

    def action_losses(
        self, batch: Batch, states: Tensor, goals: Tensor, weight: Tensor, generator: Randomness
    ) -> dict[str, Tensor]:
        """The terms of the loss that concern actions, by name; their sum is minimised.

        Args:
            batch: as in `PolicyModule.loss`.
            states: tokens (B, T, token_width).
            goals: tokens (B, G, token_width), partly hidden in training.
            weight: of each sample (B,).
            generator: of what is random.
        """
        raise NotImplementedError

    def sample(self, batch: Batch, goals: Tensor, generator: Randomness) -> Tensor:
        """Scaled actions (B, H, A) for observations and goal tokens (B, G, token_width)."""
        raise NotImplementedError

    @classmethod
    def new(cls, settings: Mapping[str, Any], spec: PolicySpec, data: TrainingData) -> Self:
        config = configuration(cls.config_class, {**settings, "environment_names": data.environment_names})
        policy = cls(config, replace(spec, goals=GOAL_KINDS[config.goal]), data.statistics)
        if config.goal == "language" and config.reader_directions:
            policy.text_reader.whiten(policy.text_encoder.portions(data.instructions, policy.device))
        return policy

    def continued(self, settings: Mapping[str, Any], spec: PolicySpec, data: TrainingData) -> Self:
        """As `PolicyModule.continued`; parts that this one lacks are added untrained, entries of the state silent. One
        that was shipped without the heads that only training needs gets new ones."""
        config = configuration(self.config_class, merged(asdict(self.config), settings))
        if config.observation == "fused" and not config.environment_names:
            config = replace(config, environment_names=data.environment_names)
        if (config, spec) == (self.config, self.spec):
            return self
        before, after = self.spec.state_names, spec.state_names
        if spec != self.spec and config.observation != "fused":
            return super().continued({}, spec, data)
        statistics = widened_statistics(self.statistics, before, data.statistics, after, STATE)
        if config.environment_names != self.config.environment_names:
            statistics[ENVIRONMENT] = data.statistics[ENVIRONMENT]  # type: ignore[assignment]
        policy = type(self)(config, spec, statistics)
        if config.goal == "language" and config.reader_directions != self.config.reader_directions:
            policy.text_reader.whiten(policy.text_encoder.portions(data.instructions, policy.device))
        take_over(policy, self)
        policy.trained_on = self.trained_on
        return policy

    @classmethod
    def untrained(cls, config: GoalConditionedConfig) -> GoalConditionedConfig:
        return replace(config, vision_pretrained=False)

    @property
    def heavy_parts(self) -> list[nn.Module]:
        return [*self.observation_encoder.encoders.values()] if self.config.observation == "fused" else []

    @property
    def parts(self) -> Mapping[str, Sequence[nn.Module]]:
        """What sees and reads; a family adds the end of its network."""
        return {"vision": [self.observation_encoder]} if self.config.observation == "fused" else {"vision": []}

    def prepare(self, instructions: Sequence[str]) -> None:
        """Read every instruction with the frozen encoder once, in large batches."""
        if self.config.goal == "language":
            self.text_encoder.remember(instructions, self.device)

    def loss(self, batch: Batch, generator: Randomness = None) -> dict[str, Tensor]:
        """What the family minimises, plus the auxiliary heads; see `PolicyModule.loss`.

        Names: loss, those of `action_losses`, and with an environment state also state_head and goal_head.
        """
        goals = unmasked = self.read_goals(batch, generator)
        counts = torch.ones(len(goals), device=goals.device)
        if self.training and self.config.goal_mask and self.config.goal != "none":
            per_element = self.config.goal_mask_per_element
            goals, counts = mask_goals(goals, self.config.goal_mask, per_element, generator)
        states = self.observe(batch, goals, generator)
        weight = batch.get("weight")
        if weight is None:
            weight = torch.ones(len(goals), device=goals.device)
        losses = self.action_losses(batch, states, goals, weight, generator)
        total = torch.stack(list(losses.values())).sum()
        if self.environment_size and "environment_state" in batch:
            wanted = self.environment_scaling(batch["environment_state"])
            losses |= self._auxiliary_losses(wanted, states, unmasked, weight, counts)
            total = total + self.config.state_head_weight * losses["state_head"]
            if "goal_head" in losses:
                total = total + self.config.goal_head_weight * losses["goal_head"]
        return {"loss": total, **{name: value.detach() for name, value in losses.items()}}

    def _auxiliary_losses(
        self, wanted: Tensor, states: Tensor, goals: Tensor, weight: Tensor, counts: Tensor
    ) -> dict[str, Tensor]:
        """ARNOLD's state head on the newest observation, and the goal value from the goal tokens alone."""
        predicted = self.state_head(states[:, -1]).float()
        losses = {"state_head": weighted_mean((predicted - wanted).square().mean(dim=-1) * counts, weight)}
        names = self.config.environment_names
        if self.config.goal == "language" and "goal" in names:
            goal = self.goal_head(goals.mean(dim=1)).float()[:, 0]
            losses["goal_head"] = weighted_mean((goal - wanted[:, names.index("goal")]).square(), weight)
        return losses

    def read_goals(self, batch: Batch, generator: Randomness = None) -> Tensor:
        """Goal tokens (B, G, token_width); zero for a policy that has no goal.

        Raises:
            TongsError: the batch lacks the goals.
        """
        config = self.config
        if config.goal == "language":
            return self.read_instructions(batch["instruction"])
        if config.goal == "state":
            return self.state_goals(self.state_scaling(goal_frames(batch, "goal_state", config.goal_tokens)))
        if config.goal == "image":
            return self._read_pictures(batch, generator)
        return torch.zeros((len(batch["state"]), config.goal_tokens, self.token_width), device=self.device)

    def _read_pictures(self, batch: Batch, generator: Randomness) -> Tensor:
        """Goal tokens of pictures of the first camera, through its encoder with no instruction."""
        goal_frames(batch, "goal_images", self.config.goal_tokens)
        pictures = {self.goal_camera: batch["goal_images"][self.goal_camera]}
        features = self.observation_encoder.picture_features(self.goal_camera, pictures, None, generator)
        count = self.config.goal_tokens
        return self.image_goals(features.float()).view(-1, count, self.token_width)

    def read_instructions(self, instructions: list[str]) -> Tensor:
        """Goal tokens (B, G, token_width); every distinct instruction is read once."""
        distinct = {text: row for row, text in enumerate(dict.fromkeys(instructions))}
        goals = self.text_reader(*self.text_encoder.encode(list(distinct), self.device))
        return goals[torch.tensor([distinct[text] for text in instructions], device=goals.device)].float()

    def observe(self, batch: Batch, goals: Tensor, generator: Randomness = None) -> Tensor:
        """State tokens (B, T, token_width) as seen with these goals (B, G, token_width)."""
        state = self.state_scaling(batch["state"])
        if self.config.observation == "state":
            return state
        return self.observation_encoder(batch["images"], state, goals.mean(dim=1), generator)

    def predict(self, batch: Batch, generator: Randomness) -> Tensor:
        """Actions (B, H, A) in physical units, limited to the range of the data; see `PolicyModule.predict`."""
        goals = self.read_goals(batch)
        if self.goal_hidden:
            goals = torch.zeros_like(goals)
        return self.action_scaling.unscale(self.sample(batch, goals, generator))


def _require_fit(config: GoalConditionedConfig, spec: PolicySpec) -> None:
    if config.window > 1 and spec.horizon > 1:
        raise TongsError(
            f"a window of {config.window} observations needs every executed action, so it needs a horizon of 1; "
            f"got {spec.horizon} (or take a window of 1)"
        )
    if config.observation == "state" and spec.cameras:
        raise TongsError(f"with observation=state there are no cameras (cameras=[]), got {', '.join(spec.cameras)}")
    if "image" in spec.goals and not spec.cameras:
        raise TongsError("a policy with image goals needs a camera")
    if spec.goals != GOAL_KINDS[config.goal]:
        raise TongsError(f"setting goal is {config.goal!r}, and the spec says goals {', '.join(spec.goals) or 'none'}")


def _head(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, inputs), nn.GELU(), nn.Linear(inputs, outputs))


def weighted_mean(values: Tensor, weight: Tensor) -> Tensor:
    """Zero if nothing has weight."""
    weight = weight.to(values.dtype)
    return (values * weight).sum() / weight.sum().clamp(min=1e-8)
