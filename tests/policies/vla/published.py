"""The published folder layouts at tiny size, filled with weights that follow from their names; see fixtures.md."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

HERE = Path(__file__).parent
OPTIONS = [
    {"embed_dim": 32, "depth": 3, "num_heads": 2},
    {"embed_dim": 48, "depth": 4, "num_heads": 3, "mlp_ratio": 2.0},
]
"""How the two towers were made smaller than timm's when the reference numbers were computed."""


class Reference:
    """Inputs and outputs of the reference implementation, and what it says of its weights."""

    def __init__(self, name: str) -> None:
        with safe_open(HERE / f"{name}_tiny.safetensors", "pt") as file:
            self.tensors: dict[str, Tensor] = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            self.notes = {key: value for key, value in file.metadata().items() if key != "made_with"}

    def __getitem__(self, name: str) -> Tensor:
        return self.tensors[name]

    def note(self, name: str) -> Any:
        return json.loads(self.notes[name])


def weight(name: str, shape: list[int]) -> Tensor:
    """Numbers that follow from a name, about as large as those of a trained network."""
    x = np.random.default_rng(zlib.crc32(name.encode())).random(tuple(shape)) * 2 - 1
    if len(shape) == 1:
        return torch.from_numpy((1.0 if name.endswith("weight") else 0.0) + 0.3 * x).float()
    inputs = int(np.prod(shape[1:]))
    if "embed_tokens" in name or "pos_embed" in name or "token" in name.split(".")[-1]:
        inputs = 3
    x = x * (3 / inputs) ** 0.5
    if "lm_head" in name:
        x[31744:32000] *= 4  # so that the likeliest token is one of an action
    return torch.from_numpy(x).float()


def weights(shapes: Mapping[str, list[int]]) -> dict[str, Tensor]:
    return {name: weight(name, shape) for name, shape in shapes.items()}


def openvla_folder(folder: Path, reference: Reference) -> Path:
    """The Hugging Face layout with two shards, as openvla's own `save_pretrained` writes it."""
    config = reference.note("config") | {"timm_model_options": OPTIONS}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "preprocessor_config.json").write_text(json.dumps(reference.note("preprocessor")))
    values = weights(reference.note("shapes"))
    names = sorted(values)
    shards = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
    for file, inside in shards.items():
        save_file({name: values[name] for name in inside}, folder / file)
    places = {name: file for file, inside in shards.items() for name in inside}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    return folder
