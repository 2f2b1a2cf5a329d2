"""High levels small enough for tests, over the small BESO, with batches that fit them."""

from __future__ import annotations

from typing import Any

import torch

from policies.base import PolicyModule
from policies.yay.model import Yay
from tests.policies import small

COMMANDS = ("open the left drawer", "put the red block in the left drawer", "close the left drawer")
SMALL: dict[str, Any] = {
    "vision_channels": (8, 16, 16),
    "vision_features": 16,
    "keypoints": 4,
    "described_keypoints": 2,
    "width": 32,
    "layers": 2,
    "heads": 2,
    "feed_forward": 32,
    "hidden": 32,
}


def policy(low: PolicyModule | None = None, seed: int = 0, commands: tuple[str, ...] = COMMANDS, **changes: Any) -> Yay:
    torch.manual_seed(seed)
    made = Yay.over(low or small.policy(), SMALL | changes, commands, {"front": small.SIZE, "wrist": small.SIZE})
    return made.eval()


def batch(size: int = 6, pictures: int = 4, seed: int = 0) -> dict[str, Any]:
    """The command follows from how bright the newest pictures are."""
    generator = torch.Generator().manual_seed(seed)
    number = torch.arange(size) % len(COMMANDS)
    level = (40 + 80 * number)[:, None, None, None, None]
    images = {
        camera: (level + torch.randint(0, 20, (size, pictures, *small.SIZE, 3), generator=generator)).to(torch.uint8)
        for camera in ("front", "wrist")
    }
    return {
        "images": images,
        "instruction": ["put the red block in the left drawer and close it"] * size,
        "command": [COMMANDS[i] for i in number.tolist()],
    }
