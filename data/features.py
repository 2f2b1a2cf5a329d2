"""What the columns of a dataset are: name, dtype, shape and the names of their entries, with LeRobot's keys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from robot.errors import TongsError

STATE = "observation.state"
ENVIRONMENT_STATE = "observation.environment_state"
ACTION = "action"
SCENE = "scene"
SCENE_NAMES = ("index", "variant")
"""Which scene an episode begins in, and which of its instructions was given there: two episodes of one scene with
different variants were asked for different things, those with the same one for the same thing in other words."""
IMAGES = "observation.images."

NUMERIC_DTYPES = ("float32", "float64", "int64", "bool")
IMAGE_DTYPES = ("video", "image")
ImageStorage = Literal["video", "png"]


@dataclass(frozen=True)
class Feature:
    """One column of a dataset.

    Attributes:
        dtype: `float32`, `float64`, `int64`, `bool`, `video` (frames in an mp4) or `image` (PNG bytes in the table).
        shape: shape of one frame's value: (D,) for numbers, (H, W, 3) for images.
        names: one name per entry of the value, or the names of the axes for images, or None.
    """

    dtype: str
    shape: tuple[int, ...]
    names: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if self.dtype not in NUMERIC_DTYPES + IMAGE_DTYPES:
            known = ", ".join(NUMERIC_DTYPES + IMAGE_DTYPES)
            raise TongsError(f"unknown feature dtype {self.dtype!r}; known are: {known}")
        wanted = 3 if self.is_image else 1
        if len(self.shape) != wanted or (self.is_image and self.shape[2] != 3):
            form = "(H, W, 3)" if self.is_image else "(D,)"
            raise TongsError(f"a feature of dtype {self.dtype} needs a shape {form}, got {self.shape}")
        if self.names is not None and not self.is_image and len(self.names) != self.shape[0]:
            names = ", ".join(self.names)
            raise TongsError(f"a feature of {self.shape[0]} entries got {len(self.names)} names: {names}")

    @property
    def is_image(self) -> bool:
        return self.dtype in IMAGE_DTYPES


AUTOMATIC: Mapping[str, Feature] = {
    "timestamp": Feature("float32", (1,)),
    "frame_index": Feature("int64", (1,)),
    "episode_index": Feature("int64", (1,)),
    "index": Feature("int64", (1,)),
    "task_index": Feature("int64", (1,)),
}
"""Columns that the writer fills in itself, in LeRobot's order."""


def vector(names: Sequence[str], dtype: str = "float32") -> Feature:
    """A column of D named numbers."""
    return Feature(dtype, (len(names),), tuple(names))


def camera(height: int, width: int) -> Feature:
    """A camera of (H, W) pixels."""
    return Feature("video", (height, width, 3), ("height", "width", "channels"))


def robot_features(
    cameras: Mapping[str, tuple[int, int]],
    state_names: Sequence[str],
    action_names: Sequence[str],
    environment_state_names: Sequence[str] = (),
) -> dict[str, Feature]:
    """The columns of a demonstration: cameras {name: (H, W)}, proprioception, action and privileged state."""
    features = {IMAGES + name: camera(*size) for name, size in cameras.items()}
    features[STATE] = vector(state_names)
    if environment_state_names:
        features[ENVIRONMENT_STATE] = vector(environment_state_names)
    features[ACTION] = vector(action_names)
    return features


def with_storage(features: Mapping[str, Feature], storage: ImageStorage) -> dict[str, Feature]:
    """The same features with every camera stored as `video` or as `png`."""
    if storage not in ("video", "png"):
        raise TongsError(f"unknown image storage {storage!r}; known are: png, video")
    dtype = "video" if storage == "video" else "image"
    return {key: replace(feature, dtype=dtype) if feature.is_image else feature for key, feature in features.items()}


def check_column(key: str, feature: Feature, values: NDArray[Any]) -> NDArray[Any]:
    """`values` as an array (N, D) of the declared dtype.

    Raises TongsError on another shape, another kind of number, NaN or infinity.
    """
    values = np.asarray(values)
    if values.ndim == 1 and feature.shape == (1,):
        values = values[:, None]
    if values.ndim != 2 or values.shape[1:] != feature.shape:
        raise TongsError(f"column {key}: expected shape (N, {feature.shape[0]}), got {values.shape}")
    if not np.can_cast(values.dtype, np.dtype(feature.dtype), casting="same_kind"):
        raise TongsError(f"column {key}: expected dtype {feature.dtype}, got {values.dtype}")
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        frame = int(np.argmax(~np.isfinite(values).all(axis=1)))
        raise TongsError(f"column {key}: NaN or infinity at frame {frame}: {values[frame].tolist()}")
    return values.astype(feature.dtype, copy=False)


def to_info(features: Mapping[str, Feature], fps: int, codec: str) -> dict[str, dict[str, Any]]:
    """The `features` table of info.json, automatic columns included."""
    table: dict[str, dict[str, Any]] = {}
    for key, feature in {**features, **AUTOMATIC}.items():
        names = None if feature.names is None else list(feature.names)
        table[key] = {"dtype": feature.dtype, "shape": list(feature.shape), "names": names}
        if feature.dtype == "video":
            table[key]["info"] = {
                "video.height": feature.shape[0],
                "video.width": feature.shape[1],
                "video.codec": codec,
                "video.pix_fmt": "yuv420p",
                "video.is_depth_map": False,
                "video.fps": fps,
                "video.channels": feature.shape[2],
                "has_audio": False,
            }
    return table


def from_info(table: Mapping[str, Mapping[str, Any]]) -> dict[str, Feature]:
    """The features of info.json without the automatic columns. `names` may be a list, a dict of one list, or null."""
    features = {}
    for key, fields in table.items():
        if key in AUTOMATIC:
            continue
        shape = tuple(int(size) for size in fields["shape"])
        if fields["dtype"] in IMAGE_DTYPES:
            if len(shape) == 3 and shape[0] == 3 and shape[2] != 3:
                shape = (shape[1], shape[2], shape[0])
            features[key] = Feature(fields["dtype"], shape, ("height", "width", "channels"))
        elif fields["dtype"] in NUMERIC_DTYPES and len(shape) == 1:
            names = fields.get("names")
            if isinstance(names, Mapping):
                names = [name for axis in names.values() for name in axis]
            fitting = tuple(map(str, names)) if names is not None and len(names) == shape[0] else None
            features[key] = Feature(fields["dtype"], shape, fitting)
    return features
