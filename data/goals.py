"""Which frame of an episode becomes the goal of an earlier one: hindsight relabelling."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from robot.errors import TongsError


@dataclass(frozen=True)
class GoalRelabelling:
    """Goals drawn from the same episode, after the frame in question.

    With t the newest observed frame and e the last frame of its episode:

    - last: the goal is e;
    - future: any of t+1 .. e, all equally likely;
    - geometric: t+k with probability proportional to discount^k, k = 1 .. e-t, as in contrastive and goal-conditioned
      reinforcement learning.

    A frame that is the last one is its own goal. GRIF takes last and future at 0.5 each for trajectories without an
    instruction, and last alone for those with one; BESO takes future.

    Attributes:
        last, future, geometric: how often each rule is applied; they add up to 1.
        discount: of geometric.
        language_keep: how often a frame with an instruction keeps it. Its goal is then e, which the instruction is
            about; otherwise the instruction is dropped and the goal is any later frame (GRIF has 1). None: words and
            goals do not know each other.
    """

    last: float = 0.0
    future: float = 0.0
    geometric: float = 0.0
    discount: float = 0.98
    language_keep: float | None = None

    def __post_init__(self) -> None:
        shares = (self.last, self.future, self.geometric)
        if min(shares) < 0 or not np.isclose(sum(shares), 1.0):
            raise TongsError(f"the shares of goal rules must be at least 0 and add up to 1, got {self}")
        if not 0 < self.discount < 1:
            raise TongsError(f"the discount of goals must lie between 0 and 1, got {self.discount}")
        if self.language_keep is not None and not 0 <= self.language_keep <= 1:
            raise TongsError(f"language_keep of goals must lie in 0..1, got {self.language_keep}")

    def keeps_language(self, labelled: NDArray[np.bool_], chance: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Which frames (B,) keep their instruction, of those that have one; `chance` as for `frames`."""
        return labelled if self.language_keep is None else labelled & (chance[:, 0] < self.language_keep)

    def frames(
        self,
        newest: NDArray[np.int64],
        last: NDArray[np.int64],
        chance: NDArray[np.float64],
        labelled: NDArray[np.bool_] | None = None,
    ) -> NDArray[np.int64]:
        """The goal's frame (B,) for each `newest` frame (B,) of episodes that end with frame `last` (B,).

        `chance` (B, 2) holds uniform numbers in [0, 1): which rule, and which frame. `labelled` (B,) says which frames
        have an instruction.
        """
        left = last - newest  # (B,), frames that follow
        rule, place = chance.T
        uniform = 1 + np.floor(place * left)
        # The truncated geometric distribution by the inverse of its cumulative sum.
        inside = 1.0 - self.discount ** left.astype(np.float64)
        geometric = np.ceil(np.log1p(-place * inside) / np.log(self.discount))
        ahead = np.where(rule < self.last, left, np.where(rule < self.last + self.future, uniform, geometric))
        if labelled is not None and self.language_keep is not None:
            ahead = np.where(labelled, np.where(self.keeps_language(labelled, chance), left, uniform), ahead)
        return newest + np.clip(ahead, np.minimum(left, 1), left).astype(np.int64)
