"""Which weights a fine-tuning trains: all, a few layers, or low-rank adapters (OpenVLA, section 5.3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal

from torch import nn

from policies.adapters import Adapter
from policies.base import PolicyModule
from policies.bits import linear_layers, put_in_bits
from robot.errors import TongsError, unknown

MODES = ("lora", "full", "last_layer", "sandwich")
QUANTIZED = ("nf4",)


@dataclass(frozen=True)
class LoraConfig:
    """Low-rank adapters on every linear layer (Hu et al. 2021), QLoRA with `quantize` (Dettmers et al. 2023).

    Attributes:
        r: rank.
        alpha: the adapter counts alpha / r times; None for min(r, 16), as in OpenVLA.
        dropout: of what an adapter sees in training.
        quantize: nf4 keeps the linear layers below the adapters in four bits, by bitsandbytes.
        also: patterns of parameters that are trained as a whole besides, such as `network.action_head.*`.
        merge: write checkpoints with the adapter merged; else the adapter alone, which names its base.
    """

    r: int = 32
    alpha: float | None = None
    dropout: float = 0.0
    quantize: Literal["nf4"] | None = None
    also: Sequence[str] = ()
    merge: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "also", (self.also,) if isinstance(self.also, str) else tuple(self.also))
        if self.r < 1:
            raise TongsError(f"lora.r must be at least 1, got {self.r}")
        if self.alpha is not None and self.alpha <= 0:
            raise TongsError(f"lora.alpha must be positive, got {self.alpha}")
        if not 0 <= self.dropout < 1:
            raise TongsError(f"lora.dropout must lie in 0..1 without 1, got {self.dropout}")
        if self.quantize is not None and self.quantize not in QUANTIZED:
            raise unknown("lora.quantize", self.quantize, QUANTIZED)


def adapt(policy: PolicyModule, mode: str, lora: LoraConfig, base: Path) -> None:
    """Choose what is trained; with mode `lora`, add adapters.

    Args:
        policy: in full precision, as loaded.
        mode: `lora`; `full`; `last_layer`, the end of the trunk; or `sandwich`, that and all that sees.
        lora: for mode `lora`.
        base: the checkpoint folder that the policy is from.

    Raises:
        TongsError: an unknown mode, one that the family does not know, a policy without linear layers, or a package
            is missing.
    """
    if mode not in MODES:
        raise unknown("mode of fine-tuning", mode, MODES)
    if mode == "lora":
        _add_adapters(policy, lora, base)
    elif mode != "full":
        names = ("last",) if mode == "last_layer" else ("vision", "last")
        if "last" not in policy.parts:
            raise TongsError(f"mode={mode} is not known for a {policy.family} policy; take lora or full")
        _train_only([part for name in names for part in policy.parts[name]], policy)


def counted(policy: nn.Module) -> tuple[int, int]:
    """Trained parameters, and all of them, four-bit ones counted as what they stand for."""
    trained = total = 0
    for parameter in policy.parameters():
        state: Any = getattr(parameter, "quant_state", None)
        size = parameter.numel() if state is None else int(state.shape.numel())
        total += size
        trained += size if parameter.requires_grad else 0
    return trained, total


def _add_adapters(policy: PolicyModule, lora: LoraConfig, base: Path) -> None:
    layers = linear_layers(policy)
    if not layers:
        raise TongsError(f"a {policy.family} policy without linear layers cannot have adapters; take mode=full")
    try:
        import peft
    except ImportError as error:
        raise TongsError("adapters need the package peft; pip install 'tongs[finetune]'") from error
    alpha = float(min(lora.r, 16) if lora.alpha is None else lora.alpha)
    if lora.quantize:
        put_in_bits(policy, layers, "int4")
        policy.is_loaded_in_4bit = True  # type: ignore[assignment]  # asked by peft
    settings = peft.LoraConfig(
        r=lora.r,
        lora_alpha=alpha,  # type: ignore[arg-type]
        lora_dropout=lora.dropout,
        target_modules=layers,
        init_lora_weights="gaussian",
    )
    peft.inject_adapter_in_model(settings, policy)
    names = [name for name, _ in policy.named_parameters()]
    for pattern in lora.also:
        if not any(fnmatchcase(_plain(name), pattern) for name in names):
            raise TongsError(f"lora.also: no parameter is called {pattern}")
    for name, parameter in policy.named_parameters():
        if ".lora_" not in name and any(fnmatchcase(_plain(name), pattern) for pattern in lora.also):
            parameter.requires_grad_(parameter.is_floating_point())
    policy.adapter = Adapter(str(base.resolve()), lora.r, alpha, lora.merge)


def _plain(name: str) -> str:
    return name.replace(".base_layer.", ".")


def _train_only(parts: Sequence[nn.Module], policy: PolicyModule) -> None:
    """Freeze all else; what was frozen before stays frozen."""
    chosen = {id(value) for part in parts for value in part.parameters()}
    for parameter in policy.parameters():
        if id(parameter) not in chosen:
            parameter.requires_grad_(False)
