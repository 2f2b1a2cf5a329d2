"""Following an action chunk open loop, and knowing when the next one is due."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from robot.interface import ActionChunk, Observation, Policy


@dataclass
class ChunkQueue:
    """Serves the actions of chunks one by one and asks for a new chunk when it is time to.

    A chunk is followed open loop for `execute` actions. A changed instruction drops what is left of it at once.
    """

    policy: Policy
    execute: int
    _chunk: ActionChunk | None = field(default=None, init=False)
    _next: int = field(default=0, init=False)
    _instruction: str = field(default="", init=False)

    def reset(self, seed: int) -> None:
        self._chunk, self._next, self._instruction = None, 0, ""
        self.policy.reset(seed)

    def wants_chunk(self, instruction: str) -> bool:
        """Whether the next call of `action` runs the policy; only then must the observation hold images."""
        return (
            self._chunk is None or self._next >= min(self.execute, len(self._chunk)) or instruction != self._instruction
        )

    def action(self, observation: Observation) -> NDArray[np.float32]:
        """The action (A,) for this control step."""
        if self.wants_chunk(observation.instruction):
            self._chunk, self._next = self.policy.act(observation), 0
            self._instruction = observation.instruction
        assert self._chunk is not None
        self._next += 1
        return self._chunk.actions[self._next - 1]
