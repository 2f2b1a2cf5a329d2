"""The scripted expert of a simulated robot as a policy: it knows the true poses, so it is asked over there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from robot.errors import TongsError
from robot.interface import EE_DELTA, ActionChunk, Observation, PolicySpec
from robot.ros.client import SIMULATED
from robot.ros.transport import Transport

_KIND = "tongs_msgs/srv/AskExpert"


class TopicExpert:
    """A `Policy` of horizon 1.

    Args:
        transport: of the graph.
        robot: name of the simulated robot's node.
        patience: s that an answer may take.
    """

    spec = PolicySpec({}, (), EE_DELTA, horizon=1)

    def __init__(self, transport: Transport, robot: str = SIMULATED, patience: float = 120.0) -> None:
        self._transport, self._service, self._patience = transport, f"{robot}/expert", patience
        self._seed: int | None = 0

    def reset(self, seed: int) -> None:
        self._seed = seed

    def act(self, observation: Observation) -> ActionChunk:
        """Raises TongsError: the robot has no expert, or does not answer."""
        begin, seed = self._seed is not None, (self._seed or 0) % 2**32
        request = self._transport.make(f"{_KIND}_Request", begin=begin, seed=seed)
        response: Any = self._transport.call(self._service, _KIND, request, self._patience)
        if not response.success:
            raise TongsError(response.message)
        self._seed = None
        action = np.asarray(response.chunk.data, np.float32).reshape(1, EE_DELTA.dimension)
        return ActionChunk(action, np.array([observation.time]))

    def act_batch(self, observations: Sequence[Observation]) -> list[ActionChunk]:
        return [self.act(observation) for observation in observations]
