"""A diffusion policy in discrete time (DDPM), with the scheduler of diffusers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from policies.base import Batch
from policies.beso.score_transformer import ScoreTransformer
from policies.goal_conditioned.config import GoalConditionedConfig
from policies.goal_conditioned.model import GoalConditioned, weighted_mean
from policies.normalisation import Statistics
from policies.randomness import Randomness, draw
from policies.sampling import Sampled
from robot.errors import TongsError, unknown
from robot.interface import PolicySpec

BETA_SCHEDULES = ("linear", "scaled_linear", "squaredcos_cap_v2")


@dataclass(frozen=True)
class Denoising:
    """May change at run time.

    Attributes:
        steps: network calls per chunk, at most the levels of training.
    """

    steps: int = 30


@dataclass(frozen=True)
class DdpmConfig(GoalConditionedConfig):
    """Settings beyond those of every goal-conditioned policy.

    Attributes:
        levels: noise levels in training.
        beta_schedule: how noise grows over them, a name of diffusers.
        noise_samples: noise levels per encoded observation in training.
        sampling: denoising steps.
    """

    levels: int = 50
    beta_schedule: str = "squaredcos_cap_v2"
    noise_samples: int = 2
    sampling: Denoising = field(default_factory=Denoising)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.beta_schedule not in BETA_SCHEDULES:
            raise unknown("beta schedule", self.beta_schedule, BETA_SCHEDULES)
        if self.levels < 1 or self.noise_samples < 1:
            raise TongsError(f"levels and noise_samples must be at least 1, got {self.levels} and {self.noise_samples}")
        if not 1 <= self.sampling.steps <= self.levels:
            raise TongsError(f"sampling.steps must be from 1 to levels = {self.levels}, got {self.sampling.steps}")


class DdpmPolicy(Sampled[Denoising], GoalConditioned):
    """BESO's score transformer, told t / levels, predicts the noise; past actions are noised to each level (Ho et al.
    2020; Chi et al. 2023)."""

    family: ClassVar[str] = "ddpm"
    config_class: ClassVar[type] = DdpmConfig
    config: DdpmConfig  # type: ignore[assignment]

    def __init__(self, config: DdpmConfig, spec: PolicySpec, statistics: Statistics) -> None:
        super().__init__(config, spec, statistics)
        self.score_transformer = ScoreTransformer.of(config, spec, self.token_width)
        bounds = torch.stack([self.action_scaling.scale(b) for b in self._bounds()])
        self._scheduler = _scheduler(config, bounds.abs().max().item())

    def _bounds(self) -> tuple[Tensor, Tensor]:
        return self.action_scaling.lowest, self.action_scaling.highest

    @property
    def heavy_parts(self) -> list[nn.Module]:
        return [*super().heavy_parts, self.score_transformer]

    def action_losses(
        self, batch: Batch, states: Tensor, goals: Tensor, weight: Tensor, generator: Randomness
    ) -> dict[str, Tensor]:
        """Mean squared error of the predicted noise."""
        repeats = self.config.noise_samples
        clean = self.action_scaling.scale(batch["actions"]).repeat_interleave(repeats, dim=0)  # (B * K, N, A)
        chance = draw(torch.rand, (len(clean),), generator, clean.device)
        times = (chance * self.config.levels).long().clamp(max=self.config.levels - 1)
        noise = draw(torch.randn, clean.shape, generator, clean.device)
        noisy = self._scheduler.add_noise(clean, noise, times)
        states, goals = states.repeat_interleave(repeats, dim=0), goals.repeat_interleave(repeats, dim=0)
        error = (self._noise(noisy, states, goals, times) - noise).square().mean(dim=-1)
        share = (~batch["action_is_pad"] * weight[:, None]).repeat_interleave(repeats, dim=0)
        return {"diffusion": weighted_mean(error, share)}

    def sample(self, batch: Batch, goals: Tensor, generator: Randomness) -> Tensor:
        states, horizon = self.observe(batch, goals), self.spec.horizon
        past = self.action_scaling.scale(batch["past_actions"]) if "past_actions" in batch else None
        known = 0 if past is None else past.shape[1]
        shape = (len(goals), known + horizon, self.spec.action_space.dimension)
        actions = draw(torch.randn, shape, generator, self.device)
        self._scheduler.set_timesteps(self.sampling.steps)
        for t in self._scheduler.timesteps.tolist():
            times = torch.full((len(goals),), t, device=self.device)
            if past is not None:
                noise = draw(torch.randn, past.shape, generator, self.device)
                actions[:, :known] = self._scheduler.add_noise(past, noise, times)
            predicted = self._noise(actions, states, goals, times)
            actions = self._scheduler.step(predicted, t, actions, generator=generator).prev_sample
        return actions[:, known:]

    def _noise(self, noisy: Tensor, states: Tensor, goals: Tensor, times: Tensor) -> Tensor:
        return self.score_transformer(noisy, states, goals, (times.float() + 1) / self.config.levels)


def _scheduler(config: DdpmConfig, largest: float) -> Any:
    """`largest`: of the data, in scaled actions; beyond it nothing is believed to be an action."""
    try:
        from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
    except ImportError as error:
        raise TongsError("policy=ddpm needs diffusers; install tongs[ddpm]") from error
    return DDPMScheduler(
        num_train_timesteps=config.levels,
        beta_schedule=config.beta_schedule,
        clip_sample=True,
        clip_sample_range=largest,
        prediction_type="epsilon",
    )
