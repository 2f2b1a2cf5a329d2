"""Settings of BESO, with defaults that train on two CPU cores."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from policies.beso.samplers import sampler
from policies.beso.schedules import SCHEDULES
from policies.goal_conditioned.config import GoalConditionedConfig
from robot.errors import TongsError, unknown


@dataclass(frozen=True)
class Sampling:
    """How actions are drawn; may change at run time without retraining.

    Attributes:
        sampler: a name in `policies.beso.samplers.SAMPLERS`.
        schedule: "exponential", "karras", "linear", "polyexponential", "ve" or "vp".
        steps: noise levels; each costs one network call (two with heun, but for the last).
        start: noise level to begin from, at most `sigma_max`, which is None's meaning.
        guidance: classifier-free guidance strength; 1 follows the goal as trained, 0 ignores it.
        churn: S_churn of EDM, noise that is added before steps, spread over all; for euler, heun and dpm_2.
    """

    sampler: str = "ddim"
    schedule: str = "linear"
    steps: int = 3
    start: float | None = None
    guidance: float = 1.0
    churn: float = 0.0

    def __post_init__(self) -> None:
        sampler(self.sampler, self.churn)
        if self.schedule not in SCHEDULES:
            raise unknown("noise schedule", self.schedule, list(SCHEDULES))
        if self.steps < 1:
            raise TongsError(f"sampling needs at least one step, got {self.steps}")
        if self.start is not None and not self.start > 0:
            raise TongsError(f"sampling must start from a positive noise level, got {self.start}")


@dataclass(frozen=True)
class BesoConfig(GoalConditionedConfig):
    """Everything that shapes a BESO policy beyond what its spec says.

    Attributes:
        causal_chunk: hide later actions of a chunk from earlier ones, see `ScoreTransformer`; no matter at horizon 1.
        sigma_data, sigma_min, sigma_max: of the diffusion, in scaled actions.
        noise_density: "loglogistic", truncated to the two bounds, with `noise_median`, or "lognormal" with `noise_mean`
            and `noise_std`.
        noise_samples: noise levels per encoded observation in training; encoding is what costs.
        sampling: the default way to draw actions.
    """

    causal_chunk: bool = False
    sigma_data: float = 0.5
    sigma_min: float = 0.005
    sigma_max: float = 5.0
    noise_density: Literal["loglogistic", "lognormal"] = "loglogistic"
    noise_median: float = 1.0
    noise_mean: float = -0.6
    noise_std: float = 1.6
    noise_samples: int = 2
    sampling: Sampling = field(default_factory=Sampling)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.noise_samples < 1:
            raise TongsError(f"setting noise_samples of BesoConfig must be at least 1, got {self.noise_samples}")
        if not 0 < self.sigma_min < self.sigma_max:
            raise TongsError(f"BESO needs 0 < sigma_min < sigma_max, got {self.sigma_min} and {self.sigma_max}")
        if self.noise_density not in ("loglogistic", "lognormal"):
            raise unknown("noise density", self.noise_density, ["loglogistic", "lognormal"])
