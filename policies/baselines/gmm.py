"""Behaviour cloning with a mixture of Gaussians (BC-GMM; Mandlekar et al. 2021, arXiv 2108.03298)."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from policies.base import Batch
from policies.baselines.direct import Direct
from policies.goal_conditioned.config import GoalConditionedConfig
from policies.goal_conditioned.model import weighted_mean
from policies.randomness import Randomness, choose, draw
from policies.sampling import Sampled, Temperature
from robot.errors import TongsError


@dataclass(frozen=True)
class GmmConfig(GoalConditionedConfig):
    """Settings beyond those of every goal-conditioned policy.

    Attributes:
        modes: Gaussians in the mixture.
        smallest_std: of a Gaussian, in scaled actions.
        sampling: `temperature` scales the standard deviation of the drawn Gaussian.
    """

    modes: int = 5
    smallest_std: float = 0.01
    sampling: Temperature = field(default_factory=Temperature)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.modes < 1 or self.smallest_std <= 0:
            raise TongsError(
                f"a mixture needs modes >= 1 and smallest_std > 0, got {self.modes} and {self.smallest_std}"
            )


class MixtureCloning(Sampled[Temperature], Direct):
    """Each state token gives a mixture over the chunk: one choice of a mode for all of it, axes independent within."""

    family: ClassVar[str] = "gmm"
    config_class: ClassVar[type] = GmmConfig
    config: GmmConfig  # type: ignore[assignment]

    @property
    def outputs(self) -> int:
        return self.config.modes * (1 + 2 * self.chunk_size)

    def mixture(self, outputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits (..., K), means and standard deviations (..., K, H A) of outputs (..., outputs)."""
        modes = self.config.modes
        logits, rest = outputs[..., :modes], outputs[..., modes:]
        means, spreads = rest.unflatten(-1, (2, modes, self.chunk_size)).unbind(-3)
        return logits, means, functional.softplus(spreads) + self.config.smallest_std

    def action_losses(
        self, batch: Batch, states: Tensor, goals: Tensor, weight: Tensor, generator: Randomness
    ) -> dict[str, Tensor]:
        """Negative log-likelihood per number; padded numbers are integrated out."""
        clean, counts = self.targets(batch, weight)
        logits, means, stds = self.mixture(self.transformer(states, goals))
        there = (counts > 0).to(means.dtype)[..., None, :]
        errors = ((clean[..., None, :] - means) / stds).square() / 2 + stds.log() + math.log(2 * math.pi) / 2
        likelihood = torch.logsumexp(logits.log_softmax(-1) - (errors * there).sum(-1), dim=-1)  # (B, T)
        return {"likelihood": weighted_mean(-likelihood / self.chunk_size, counts.amax(-1))}

    def sample(self, batch: Batch, goals: Tensor, generator: Randomness) -> Tensor:
        logits, means, stds = self.mixture(self.newest(batch, goals))
        mode = choose(logits.softmax(-1), generator)[:, None, None].expand(-1, 1, self.chunk_size)
        mean, std = means.gather(1, mode)[:, 0], stds.gather(1, mode)[:, 0]
        noise = draw(torch.randn, mean.shape, generator, mean.device)
        return self.chunk(mean + self.sampling.temperature * std * noise)
