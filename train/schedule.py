"""How the learning rate moves over a run."""

from __future__ import annotations

import math


def learning_rate_factor(schedule: str, step: int, warmup_steps: int, progress: float) -> float:
    """The learning rate as a fraction of its peak.

    Args:
        schedule: `cosine`, 0.5 (1 + cos(pi progress)), or `constant`.
        step: steps done so far; the first step has 0.
        warmup_steps: the factor grows linearly over these, reaching its full value at the last of them.
        progress: part of the budget that is spent, 0 to 1.
    """
    warmup = min(1.0, (step + 1) / warmup_steps) if warmup_steps else 1.0
    decay = 0.5 * (1.0 + math.cos(math.pi * min(max(progress, 0.0), 1.0))) if schedule == "cosine" else 1.0
    return warmup * decay


def spent(step: int, minutes: float, steps: int | None, max_minutes: float | None) -> float:
    """The part of the budget that is spent, 0 to 1: of the steps or of the minutes, whichever is further."""
    parts = [0.0]
    if steps is not None:
        parts.append(step / steps)
    if max_minutes is not None:
        parts.append(minutes / max_minutes)
    return min(max(parts), 1.0)
