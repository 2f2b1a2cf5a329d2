"""A BESO policy small enough for tests, with batches and observations that fit it."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from policies.beso.config import BesoConfig
from policies.beso.model import Beso
from robot.interface import EE_DELTA, Observation, PolicySpec, RobotSpec

SIZE, STATE_NAMES, ENVIRONMENT_NAMES = (16, 16), ("x", "y", "z"), ("value", "goal")
ROBOT = RobotSpec(
    cameras={"front": (32, 32), "wrist": (32, 32)}, state_names=("z", "y", "x", "w"), action_space=EE_DELTA
)
INSTRUCTIONS = ("open the drawer 40 percent", "close it", "lift the red block by 20 cm", "turn it")

SMALL: dict[str, Any] = {
    "observation_width": 32,
    "reader_width": 32,
    "reader_layers": 1,
    "reader_heads": 2,
    "reader_directions": 3,
    "vision_channels": (8, 16, 16),
    "vision_features": 16,
    "keypoints": 4,
    "described_keypoints": 2,
    "instructed_keypoints": 2,
}
"""Settings of every goal-conditioned policy."""


def statistics() -> dict[str, dict[str, list[float]]]:
    def entries(size: int, mean: float, std: float) -> dict[str, list[float]]:
        bounds = {"min": -3.0, "q01": -2.0, "q99": 2.0, "max": 3.0}
        numbers = {"mean": mean, "std": std} | {key: mean + value * std for key, value in bounds.items()}
        return {key: [value] * size for key, value in numbers.items()}

    return {
        "observation.state": entries(len(STATE_NAMES), 0.1, 0.5),
        "action": entries(EE_DELTA.dimension, 0.001, 0.01),
        "observation.environment_state": entries(len(ENVIRONMENT_NAMES), 0.5, 0.2),
    }


def spec(horizon: int = 4) -> PolicySpec:
    return PolicySpec({"front": SIZE, "wrist": SIZE}, STATE_NAMES, EE_DELTA, horizon)


def config(**changes: Any) -> BesoConfig:
    small: dict[str, Any] = {
        **SMALL,
        "width": 32,
        "layers": 2,
        "heads": 2,
        "goal_tokens": 2,
        "environment_names": ENVIRONMENT_NAMES,
    }
    return BesoConfig(**small | changes)


def policy(horizon: int = 4, seed: int = 0, **changes: Any) -> Beso:
    torch.manual_seed(seed)
    built = Beso(config(**changes), spec(horizon), statistics())
    if built.config.goal == "language" and built.config.reader_directions:
        built.text_reader.whiten([built.text_encoder.encode(INSTRUCTIONS)])
    with torch.no_grad():  # weights as after training: nothing left at zero, so that every input matters
        for parameter in built.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return built


def batch(size: int = 4, window: int = 1, horizon: int = 4, seed: int = 0) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(seed)
    images = {
        camera: torch.randint(0, 256, (size, window, *SIZE, 3), dtype=torch.uint8, generator=generator)
        for camera in ("front", "wrist")
    }
    length = window - 1 + horizon
    return {
        "images": images,
        "state": torch.randn(size, window, len(STATE_NAMES), generator=generator),
        "actions": torch.randn(size, length, EE_DELTA.dimension, generator=generator) * 0.01,
        "action_is_pad": torch.zeros(size, length, dtype=torch.bool),
        "instruction": [INSTRUCTIONS[row % len(INSTRUCTIONS)] for row in range(size)],
        "environment_state": torch.rand(size, len(ENVIRONMENT_NAMES), generator=generator),
    }


def observation(seed: int = 0, instruction: str = INSTRUCTIONS[0], time: float = 2.0) -> Observation:
    random = np.random.default_rng(seed)
    return Observation(
        images={camera: random.integers(0, 256, (32, 32, 3), dtype=np.uint8) for camera in ROBOT.cameras},
        state=random.normal(size=4).astype(np.float32),
        instruction=instruction,
        time=time,
    )
