"""Conditional behaviour transformer: actions as clusters plus offsets (C-BeT; Cui et al. 2022, arXiv 2210.10047)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from policies.base import Batch, TrainingData
from policies.baselines.direct import Direct
from policies.goal_conditioned.config import GoalConditionedConfig
from policies.goal_conditioned.model import weighted_mean
from policies.normalisation import Statistics
from policies.randomness import Randomness, choose
from policies.sampling import Sampled, Temperature
from robot.errors import TongsError
from robot.interface import PolicySpec

if TYPE_CHECKING:
    from typing_extensions import Self

CLUSTERED = 20_000
"""Action chunks of the training data that clusters are made of."""


@dataclass(frozen=True)
class BetConfig(GoalConditionedConfig):
    """Settings beyond those of every goal-conditioned policy.

    Attributes:
        bins: clusters of action chunks.
        focus: exponent of the focal loss on the choice of a cluster.
        offset_weight: of the squared error within the right cluster.
        sampling: `temperature` of the choice of a cluster.
    """

    bins: int = 64
    focus: float = 2.0
    offset_weight: float = 100.0
    sampling: Temperature = field(default_factory=Temperature)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.bins < 1:
            raise TongsError(f"setting bins of BetConfig must be at least 1, got {self.bins}")


class BehaviourTransformer(Sampled[Temperature], Direct):
    """Each state token gives the chance of every cluster, and for every cluster the offset from its centre."""

    family: ClassVar[str] = "bet"
    config_class: ClassVar[type] = BetConfig
    config: BetConfig  # type: ignore[assignment]
    centres: Tensor

    def __init__(self, config: BetConfig, spec: PolicySpec, statistics: Statistics) -> None:
        super().__init__(config, spec, statistics)
        self.register_buffer("centres", torch.full((config.bins, self.chunk_size), float("nan")))

    @property
    def outputs(self) -> int:
        return self.config.bins * (1 + self.chunk_size)

    @classmethod
    def new(cls, settings: Mapping[str, Any], spec: PolicySpec, data: TrainingData) -> Self:
        policy = super().new(settings, spec, data)
        policy.find_clusters(torch.from_numpy(data.chunks(CLUSTERED)))
        return policy

    def find_clusters(self, actions: Tensor) -> None:
        """k-means (k-means++ first) over scaled chunks (N, H, A).

        Raises:
            TongsError: there are fewer different chunks than clusters.
        """
        from scipy.cluster.vq import kmeans2

        chunks = self.action_scaling.scale(actions.to(self.device)).flatten(1).double().cpu().numpy()
        different = len(np.unique(chunks, axis=0))
        if different < self.config.bins:
            raise TongsError(f"{different} different actions cannot make {self.config.bins} clusters (policy.bins)")
        centres, _ = kmeans2(chunks, self.config.bins, minit="++", rng=np.random.default_rng(0))
        self.centres.copy_(torch.from_numpy(centres))

    def action_losses(
        self, batch: Batch, states: Tensor, goals: Tensor, weight: Tensor, generator: Randomness
    ) -> dict[str, Tensor]:
        """Focal loss on the nearest cluster, and squared error of its offset."""
        if self.centres.isnan().any():
            raise TongsError("the behaviour transformer has no clusters yet; find_clusters makes them before training")
        clean, counts = self.targets(batch, weight)
        logits, offsets = self._choices(self.transformer(states, goals))
        distances = (clean[..., None, :] - self.centres).square().sum(-1)  # (B, T, K)
        nearest = distances.argmin(-1)
        logarithm = logits.log_softmax(-1).gather(-1, nearest[..., None])[..., 0]
        focal = -((1 - logarithm.exp()) ** self.config.focus) * logarithm
        index = nearest[..., None, None].expand(*nearest.shape, 1, self.chunk_size)
        error = (offsets.gather(2, index)[..., 0, :] + self.centres[nearest] - clean).square()
        return {
            "choice": weighted_mean(focal, counts.amin(-1)),
            "offset": self.config.offset_weight * weighted_mean(error, counts),
        }

    def sample(self, batch: Batch, goals: Tensor, generator: Randomness) -> Tensor:
        logits, offsets = self._choices(self.newest(batch, goals))
        if self.sampling.temperature == 0:
            choice = logits.argmax(-1)
        else:
            chances = (logits / self.sampling.temperature).softmax(-1)
            choice = choose(chances, generator)
        return self.chunk(self.centres[choice] + offsets[torch.arange(len(choice)), choice])

    def _choices(self, outputs: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (..., K) and offsets (..., K, H A)."""
        bins = self.config.bins
        return outputs[..., :bins], outputs[..., bins:].unflatten(-1, (bins, self.chunk_size))
