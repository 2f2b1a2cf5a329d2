"""GRIF's measure of grounding: does an instruction find the transition that it was said about, among 256?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from data.cache import open_cache
from data.goals import GoalRelabelling
from data.windows import CHANCES, Windows
from robot.errors import TongsError

if TYPE_CHECKING:
    from policies.grif.model import Aligned

BATCH = 256


@torch.inference_mode()
def retrieval_accuracy(policy: Aligned, datasets: Sequence[Path], k: int = 5, batch: int = BATCH) -> dict[str, Any]:
    """How often one of the k nearest transitions h(s0, g) of a batch fits the text f(l), on whole episodes.

    Episodes are dealt into batches at random, the same ones for every policy; those that do not fill a last batch are
    left out. A transition with the very same words fits as well.

    Returns:
        accuracy, chance (k / batch), batch (fewer than asked for if there are fewer episodes), episodes, k.

    Raises:
        TongsError: the policy has no space of tasks, or there is no dataset.
    """
    from policies.grif.alignment import retrieval, same_task

    if policy.spec.goals != ("language", "image"):
        raise TongsError(f"retrieval needs a policy that is told its task in words or pictures, not {policy.family}")
    camera = policy.goal_camera
    caches = [open_cache(folder, {camera: policy.spec.cameras[camera]}) for folder in datasets]
    rule = GoalRelabelling(last=1.0)
    windows = Windows(caches, [camera], policy.spec.state_names, goals=rule).trajectories()
    generator = np.random.default_rng(0)
    order, chances = generator.permutation(len(windows)), generator.random((len(windows), CHANCES))
    batch = min(batch, len(windows))
    found: list[bool] = []
    for first in range(0, len(windows) - batch + 1, batch):
        rows = order[first : first + batch]
        given = windows.batch(rows, chances[rows])
        pictures = {
            key: {camera: torch.from_numpy(given[key][camera]).to(policy.device)}
            for key in ("initial_images", "goal_images")
        }
        texts, transitions = policy.embed_instructions(given["instruction"]), policy.embed_transitions(pictures)
        positives = same_task(given["instruction"], torch.from_numpy(given["episode"]).to(policy.device))
        found += retrieval(texts, transitions, positives, k).tolist()
    return {"accuracy": float(np.mean(found)), "chance": k / batch, "batch": batch, "episodes": len(found), "k": k}
