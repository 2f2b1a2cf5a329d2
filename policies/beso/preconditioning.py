"""EDM preconditioning: a network of unit-sized inputs and outputs becomes a denoiser at every noise level."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Network = Callable[[Tensor, Tensor], Tensor]
"""F: (scaled noisy actions (B, N, A), noise condition (B,)) -> (B, N, A)."""


@dataclass(frozen=True)
class Preconditioning:
    """D(a; sigma) = c_skip a + c_out F(c_in a, c_noise), Karras et al. 2022 (EDM), table 1 and equation 7.

    Attributes:
        sigma_data: standard deviation that scaled actions are taken to have.
    """

    sigma_data: float = 0.5

    def skip(self, sigma: Tensor) -> Tensor:
        """c_skip = sd^2 / (sigma^2 + sd^2): how much of the noisy action goes straight through."""
        return self.sigma_data**2 / (sigma**2 + self.sigma_data**2)

    def output(self, sigma: Tensor) -> Tensor:
        """c_out = sigma sd / sqrt(sigma^2 + sd^2): the size of what the network adds."""
        return sigma * self.sigma_data / torch.sqrt(sigma**2 + self.sigma_data**2)

    def input(self, sigma: Tensor) -> Tensor:
        """c_in = 1 / sqrt(sigma^2 + sd^2): noisy actions come to unit variance."""
        return 1 / torch.sqrt(sigma**2 + self.sigma_data**2)

    def condition(self, sigma: Tensor) -> Tensor:
        """c_noise = ln(sigma) / 4: what the network is told of the noise level."""
        return torch.log(sigma) / 4

    def target(self, clean: Tensor, noisy: Tensor, sigma: Tensor) -> Tensor:
        """(a - c_skip a_sigma) / c_out: what F should give; its mean squared error is the EDM loss of D.

        Args:
            clean, noisy: (B, N, A).
            sigma: (B,), positive.
        """
        sigma = sigma[:, None, None]
        return (clean - self.skip(sigma) * noisy) / self.output(sigma)

    def denoise(self, network: Network, noisy: Tensor, sigma: Tensor) -> Tensor:
        """The denoised actions D (B, N, A) of `noisy` (B, N, A) at noise levels `sigma` (B,)."""
        level = sigma[:, None, None]
        prediction = network(self.input(level) * noisy, self.condition(sigma))
        return self.skip(level) * noisy + self.output(level) * prediction
