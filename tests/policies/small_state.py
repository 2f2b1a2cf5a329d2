"""State-only policies of every family, small enough for tests, with batches and observations that fit them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from policies.base import PolicyModule, policy_class
from policies.baselines.bet import BehaviourTransformer
from policies.goal_conditioned.config import GOAL_KINDS
from robot.interface import PLANAR_DELTA, Observation, PolicySpec, RobotSpec

NAMES = ("block_x", "block_y", "pusher_x", "pusher_y")
ROBOT = RobotSpec(cameras={}, state_names=(*NAMES, "spare"), action_space=PLANAR_DELTA)


def statistics() -> dict[str, dict[str, list[float]]]:
    def entries(size: int, mean: float, std: float) -> dict[str, list[float]]:
        bounds = {"min": -2.0, "q01": -2.0, "q99": 2.0, "max": 2.0}
        numbers = {"mean": mean, "std": std} | {key: mean + value * std for key, value in bounds.items()}
        return {key: [value] * size for key, value in numbers.items()}

    return {"observation.state": entries(len(NAMES), 0.1, 0.2), "action": entries(2, 0.0, 0.01)}


def policy(family: str, window: int = 1, horizon: int = 1, seed: int = 0, **changes: Any) -> PolicyModule:
    settings: dict[str, Any] = {
        "window": window,
        "observation": "state",
        "goal": "state",
        "goal_tokens": 1,
        "width": 32,
        "layers": 2,
        "heads": 2,
    }
    if family == "bet":
        settings["bins"] = 4
    kind = policy_class(family)
    config = kind.config_class(**settings | changes)
    torch.manual_seed(seed)
    spec = PolicySpec({}, NAMES, PLANAR_DELTA, horizon, goals=GOAL_KINDS[config.goal])
    built = kind(config, spec, statistics())  # type: ignore[call-arg]
    with torch.no_grad():  # weights as after training: nothing left at zero, so that every input matters
        for parameter in built.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    if isinstance(built, BehaviourTransformer):
        built.find_clusters(torch.randn(64, horizon, 2, generator=torch.Generator().manual_seed(0)) * 0.01)
    return built


def batch(size: int = 6, window: int = 1, horizon: int = 1, goal_tokens: int = 1, seed: int = 0) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(seed)
    length = window - 1 + horizon
    return {
        "images": {},
        "state": torch.randn(size, window, len(NAMES), generator=generator) * 0.2 + 0.1,
        "goal_state": torch.randn(size, goal_tokens, len(NAMES), generator=generator) * 0.2 + 0.1,
        "actions": torch.randn(size, length, 2, generator=generator) * 0.01,
        "action_is_pad": torch.zeros(size, length, dtype=torch.bool),
        "instruction": ["push"] * size,
    }


def observation(seed: int = 0, time: float = 0.0, goal: bool = True) -> Observation:
    random = np.random.default_rng(seed)
    state, wanted = random.normal(size=(2, 5)).astype(np.float32)
    return Observation({}, state, "", time, goal_state=wanted if goal else None)
