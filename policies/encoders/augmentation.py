"""Random shifts, cut-outs, colour changes and new paint for training images, for whole batches at once."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from policies.randomness import Randomness, draw


def random_shift(images: Tensor, pixels: int, window: int = 1, generator: Randomness = None) -> Tensor:
    """Each picture moved by up to `pixels` in both directions, its border repeated (pad and crop).

    Args:
        images: uint8 (N, H, W, 3).
        pixels: largest shift.
        window: this many consecutive pictures belong together and move alike.
    """
    count, height, width, _ = images.shape
    device = images.device
    shift = draw(partial(torch.randint, -pixels, pixels + 1), (count // window, 2), generator, device).T
    down, right = shift.repeat_interleave(window, dim=1)[:, :, None]  # each (N, 1)
    rows = (torch.arange(height, device=device) + down).clamp(0, height - 1)  # (N, H)
    columns = (torch.arange(width, device=device) + right).clamp(0, width - 1)  # (N, W)
    return _gathered(images, rows, columns)


def random_cut(images: Tensor, side: float, window: int = 1, generator: Randomness = None) -> Tensor:
    """A part of each picture at a random place, every place equally likely.

    Args:
        images: uint8 (N, H, W, 3).
        side: height and width of the part, as a fraction of the picture's.
        window: this many consecutive pictures belong together and are cut alike.

    Returns:
        uint8 (N, round(side * H), round(side * W), 3); `enlarged` brings it back to (H, W).
    """
    count, height, width, _ = images.shape
    device, groups = images.device, count // window
    rows, columns = (
        _ranges(draw(partial(torch.randint, 0, full - part + 1), (groups, 1), generator, device), part)
        for full, part in ((height, _part(height, side)), (width, _part(width, side)))
    )
    return _gathered(images, rows.repeat_interleave(window, dim=0), columns.repeat_interleave(window, dim=0))


def central_cut(images: Tensor, side: float) -> Tensor:
    """The middle of each picture, of the size that `random_cut` gives: what a policy sees when it is used."""
    _, height, width, _ = images.shape
    part_height, part_width = _part(height, side), _part(width, side)
    top, left = (height - part_height) // 2, (width - part_width) // 2
    return images[:, top : top + part_height, left : left + part_width]


def as_before(cut: Tensor, side: int) -> Tensor:
    """What was cut out of pictures, uint8 (N, h, w, 3), enlarged to (N, side, side, 3) and rounded."""
    values = enlarged(cut.permute(0, 3, 1, 2).float(), side, side).permute(0, 2, 3, 1)
    return values.round().to(torch.uint8)


def enlarged(values: Tensor, height: int, width: int) -> Tensor:
    """Pictures (N, C, h, w) at another size, bilinear."""
    return interpolate(values, size=(height, width), mode="bilinear", align_corners=False)


def _part(full: int, side: float) -> int:
    return max(1, round(full * side))


def _ranges(first: Tensor, length: int) -> Tensor:
    """(G, length) indices from each `first` (G, 1) on."""
    return first + torch.arange(length, device=first.device)


def _gathered(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """The pixels at `rows` (N, h) and `columns` (N, w) of each picture (N, H, W, C): (N, h, w, C)."""
    count, height, width, channels = images.shape
    first = torch.arange(count, device=images.device)[:, None] * height
    flat = ((first + rows)[:, :, None] * width + columns[:, None, :]).flatten()
    return images.reshape(-1, channels).index_select(0, flat).view(count, rows.shape[1], columns.shape[1], channels)


def colour_change(count: int, strength: float, generator: Randomness, device: torch.device) -> tuple[Tensor, Tensor]:
    """Contrast per channel and brightness for `count` pictures with values in [-1, 1].

    Returns:
        A factor (N, 3) within 1 +- strength and an offset (N, 3) within +- strength, equal for the three channels up
        to a quarter of the strength, so that colours stay recognisable.
    """
    draws = draw(torch.rand, (count, 8), generator, device) * 2 - 1
    common_factor, common_offset, factor, offset = draws.split([1, 1, 3, 3], dim=1)
    return 1 + strength * (common_factor + factor / 4) / 1.25, strength * (common_offset + offset / 4) / 1.25


_EVEN = 14.0
"""By how much (of 255) a pixel may differ from a surface's colour and be wholly part of it; up to twice that partly."""


