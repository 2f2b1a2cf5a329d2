"""Settings of GRIF, with defaults that train on two CPU cores."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from policies.beso.config import BesoConfig
from policies.encoders.pictures import CLIP
from policies.goal_conditioned.config import GoalConditionedConfig
from policies.sampling import Temperature
from robot.errors import TongsError


@dataclass(frozen=True)
class AlignedConfig(GoalConditionedConfig):
    """What shapes a policy whose task is a vector that words and pictures share.

    Attributes:
        goal: "aligned" (told in words or by a picture), or one of the two alone, "language" (LCBC) or "image"
            (goal-conditioned BC).
        embedding_width: size of a task vector; 512 in the paper, which a CLIP tower has by itself.
        tower: what sees the transition from start to goal: "patch_stem" (its size by the settings of vision), a timm
            model, or "clip:" and a CLIP model of the hub or in a folder.
        tower_pretrained: start the timm or CLIP tower from its published weights; the text tower of CLIP too.
        text_tower: "reader", which reads the tokens of `text_encoder`, or "clip:" and a CLIP model.
        start: see the start beside the goal; without it GRIF's ablation "no start".
        alignment: weight of the contrastive loss; 0 is the ablation "no align".
        joint: go on aligning while control is learned; otherwise the towers stay as alignment left them (GRIF frozen).
        train_text: train the text tower while control is learned, too; not in the paper, whose text tower is CLIP's.
        tower_rate: learning rate of the transition tower while control is learned, relative to all else; 0.1 in the
            paper, whose tower is CLIP's.
        mask_datasets: do not contrast episodes of different datasets.
    """

    GOALS: ClassVar[tuple[str, ...]] = ("aligned", "language", "image")

    goal: Literal["language", "state", "image", "none", "aligned"] = "aligned"
    goal_tokens: int = 1
    goal_mask: float = 0.0
    embedding_width: int = 128
    tower: str = "patch_stem"
    tower_pretrained: bool = False
    text_tower: str = "reader"
    start: bool = True
    alignment: float = 1.0
    joint: bool = True
    train_text: bool = True
    tower_rate: float = 1.0
    mask_datasets: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        kind = type(self).__name__
        if self.observation != "fused" or self.goal_tokens != 1 or self.window != 1:
            raise TongsError(
                f"GRIF has observation=fused, one goal token and a window of 1, got {self.observation}, "
                f"{self.goal_tokens} and {self.window}"
            )
        if self.embedding_width < 1:
            raise TongsError(f"setting embedding_width of {kind} must be at least 1, got {self.embedding_width}")
        for name in ("alignment", "tower_rate"):
            if getattr(self, name) < 0:
                raise TongsError(f"setting {name} of {kind} must not be negative, got {getattr(self, name)}")
        if self.text_tower != "reader" and not self.text_tower.startswith(CLIP):
            raise TongsError(f"setting text_tower of {kind} is reader or {CLIP}<model>, got {self.text_tower!r}")

    @property
    def aligns(self) -> bool:
        """Whether words and pictures are brought together."""
        return self.goal == "aligned" and self.alignment > 0


@dataclass(frozen=True)
class GrifConfig(AlignedConfig):
    """Everything that shapes a GRIF policy beyond what its spec says.

    Attributes:
        hidden: widths of the layers between the fused observation and the action.
        dropout: after each of them.
        sampling: temperature 0 is the mean action, as GRIF is evaluated.
    """

    hidden: tuple[int, ...] = (256, 256, 256)
    dropout: float = 0.1
    sampling: Temperature = field(default_factory=lambda: Temperature(0.0))

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.hidden or min(self.hidden) < 1 or not 0 <= self.dropout < 1:
            raise TongsError(
                f"GrifConfig needs hidden layers of at least 1 and a dropout in 0..1 without 1, "
                f"got {list(self.hidden)} and {self.dropout}"
            )


@dataclass(frozen=True)
class GrifBesoConfig(AlignedConfig, BesoConfig):
    """GRIF's task vector as the goal of BESO's diffusion."""

    layers: int = 3
    goal_mask: float = 0.1
