"""Settings of BESO, with defaults that train on two CPU cores."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from policies.beso.samplers import sampler
from policies.beso.schedules import SCHEDULES
from policies.encoders.text import MINILM
from robot.errors import TongsError, unknown


@dataclass(frozen=True)
class Sampling:
    """How actions are drawn; may change at run time without retraining.

    Attributes:
        sampler: "ddim", "euler", "euler_ancestral" or "heun".
        schedule: "exponential", "karras", "linear", "polyexponential", "ve" or "vp".
        steps: noise levels; each costs one network call (two with heun, but for the last).
        start: noise level to begin from, at most `sigma_max`, which is None's meaning.
        guidance: classifier-free guidance strength; 1 follows the goal as trained, 0 ignores it.
    """

    sampler: str = "ddim"
    schedule: str = "linear"
    steps: int = 3
    start: float | None = None
    guidance: float = 1.0

    def __post_init__(self) -> None:
        sampler(self.sampler)
        if self.schedule not in SCHEDULES:
            raise unknown("noise schedule", self.schedule, list(SCHEDULES))
        if self.steps < 1:
            raise TongsError(f"sampling needs at least one step, got {self.steps}")
        if self.start is not None and not self.start > 0:
            raise TongsError(f"sampling must start from a positive noise level, got {self.start}")


@dataclass(frozen=True)
class BesoConfig:
    """Everything that shapes a BESO policy beyond what its spec says.

    Attributes:
        window: T, observations per prediction. More than 1 asks for a horizon of 1, as in the paper.
        observation_width: size of a state vector and of a goal token.
        width, layers, heads: of the score transformer.
        attention_dropout, residual_dropout: of the score transformer.
        causal_chunk: hide later actions of a chunk from earlier ones, see `ScoreTransformer`; no matter at horizon 1.
        sigma_data, sigma_min, sigma_max: of the diffusion, in scaled actions.
        noise_density: "loglogistic", truncated to the two bounds, with `noise_median`, or "lognormal" with `noise_mean`
            and `noise_std`.
        noise_samples: noise levels per encoded observation in training; encoding is what costs.
        action_span: what is scaled to [-1, 1]: "quantiles" (1 % to 99 %) or "extremes".
        goal_mask: probability that the goal is hidden in training, for classifier-free guidance.
        goal_mask_per_element: hide single numbers of the goal, as the released code does, instead of whole goals.
        text_encoder: all-MiniLM-L6-v2, or a model that AutoModel reads.
        max_tokens: longest instruction.
        goal_tokens: G, tokens that the reader makes of an instruction.
        reader_width, reader_layers, reader_heads: of the reader.
        vision: "patch_stem", or the name of a timm backbone.
        vision_channels: of the patch stem; see `PatchStem`.
        vision_pretrained: start the timm backbone from its published weights.
        vision_features: numbers per camera.
        keypoints, described_keypoints: soft-argmax points per camera, and how many of them also give their feature.
        shift: random image shift in training, in pixels at a height of 96.
        colour: random change of brightness and contrast in training.
        environment_names: names of the privileged `environment_state` in training batches; empty if there is none.
        state_head_weight: weight of predicting that state from the fused observation (ARNOLD's state head).
        goal_head_weight: weight of predicting its entry "goal" from the goal tokens alone.
        sampling: the default way to draw actions.
    """

    window: int = 1
    observation_width: int = 256
    width: int = 128
    layers: int = 4
    heads: int = 4
    attention_dropout: float = 0.0
    residual_dropout: float = 0.0
    causal_chunk: bool = False
    sigma_data: float = 0.5
    sigma_min: float = 0.005
    sigma_max: float = 5.0
    noise_density: Literal["loglogistic", "lognormal"] = "loglogistic"
    noise_median: float = 1.0
    noise_mean: float = -0.6
    noise_std: float = 1.6
    noise_samples: int = 2
    action_span: Literal["quantiles", "extremes"] = "quantiles"
    goal_mask: float = 0.1
    goal_mask_per_element: bool = False
    text_encoder: str = MINILM
    max_tokens: int = 64
    goal_tokens: int = 4
    reader_width: int = 128
    reader_layers: int = 2
    reader_heads: int = 4
    vision: str = "patch_stem"
    vision_channels: tuple[int, ...] = (48, 64, 96)
    vision_pretrained: bool = False
    vision_features: int = 128
    keypoints: int = 32
    described_keypoints: int = 8
    shift: int = 0
    colour: float = 0.1
    environment_names: tuple[str, ...] = ()
    state_head_weight: float = 1.0
    goal_head_weight: float = 1.0
    sampling: Sampling = field(default_factory=Sampling)

    def __post_init__(self) -> None:
        at_least_one = ("window", "observation_width", "width", "layers", "heads", "noise_samples", "goal_tokens")
        for name in at_least_one:
            if getattr(self, name) < 1:
                raise TongsError(f"setting {name} of BESO must be at least 1, got {getattr(self, name)}")
        if self.width % self.heads:
            raise TongsError(f"setting width of BESO must be a multiple of heads, got {self.width} and {self.heads}")
        if not 0 < self.sigma_min < self.sigma_max:
            raise TongsError(f"BESO needs 0 < sigma_min < sigma_max, got {self.sigma_min} and {self.sigma_max}")
        if self.noise_density not in ("loglogistic", "lognormal"):
            raise unknown("noise density", self.noise_density, ["loglogistic", "lognormal"])
        if self.action_span not in ("quantiles", "extremes"):
            raise unknown("action span", self.action_span, ["quantiles", "extremes"])
        if not 0 <= self.goal_mask < 1:
            raise TongsError(f"setting goal_mask of BESO must be at least 0 and below 1, got {self.goal_mask}")
        if self.described_keypoints > self.keypoints:
            raise TongsError(
                f"BESO cannot describe {self.described_keypoints} keypoints of {self.keypoints}; describe at most all"
            )
