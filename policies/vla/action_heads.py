"""OFT's continuous heads on the hidden states of a chunk (Kim et al. 2025, section 4 and appendix)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

BLOCKS = 2


class _Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.ffn = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        return x + self.ffn(x)


class MLPResNet(nn.Module):
    """Norm, linear, ReLU, residual blocks, norm, linear: the hidden states of one action to its A numbers."""

    def __init__(self, inputs: int, width: int, outputs: int) -> None:
        super().__init__()
        self.layer_norm1 = nn.LayerNorm(inputs)
        self.fc1 = nn.Linear(inputs, width)
        self.mlp_resnet_blocks = nn.ModuleList(_Block(width) for _ in range(BLOCKS))
        self.layer_norm2 = nn.LayerNorm(width)
        self.fc2 = nn.Linear(width, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, inputs) to (B, H, outputs)."""
        x = self.fc1(self.layer_norm1(x)).relu()
        for block in self.mlp_resnet_blocks:
            x = block(x)
        return self.fc2(self.layer_norm2(x))


class L1Head(nn.Module):
    """Regresses actions; trained with the mean absolute error."""

    def __init__(self, width: int, actions: int) -> None:
        super().__init__()
        self.actions = actions
        self.model = MLPResNet(actions * width, width, actions)

    def forward(self, hidden: Tensor) -> Tensor:
        """Hidden states (B, H * A, width) of the places that predict each number, to scaled actions (B, H, A)."""
        return self.model(hidden.reshape(len(hidden), -1, self.actions * hidden.shape[-1]))


class DiffusionHead(nn.Module):
    """Predicts the noise in noisy actions that the language model has read (DDIM, Song et al. 2021).

    Cosine noise schedule of Nichol and Dhariwal (2021), epsilon prediction, predicted clean actions limited to [-1, 1].

    Args:
        width: of the language model; even.
        actions: A.
        steps: noise levels in training.
    """

    kept: Tensor

    def __init__(self, width: int, actions: int, steps: int) -> None:
        super().__init__()
        self.actions, self.steps, self.width = actions, steps, width
        self.noise_predictor = nn.ModuleDict({"mlp_resnet": MLPResNet(actions * width, width, actions)})
        self.register_buffer("kept", _kept(steps), persistent=False)

    def time_embedding(self, levels: Tensor) -> Tensor:
        """Noise levels (B,) to (B, width): sines, then cosines."""
        half = self.width // 2
        rates = torch.exp(torch.arange(half, device=levels.device) * -(math.log(10000) / (half - 1)))
        angles = levels[:, None] * rates
        return torch.cat([angles.sin(), angles.cos()], dim=1)

    def noisy(self, clean: Tensor, noise: Tensor, levels: Tensor) -> Tensor:
        """Chunks (B, H, A) with noise of the levels (B,)."""
        kept = self.kept[levels][:, None, None]
        return kept.sqrt() * clean + (1 - kept).sqrt() * noise

    def forward(self, hidden: Tensor) -> Tensor:
        """Hidden states (B, H * A, width) to the noise (B, H, A)."""
        return self.noise_predictor["mlp_resnet"](hidden.reshape(len(hidden), -1, self.actions * self.width))

    def levels(self, steps: int) -> list[int]:
        """The noise levels that denoising visits, falling to 0."""
        steps = min(steps, self.steps)
        return [index * (self.steps // steps) for index in reversed(range(steps))]

    def denoise(self, noisy: Tensor, noise: Tensor, level: int, steps: int) -> Tensor:
        """One step of deterministic DDIM from `level` on, where `steps` are taken in all."""
        following = level - self.steps // min(steps, self.steps)
        kept = self.kept[level]
        kept_next = self.kept[following] if following >= 0 else torch.ones_like(kept)
        clean = ((noisy - (1 - kept).sqrt() * noise) / kept.sqrt()).clamp(-1, 1)
        return kept_next.sqrt() * clean + (1 - kept_next).sqrt() * noise


def _kept(steps: int) -> Tensor:
    """The share of the signal's variance that is left at each level."""

    def cumulative(time: float) -> float:
        return math.cos((time + 0.008) / 1.008 * math.pi / 2) ** 2

    lost = [min(1 - cumulative((t + 1) / steps) / cumulative(t / steps), 0.999) for t in range(steps)]
    return torch.cumprod(1 - torch.tensor(lost), dim=0)
