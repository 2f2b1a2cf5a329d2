"""GRIF policies small enough for tests, with batches that fit them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from policies.base import policy_class
from policies.goal_conditioned.config import GOAL_KINDS
from policies.grif.model import Aligned
from robot.interface import PolicySpec
from tests.policies import small

SMALL: dict[str, Any] = {**small.SMALL, "embedding_width": 24}


def spec(goal: str = "aligned", horizon: int = 4, **changes: Any) -> PolicySpec:
    return replace(small.spec(horizon), goals=GOAL_KINDS[goal], **changes)


def policy(family: str = "grif", given: PolicySpec | None = None, seed: int = 0, **changes: Any) -> Aligned:
    kind = policy_class(family)
    own = {"hidden": (32, 32)} if family == "grif" else {"width": 32, "layers": 1, "heads": 2}
    config = kind.config_class(**SMALL | own | changes)
    torch.manual_seed(seed)
    statistics = small.statistics()
    if given is not None and not given.state_names:
        statistics["observation.state"] = {key: [] for key in statistics["observation.state"]}
    built = kind(config, given or spec(config.goal), statistics)  # type: ignore[call-arg]
    assert isinstance(built, Aligned)
    if hasattr(built, "text_tower"):
        built.text_tower.hear(small.INSTRUCTIONS, torch.device("cpu"))
    with torch.no_grad():  # weights as after training: nothing left at zero, so that every input matters
        for name, parameter in built.named_parameters():
            if name != "log_temperature":
                parameter.add_(torch.randn_like(parameter) * 0.1)
    return built


def batch(size: int = 6, horizon: int = 4, seed: int = 0, labelled: int | None = None) -> dict[str, Any]:
    """`labelled` of the rows, the first ones, have words; all by default."""
    made = small.batch(size, 1, horizon, seed)
    del made["environment_state"]
    generator = torch.Generator().manual_seed(seed + 100)
    for key in ("initial_images", "goal_images"):
        pictures = torch.randint(0, 256, (size, 1, *small.SIZE, 3), dtype=torch.uint8, generator=generator)
        made[key] = {"front": pictures, "wrist": pictures.flip(2)}
    told = torch.arange(size) < (size if labelled is None else labelled)
    made["instruction"] = [f"{text} {row}" if told[row] else "" for row, text in enumerate(made["instruction"])]
    return made | {"labelled": told, "episode": torch.arange(size), "dataset": torch.zeros(size, dtype=torch.int64)}
