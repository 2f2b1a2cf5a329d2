"""BESO with images, language and action chunks: what is trained, saved and run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from policies.base import Batch
from policies.beso.config import BesoConfig, Sampling
from policies.beso.continuation import continued, overlap_weights
from policies.beso.guidance import ValueGuidance, guided, value_guided
from policies.beso.noise import LogLogistic, LogNormal, NoiseDensity
from policies.beso.preconditioning import Preconditioning
from policies.beso.samplers import Denoiser, sampler
from policies.beso.schedules import noise_schedule
from policies.beso.score_transformer import ScoreTransformer
from policies.exporting.parts import Parts
from policies.goal_conditioned.model import GoalConditioned, weighted_mean
from policies.normalisation import Statistics
from policies.randomness import Randomness, draw
from policies.sampling import Sampled
from robot.errors import TongsError
from robot.interface import ActionChunk, Continuation, Observation, PolicySpec


class Beso(Sampled[Sampling], GoalConditioned):
    """Goal-conditioned imitation learning with score-based diffusion (Reuss et al. 2023, arXiv 2304.02532).

    With observation="state" and goal="state" it is the paper's network: states and goal states through one embedding.
    With language, goal tokens are read from the instruction, and states are fused observations of the same width.

    Attributes:
        value_guidance: an external value that steers sampling, or None; it is not saved with the policy.
    """

    family: ClassVar[str] = "beso"
    config_class: ClassVar[type] = BesoConfig
    config: BesoConfig

    def __init__(self, config: BesoConfig, spec: PolicySpec, statistics: Statistics) -> None:
        super().__init__(config, spec, statistics)
        self.score_transformer = ScoreTransformer.of(config, spec, self.token_width, config.causal_chunk)
        self.preconditioning = Preconditioning(config.sigma_data)
        self.noise_density = _noise_density(config)
        self.value_guidance: ValueGuidance | None = None

    @property
    def couples_rows(self) -> bool:
        """An adaptive solver has one length of step for the whole batch."""
        return self.sampling.sampler == "dpm_adaptive"

    @property
    def heavy_parts(self) -> list[nn.Module]:
        return [*super().heavy_parts, self.score_transformer]

    @property
    def parts(self) -> Mapping[str, Sequence[nn.Module]]:
        network = self.score_transformer
        return {**super().parts, "last": [network.blocks[-1], network.final_norm, network.action_head]}

    def exported(self) -> Parts:
        from policies.beso.export import parts

        return parts(self)

    def action_losses(
        self, batch: Batch, states: Tensor, goals: Tensor, weight: Tensor, generator: Randomness
    ) -> dict[str, Tensor]:
        """Mean squared error of the network at several noise levels per observation (EDM; BESO)."""
        repeats = self.config.noise_samples
        clean = self.action_scaling.scale(batch["actions"]).repeat_interleave(repeats, dim=0)  # (B * K, N, A)
        sigma = self.noise_density(len(clean), generator, clean.device)
        noise = draw(torch.randn, clean.shape, generator, clean.device)
        noisy = clean + sigma[:, None, None] * noise
        prediction = self.score_transformer(
            self.preconditioning.input(sigma)[:, None, None] * noisy,
            states.repeat_interleave(repeats, dim=0),
            goals.repeat_interleave(repeats, dim=0),
            self.preconditioning.condition(sigma),
        )
        error = (prediction - self.preconditioning.target(clean, noisy, sigma)).square().mean(dim=-1)  # (B * K, N)
        share = (~batch["action_is_pad"] * weight[:, None]).repeat_interleave(repeats, dim=0)
        return {"diffusion": weighted_mean(error, share)}

    def sample(self, batch: Batch, goals: Tensor, generator: Randomness) -> Tensor:
        """Scaled actions (B, H, A). Past actions start clean, the new ones as noise, and all are denoised together."""
        shape = (len(goals), self.spec.horizon, self.spec.action_space.dimension)
        return self.denoised(batch, goals, draw(torch.randn, shape, generator, self.device), generator)

    def denoised(self, batch: Batch, goals: Tensor, noise: Tensor, generator: Randomness = None) -> Tensor:
        """Scaled actions (B, H, A) from standard normal noise of that shape; stochastic samplers draw more."""
        config, sampling, horizon = self.config, self.sampling, self.spec.horizon
        start = config.sigma_max if sampling.start is None else sampling.start
        if start > config.sigma_max:
            raise TongsError(f"sampling cannot start at noise {start}; this policy knows up to {config.sigma_max}")
        noise = noise * start
        if "past_actions" in batch:
            noise = torch.cat([self.action_scaling.scale(batch["past_actions"]), noise], dim=1)
        sigmas = noise_schedule(sampling.schedule, sampling.steps, config.sigma_min, start)
        denoise = guided(
            self.denoiser(batch, goals), lambda: self.denoiser(batch, torch.zeros_like(goals)), sampling.guidance
        )
        if self.value_guidance is not None:
            denoise = value_guided(denoise, self.value_guidance, batch, self.action_scaling.physical)
        if "previous" in batch:
            previous = self.action_scaling.scale(batch["previous"])
            denoise = continued(denoise, previous, batch["previous_weight"], batch["frozen"], config.sigma_data)
        return sampler(sampling.sampler, sampling.churn)(denoise, noise, sigmas, generator)[:, -horizon:]

    @property
    def continues(self) -> bool:
        """Whether `continue_chunk` makes sense: a chunk of one action has nothing to go on with."""
        return self.spec.horizon > 1

    def continue_chunk(self, observation: Observation, previous: Continuation) -> ActionChunk:
        """The chunk that starts at `observation.time` and goes on from the one before (real-time chunking).

        See `policies.beso.continuation`. It costs about twice what `act` does.
        """
        horizon, kept = self.spec.horizon, previous.actions[: self.spec.horizon]
        padded = torch.zeros((1, horizon, self.spec.action_space.dimension), device=self.device)
        padded[0, : len(kept)] = torch.from_numpy(kept).to(self.device)
        frozen = min(previous.frozen, len(kept))
        weights = overlap_weights(len(kept), frozen, horizon)
        with torch.no_grad():  # not inference mode: the guidance differentiates the network
            (chunk,) = self._act([observation], {"previous": padded, "previous_weight": weights, "frozen": frozen})
        return chunk

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
