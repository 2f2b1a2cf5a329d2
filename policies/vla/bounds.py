"""Actions and proprioception between physical units and [-1, 1], by the statistics of one dataset."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from policies.normalisation import feature_values
from robot.errors import TongsError

NormStatistics = Mapping[str, Mapping[str, Any]]
"""{dataset: {"action": {"q01", "q99", "min", "max", "mask", ...}, "proprio": {...}, ...}}, the content of
OpenVLA's dataset_statistics.json."""

SMALLEST = 1e-8


class Bounds(nn.Module):
    """2 (x - low) / (high - low) - 1, limited to [-1, 1], where the mask says so; the rest stays as it is.

    Entries that are constant in the data become 0. Its numbers live in the statistics, not among the weights.

    Args:
        statistics: of several features, each {"q01": ..., "q99": ..., "min": ..., "max": ..., "mask": ...}.
        feature: one of them.
        size: entries.
        span: the pair of statistics that becomes -1 and 1: "quantiles" (q01, q99) or "extremes" (min, max).
        limit_unmasked: limit entries outside the mask as well, as OFT does with the proprioception.
    """

    low: Tensor
    high: Tensor
    mask: Tensor
    constant: Tensor

    def __init__(
        self,
        statistics: Mapping[str, Mapping[str, Any]],
        feature: str,
        size: int,
        span: Literal["quantiles", "extremes"] = "quantiles",
        limit_unmasked: bool = False,
    ) -> None:
        super().__init__()
        lower, upper = ("q01", "q99") if span == "quantiles" else ("min", "max")
        low, high = (feature_values(statistics, feature, key, size) for key in (lower, upper))
        mask = torch.as_tensor(statistics[feature].get("mask", [True] * size), dtype=torch.bool)
        if mask.shape != (size,):
            raise TongsError(f"statistic 'mask' of {feature!r} has {len(mask)} entries, the policy needs {size}")
        constant = torch.zeros(size, dtype=torch.bool)
        if {"min", "max"} <= set(statistics[feature]):
            constant = feature_values(statistics, feature, "min", size) == feature_values(
                statistics, feature, "max", size
            )
        for name, value in {"low": low, "high": high, "mask": mask, "constant": constant & mask}.items():
            self.register_buffer(name, value, persistent=False)
        self.limit_unmasked = limit_unmasked

    def normalise(self, values: Tensor) -> Tensor:
        scaled = (2 * (values - self.low) / (self.high - self.low + SMALLEST) - 1).clamp(-1, 1)
        scaled = torch.where(self.mask, scaled, values.clamp(-1, 1) if self.limit_unmasked else values)
        return torch.where(self.constant, torch.zeros_like(scaled), scaled)

    def physical(self, scaled: Tensor) -> Tensor:
        """The inverse of `normalise` on what it did not limit."""
        return torch.where(self.mask, 0.5 * (scaled + 1) * (self.high - self.low + SMALLEST) + self.low, scaled)


def of_dataset(statistics: NormStatistics | None, unnorm_key: str | None) -> Mapping[str, Any]:
    """The statistics of the dataset `unnorm_key`, which may be None if there is only one.

    Raises:
        TongsError: there are none, none of that name, or several and no name.
    """
    if not statistics:
        raise TongsError(
            "this model has no dataset statistics, so its actions have no units; put the dataset_statistics.json of "
            "its training beside the checkpoint"
        )
    known = ", ".join(statistics)
    if unnorm_key is None:
        if len(statistics) > 1:
            raise TongsError(f"this model was trained on several datasets; choose the unnorm_key, one of: {known}")
        return next(iter(statistics.values()))
    if unnorm_key not in statistics:
        raise TongsError(f"unknown unnorm_key {unnorm_key!r}; this model was trained on: {known}")
    return statistics[unnorm_key]
