"""A policy small enough for tests: a few weights, dropout and noise, so that every source of randomness counts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from data.cache import open_cache
from data.windows import Windows
from policies.base import Batch, PolicyModule
from policies.randomness import Randomness, draw
from robot.interface import ActionSpace, PolicySpec
from tests.data.episodes import ACTION_NAMES, SIZE, STATE_NAMES, write_dataset

SPACE = ActionSpace("ee_delta", ACTION_NAMES, ("m", "m", "1"), (-1.0, -1.0, 0.0), (1.0, 1.0, 1.0))
SPEC = PolicySpec({"front": SIZE}, STATE_NAMES, SPACE, horizon=4)


@dataclass(frozen=True)
class SmallConfig:
    """No settings."""


class SmallPolicy(PolicyModule):
    """State and mean colour to actions, through dropout; the loss adds noise from the generator it is given."""

    family = "small"
    config_class = SmallConfig

    def __init__(self) -> None:
        super().__init__(SmallConfig(), SPEC, {})
        torch.manual_seed(7)
        self.network = nn.Sequential(nn.Linear(7, 16), nn.Tanh(), nn.Dropout(0.3), nn.Linear(16, 12))

    @property
    def heavy_parts(self) -> list[nn.Module]:
        return [self.network]

    def loss(self, batch: Batch, generator: Randomness = None) -> dict[str, Tensor]:
        colour = batch["images"]["front"].float().mean(dim=(1, 2, 3)) / 255  # (B, 3)
        features = torch.cat([batch["state"][:, -1], colour], dim=-1)
        noise = 0.1 * draw(torch.randn, features.shape, generator, features.device)
        actions = self.network(features + noise).view(-1, 4, 3)
        error = (actions - batch["actions"]) ** 2
        return {"loss": error.mean(), "gripper_error": error[..., 2].mean()}

    def predict(self, batch: Batch, generator: torch.Generator) -> Tensor:
        return torch.zeros(len(batch["state"]), 4, 3)


def windows(folder: Path) -> tuple[Windows, Windows]:
    """Training and held-out windows of a made-up dataset in `folder`."""
    if not (folder / "set").exists():
        write_dataset(folder / "set", (20, 15, 25), storage="png")
    cache = open_cache(folder / "set", {"front": SIZE}, processes=1)
    return Windows([cache], ["front"], STATE_NAMES, 1, 4).split(0.3, np.random.default_rng(0))
