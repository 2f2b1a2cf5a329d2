"""Goal-conditioned behaviour cloning: the mean action, by least squares."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from policies.base import Batch
from policies.baselines.direct import Direct
from policies.goal_conditioned.config import GoalConditionedConfig
from policies.goal_conditioned.model import weighted_mean
from policies.randomness import Randomness


@dataclass(frozen=True)
class BcConfig(GoalConditionedConfig):
    """Nothing beyond what every goal-conditioned policy has."""


class BehaviourCloning(Direct):
    """Regression: among several right answers it gives their mean, which may be none of them."""

    family: ClassVar[str] = "bc"
    config_class: ClassVar[type] = BcConfig

    @property
    def outputs(self) -> int:
        return self.chunk_size

    def action_losses(
        self, batch: Batch, states: Tensor, goals: Tensor, weight: Tensor, generator: Randomness
    ) -> dict[str, Tensor]:
        clean, counts = self.targets(batch, weight)
        return {"regression": weighted_mean((self.transformer(states, goals) - clean).square(), counts)}

    def sample(self, batch: Batch, goals: Tensor, generator: Randomness) -> Tensor:
        return self.chunk(self.newest(batch, goals))
