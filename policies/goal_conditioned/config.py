"""Settings that every goal-conditioned policy has: what it sees, how it is told its goal, its transformer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from policies.encoders.text import MINILM
from robot.errors import TongsError, unknown
from robot.interface import GoalKind

GOAL_KINDS: dict[str, tuple[GoalKind, ...]] = {
    "language": ("language",),
    "state": ("state",),
    "image": ("image",),
    "none": (),
    "aligned": ("language", "image"),
}
"""How a policy can be told its goal, and what it then takes."""


@dataclass(frozen=True)
class GoalConditionedConfig:
    """What shapes a goal-conditioned policy beyond what its spec says.

    Attributes:
        GOALS: the goals that a family has.
        window: T, observations per prediction. More than 1 asks for a horizon of 1, as in BESO.
        observation: what becomes a state token: "fused", a vector of `observation_width` made of cameras,
            proprioception and goal, or "state", the scaled proprioception itself, as in BESO's state-only experiments.
        observation_width: size of a fused state and of a goal token.
        width, layers, heads: of the transformer.
        attention_dropout, residual_dropout: of the transformer.
        action_span: what is scaled to [-1, 1]: "quantiles" (1 % to 99 %) or "extremes".
        goal: "language", "state" (future states), "image" (pictures of future moments) or "none"; see GOALS.
        goal_tokens: G, tokens that the reader makes of an instruction, or consecutive moments of which the goal
            consists, the last one the goal itself.
        goal_names: the state entries that make a goal, the others are zero to the network; empty for all.
        goal_mask: probability that the goal is hidden in training, for classifier-free guidance.
        goal_mask_per_element: hide single numbers of the goal, as BESO's released code does, instead of whole goals.
        text_encoder: all-MiniLM-L6-v2, or a model that AutoModel reads.
        max_tokens: longest instruction.
        reader_width, reader_layers, reader_heads: of the reader.
        reader_directions: of an instruction's mean token that reach the goal tokens whitened; 0 for none.
        vision: "patch_stem", "film_resnet18" or "film_resnet34" (GRIF's), or the name of a timm backbone.
        vision_channels: of the patch stem, see `PatchStem`; the first one is the width of a FiLM ResNet.
        vision_pretrained: start the timm backbone from its published weights.
        vision_features: numbers per camera.
        keypoints, described_keypoints: soft-argmax points per camera, and how many of them also give their feature.
        instructed_keypoints: how many of them look where the instruction says, see `KeypointReadout`.
        shift: random image shift in training, in pixels at a height of 96.
        cut: side of what is cut out of each picture, as a fraction of it: at a random place in training, in the middle
            in use; 1 for the whole picture.
        colour: random change of brightness and contrast in training.
        repaint: share of the training pictures whose largest even surface gets a random colour, see `repainted`.
        environment_names: names of the privileged `environment_state` in training batches; empty if there is none.
        state_head_weight: weight of predicting that state from the fused observation (ARNOLD's state head).
        goal_head_weight: weight of predicting its entry "goal" from the goal tokens of an instruction alone.
    """

    GOALS: ClassVar[tuple[str, ...]] = ("language", "state", "image", "none")

    window: int = 1
    observation: Literal["fused", "state"] = "fused"
    observation_width: int = 256
    width: int = 128
    layers: int = 4
    heads: int = 4
    attention_dropout: float = 0.0
    residual_dropout: float = 0.0
    action_span: Literal["quantiles", "extremes"] = "quantiles"
    goal: Literal["language", "state", "image", "none", "aligned"] = "language"
    goal_tokens: int = 4
    goal_names: tuple[str, ...] = ()
    goal_mask: float = 0.1
    goal_mask_per_element: bool = False
    text_encoder: str = MINILM
    max_tokens: int = 64
    reader_width: int = 128
    reader_layers: int = 2
    reader_heads: int = 4
    reader_directions: int = 64
    vision: str = "patch_stem"
    vision_channels: tuple[int, ...] = (48, 64, 96)
    vision_pretrained: bool = False
    vision_features: int = 128
    keypoints: int = 32
    described_keypoints: int = 8
    instructed_keypoints: int = 8
    shift: int = 0
    cut: float = 1.0
    colour: float = 0.1
    repaint: float = 0.0
    environment_names: tuple[str, ...] = ()
    state_head_weight: float = 1.0
    goal_head_weight: float = 1.0

    def __post_init__(self) -> None:
        kind = type(self).__name__
        for name in ("window", "observation_width", "width", "layers", "heads", "goal_tokens"):
            if getattr(self, name) < 1:
                raise TongsError(f"setting {name} of {kind} must be at least 1, got {getattr(self, name)}")
        if self.width % self.heads:
            raise TongsError(f"setting width of {kind} must be a multiple of heads, got {self.width} and {self.heads}")
        choices = {
            "observation": ["fused", "state"],
            "action_span": ["quantiles", "extremes"],
            "goal": list(self.GOALS),
        }
        for name, known in choices.items():
            if getattr(self, name) not in known:
                raise unknown(name.replace("_", " "), getattr(self, name), known)
        if self.observation == "state" and self.goal not in ("state", "none"):
            raise TongsError(
                f"with observation=state the goal is a state or none, got {self.goal!r}; others need observation=fused"
            )
        if not 0 <= self.goal_mask < 1:
            raise TongsError(f"setting goal_mask of {kind} must be at least 0 and below 1, got {self.goal_mask}")
        if not 0 < self.cut <= 1:
            raise TongsError(f"setting cut of {kind} must be above 0 and at most 1, got {self.cut}")
        for name in ("described_keypoints", "instructed_keypoints"):
            if not 0 <= getattr(self, name) <= self.keypoints:
                raise TongsError(
                    f"setting {name} of {kind} must lie in 0..keypoints ({self.keypoints}), got {getattr(self, name)}"
                )
