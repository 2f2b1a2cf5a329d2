"""The values that a task may be asked for, and which of them training never sees."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sim.splits import Goals


@dataclass(frozen=True)
class GoalSet:
    """Whole numbers (percent, centimetres, degrees) from `low` to `high`.

    ARNOLD asks for four fixed values per task, keeps one of them for its split `novel_state`, and has continuous goals
    only in `any_state`. Here goals are continuous everywhere, and what is kept from training is one of the four with
    everything so near that a policy which only knows the rest could still succeed.

    Attributes:
        low, high, step: the range, both ends included.
        four: ARNOLD's values.
        held_out: the one of them that is kept from training.
        margin: nothing closer to it than this is in training; the task's tolerance or more.
        named: other values that people have a name for.
        start: values within 30 of it are too close to where the goal variable begins; None for no such place.
    """

    low: int
    high: int
    four: tuple[int, int, int, int]
    held_out: int
    margin: int
    named: tuple[int, ...] = ()
    step: int = 1
    start: int | None = None

    def values(self, goals: Goals) -> list[int]:
        """What may be asked for: `seen` in training, the one `held_out`, or `any`."""
        if goals == "held_out":
            return [self.held_out]
        every = [
            n for n in range(self.low, self.high + 1, self.step) if self.start is None or abs(n - self.start) >= 30
        ]
        return every if goals == "any" else [n for n in every if abs(n - self.held_out) >= self.margin]

    def draw(
        self,
        rng: np.random.Generator,
        goals: Goals,
        most: int | None = None,
        other: int | None = None,
        gap: int = 0,
        least: int = 0,
    ) -> int:
        """A value from `least` to `most` and at least `gap` from `other`; half the time one that has a name."""
        allowed = [
            n
            for n in self.values(goals)
            if least <= n and (most is None or n <= most) and (other is None or abs(n - other) >= gap)
        ]
        names = [n for n in allowed if n in self.four or n in self.named]
        if names and rng.random() < 0.5:
            return names[rng.integers(len(names))]
        return allowed[rng.integers(len(allowed))]

    def another(
        self, rng: np.random.Generator, goals: Goals, goal: int, gap: int, most: int | None = None, least: int = 0
    ) -> int:
        """A clearly different value for the same thing; a training value where the goal is the one held out."""
        return self.draw(rng, "any" if goals == "any" else "seen", most, goal, gap, least)
