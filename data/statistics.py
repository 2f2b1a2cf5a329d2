"""Statistics of dataset columns as LeRobot keeps them: per episode, merged over episodes, and exact over arrays."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot.errors import TongsError

QUANTILES = {"q01": 0.01, "q10": 0.10, "q50": 0.50, "q90": 0.90, "q99": 0.99}
Statistics = dict[str, NDArray[Any]]
"""min, max, mean, std, q01, q10, q50, q90, q99: float64 (D,), or (3, 1, 1) for images; count: int64 (1,)."""


def column_statistics(values: NDArray[Any]) -> Statistics:
    """Exact statistics of a column (N, D) over its N frames; std is the population's (divisor N)."""
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 2 or len(values) == 0:
        raise TongsError(f"statistics need values of shape (N, D) with N >= 1, got {values.shape}")
    quantiles = np.quantile(values, list(QUANTILES.values()), axis=0)
    return {
        "min": values.min(axis=0),
        "max": values.max(axis=0),
        "mean": values.mean(axis=0),
        "std": values.std(axis=0),
        "count": np.array([len(values)], dtype=np.int64),
        **dict(zip(QUANTILES, quantiles, strict=True)),
    }


def image_statistics(frames: NDArray[np.uint8]) -> Statistics:
    """Per-channel statistics of pixels scaled to 0..1, shape (3, 1, 1), from frames uint8 (N, H, W, 3).

    All nine follow from the 256-bin histogram of each channel. `count` is the number of frames, as in LeRobot.
    """
    if frames.ndim != 4 or frames.shape[3] != 3 or frames.dtype != np.uint8 or len(frames) == 0:
        raise TongsError(f"image statistics need uint8 frames (N, H, W, 3), got {frames.dtype} {frames.shape}")
    histogram = np.zeros((3, 256), dtype=np.int64)
    for frame in frames:  # one at a time: there may be more of them than memory holds
        histogram += [np.bincount(frame[..., channel].ravel(), minlength=256) for channel in range(3)]
    levels, total = np.arange(256), frames.size // 3
    mean = histogram @ levels / total
    variance = histogram @ levels**2 / total - mean**2
    cumulative = histogram.cumsum(axis=1)
    result = {
        "min": (histogram > 0).argmax(axis=1),
        "max": 255 - (histogram[:, ::-1] > 0).argmax(axis=1),
        "mean": mean,
        "std": np.sqrt(np.maximum(variance, 0.0)),
        **{name: (cumulative > part * (total - 1)).argmax(axis=1) for name, part in QUANTILES.items()},
    }
    scaled: Statistics = {name: (value / 255.0).reshape(3, 1, 1) for name, value in result.items()}
    scaled["count"] = np.array([len(frames)], dtype=np.int64)
    return scaled


def sample_frames(frames: NDArray[np.uint8], every: int = 8) -> NDArray[np.uint8]:
    """Each `every`-th frame: enough for image statistics."""
    return frames[::every]


def merge(first: Statistics, second: Statistics) -> Statistics:
    """Statistics of both together.

    min, max, mean, std and count are exact; quantiles are the mean of quantiles weighted by count, which is
    LeRobot's rule. Where exact quantiles matter, use `column_statistics` on the whole column. Quantiles that one of the
    two lacks (v2.1 keeps none) are left out.
    """
    n, m = int(first["count"][0]), int(second["count"][0])
    share = m / (n + m)
    shift = second["mean"] - first["mean"]
    variance = first["std"] ** 2 * (1 - share) + second["std"] ** 2 * share + shift**2 * share * (1 - share)
    quantiles = [name for name in QUANTILES if name in first and name in second]
    return {
        "min": np.minimum(first["min"], second["min"]),
        "max": np.maximum(first["max"], second["max"]),
        "mean": first["mean"] + shift * share,
        "std": np.sqrt(variance),
        "count": np.array([n + m], dtype=np.int64),
        **{name: first[name] * (1 - share) + second[name] * share for name in quantiles},
    }


def merge_all(parts: Iterable[Mapping[str, Statistics]]) -> dict[str, Statistics]:
    """Statistics of all parts together, for every column that any of them has."""
    merged: dict[str, Statistics] = {}
    for part in parts:
        merged |= {key: merge(merged[key], entry) if key in merged else entry for key, entry in part.items()}
    return merged


def to_json(statistics: Mapping[str, Mapping[str, NDArray[Any]]]) -> dict[str, dict[str, Any]]:
    """{feature: {statistic: nested list}}."""
    return {
        key: {name: np.asarray(value).tolist() for name, value in entry.items()} for key, entry in statistics.items()
    }


def from_json(content: Mapping[str, Mapping[str, Any]]) -> dict[str, Statistics]:
    """The inverse of `to_json`."""
    return {key: {name: np.asarray(value) for name, value in entry.items()} for key, entry in content.items()}


def load_statistics(path: Path) -> dict[str, Statistics]:
    """Read a stats.json. Raises TongsError if it is missing or not JSON."""
    try:
        return from_json(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError as error:
        raise TongsError(f"statistics file {path} does not exist") from error
    except (json.JSONDecodeError, AttributeError) as error:
        raise TongsError(f"statistics file {path} is not readable JSON: {error}") from error
