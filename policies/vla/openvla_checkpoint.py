"""The published folders of OpenVLA: Hugging Face's (config.json, safetensors shards) and the native one (.pt)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from policies.base import require_same_weights
from policies.vla.bounds import NormStatistics
from policies.vla.config import LLAMA_SPACE, OPENVLA_PROMPT, VICUNA_PROMPT, Tower, VlaConfig
from policies.vla.model import Size, VisionLanguageAction
from robot.errors import TongsError, unknown

CONFIG, STATISTICS, TOKENIZER, PREPROCESSOR = (
    "config.json",
    "dataset_statistics.json",
    "tokenizer.json",
    "preprocessor_config.json",
)
NATIVE_WEIGHTS = Path("checkpoints") / "latest-checkpoint.pt"
RESIZE = {"resize-naive": "squash", "letterbox": "letterbox", "resize-crop": "crop"}
DINOV2, SIGLIP = "vit_large_patch14_reg4_dinov2.lvd142m", "vit_so400m_patch14_siglip_224"
IMAGENET: dict[str, Any] = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
HALF: dict[str, Any] = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
LLAMA_2_7B: dict[str, Any] = {
    "model_type": "llama",
    "vocab_size": 32064,
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "max_position_embeddings": 4096,
    "rms_norm_eps": 1e-5,
    "pad_token_id": 32000,
}
_FUSED = VlaConfig(towers=(Tower(DINOV2, **IMAGENET), Tower(SIGLIP, **HALF)), image_size=224, language_model=LLAMA_2_7B)
NATIVE = {
    "prism-dinosiglip-224px+7b": _FUSED,
    "siglip-224px+7b": replace(_FUSED, towers=(Tower(SIGLIP, **HALF),), resize="letterbox", prompt=VICUNA_PROMPT),
}
"""What the names of base models in native checkpoints ("vla.base_vlm") stand for."""


def openvla_7b() -> VlaConfig:
    """The configuration of openvla/openvla-7b, without its tokenizer."""
    return _FUSED


@dataclass(frozen=True)
class Published:
    """What a published folder holds.

    Attributes:
        config: as far as the folder says.
        statistics: of its datasets, None if it has none.
        weights: by our names.
        source: the folder, for error messages.
    """

    config: VlaConfig
    statistics: NormStatistics | None
    weights: dict[str, Tensor]
    source: str


def read_openvla(
    folder: Path | str, size: Size | None = None, tokenizer: Path | str | None = None, dtype: torch.dtype | None = None
) -> VisionLanguageAction:
    """The model in a folder in either of OpenVLA's layouts, in evaluation mode on the CPU.

    Args:
        folder: with config.json and safetensors, or the run folder of a native training.
        size: cameras, proprioception and chunk; by default one camera, no proprioception and one action of as many
            numbers as the statistics have.
        tokenizer: a tokenizer.json; by default that of the folder. (The native layout has none.)
        dtype: of the weights; by default that of the file.

    Raises:
        TongsError: the folder is not in such a layout, or the weights are of another architecture.
    """
    published = read_published(folder, tokenizer)
    return build(published, size or Size(actions=_actions(published.statistics)), dtype)


def read_published(folder: Path | str, tokenizer: Path | str | None = None) -> Published:
    """What `read_openvla` builds its model from; arguments and errors as there."""
    folder = Path(folder)
    content = read_json(folder / CONFIG)
    native = "vla" in content
    config = _native_config(content["vla"], folder) if native else _config(content, folder)
    text = folder / TOKENIZER if tokenizer is None else Path(tokenizer)
    if text.is_file():
        config = replace(config, tokenizer=text.read_text(encoding="utf-8"))
    elif tokenizer is not None:
        raise TongsError(f"there is no tokenizer file {tokenizer}")
    statistics = read_json(folder / STATISTICS) if (folder / STATISTICS).is_file() else content.get("norm_stats")
    weights = _native_weights(folder / NATIVE_WEIGHTS) if native else _weights(folder)
    return Published(config, statistics, weights, str(folder))


def build(published: Published, size: Size, dtype: torch.dtype | None = None) -> VisionLanguageAction:
    """A model with the published weights, all of them and no others. It takes over the tensors; nothing is copied."""
    with _unfilled():
        model = VisionLanguageAction(published.config, size, published.statistics)
    require_same_weights(model.state_dict(), published.weights, published.source)
    given = {name: value if dtype is None else value.to(dtype) for name, value in published.weights.items()}
    model.load_state_dict(given, assign=True)
    model.language_model.tie_weights()
    return model.eval()


def write_openvla(folder: Path | str, model: VisionLanguageAction, shard_size: str = "7GB") -> None:
    """Write the Hugging Face layout: what openvla's own code and `read_openvla` load.

    Only towers, projector and language model go there; for OFT's parts see `policies.vla.oft_checkpoint`.

    Raises:
        TongsError: the model has no place in that layout, or the folder holds something else.
    """
    from huggingface_hub import save_torch_state_dict

    folder = Path(folder)
    if folder.exists() and any(folder.iterdir()) and not (folder / CONFIG).is_file():
        raise TongsError(f"{folder} exists and is not a checkpoint; choose another folder")
    if model.config.prune_towers:
        raise TongsError("a VLA with pruned towers has no place in OpenVLA's layout, which holds whole towers")
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.safetensors*"):
        old.unlink()
    base = {name: value for name, value in model.state_dict().items() if is_base(name)}
    save_torch_state_dict(
        {to_published(name): value.contiguous() for name, value in base.items()}, folder, max_shard_size=shard_size
    )
    (folder / CONFIG).write_text(json.dumps(_published_config(model), indent=2) + "\n", encoding="utf-8")
    (folder / PREPROCESSOR).write_text(json.dumps(_published_preprocessor(model), indent=2) + "\n", encoding="utf-8")
    (folder / STATISTICS).write_text(json.dumps(model.norm_statistics, indent=2) + "\n", encoding="utf-8")
    if model.config.tokenizer:
        (folder / TOKENIZER).write_text(model.config.tokenizer, encoding="utf-8")


def write_native(folder: Path | str, model: VisionLanguageAction) -> None:
    """Write the layout of OpenVLA's own trainings (config.json, checkpoints/latest-checkpoint.pt, statistics).

    Raises:
        TongsError: no base model of that layout has this configuration's towers.
    """
    folder = Path(folder)
    towers = [tower.name for tower in model.config.towers]
    names = [name for name, config in NATIVE.items() if [tower.name for tower in config.towers] == towers]
    if not names:
        raise TongsError(f"the native layout knows no base model with the towers {' and '.join(towers)}")
    parts: dict[str, dict[str, Tensor]] = {"vision_backbone": {}, "projector": {}, "llm_backbone": {}}
    for name, value in model.state_dict().items():
        if is_base(name):
            part, native = _to_native(name, fused=len(towers) == 2)
            parts[part][native] = value
    vla = {"base_vlm": names[0], "vla_id": names[0]}
    options = [dict(tower.options) for tower in model.config.towers]
    ours = {
        "timm_model_options": options,
        "text_config": dict(model.config.language_model),
        "image_size": model.config.image_size,
    }
    (folder / NATIVE_WEIGHTS).parent.mkdir(parents=True, exist_ok=True)
    (folder / CONFIG).write_text(json.dumps({"vla": vla | ours}, indent=2) + "\n", encoding="utf-8")
    (folder / STATISTICS).write_text(json.dumps(model.norm_statistics, indent=2) + "\n", encoding="utf-8")
    torch.save({"model": parts}, folder / NATIVE_WEIGHTS)


def is_base(name: str) -> bool:
    """Whether a weight belongs to OpenVLA itself, not to OFT's additions."""
    part = name.partition(".")[0]
    return part in ("vision_backbone", "projector", "language_model") and not name.startswith("vision_backbone.film.")


