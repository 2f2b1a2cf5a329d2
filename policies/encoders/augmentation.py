"""Random shifts and light colour changes of training images, for whole batches at once."""

from __future__ import annotations

import torch
from torch import Tensor


def random_shift(images: Tensor, pixels: int, window: int = 1, generator: torch.Generator | None = None) -> Tensor:
    """Each picture moved by up to `pixels` in both directions, its border repeated (pad and crop).

    Args:
        images: uint8 (N, H, W, 3).
        pixels: largest shift.
        window: this many consecutive pictures belong together and move alike.
    """
    count, height, width, channels = images.shape
    device = images.device
    shift = torch.randint(-pixels, pixels + 1, (2, count // window), generator=generator, device=device)
    down, right = shift.repeat_interleave(window, dim=1)[:, :, None]  # each (N, 1)
    rows = (torch.arange(height, device=device) + down).clamp(0, height - 1)  # (N, H)
    columns = (torch.arange(width, device=device) + right).clamp(0, width - 1)  # (N, W)
    first = torch.arange(count, device=device)[:, None] * height
    flat = ((first + rows)[:, :, None] * width + columns[:, None, :]).flatten()
    return images.reshape(-1, channels).index_select(0, flat).view(images.shape)


def colour_change(
    count: int, strength: float, generator: torch.Generator | None, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Contrast per channel and brightness for `count` pictures with values in [-1, 1].

    Returns:
        A factor (N, 3) within 1 +- strength and an offset (N, 3) within +- strength, equal for the three channels up
        to a quarter of the strength, so that colours stay recognisable.
    """
    draws = torch.rand((count, 8), generator=generator, device=device) * 2 - 1
    common_factor, common_offset, factor, offset = draws.split([1, 1, 3, 3], dim=1)
    return 1 + strength * (common_factor + factor / 4) / 1.25, strength * (common_offset + offset / 4) / 1.25
