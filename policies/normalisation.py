"""Between physical units and the numbers a network works with, from the statistics of the training data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from robot.errors import TongsError

Statistics = Mapping[str, Mapping[str, Any]]
"""{feature: {"mean", "std", "min", "max", "q01", "q99": one number per entry, as a list or an array}}, the keys of a
LeRobotDataset's stats.json."""

SMALLEST_STD = 1e-3
"""In physical units. Entries that hardly vary in the data would otherwise turn sensor noise into a strong signal."""

SMALLEST_RANGE = 1e-4
"""In physical units, from q01 to q99. Below it the whole range min..max is used instead."""


def feature_values(statistics: Statistics, feature: str, key: str, size: int) -> Tensor:
    """One statistic of one feature as float32 (size,).

    Raises:
        TongsError: the feature or the statistic is missing, has another length, or is not finite.
    """
    if feature not in statistics:
        raise TongsError(f"statistics of {feature!r} are missing; there are: {', '.join(sorted(statistics)) or 'none'}")
    if key not in statistics[feature]:
        raise TongsError(f"statistic {key!r} of {feature!r} is missing; there are: {', '.join(statistics[feature])}")
    values = torch.as_tensor([float(value) for value in statistics[feature][key]], dtype=torch.float32)
    if values.shape != (size,):
        raise TongsError(f"statistic {key!r} of {feature!r} has {len(values)} entries, the policy needs {size}")
    if not torch.isfinite(values).all():
        raise TongsError(f"statistic {key!r} of {feature!r} holds NaN or infinity: {values.tolist()}")
    return values


def plain(statistics: Statistics) -> dict[str, dict[str, Any]]:
    """The same numbers as lists, ready for JSON."""
    return {
        feature: {key: np.asarray(values).tolist() for key, values in entries.items()}
        for feature, entries in statistics.items()
    }


def select_statistics(
    statistics: Statistics, feature: str, names: Sequence[str], wanted: Sequence[str]
) -> dict[str, list[float]]:
    """Statistics of some entries of a feature, in the wanted order.

    Args:
        statistics: of the whole dataset.
        feature: such as "observation.state".
        names: the dataset's names of the feature's entries.
        wanted: the names to keep.

    Raises:
        TongsError: the feature or one of the names is missing.
    """
    if feature not in statistics:
        raise TongsError(f"statistics of {feature!r} are missing; there are: {', '.join(sorted(statistics)) or 'none'}")
    absent = [name for name in wanted if name not in names]
    if absent:
        raise TongsError(f"{feature!r} has no entry {absent[0]!r}; it has: {', '.join(names)}")
    columns = [list(names).index(name) for name in wanted]
    entries = statistics[feature].items()
    return {key: [float(values[i]) for i in columns] for key, values in entries if key != "count"}


class Standardise(nn.Module):
    """(x - mean) / std per entry. Its numbers live in statistics.json, not among the weights."""

    mean: Tensor
    std: Tensor

    def __init__(self, statistics: Statistics, feature: str, size: int) -> None:
        super().__init__()
        std = feature_values(statistics, feature, "std", size).clamp(min=SMALLEST_STD)
        self.register_buffer("mean", feature_values(statistics, feature, "mean", size), persistent=False)
        self.register_buffer("std", std, persistent=False)

    def forward(self, values: Tensor) -> Tensor:
        return (values - self.mean) / self.std

    def inverse(self, values: Tensor) -> Tensor:
        return values * self.std + self.mean


class ActionScaling(nn.Module):
    """Physical actions to about [-1, 1] and back, and the bounds of the data.

    Args:
        span: the two statistics that become -1 and 1: "quantiles" (q01, q99) or "extremes" (min, max).
    """

    centre: Tensor
    half_range: Tensor
    lowest: Tensor
    highest: Tensor

    def __init__(self, statistics: Statistics, feature: str, size: int, span: Literal["quantiles", "extremes"]) -> None:
        super().__init__()
        lowest = feature_values(statistics, feature, "min", size)
        highest = feature_values(statistics, feature, "max", size)
        low, high = lowest, highest
        if span == "quantiles":
            low = feature_values(statistics, feature, "q01", size)
            high = feature_values(statistics, feature, "q99", size)
            narrow = high - low < SMALLEST_RANGE
            low, high = torch.where(narrow, lowest, low), torch.where(narrow, highest, high)
        half_range = (high - low) / 2
        half_range[half_range == 0] = 1.0  # a constant entry is its centre, whatever the scale
        self.register_buffer("centre", (low + high) / 2, persistent=False)
        self.register_buffer("half_range", half_range, persistent=False)
        self.register_buffer("lowest", lowest, persistent=False)
        self.register_buffer("highest", highest, persistent=False)

    def scale(self, actions: Tensor) -> Tensor:
        return (actions - self.centre) / self.half_range

    def physical(self, scaled: Tensor) -> Tensor:
        """Physical actions, wherever they lie."""
        return scaled * self.half_range + self.centre

    def unscale(self, scaled: Tensor) -> Tensor:
        """Physical actions, limited to the smallest and largest value seen in the data."""
        return torch.minimum(torch.maximum(self.physical(scaled), self.lowest), self.highest)
