"""Scaling pictures down by area averaging: the one way, for recorded and for live cameras."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from robot.errors import TongsError

if TYPE_CHECKING:
    from PIL.Image import Image

_BOX = 4
"""Pillow's `Resampling.BOX`."""
_EXACT = (1, 2, 4, 8)
"""Factors at which Pillow's `reduce` rounds as we do, and takes a third of the time; at others it may be off by one."""


def scale_down(images: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Pictures uint8 (..., H, W, 3) at a smaller (height, width), averaged over areas and rounded to nearest.

    Whole factors give exact block means, others Pillow's box filter.

    Raises:
        TongsError: the pictures are smaller than wanted.
    """
    (height, width), (rows, columns) = images.shape[-3:-1], size
    if rows > height or columns > width:
        raise TongsError(f"images of {height}x{width} cannot be scaled up to the {rows}x{columns} that is wanted")
    if (rows, columns) == (height, width):
        return images
    lead = images.shape[:-3]
    if height % rows or width % columns:
        return _each(images, lambda image: image.resize((columns, rows), _BOX))
    tall, wide = height // rows, width // columns
    if tall in _EXACT and wide in _EXACT:
        return _each(images, lambda image: image.reduce((wide, tall)))
    total = np.zeros((*lead, rows, columns, 3), np.uint32)
    for row in range(tall):
        for column in range(wide):
            total += images[..., row::tall, column::wide, :]
    return ((2 * total + tall * wide) // (2 * tall * wide)).astype(np.uint8)


def _each(images: NDArray[np.uint8], scale: Callable[[Image], Image]) -> NDArray[np.uint8]:
    """Every picture of (..., H, W, 3) scaled by Pillow."""
    from PIL import Image

    flat = images.reshape(-1, *images.shape[-3:])
    scaled = [np.asarray(scale(Image.fromarray(image))) for image in flat]
    return scaled[0] if images.ndim == 3 else np.stack(scaled).reshape(*images.shape[:-3], *scaled[0].shape)


def jpeg(picture: NDArray[np.uint8], quality: int) -> bytes:
    """A picture uint8 (H, W, 3) RGB as a JPEG file of some quality (1 to 95)."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=quality)
    return file.getvalue()
