"""BESO with images, language and action chunks: what is trained, saved and run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

import torch
from torch import Tensor, nn

from policies.base import Batch, PolicyModule
from policies.beso.config import BesoConfig, Sampling
from policies.beso.guidance import guided, mask_goals
from policies.beso.noise import LogLogistic, LogNormal, NoiseDensity
from policies.beso.observation_encoder import ObservationEncoder
from policies.beso.preconditioning import Preconditioning
from policies.beso.samplers import Denoiser, sampler
from policies.beso.schedules import noise_schedule
from policies.beso.score_transformer import ScoreTransformer
from policies.encoders.text import TextEncoder
from policies.encoders.text_reader import TextReader
from policies.normalisation import ActionScaling, Standardise, Statistics
from robot.errors import TongsError
from robot.interface import PolicySpec

STATE, ACTION, ENVIRONMENT = "observation.state", "action", "observation.environment_state"


class Beso(PolicyModule):
    """Goal-conditioned imitation learning with score-based diffusion (Reuss et al. 2023, arXiv 2304.02532).

    The paper's goal states become goal tokens read from the instruction, its states fused observations of cameras and
    proprioception; both have the same width, so that its shared embedding holds.

    Args:
        config: see `BesoConfig`.
        spec: cameras, state names, action space and horizon.
        statistics: of "observation.state" and "action", and of "observation.environment_state" if the config names
            it, one number per entry in the spec's (the config's) order.

    Raises:
        TongsError: statistics are missing, or the window and the horizon do not go together.
    """

    family: ClassVar[str] = "beso"
    config_class: ClassVar[type] = BesoConfig
    config: BesoConfig

    def __init__(self, config: BesoConfig, spec: PolicySpec, statistics: Statistics) -> None:
        super().__init__(config, spec, statistics, config.window)
        if config.window > 1 and spec.horizon > 1:
            raise TongsError(
                f"a window of {config.window} observations needs every executed action, so it needs a horizon of 1; "
                f"got {spec.horizon} (or take a window of 1)"
            )
        actions, width = spec.action_space.dimension, config.observation_width
        self.state_scaling = Standardise(statistics, STATE, len(spec.state_names))
        self.action_scaling = ActionScaling(statistics, ACTION, actions, config.action_span)
        self.preconditioning = Preconditioning(config.sigma_data)
        self.noise_density = _noise_density(config)
        self.text_encoder = TextEncoder(config.text_encoder, config.max_tokens)
        self.text_reader = TextReader(
            self.text_encoder.dimension,
            width,
            config.goal_tokens,
            config.max_tokens,
            config.reader_width,
            config.reader_layers,
            config.reader_heads,
        )
        self.observation_encoder = ObservationEncoder(config, spec)
        self.score_transformer = ScoreTransformer(
            width,
            actions,
            config.goal_tokens,
            config.window,
            spec.horizon,
            config.width,
            config.layers,
            config.heads,
            config.attention_dropout,
            config.residual_dropout,
            config.causal_chunk,
        )
        self.environment_size = len(config.environment_names)
        if self.environment_size:
            self.environment_scaling = Standardise(statistics, ENVIRONMENT, self.environment_size)
            self.state_head = _head(width, self.environment_size)
            self.goal_head = _head(width, 1)

    @classmethod
    def untrained(cls, config: BesoConfig) -> BesoConfig:
        return replace(config, vision_pretrained=False)

    @property
    def sampling(self) -> Sampling:
        """How actions are drawn; assign another `Sampling` to change it, without retraining."""
        return self.config.sampling

    @sampling.setter
    def sampling(self, sampling: Sampling) -> None:
        self.config = replace(self.config, sampling=sampling)

    @property
    def heavy_parts(self) -> list[nn.Module]:
        return [*self.observation_encoder.encoders.values(), self.score_transformer]

    def prepare(self, instructions: Sequence[str]) -> None:
        """Read every instruction with the frozen encoder once, in large batches."""
        self.text_encoder.remember(instructions, self.device)

    def loss(self, batch: Batch, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """Denoising loss at random noise levels, plus the auxiliary heads; see `PolicyModule.loss`.

        Names: loss, diffusion, and with an environment state also state_head and goal_head.
        """
        goals = unmasked = self.read_instructions(batch["instruction"])
        kept = torch.ones(len(goals), dtype=torch.bool, device=goals.device)
        if self.training and self.config.goal_mask:
            per_element = self.config.goal_mask_per_element
            goals, kept = mask_goals(goals, self.config.goal_mask, per_element, generator)
        states = self.observe(batch, goals, generator)
        weight = batch.get("weight")
        if weight is None:
            weight = torch.ones(len(goals), device=goals.device)
        losses = {"diffusion": self._diffusion_loss(batch, states, goals, weight, generator)}
        total = losses["diffusion"]
        if self.environment_size and "environment_state" in batch:
            wanted = self.environment_scaling(batch["environment_state"])
            losses |= self._auxiliary_losses(wanted, states, unmasked, weight, kept)
            total = total + self.config.state_head_weight * losses["state_head"]
            if "goal_head" in losses:
                total = total + self.config.goal_head_weight * losses["goal_head"]
        return {"loss": total, **{name: value.detach() for name, value in losses.items()}}

    def _diffusion_loss(
        self, batch: Batch, states: Tensor, goals: Tensor, weight: Tensor, generator: torch.Generator | None
    ) -> Tensor:
        """Mean squared error of the network at several noise levels per observation (EDM; BESO)."""
        repeats = self.config.noise_samples
        clean = self.action_scaling.scale(batch["actions"]).repeat_interleave(repeats, dim=0)  # (B * K, N, A)
        sigma = self.noise_density(len(clean), generator, clean.device)
        noise = torch.randn(clean.shape, generator=generator, device=clean.device)
        noisy = clean + sigma[:, None, None] * noise
        prediction = self.score_transformer(
            self.preconditioning.input(sigma)[:, None, None] * noisy,
            states.repeat_interleave(repeats, dim=0),
            goals.repeat_interleave(repeats, dim=0),
            self.preconditioning.condition(sigma),
        )
        error = (prediction - self.preconditioning.target(clean, noisy, sigma)).square().mean(dim=-1)  # (B * K, N)
        share = (~batch["action_is_pad"] * weight[:, None]).repeat_interleave(repeats, dim=0)
        return _weighted_mean(error, share)

    def _auxiliary_losses(
        self, wanted: Tensor, states: Tensor, goals: Tensor, weight: Tensor, kept: Tensor
    ) -> dict[str, Tensor]:
        """ARNOLD's state head on the newest observation, and the goal value from the goal tokens alone."""
        predicted = self.state_head(states[:, -1]).float()
        losses = {"state_head": _weighted_mean((predicted - wanted).square().mean(dim=-1), weight * kept)}
        names = self.config.environment_names
        if "goal" in names:
            goal = self.goal_head(goals.mean(dim=1)).float()[:, 0]
            losses["goal_head"] = _weighted_mean((goal - wanted[:, names.index("goal")]).square(), weight)
        return losses

    def read_instructions(self, instructions: list[str]) -> Tensor:
        """Goal tokens (B, G, observation_width); every distinct instruction is read once."""
        distinct = {text: row for row, text in enumerate(dict.fromkeys(instructions))}
        goals = self.text_reader(*self.text_encoder.encode(list(distinct), self.device))
        return goals[torch.tensor([distinct[text] for text in instructions], device=goals.device)].float()

    def observe(self, batch: Batch, goals: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """States (B, T, observation_width) as seen with these goals (B, G, observation_width)."""
        state = self.state_scaling(batch["state"])
        return self.observation_encoder(batch["images"], state, goals.mean(dim=1), generator)

    def predict(self, batch: Batch, generator: torch.Generator) -> Tensor:
        """Actions (B, H, A) in physical units, limited to the range of the data; see `PolicyModule.predict`.

        Past actions start clean, the new ones as noise, and all are denoised together.
        """
        config = self.config
        goals = self.read_instructions(batch["instruction"])
        horizon, size = self.spec.horizon, self.spec.action_space.dimension
        start = config.sigma_max if self.sampling.start is None else self.sampling.start
        if start > config.sigma_max:
            raise TongsError(f"sampling cannot start at noise {start}; this policy knows up to {config.sigma_max}")
        noise = torch.randn((len(goals), horizon, size), generator=generator, device=self.device) * start
        if "past_actions" in batch:
            noise = torch.cat([self.action_scaling.scale(batch["past_actions"]), noise], dim=1)
        sigmas = noise_schedule(self.sampling.schedule, self.sampling.steps, config.sigma_min, start)
        denoise = guided(
            self.denoiser(batch, goals),
            lambda: self.denoiser(batch, torch.zeros_like(goals)),
            self.sampling.guidance,
        )
        actions = sampler(self.sampling.sampler)(denoise, noise, sigmas, generator)
        return self.action_scaling.unscale(actions[:, -horizon:])

    def denoiser(self, batch: Batch, goals: Tensor) -> Denoiser:
        """D(a; sigma) for these observations and goals (B, G, observation_width); they are encoded once."""
        states = self.observe(batch, goals)

        def network(actions: Tensor, condition: Tensor) -> Tensor:
            return self.score_transformer(actions, states, goals, condition)

        def denoise(noisy: Tensor, sigma: float) -> Tensor:
            levels = torch.full((len(noisy),), sigma, device=noisy.device)
            return self.preconditioning.denoise(network, noisy, levels)

        return denoise


def _noise_density(config: BesoConfig) -> NoiseDensity:
    if config.noise_density == "lognormal":
        return LogNormal(config.noise_mean, config.noise_std)
    return LogLogistic(config.sigma_min, config.sigma_max, median=config.noise_median)


def _head(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, inputs), nn.GELU(), nn.Linear(inputs, outputs))


def _weighted_mean(values: Tensor, weight: Tensor) -> Tensor:
    """Zero if nothing has weight."""
    weight = weight.to(values.dtype)
    return (values * weight).sum() / weight.sum().clamp(min=1e-8)
