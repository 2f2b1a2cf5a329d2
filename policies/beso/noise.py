"""Which noise levels a diffusion policy is trained on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from policies.randomness import Randomness, draw

NoiseDensity = Callable[[int, Randomness, torch.device], Tensor]
"""(count, generator, device) -> noise levels sigma (count,)."""


@dataclass(frozen=True)
class LogLogistic:
    """Log-logistic density truncated to [sigma_min, sigma_max] (BESO, section on training).

    sigma = median * (u / (1 - u))^scale with u uniform between the cumulative probabilities of the two bounds.
    """

    sigma_min: float
    sigma_max: float
    median: float = 0.5
    scale: float = 0.5

    def cumulative(self, sigma: float) -> float:
        """Probability that the untruncated density gives less than `sigma`."""
        return 1 / (1 + (sigma / self.median) ** (-1 / self.scale))

    def __call__(self, count: int, generator: Randomness, device: torch.device) -> Tensor:
        low, high = self.cumulative(self.sigma_min), self.cumulative(self.sigma_max)
        share = low + (high - low) * draw(torch.rand, (count,), generator, device, dtype=torch.float64)
        sigma = self.median * torch.exp(self.scale * torch.logit(share))
        return sigma.clamp(self.sigma_min, self.sigma_max).float()


@dataclass(frozen=True)
class LogNormal:
    """ln(sigma) normal, as in EDM; not truncated."""

    mean: float
    std: float

    def __call__(self, count: int, generator: Randomness, device: torch.device) -> Tensor:
        return torch.exp(self.mean + self.std * draw(torch.randn, (count,), generator, device))
