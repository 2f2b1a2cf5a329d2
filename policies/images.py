"""Scales an observation's pictures down to the policy's size, exactly as the training images were scaled."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from robot.errors import ContractError


def scale_down(image: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """A picture uint8 (H, W, 3) at a smaller (height, width) by averaging over areas.

    Whole factors give exact block means rounded to nearest, others Pillow's box filter. `data.scaling` does the same
    to training images, and a test holds the two together: no room may import the other.

    Raises:
        ContractError: the picture is smaller than wanted.
    """
    (height, width), (rows, columns) = image.shape[:2], size
    if rows > height or columns > width:
        raise ContractError(f"an image of {height}x{width} is smaller than the {rows}x{columns} that the policy needs")
    if (rows, columns) == (height, width):
        return image
    if height % rows or width % columns:
        return np.asarray(Image.fromarray(image).resize((columns, rows), Image.Resampling.BOX))
    blocks = image.reshape(rows, height // rows, columns, width // columns, 3)
    total, area = blocks.sum(axis=(1, 3), dtype=np.uint32), (height // rows) * (width // columns)
    return ((2 * total + area) // (2 * area)).astype(np.uint8)
