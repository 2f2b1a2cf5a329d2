"""What a motion is called between policy and network: its words, its number, or the number of a cluster of actions."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from policies.rth.config import CLUSTERS, IDS, WORDS, RthConfig
from robot.errors import TongsError
from robot.motions import clauses, parse_motion, require_motion


class Labels:
    """The names of motions in queries and answers.

    Attributes:
        known: those that may be predicted.
    """

    def __init__(self, config: RthConfig) -> None:
        self._config = config
        self._number = {motion: str(i) for i, motion in enumerate(config.vocabulary)}
        if config.labels == WORDS:
            self.known: tuple[str, ...] = config.vocabulary
        else:
            count = len(config.vocabulary) if config.labels == IDS else len(config.centres)
            self.known = tuple(map(str, range(count)))
        self._centres = torch.tensor(config.centres) if config.labels == CLUSTERS else None

    def of_data(self, motion: str) -> str:
        """The label of a motion of the data; one without a number is called by what it begins with. Empty if
        unknown."""
        if self._config.labels != IDS or not motion:
            return motion
        parts = clauses(motion)
        for count in range(len(parts), 0, -1):
            if (shorter := " and ".join(parts[:count])) in self._number:
                return self._number[shorter]
        return ""

    def of_person(self, motion: str) -> str:
        """The label of a motion that somebody chose, which may be any of the table.

        Raises:
            TongsError: it is none, or has no label; the nearest known ones are named.
        """
        motion = require_motion(motion, self._config.table)
        if self._config.labels == WORDS:
            return motion
        if motion not in self._number:
            from difflib import get_close_matches

            nearest = get_close_matches(motion, self._number, 3, 0.0)
            raise TongsError(f"motion {motion!r} has no number; the nearest that have are: {', '.join(nearest)}")
        return self._number[motion]

    def meaning(self, label: str) -> str:
        """The motion of a label that was predicted; empty if it is none."""
        if self._config.labels == WORDS:
            try:
                motion = parse_motion(label, self._config.table)
            except TongsError:
                return ""
            return motion.text if motion is not None and motion.text == label else ""
        if not label.isdecimal() or int(label) >= len(self.known):
            return ""
        return self._config.vocabulary[int(label)] if self._config.labels == IDS else f"cluster {label}"

    def clusters(self, actions: Tensor) -> list[str]:
        """The clusters of scaled actions (B, K, A)."""
        assert self._centres is not None
        distances = torch.cdist(actions.flatten(1).float(), self._centres.to(actions.device))
        return [str(number) for number in distances.argmin(dim=1).tolist()]


def cluster_centres(actions: NDArray[np.floating], count: int) -> tuple[tuple[float, ...], ...]:
    """k-means centres (count, K * A) of scaled actions (N, K, A), always the same for the same actions."""
    from scipy.cluster.vq import kmeans2

    flat = actions.reshape(len(actions), -1).astype(np.float64)
    if len(flat) < count:
        raise TongsError(f"{len(flat)} chunks of actions cannot make {count} clusters")
    centres, _ = kmeans2(flat, count, minit="++", rng=0)
    return tuple(tuple(float(value) for value in centre) for centre in centres)
