"""How far a policy's actions are from held-out demonstrations (RT-H, table I), given its own motions or the true
ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from data.cache import open_cache
from data.motions import motion_track
from data.reader import Dataset
from data.windows import Windows
from robot.errors import TongsError, unknown

if TYPE_CHECKING:
    from policies.rth.model import Rth

PREDICTED, TRUE = "predicted", "true"
_BATCH = 64


@torch.inference_mode()
def action_error(policy: Rth, datasets: Sequence[Path], motions: str = PREDICTED, every: int = 5) -> dict[str, Any]:
    """The mean squared error of scaled actions, over whole chunks of every `every`-th frame.

    Args:
        policy: bound to a robot or not.
        datasets: held-out demonstrations, labelled if motions are the true ones.
        motions: "predicted": as when it acts, so that an asynchronous policy uses the motion that it predicts from what
            is seen a step before; "true": those of the labels (RT-H with ground-truth motions).
        every: frames between two that are measured.

    Returns:
        mean, and `episodes`: the mean of each episode.

    Raises:
        TongsError: the policy takes no motions, or the data has none.
    """
    if motions not in (PREDICTED, TRUE):
        raise unknown("motions", motions, (PREDICTED, TRUE))
    if motions == TRUE and "motion" not in policy.spec.goals:
        raise TongsError(f"this policy ({policy.config.variant}, {policy.config.labels}) takes no motions")
    policy.eval()
    errors, frames = [], _Frames(policy, datasets, every)
    for now, before in frames.batches():
        given = frames.motions(now) if motions == TRUE else None
        if given is None and "motion" in policy.spec.goals and policy.config.ahead and policy.sampling.asynchronous:
            given = policy.predict_motions(frames.seen(before))
        predicted = policy.predict(frames.seen(now) | ({"motion": given} if given else {}), None)
        errors.append(frames.squared_error(now, predicted))
    each = np.concatenate(errors)
    episodes = [float(each[frames.episode == number].mean()) for number in np.unique(frames.episode)]
    return {"mean": float(each.mean()), "episodes": episodes}


@torch.inference_mode()
def action_change(first: Rth, second: Rth, datasets: Sequence[Path], every: int = 5) -> dict[str, float]:
    """How differently two policies act on the same true motions: the mean absolute difference of scaled actions, and
    for comparison the mean size of the first one's. What training the motion query alone does to the action query."""
    frames = _Frames(first, datasets, every)
    differences, sizes = [], []
    for now, _ in frames.batches():
        batch = frames.seen(now) | {"motion": frames.motions(now)}
        one, other = (
            first.vla.action_bounds.normalise(policy.eval().predict(batch, None)) for policy in (first, second)
        )
        differences.append(float((one - other).abs().mean()))
        sizes.append(float(one.abs().mean()))
    return {"difference": float(np.mean(differences)), "size": float(np.mean(sizes))}


class _Frames:
    """Frames of demonstrations as a policy sees them.

    Attributes:
        episode: of each measured frame (N,).
    """

    def __init__(self, policy: Rth, datasets: Sequence[Path], every: int) -> None:
        spec = policy.spec
        self._policy = policy
        self._windows = Windows(
            [open_cache(folder, spec.cameras) for folder in datasets],
            list(spec.cameras),
            spec.state_names,
            horizon=spec.horizon,
            pad_hold=True,
            motions=[motion_track(Dataset(folder)) for folder in datasets],
        )
        spans = list(zip(self._windows.starts, self._windows.ends, strict=True))
        self._frames = np.concatenate([np.arange(start, end, every) for start, end in spans])
        self._before = np.concatenate(
            [np.maximum(np.arange(start, end, every) - policy.config.ahead, start) for start, end in spans]
        )
        self.episode = np.repeat(np.arange(len(spans)), [len(range(start, end, every)) for start, end in spans])

    def batches(self) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """Frames, and those that lie as far before as the policy predicts ahead, within the episode."""
        for first in range(0, len(self._frames), _BATCH):
            yield self._frames[first : first + _BATCH], self._before[first : first + _BATCH]

    def seen(self, frames: NDArray[np.int64]) -> dict[str, Any]:
        """What `predict` takes."""
        given, device = self._windows.batch(frames), self._policy.device
        images = {name: torch.from_numpy(pictures).to(device) for name, pictures in given["images"].items()}
        state = torch.from_numpy(given["state"]).to(device)
        return {"images": images, "state": state, "instruction": given["instruction"]}

    def motions(self, frames: NDArray[np.int64]) -> list[str]:
        found = self._windows.batch(frames)["motion"]
        if not all(found):
            raise TongsError("the demonstrations have no motions; `tongs data label` adds them")
        return found

    def squared_error(self, frames: NDArray[np.int64], predicted: Tensor) -> NDArray[np.float64]:
        """Of each frame's chunk, in scaled actions."""
        scale = self._policy.vla.action_bounds.normalise
        wanted = torch.from_numpy(self._windows.chunks(frames)).to(predicted.device)
        return (scale(predicted) - scale(wanted)).square().mean(dim=(1, 2)).double().cpu().numpy()
