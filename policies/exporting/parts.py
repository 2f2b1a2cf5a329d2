"""What a policy gives to be exported: two modules that together are the whole of it, and how its words become ids."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from robot.words import Words


@dataclass(frozen=True)
class Parts:
    """A policy for one observation at a time, as modules whose forward has tensors only.

    Attributes:
        language: ids int64 (1, L) to what the policy keeps of an instruction.
        actions: called as actions(images, state, language, noise): {camera: uint8 (1, H, W, 3)}, float32 (1, D) in
            physical units, what `language` gave, and standard normal (1, H, A) or None; to float32 (1, H, A) in
            physical units.
        words: how ids are made.
        noise: whether it takes noise.
    """

    language: nn.Module
    actions: nn.Module
    words: Words
    noise: bool


class Named(nn.Module):
    """`Parts.actions` with its inputs in a row, as exporters want them: images by camera, state, language, noise."""

    def __init__(self, actions: nn.Module, cameras: tuple[str, ...], noise: bool) -> None:
        super().__init__()
        self.policy, self.cameras, self.noise = actions, cameras, noise

    @property
    def names(self) -> list[str]:
        return [*(f"image_{name}" for name in self.cameras), "state", "language", *(["noise"] if self.noise else [])]

    def forward(self, *inputs: Tensor) -> Tensor:
        count = len(self.cameras)
        images: Mapping[str, Tensor] = dict(zip(self.cameras, inputs[:count], strict=True))
        return self.policy(images, *inputs[count : count + 2], inputs[-1] if self.noise else None)


def example(images: Mapping[str, tuple[int, int]], state: int, chunk: tuple[int, int], noise: bool) -> list[Tensor]:
    """Inputs of `Named` but for the language, which stands before the noise."""
    generator = torch.Generator().manual_seed(0)
    pictures = [
        torch.randint(0, 256, (1, *size, 3), dtype=torch.uint8, generator=generator) for size in images.values()
    ]
    rest = [torch.randn(1, *chunk, generator=generator)] if noise else []
    return [*pictures, torch.zeros(1, state), *rest]
