"""The residual network of GRIF's policy: ResNet v1 with coordinates as channels and FiLM after every block."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import max_pool2d, pad

from policies.encoders.vision import FiLM

STAGES = {"film_resnet18": (2, 2, 2, 2), "film_resnet34": (3, 4, 6, 3)}
"""Blocks per stage by the names that users type."""


class FilmBlock(nn.Module):
    """Two 3x3 convolutions with GroupNorm beside a shortcut, then FiLM by the task."""

    def __init__(self, before: int, after: int, stride: int, task_width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(before, after, 3, stride, 1, bias=False)
        self.second = nn.Conv2d(after, after, 3, 1, 1, bias=False)
        self.first_norm, self.second_norm = _norm(after), _norm(after)
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or before != after:
            self.shortcut = nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), _norm(after))
        self.film = FiLM(task_width, after)
        self.activation = nn.SiLU()

    def forward(self, x: Tensor, task: Tensor) -> Tensor:
        inner = self.second_norm(self.second(self.activation(self.first_norm(self.first(x)))))
        return self.activation(self.film(self.shortcut(x) + inner, task))


class FilmResNet(nn.Module):
    """GRIF's ResNet (section 4.3; "resnetv1-34-bridge" of its code): GroupNorm of 4 groups, swish, mean pooling.

    The task enters after every block, as the paper says; the released code does it after every stage.

    Args:
        name: a key of STAGES.
        task_width: size of the task vector.
        width: channels of the first stage, a multiple of 4; each stage has twice those of the one before.
    """

    def __init__(self, name: str, task_width: int, width: int = 64) -> None:
        super().__init__()
        self.features = width * 2 ** (len(STAGES[name]) - 1)
        self.stem = nn.Conv2d(5, width, 7, 2, 3, bias=False)
        self.norm = _norm(width)
        self.activation = nn.SiLU()
        blocks, before = [], width
        for stage, count in enumerate(STAGES[name]):
            for number in range(count):
                after = width * 2**stage
                blocks.append(FilmBlock(before, after, 2 if stage and not number else 1, task_width))
                before = after
        self.blocks = nn.ModuleList(blocks)

    def forward(self, images: Tensor, task: Tensor) -> Tensor:
        """(N, 3, H, W) in [-1, 1] and (N, task_width) to (N, features)."""
        count, _, height, width = images.shape
        y = torch.linspace(-1, 1, height, device=images.device).view(1, 1, -1, 1).expand(count, 1, height, width)
        x = torch.linspace(-1, 1, width, device=images.device).view(1, 1, 1, -1).expand(count, 1, height, width)
        x = self.activation(self.norm(self.stem(torch.cat([images, x, y], dim=1))))
        x = max_pool2d(pad(x, (1, 1, 1, 1), value=float("-inf")), 3, 2)
        for block in self.blocks:
            x = block(x, task)
        return x.mean(dim=(2, 3))


def _norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(4, channels)