def repainted(images: Tensor, share: float, window: int = 1, generator: Randomness = None) -> Tensor:
    """Pictures whose largest even surface, mostly the table, has a random colour; half as often the second one, too.

    A surface is what has about the commonest colour of a picture, wherever it is; its shading stays. So a policy learns
    from a few tables and cabinets what does not depend on their colour. New colours are as often pale as strong.

    Args:
        images: uint8 (N, H, W, 3).
        share: of the pictures that are changed.
        window: this many consecutive pictures belong together and are painted alike.
    """
    draws = draw(torch.rand, (len(images) // window, 2, 5), generator, images.device)
    draws = draws.repeat_interleave(window, dim=0)
    chosen = draws[:, :, 0] < torch.tensor([share, share / 2], device=images.device)  # (N, 2)
    rows = chosen.any(dim=1).nonzero()[:, 0]
    grey, strength = draws[rows, :, 2:].mean(dim=2, keepdim=True), draws[rows, :, 1:2]
    paint = 255 * torch.lerp(grey, draws[rows, :, 2:], strength)  # (n, 2, 3)
    pictures = images[rows].permute(0, 3, 1, 2).float()  # (n, 3, H, W): whole planes are faster
    coarse = images[rows, ::2, ::2].flatten(1, 2)
    change = torch.zeros_like(pictures)
    counted = torch.ones(coarse.shape[:2], device=images.device)
    for surface in range(2):
        colour = _commonest(coarse, counted)  # (n, 3)
        part = _belonging(pictures, colour[:, :, None, None])
        counted *= _belonging(coarse.transpose(1, 2).float(), colour[:, :, None]) == 0
        way = (paint[:, surface] - colour) * chosen[rows, surface, None]
        change += part[:, None] * way[:, :, None, None]
    result = images.clone()
    result[rows] = pictures.add_(change).round_().clamp_(0, 255).to(torch.uint8).permute(0, 2, 3, 1)
    return result


def _belonging(pixels: Tensor, colour: Tensor) -> Tensor:
    """How far pixels (N, 3, ...) belong to a surface of that colour, 0 to 1: (N, ...)."""
    difference = (pixels - colour).abs_()
    farthest = torch.maximum(torch.maximum(difference[:, 0], difference[:, 1]), difference[:, 2])
    return farthest.mul_(-1 / _EVEN).add_(2).clamp_(0, 1)


def _commonest(pixels: Tensor, counted: Tensor) -> Tensor:
    """The colour (N, 3) that most of the counted (N, P) pixels, uint8 (N, P, 3), have about."""
    red, green, blue = (pixels.int() >> 4).unbind(dim=2)
    bins = ((red << 8) + (green << 4) + blue).long()  # (N, P)
    counts = torch.zeros((len(bins), 4096), device=pixels.device).scatter_add_(1, bins, counted)
    here = (bins == counts.argmax(dim=1, keepdim=True)) * counted
    return torch.einsum("npc,np->nc", pixels.float(), here) / here.sum(dim=1, keepdim=True).clamp(min=1)


_YIQ = ((0.299, 0.587, 0.114), (0.5959, -0.2746, -0.3213), (0.2115, -0.5227, 0.3112))
"""From red, green and blue to brightness and the two axes of colour (NTSC)."""


def chroma_change(count: int, saturation: float, hue: float, generator: Randomness, device: torch.device) -> Tensor:
    """Matrices (N, 3, 3) on red, green and blue that stretch and turn the plane of colours and leave grey as it is.

    Args:
        count: N.
        saturation: the plane is stretched by a factor within 1 +- saturation.
        hue: and turned by up to so much of a full turn.
    """
    draws = draw(torch.rand, (count, 2), generator, device) * 2 - 1
    stretch, angle = 1 + saturation * draws[:, 0], 2 * torch.pi * hue * draws[:, 1]
    cosine, sine, one = stretch * angle.cos(), stretch * angle.sin(), torch.ones_like(angle)
    zero = torch.zeros_like(one)
    rows = [one, zero, zero, zero, cosine, -sine, zero, sine, cosine]
    to_yiq = torch.tensor(_YIQ, device=device)
    return torch.linalg.inv(to_yiq) @ torch.stack(rows, dim=1).view(-1, 3, 3) @ to_yiq
