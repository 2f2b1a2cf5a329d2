"""Batches of windows on their way to the network: as tensors, in parts, and in a file when something is wrong."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from data.windows import Batch


def to_tensors(arrays: Batch, device: torch.device) -> dict[str, Any]:
    """A batch of arrays as tensors on the device; strings stay strings."""

    def move(value: Any) -> Any:
        if isinstance(value, np.ndarray):
            return torch.from_numpy(value).to(device)
        if isinstance(value, Mapping):
            return {key: move(entry) for key, entry in value.items()}
        return value

    return {key: move(value) for key, value in arrays.items()}


def some_rows(batch: Mapping[str, Any], first: int, count: int) -> dict[str, Any]:
    """The rows `first` .. `first + count` of a batch of tensors, arrays and lists."""
    return {
        key: some_rows(value, first, count) if isinstance(value, Mapping) else value[first : first + count]
        for key, value in batch.items()
    }


def save_batch(arrays: Batch, path: Path) -> None:
    """Write a batch as an .npz file: its arrays by name, such as `images.<camera>`, and `instruction` as strings."""
    flat = {key: value for key, value in arrays.items() if not isinstance(value, Mapping | list)}
    for key, values in arrays.items():
        if isinstance(values, Mapping):
            flat |= {f"{key}.{name}": value for name, value in values.items()}
    np.savez_compressed(path, **flat, instruction=np.array(arrays["instruction"], dtype=np.str_))
