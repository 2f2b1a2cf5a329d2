"""Networks in fewer bits by bitsandbytes: linear layers in eight or four bits, computed with as they are."""

# pyright: reportMissingImports=false

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from robot.errors import TongsError

BITS = ("int8", "int4")


def linear_layers(policy: nn.Module) -> list[str]:
    """Names of the linear layers, and of the convolutions that are linear layers of patches.

    OpenVLA asks peft for "all-linear". That matches the last part of names, so the patch embeddings of the towers
    (called `proj` like a layer of their attention) and the output embedding are among them; so they are here. A layer
    whose weight is also another module's (tied embeddings) is not.
    """
    owners = Counter(id(value) for module in policy.modules() for value in module.parameters(recurse=False))
    found = []
    for name, module in policy.named_modules():
        patches = (
            type(module) is nn.Conv2d
            and module.kernel_size == module.stride
            and module.kernel_size != (1, 1)
            and module.groups == 1
        )
        if (type(module) is nn.Linear or patches) and owners[id(module.weight)] == 1:
            found.append(name)
    return found


def put_in_bits(policy: nn.Module, layers: Sequence[str], precision: str) -> None:
    """Replace linear layers by ones in "int8" (rows) or "int4" (normal float, doubly quantised: nf4).

    Raises:
        TongsError: bitsandbytes is not installed, or cannot do it on this device.
    """
    try:
        import bitsandbytes
    except ImportError as error:
        wanted = "lora.quantize=nf4 and backend=torch with int8 or int4 need"
        raise TongsError(f"{wanted} bitsandbytes, which is not installed; pip install 'tongs[gpu]'") from error
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    for name in layers:
        layer = policy.get_submodule(name)
        if not isinstance(layer, nn.Linear):
            continue
        small: Any = (_eight if precision == "int8" else _four)(bitsandbytes, layer, device)
        small.bias = layer.bias
        try:
            small = small.to(device)
        except (RuntimeError, NotImplementedError) as error:
            raise TongsError(f"bitsandbytes cannot hold weights in {precision} on this {device}: {error}") from error
        parent, _, last = name.rpartition(".")
        setattr(policy.get_submodule(parent), last, small)


def _four(bitsandbytes: Any, layer: nn.Linear, device: torch.device) -> Any:
    compute = torch.bfloat16 if device.type == "cuda" else torch.float32
    four = bitsandbytes.nn.Linear4bit(
        layer.in_features, layer.out_features, layer.bias is not None, compute, quant_type="nf4"
    )
    four.weight = bitsandbytes.nn.Params4bit(layer.weight.data, requires_grad=False, quant_type="nf4")
    four.support_avx512bf16_for_cpu = False  # in evaluation it would round the scales and change the weight in place
    return four


def _eight(bitsandbytes: Any, layer: nn.Linear, device: torch.device) -> Any:
    eight = bitsandbytes.nn.Linear8bitLt(
        layer.in_features, layer.out_features, layer.bias is not None, has_fp16_weights=False
    )
    eight.weight = bitsandbytes.nn.Int8Params(layer.weight.data, requires_grad=False, has_fp16_weights=False)
    return eight
