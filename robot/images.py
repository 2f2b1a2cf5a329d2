"""Scaling pictures down by area averaging: the one way, for recorded and for live cameras."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from robot.errors import TongsError


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
        return _box_filter(images.reshape(-1, height, width, 3), size).reshape(*lead, rows, columns, 3)
    tall, wide = height // rows, width // columns
    total = np.zeros((*lead, rows, columns, 3), np.uint32)
    for row in range(tall):
        for column in range(wide):
            total += images[..., row::tall, column::wide, :]
    return ((2 * total + tall * wide) // (2 * tall * wide)).astype(np.uint8)


def _box_filter(images: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    from PIL import Image

    rows, columns = size
    scaled = (Image.fromarray(image).resize((columns, rows), Image.Resampling.BOX) for image in images)
    return np.stack([np.asarray(image) for image in scaled])
