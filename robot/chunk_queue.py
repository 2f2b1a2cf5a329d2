"""Following an action chunk open loop, and knowing when the next one is due."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import cast

import numpy as np
from numpy.typing import NDArray

from robot.interface import ActionChunk, Observation, Policy, RememberingPolicy


@dataclass
class ChunkQueue:
    """Serves the actions of chunks one by one and asks for a new chunk when it is time to.

    A chunk is followed open loop for `execute` actions. Another instruction drops what is left of it at once, and so
    does a language motion that somebody chooses or releases.
    """

    policy: Policy
    execute: int
    _chunk: ActionChunk | None = field(default=None, init=False)
    _next: int = field(default=0, init=False)
    _told: tuple[str, str] = field(default=("", ""), init=False)

    def reset(self, seed: int) -> None:
        self.drop()
        self.policy.reset(seed)

    @property
    def chunk(self) -> ActionChunk | None:
        """The one that is being followed."""
        return self._chunk

    def drop(self) -> None:
        """Follow the chunk no longer."""
        self._chunk, self._next, self._told = None, 0, ("", "")

    def wants_chunk(self, instruction: str, motion: str = "") -> bool:
        """Whether the next call of `action` runs the policy."""
        over = self._chunk is None or self._next >= min(self.execute, len(self._chunk))
        return over or (instruction, motion) != self._told

    def wants_images(self, instruction: str, motion: str = "") -> bool:
        """Whether the observation of the next call of `action` must hold images: where a chunk begins, and everywhere
        for a policy with a history."""
        spec = self.policy.spec
        return bool(spec.cameras) and (spec.history > 1 or self.wants_chunk(instruction, motion))

    def action(self, observation: Observation) -> NDArray[np.float32]:
        """The action (A,) for this control step."""
        if self.wants_chunk(observation.instruction, observation.motion):
            self._chunk, self._next = self.policy.act(observation), 0
            self._told = (observation.instruction, observation.motion)
        elif self.policy.spec.history > 1:
            cast(RememberingPolicy, self.policy).remember([observation])
        assert self._chunk is not None
        self._next += 1
        return self._chunk.actions[self._next - 1]
