"""How a policy draws its actions, where that may change without retraining."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from robot.errors import TongsError

S = TypeVar("S")


@dataclass(frozen=True)
class Temperature:
    """May change at run time.

    Attributes:
        temperature: how much chance there is, relative to what was learned; 0 for none.
    """

    temperature: float = 1.0

    def __post_init__(self) -> None:
        if self.temperature < 0:
            raise TongsError(f"sampling.temperature must be at least 0, got {self.temperature}")


class Sampled(Generic[S]):
    """A policy whose configuration has settings S under `sampling`."""

    config: Any

    @property
    def sampling(self) -> S:
        """How actions are drawn; assign other settings to change it, without retraining."""
        return self.config.sampling

    @sampling.setter
    def sampling(self, sampling: S) -> None:
        self.config = replace(self.config, sampling=sampling)
