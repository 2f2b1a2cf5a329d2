"""Pictures in messages: raw, or as JPEG."""

from __future__ import annotations

import io
from typing import Annotated, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from robot.errors import ContractError
from robot.images import jpeg

SIDE = 4096
"""The longest side of a picture, in pixels."""
Side = Annotated[int, msgspec.Meta(ge=1, le=SIDE)]


class Picture(msgspec.Struct, forbid_unknown_fields=True):
    """uint8 (height, width, 3) RGB, row by row or as a JPEG file."""

    format: Literal["raw", "jpeg"]
    height: Side
    width: Side
    data: bytes


def pack(image: NDArray[np.uint8], quality: int | None = None) -> Picture:
    """A picture (H, W, 3) as it is, or as a JPEG of some quality (1 to 95), which needs Pillow."""
    height, width = image.shape[:2]
    if quality is None:
        return Picture("raw", height, width, image.tobytes())
    return Picture("jpeg", height, width, jpeg(image, quality))


def unpack(picture: Picture, name: str) -> NDArray[np.uint8]:
    """The picture (H, W, 3), an array of its own.

    Raises:
        ContractError: it is not what it says; a JPEG of another size is not decoded.
    """
    shape = (picture.height, picture.width, 3)
    if picture.format == "jpeg":
        return _read_jpeg(picture, name)
    if len(picture.data) != shape[0] * shape[1] * 3:
        raise ContractError(f"{name}: a raw image of {shape[0]}x{shape[1]} does not have {len(picture.data)} bytes")
    return np.frombuffer(picture.data, np.uint8).reshape(shape).copy()


def _read_jpeg(picture: Picture, name: str) -> NDArray[np.uint8]:
    from PIL import Image

    try:
        with Image.open(io.BytesIO(picture.data), formats=("JPEG",)) as image:
            width, height = image.size
            if (height, width) != (picture.height, picture.width):
                raise ContractError(
                    f"{name}: the JPEG is {height}x{width}, and the message says {picture.height}x{picture.width}"
                )
            if image.mode != "RGB":
                raise ContractError(f"{name}: a JPEG in colour is needed, this one is of mode {image.mode}")
            return np.array(image)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ContractError(f"{name}: no readable JPEG ({' '.join(str(error).split())})") from error
