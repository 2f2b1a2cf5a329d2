"""An RT-H policy small enough for tests, and a toy in which a motion and the place of the arm decide the action."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from policies.base import TrainingData
from policies.rth.model import Rth
from robot.interface import EE_DELTA, PolicySpec
from robot.motions import TABLE, parse_motion
from tests.policies.small import INSTRUCTIONS, SIZE, STATE_NAMES, statistics
from tests.policies.vla.small import SETTINGS, chunks

MOTIONS = ("move arm left", "move arm right", "move arm up and close gripper", TABLE.idle)
HORIZON = 4


def new(horizon: int = HORIZON, seed: int = 0, shaken: bool = True, **changes: Any) -> Rth:
    """A policy of random weights; `vla` among the changes is for its backbone."""
    torch.manual_seed(seed)
    spec = PolicySpec({"front": SIZE, "wrist": SIZE}, STATE_NAMES, EE_DELTA, horizon)
    data = TrainingData(statistics(), INSTRUCTIONS, (), lambda count: chunks(count, horizon), MOTIONS, TABLE)
    vla = (
        SETTINGS
        | {"text_pieces": 500, "max_tokens": 160, "prediction": "l1", "shift": 0, "colour": 0.0}
        | changes.pop("vla", {})
    )
    built = Rth.new({"vla": vla, "ahead": 1, "clusters": 3} | changes, spec, data)
    if shaken:
        with torch.no_grad():  # weights as after training: nothing left at zero, so that every input matters
            for parameter in built.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.1)
    return built


def toy(size: int, seed: int, horizon: int = HORIZON, surprise: float = 0.2) -> dict[str, Any]:
    """A batch in which the first camera says which motion comes (bright: left, dark: right), but for a share that is a
    surprise, and the height of the arm how fast it is carried out."""
    random = np.random.default_rng(seed)
    bright = random.integers(0, 2, size)
    usual = np.where(bright == 1, 0, 1)
    motion = np.where(random.random(size) < surprise, random.integers(0, len(MOTIONS), size), usual)
    state = random.normal(0.1, 0.5, (size, 1, len(STATE_NAMES))).astype(np.float32)
    speed = np.where(state[:, 0, 2] > 0.1, 0.018, 0.008)
    actions = np.zeros((size, horizon, EE_DELTA.dimension), np.float32)
    for row in range(size):
        told = parse_motion(MOTIONS[motion[row]])
        assert told is not None
        actions[row, :, :6] = speed[row] * np.array(told.velocity)
        actions[row, :, 6] = 1.0 if told.opening is None else told.opening
    front = np.where(bright == 1, 200, 50)[:, None, None, None, None] + random.integers(-20, 20, (size, 1, *SIZE, 3))
    words = [MOTIONS[number] for number in motion]
    return {
        "images": {
            "front": torch.from_numpy(front.astype(np.uint8)),
            "wrist": torch.from_numpy(random.integers(0, 256, (size, 1, *SIZE, 3)).astype(np.uint8)),
        },
        "state": torch.from_numpy(state),
        "actions": torch.from_numpy(actions),
        "action_is_pad": torch.zeros(size, horizon, dtype=torch.bool),
        "instruction": [INSTRUCTIONS[0]] * size,
        "motion": words,
        "motion_ahead": words,
        "corrected": torch.zeros(size, dtype=torch.bool),
    }


def fit(policy: Rth, steps: int, size: int = 24, rate: float = 3e-3, seed: int = 0, **data: Any) -> list[float]:
    """Train on ever new toy batches; the losses."""
    policy.train()
    trained = [parameter for parameter in policy.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(trained, rate, weight_decay=0.0)
    generator, losses = torch.Generator().manual_seed(seed), []
    for step in range(steps):
        optimiser.param_groups[0]["lr"] = rate * min(1.0, (step + 1) / 10) * (1 - step / steps)
        optimiser.zero_grad()
        loss = policy.loss(toy(size, 1000 * seed + step, **data), generator)["loss"]
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimiser.step()
        losses.append(loss.item())
    policy.eval()
    return losses
