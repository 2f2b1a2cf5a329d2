"""Checks of the cameras, frame by frame: pictures that stand still while the arm moves, and dark ones."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from data.features import IMAGES
from data.lint.recording import Finding, Recording, runs

FROZEN_SECONDS = 0.5
MOVING = 0.25
"""Motion above this share of an entry's usual change must be seen."""
SAME_LARGEST, SAME_MEAN = 16, 2.0
"""A video codec renews a still picture by at most so many of 256 levels, in one pixel and on average; where something
moves, one of them is larger."""
DARK = 4.0
"""Mean pixel value below which a picture shows nothing."""


def cameras(recording: Recording, advance: Callable[[], object] = lambda: None) -> Iterator[Finding]:
    """Decodes every video; `advance` is called after each episode."""
    frozen: dict[str, list[int]] = defaultdict(list)
    dark: dict[str, list[int]] = defaultdict(list)
    longest = 0.0
    wanted = max(3, round(FROZEN_SECONDS * recording.fps))
    for episode, span in recording.spans:
        moves = recording.motion[span][:-1] > MOVING
        for key in recording.dataset.camera_keys:
            frames = recording.dataset.images(episode, key)
            same = np.array([_same(*pair) for pair in pairwise(frames.astype(np.int16))], dtype=bool)
            if stretches := runs(same & moves, wanted):
                frozen[key].append(episode)
                longest = max(longest, recording.seconds(max(count for _, count in stretches)))
            if (frames.reshape(len(frames), -1).mean(axis=1) < DARK).any():
                dark[key].append(episode)
        advance()
    for key, episodes in frozen.items():
        name = key.removeprefix(IMAGES)
        message = f"camera {name} repeats one picture for up to {longest:.1f} s while the arm moves"
        yield Finding("frozen", message, tuple(episodes), serious=True)
    for key, episodes in dark.items():
        yield Finding("dark", f"camera {key.removeprefix(IMAGES)} has black pictures", tuple(episodes))


def _same(before: NDArray[np.int16], frame: NDArray[np.int16]) -> bool:
    change = np.abs(frame - before)
    return bool(change.max() <= SAME_LARGEST and change.mean() <= SAME_MEAN)