def to_published(name: str) -> str:
    """Our name of a weight in a published file, where LayerScale's gamma is called scale_factor."""
    return name.replace(".ls1.gamma", ".ls1.scale_factor").replace(".ls2.gamma", ".ls2.scale_factor")


def from_published(name: str) -> str:
    """The inverse of `to_published`."""
    return name.replace(".scale_factor", ".gamma")


@contextmanager
def _unfilled() -> Iterator[None]:
    """Networks made inside have no memory for their parameters yet; 7 billion numbers need not be drawn in vain."""
    from accelerate import init_empty_weights

    with init_empty_weights(include_buffers=False):
        yield


def read_json(file: Path) -> dict[str, Any]:
    if not file.is_file():
        raise TongsError(f"{file.parent} is no OpenVLA checkpoint: it has no {file.name}")
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise TongsError(f"{file} is damaged: {error}") from error
    if not isinstance(content, dict):
        raise TongsError(f"{file} is damaged: it holds {type(content).__name__} instead of named fields")
    return content


def read_torch(file: Path) -> dict[str, Any]:
    """A file of torch.save that holds tensors and plain containers only; nothing in it is executed."""
    from pickle import UnpicklingError

    if not file.is_file():
        raise TongsError(f"there is no file {file}")
    try:
        content = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    except (UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        raise TongsError(f"{file} is damaged, or holds more than tensors: {str(error).splitlines()[0]}") from error
    if not isinstance(content, dict):
        raise TongsError(f"{file} is damaged: it holds {type(content).__name__} instead of named tensors")
    return content


def _weights(folder: Path) -> dict[str, Tensor]:
    """The weights of all shards by our names."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    index = folder / "model.safetensors.index.json"
    names = sorted(set(read_json(index)["weight_map"].values())) if index.is_file() else ["model.safetensors"]
    weights: dict[str, Tensor] = {}
    for name in names:
        if not (folder / name).is_file():
            raise TongsError(f"{folder} has no {name}")
        try:
            weights |= {from_published(key): value for key, value in load_file(folder / name).items()}
        except SafetensorError as error:
            raise TongsError(f"{folder / name} is damaged: {error}") from error
    return weights


def _native_weights(file: Path) -> dict[str, Tensor]:
    parts = read_torch(file).get("model")
    if not isinstance(parts, dict) or not {"vision_backbone", "projector", "llm_backbone"} <= set(parts):
        raise TongsError(f"{file} holds no model with vision_backbone, projector and llm_backbone")
    weights: dict[str, Tensor] = {}
    for part, values in parts.items():
        weights |= {_from_native(part, name): value for name, value in values.items()}
    return weights


_PROJECTOR = {"0": "fc1", "2": "fc2", "4": "fc3"}
_TOWERS = {"dino_featurizer": "featurizer", "siglip_featurizer": "fused_featurizer", "featurizer": "featurizer"}


def _from_native(part: str, name: str) -> str:
    first, _, rest = name.partition(".")
    if part == "vision_backbone":
        return f"vision_backbone.{_TOWERS.get(first, first)}.{rest}"
    if part == "projector":
        layer, _, kind = rest.partition(".")
        return f"projector.{_PROJECTOR.get(layer, layer)}.{kind}"
    return f"language_model.{rest}" if first == "llm" else f"{part}.{name}"


def _to_native(name: str, fused: bool) -> tuple[str, str]:
    part, _, rest = name.partition(".")
    if part == "vision_backbone":
        tower, _, inner = rest.partition(".")
        return part, f"{_native_tower(tower) if fused else 'featurizer'}.{inner}"
    if part == "projector":
        layer, _, kind = rest.partition(".")
        return part, f"projector.{next(key for key, ours in _PROJECTOR.items() if ours == layer)}.{kind}"
    return "llm_backbone", f"llm.{rest}"


def _native_tower(name: str) -> str:
    return "dino_featurizer" if name == "featurizer" else "siglip_featurizer"


def _actions(statistics: NormStatistics | None) -> int:
    """Numbers in one action of the datasets; 7 if there are none."""
    for entries in (statistics or {}).values():
        if "action" in entries and "q01" in entries["action"]:
            return len(entries["action"]["q01"])
    return 7


def _config(content: Mapping[str, Any], folder: Path) -> VlaConfig:
    """From the fields of a Hugging Face config.json."""
    required = ("timm_model_ids", "image_sizes", "text_config", "use_fused_vision_backbone")
    absent = [key for key in required if key not in content]
    if content.get("model_type") != "openvla" or absent:
        what = f"has no {absent[0]!r}" if absent else f"is of model type {content.get('model_type')!r}, not 'openvla'"
        raise TongsError(f"{folder / CONFIG} {what}: it is no OpenVLA checkpoint")
    strategy = content.get("image_resize_strategy", "letterbox")
    if strategy not in RESIZE:
        raise unknown("image_resize_strategy", strategy, list(RESIZE))
    count = 2 if content["use_fused_vision_backbone"] else 1
    seen = read_json(folder / PREPROCESSOR) if (folder / PREPROCESSOR).is_file() else {}
    options = content.get("timm_model_options") or [{}] * count  # ours: towers of another size than timm's
    activations = content.get("timm_override_act_layers") or [None] * count
    towers = tuple(
        Tower(
            name=content["timm_model_ids"][i],
            options=options[i],
            activation=activations[i],
            mean=tuple(seen["means"][i]) if "means" in seen else None,
            std=tuple(seen["stds"][i]) if "stds" in seen else None,
        )
        for i in range(count)
    )
    text = {"model_type": "llama", **content["text_config"]}
    from transformers import AutoConfig

    rows = int(AutoConfig.for_model(text["model_type"]).vocab_size if "vocab_size" not in text else text["vocab_size"])
    vicuna = str(content.get("llm_backbone_id", "")).startswith("vicuna")
    return VlaConfig(
        towers=towers,
        image_size=int(content["image_sizes"][0]),
        language_model={key: value for key, value in text.items() if key not in ("torch_dtype", "_name_or_path")},
        vocabulary=rows - int(content.get("pad_to_multiple_of", 64)),
        resize=RESIZE[strategy],  # type: ignore[arg-type]
        prompt=content.get("prompt") or (VICUNA_PROMPT if vicuna else OPENVLA_PROMPT),
        answer_token=content.get("answer_token", LLAMA_SPACE),
        begin_token=text.get("bos_token_id") or 1,
        end_token=text.get("eos_token_id") or 2,
        pad_token=int(content.get("pad_token_id", 32000)),
        max_tokens=int(content.get("llm_max_length", 2048)),
        bins=int(content.get("n_action_bins", 256)),
    )


def _native_config(vla: Mapping[str, Any], folder: Path) -> VlaConfig:
    base = vla.get("base_vlm", "")
    if base not in NATIVE:
        raise unknown(f"base_vlm in {folder / CONFIG}", base, list(NATIVE))
    config = NATIVE[base]
    if "timm_model_options" in vla:
        towers = zip(config.towers, vla["timm_model_options"], strict=True)
        config = replace(config, towers=tuple(replace(tower, options=options) for tower, options in towers))
    text = vla.get("text_config", config.language_model)
    return replace(config, language_model=text, image_size=vla.get("image_size", config.image_size))


def _published_config(model: VisionLanguageAction) -> dict[str, Any]:
    """The fields that openvla's own classes read, and ours for what theirs cannot say."""
    config, count = model.config, len(model.config.towers)
    vicuna = config.prompt == VICUNA_PROMPT
    fields: dict[str, Any] = {
        "model_type": "openvla",
        "architectures": ["OpenVLAForActionPrediction"],
        "arch_specifier": "no-align+fused-gelu-mlp" if count == 2 else "no-align+gelu-mlp",
        "vision_backbone_id": "dinosiglip-vit-so-224px" if count == 2 else "siglip-vit-so400m",
        "llm_backbone_id": "vicuna-v15-7b" if vicuna else "llama2-7b-pure",
        "hf_llm_id": "lmsys/vicuna-7b-v1.5" if vicuna else "meta-llama/Llama-2-7b-hf",
        "use_fused_vision_backbone": count == 2,
        "timm_model_ids": [tower.name for tower in config.towers],
        "timm_override_act_layers": [tower.activation for tower in config.towers],
        "image_sizes": [config.image_size] * count,
        "image_resize_strategy": next(theirs for theirs, ours in RESIZE.items() if ours == config.resize),
        "llm_max_length": config.max_tokens,
        "pad_token_id": config.pad_token,
        "pad_to_multiple_of": model.embed.num_embeddings - config.vocabulary,
        "output_projector_states": False,
        "n_action_bins": config.bins,
        "text_config": {**model.language_model.config.to_diff_dict(), **config.language_model},
        "norm_stats": model.norm_statistics,
        "torch_dtype": str(model.embed.weight.dtype).removeprefix("torch."),
    }
    if any(tower.options for tower in config.towers):
        fields["timm_model_options"] = [dict(tower.options) for tower in config.towers]
    if config.prompt not in (OPENVLA_PROMPT, VICUNA_PROMPT):
        fields["prompt"] = config.prompt
    if config.answer_token != LLAMA_SPACE:
        fields["answer_token"] = config.answer_token
    return fields


def _published_preprocessor(model: VisionLanguageAction) -> dict[str, Any]:
    config, vision = model.config, model.vision_backbone
    count, side = len(config.towers), config.image_size
    return {
        "image_processor_type": "PrismaticImageProcessor",
        "use_fused_vision_backbone": count == 2,
        "image_resize_strategy": next(theirs for theirs, ours in RESIZE.items() if ours == config.resize),
        "input_sizes": [[3, side, side]] * count,
        "interpolations": ["bicubic"] * count,
        "means": [[round(value, 6) for value in part.flatten().tolist()] for part in vision.mean.split(3)],
        "stds": [[round(value, 6) for value in part.flatten().tolist()] for part in vision.std.split(3)],
    }
