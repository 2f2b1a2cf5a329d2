"""Low-rank adapters (LoRA, Hu et al. 2021) of a policy: merged into its weights, or kept beside them."""

# pyright: reportMissingImports=false

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from robot.errors import TongsError

if TYPE_CHECKING:
    from torch import Tensor, nn

DOWN, UP = "lora_A", "lora_B"
"""What peft calls the two factors of W + (alpha / r) B A."""


@dataclass(frozen=True)
class Adapter:
    """What a policy says of the adapter that it is trained with.

    Attributes:
        base: checkpoint folder of the policy before.
        rank, alpha: r and alpha.
        merge: whether a checkpoint holds everything, the adapter merged, or the adapter alone.
    """

    base: str
    rank: int
    alpha: float
    merge: bool = True


def low_rank_sum(weight: Tensor, down: Tensor, up: Tensor, strength: float) -> Tensor:
    """W + strength B A, for linear layers and for convolutions, in the type of W."""
    change = up.flatten(1).float() @ down.flatten(1).float()
    return (weight.float() + strength * change.view(weight.shape)).to(weight.dtype)


def merged_state(policy: nn.Module) -> dict[str, Tensor]:
    """The weights that the policy would have without adapters: theirs merged, and four-bit weights as plain ones."""
    weights = dict(policy.state_dict())
    for prefix, layer in _adapted(policy):
        for name in [name for name in weights if name.startswith(f"{prefix}.")]:
            del weights[name]
        base = layer.base_layer
        weights[f"{prefix}.weight"] = low_rank_sum(
            _plain_weight(base),
            layer.lora_A["default"].weight,
            layer.lora_B["default"].weight,
            layer.scaling["default"],
        )
        if base.bias is not None:
            weights[f"{prefix}.bias"] = base.bias
    return weights


def adapter_state(policy: nn.Module) -> dict[str, Tensor]:
    """What training may have changed: the adapters, by their plain names, and what was trained as a whole."""
    trained = {name: value for name, value in policy.named_parameters() if value.requires_grad}
    return {name.replace(".default.", "."): value for name, value in (*trained.items(), *_running(policy).items())}


def resumable_state(policy: nn.Module, adapter: Adapter | None) -> dict[str, Tensor]:
    """The weights that a resumed training needs; with an adapter, what the base does not tell."""
    weights = dict(policy.state_dict())
    if adapter is None:
        return weights
    kept = {name for name, value in policy.named_parameters() if value.requires_grad} | set(_running(policy))
    return {name: value for name, value in weights.items() if name in kept}


def _running(policy: nn.Module) -> dict[str, Tensor]:
    """Buffers that are saved, such as the statistics of batch norms."""
    saved = policy.state_dict().keys()
    return {name: value for name, value in policy.named_buffers() if name in saved}


def with_adapter(base: Mapping[str, Tensor], own: Mapping[str, Tensor], strength: float, source: str) -> dict[str, Any]:
    """The weights of a base with what `adapter_state` gave.

    Raises:
        TongsError: the adapter changes a weight that the base does not have, or one of another shape.
    """
    weights = dict(base)
    for name, value in own.items():
        target = name
        if f".{UP}." in name:
            continue
        if f".{DOWN}." in name:
            target = name.replace(f".{DOWN}.", ".")
        if target not in weights:
            raise TongsError(f"{source} adapts {target!r}, which its base does not have")
        if target == name:
            weights[name] = value
            continue
        up = own.get(name.replace(f".{DOWN}.", f".{UP}."))
        if up is None or up.shape[0] != weights[target].shape[0] or value.shape[1:] != weights[target].shape[1:]:
            raise TongsError(f"{source} does not fit its base: weight {target!r} has another shape there")
        weights[target] = low_rank_sum(weights[target], value, up, strength)
    return weights


def describe(adapter: Adapter, folder: Path) -> dict[str, Any]:
    """What an adapter's config.json says; the base is named by its place, also as seen from the folder, and content."""
    base = Path(adapter.base).resolve()
    place = os.path.relpath(base, folder.resolve())
    return {**asdict(adapter), "base": str(base), "place": place, "sha256": content(base)}


def find_base(described: Mapping[str, Any], folder: Path) -> Path:
    """The folder of the base that an adapter names.

    Raises:
        TongsError: it is not there, or holds other weights.
    """
    candidates = [folder.resolve() / described["place"], Path(described["base"])]
    for base in candidates:
        if (base / "model.safetensors").is_file():
            if content(base) != described["sha256"]:
                raise TongsError(f"{folder} is an adapter of other weights than those that are now in {base}")
            return base
    raise TongsError(f"{folder} holds only an adapter of {described['base']}, and that is not there any more")


def content(folder: Path) -> str:
    """SHA-256 of the weights in a checkpoint folder."""
    file = folder / "model.safetensors"
    if not file.is_file():
        raise TongsError(f"{folder} has no model.safetensors")
    return _digest(str(file.resolve()), file.stat().st_mtime_ns)


@lru_cache(maxsize=8)
def _digest(file: str, changed: int) -> str:
    digest = hashlib.sha256()
    with open(file, "rb") as weights:
        while part := weights.read(1 << 22):
            digest.update(part)
    return digest.hexdigest()


def _adapted(policy: nn.Module) -> Iterator[tuple[str, Any]]:
    for name, module in policy.named_modules():
        if hasattr(module, "base_layer") and hasattr(module, DOWN):
            yield name, module


def _plain_weight(layer: Any) -> Tensor:
    if not hasattr(layer.weight, "quant_state"):
        return layer.weight
    from bitsandbytes.functional import dequantize_4bit

    return dequantize_4bit(layer.weight.data, layer.weight.quant_state)
