"""The files that OpenVLA-OFT adds to a checkpoint: heads, projectors, FiLM towers, LoRA adapters."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from policies.adapters import low_rank_sum
from policies.vla.config import DIFFUSION, L1, PARALLEL
from policies.vla.model import Size, VisionLanguageAction
from policies.vla.openvla_checkpoint import (
    STATISTICS,
    build,
    from_published,
    read_json,
    read_published,
    read_torch,
    to_published,
    write_openvla,
)
from robot.errors import TongsError

PARTS = ("action_head", "proprio_projector", "noisy_action_projector")
FILM_PART = "vision_backbone"
ADAPTER = "lora_adapter"


@dataclass(frozen=True)
class Platform:
    """What an OFT checkpoint was trained for and does not say.

    Attributes:
        horizon: actions in a chunk.
        cameras: 1 to 3.
        span: the statistics that became -1 and 1.
        actions: numbers in one action.
    """

    horizon: int
    cameras: int
    span: Literal["quantiles", "extremes"] = "quantiles"
    actions: int = 7


LIBERO = Platform(horizon=8, cameras=2)
ALOHA = Platform(horizon=25, cameras=3, span="extremes", actions=14)
BRIDGE = Platform(horizon=5, cameras=1)


def read_oft(
    folder: Path | str,
    platform: Platform,
    base: Path | str | None = None,
    tokenizer: Path | str | None = None,
    dtype: torch.dtype | None = None,
) -> VisionLanguageAction:
    """The model in a folder of openvla-oft, in evaluation mode on the CPU.

    The head follows from the files: L1, diffusion, or without a head discrete tokens in parallel.

    Args:
        folder: with the merged model, or with a LoRA adapter for `base`, and the parts called
            <part>--<step>_checkpoint.pt.
        platform: chunk, cameras and units, such as `LIBERO`.
        base: the checkpoint that the adapter belongs to, if the folder holds no merged model.
        tokenizer: a tokenizer.json; by default that of the folder (or of the base).
        dtype: of the weights; by default float32 if the files disagree, else theirs.

    Raises:
        TongsError: a part is missing or there several times, or the weights are of another architecture.
    """
    folder = Path(folder)
    published = _merged(folder, base, tokenizer)
    weights = dict(published.weights)
    for part in PARTS:
        if file := _part(folder, part):
            weights |= {f"{part}.{name}": value for name, value in _tensors(file).items()}
    film = _part(folder, FILM_PART)
    if film:
        weights = {name: value for name, value in weights.items() if not name.startswith("vision_backbone.")}
        weights |= _film_towers(_tensors(film), _alpha(folder))
    config = replace(
        published.config, prediction=_prediction(weights), film=film is not None, span=platform.span, unscaled=()
    )
    state = weights["proprio_projector.fc1.weight"].shape[1] if "proprio_projector.fc1.weight" in weights else 0
    size = Size(platform.cameras, state, platform.horizon, platform.actions)
    dtypes = {value.dtype for value in weights.values()}
    if dtype is None and len(dtypes) > 1:
        dtype = torch.float32
    return build(replace(published, config=config, weights=weights, source=str(folder)), size, dtype)


def write_oft(folder: Path | str, model: VisionLanguageAction, step: int, shard_size: str = "7GB") -> None:
    """Write the merged model and its parts as openvla-oft reads them."""
    folder = Path(folder)
    write_openvla(folder, model, shard_size)
    weights = model.state_dict()
    for part in PARTS:
        values = {name.removeprefix(f"{part}."): v for name, v in weights.items() if name.startswith(f"{part}.")}
        if values:
            torch.save(values, folder / f"{part}--{step}_checkpoint.pt")
    if model.config.film:
        towers = {_to_film(name): v for name, v in weights.items() if name.startswith("vision_backbone.")}
        torch.save(towers, folder / f"{FILM_PART}--{step}_checkpoint.pt")


def merge_adapter(weights: Mapping[str, Tensor], adapter: Path) -> dict[str, Tensor]:
    """Weights by our names with a peft LoRA adapter folder added: W + (alpha / r) B A.

    Raises:
        TongsError: the adapter is of another kind, or adapts a weight that is not there.
    """
    from safetensors.torch import load_file

    settings = read_json(adapter / "adapter_config.json")
    for option in ("use_dora", "rank_pattern", "alpha_pattern"):
        if settings.get(option):
            raise TongsError(f"{adapter} is a LoRA adapter with {option}, which this program does not merge")
    file = adapter / "adapter_model.safetensors"
    values = load_file(file) if file.is_file() else read_torch(adapter / "adapter_model.bin")
    rank = int(settings["r"])
    strength = settings["lora_alpha"] / (rank**0.5 if settings.get("use_rslora") else rank)
    merged = dict(weights)
    for name, down in values.items():
        if ".lora_A." not in name:
            continue
        target = from_published(_plain(name.removeprefix("base_model.model.").partition(".lora_A.")[0])) + ".weight"
        if target not in merged:
            raise TongsError(f"{adapter} adapts {target!r}, which the base model does not have")
        merged[target] = low_rank_sum(merged[target], down, values[name.replace(".lora_A.", ".lora_B.")], strength)
    return merged


def _merged(folder: Path, base: Path | str | None, tokenizer: Path | str | None) -> Any:
    """The published model of a folder, its adapter merged into `base` if it holds only that."""
    if any(folder.glob("*.safetensors")):
        return read_published(folder, tokenizer)
    if not (folder / ADAPTER).is_dir():
        raise TongsError(f"{folder} holds neither a model nor a {ADAPTER} folder")
    if base is None:
        wanted = read_json(folder / ADAPTER / "adapter_config.json").get("base_model_name_or_path") or "its base model"
        raise TongsError(f"{folder} holds only a LoRA adapter; say where {wanted} is (base=<folder>)")
    published = read_published(base, tokenizer)
    statistics = read_json(folder / STATISTICS) if (folder / STATISTICS).is_file() else published.statistics
    weights = merge_adapter(published.weights, folder / ADAPTER)
    return replace(published, statistics=statistics, weights=weights)


def _part(folder: Path, part: str) -> Path | None:
    """The file of a part, None if there is none."""
    files = sorted(folder.glob(f"{part}--*_checkpoint.pt"))
    if len(files) > 1:
        names = ", ".join(file.name for file in files)
        raise TongsError(f"{folder} holds {part} of several steps ({names}); leave one of them there")
    return files[0] if files else None


def _tensors(file: Path) -> dict[str, Tensor]:
    """Named tensors, without the prefix that DistributedDataParallel puts before them."""
    return {_plain(name): value for name, value in read_torch(file).items()}


def _plain(name: str) -> str:
    return name.removeprefix("module.")


def _prediction(weights: Mapping[str, Tensor]) -> Any:
    if any(name.startswith("action_head.noise_predictor.") for name in weights):
        return DIFFUSION
    return L1 if any(name.startswith("action_head.") for name in weights) else PARALLEL


def _alpha(folder: Path) -> float | None:
    """alpha of the adapter that was trained with the towers, None if the folder does not say."""
    settings = folder / ADAPTER / "adapter_config.json"
    return float(read_json(settings)["lora_alpha"]) if settings.is_file() else None


def _film_towers(values: Mapping[str, Tensor], alpha: float | None) -> dict[str, Tensor]:
    """The towers of a FiLM checkpoint by our names. They may carry unmerged LoRA; OFT's alpha is min(r, 16)."""
    towers: dict[str, Tensor] = {}
    for name, value in values.items():
        if ".lora_A." in name or ".lora_B." in name:
            continue
        plain = name.replace(".base_layer.", ".")
        stem = name.partition(".base_layer.weight")[0]
        down = values.get(f"{stem}.lora_A.default.weight")
        if down is not None and name.endswith(".base_layer.weight"):
            strength = (min(len(down), 16) if alpha is None else alpha) / len(down)
            value = low_rank_sum(value, down, values[f"{stem}.lora_B.default.weight"], strength)
        towers[_from_film(plain)] = value
    return towers


def _from_film(name: str) -> str:
    """vision_backbone.featurizer.blocks.3.scale.weight is ours in vision_backbone.film.featurizer.3."""
    name = from_published(name)
    found = re.fullmatch(r"vision_backbone\.(\w+)\.blocks\.(\d+)\.(scale|shift)\.(\w+)", name)
    if found:
        return "vision_backbone.film.{}.{}.{}.{}".format(*found.groups())
    return re.sub(r"(\.blocks\.\d+)\.block\.", r"\1.", name)


def _to_film(name: str) -> str:
    found = re.fullmatch(r"vision_backbone\.film\.(\w+)\.(\d+)\.(scale|shift)\.(\w+)", name)
    if found:
        return "vision_backbone.{}.blocks.{}.{}.{}".format(*found.groups())
    return to_published(re.sub(r"(\.blocks\.\d+)\.", r"\1.block.", name))
