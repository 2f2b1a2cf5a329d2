"""Scaling images down by area averaging, the same everywhere that a camera is larger than a policy wants."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from robot.errors import TongsError


def scale_down(frames: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Average over areas and round to nearest.

    Args:
        frames: uint8 (N, H, W, 3).
        size: (h, w) with h <= H and w <= W.

    Returns:
        uint8 (N, h, w, 3): exact block means for whole factors, Pillow's box filter otherwise.
    """
    height, width = frames.shape[1:3]
    h, w = size
    if h > height or w > width:
        raise TongsError(f"images of {height}x{width} cannot be scaled up to {h}x{w}")
    if (h, w) == (height, width):
        return frames
    if height % h == 0 and width % w == 0:
        tall, wide = height // h, width // w
        total = np.zeros((len(frames), h, w, 3), dtype=np.uint32)
        for row in range(tall):
            for column in range(wide):
                total += frames[:, row::tall, column::wide]
        return ((2 * total + tall * wide) // (2 * tall * wide)).astype(np.uint8)
    return np.stack([np.asarray(Image.fromarray(frame).resize((w, h), Image.Resampling.BOX)) for frame in frames])
