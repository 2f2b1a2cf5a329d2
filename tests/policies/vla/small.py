"""A VLA small enough for tests, with batches and observations that fit it."""

from __future__ import annotations

from typing import Any

import torch

from policies.base import TrainingData
from policies.vla.policy import Vla
from robot.interface import EE_DELTA, PolicySpec
from tests.policies.small import INSTRUCTIONS, SIZE, STATE_NAMES, statistics

SETTINGS: dict[str, Any] = {
    "towers": [
        {"name": "vit_tiny_patch16_224", "options": {"depth": 3, "embed_dim": 32, "num_heads": 2, "patch_size": 8}},
        {"name": "vit_tiny_patch16_224", "options": {"depth": 2, "embed_dim": 16, "num_heads": 2, "patch_size": 8}},
    ],
    "image_size": None,
    "prune_towers": True,
    "language_model": {
        "model_type": "llama",
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
    },
    "prompt": "{instruction}",
    "text_pieces": 300,
    "max_tokens": 64,
    "bins": 32,
}


def chunks(count: int, horizon: int = 4) -> Any:
    generator = torch.Generator().manual_seed(1)
    steps = torch.randn(min(count, 200), horizon, EE_DELTA.dimension, generator=generator) * 0.003
    return steps.cumsum(dim=1).numpy()


def policy(horizon: int = 4, seed: int = 0, state: bool = True, **changes: Any) -> Vla:
    torch.manual_seed(seed)
    spec = PolicySpec({"front": SIZE, "wrist": SIZE}, STATE_NAMES if state else (), EE_DELTA, horizon)
    data = TrainingData(statistics(), INSTRUCTIONS, (), lambda count: chunks(count, horizon))
    built = Vla.new(SETTINGS | changes, spec, data)
    with torch.no_grad():  # weights as after training: nothing left at zero, so that every input matters
        for parameter in built.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return built
