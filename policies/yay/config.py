"""Settings of the high level, with defaults that train on two CPU cores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from policies.encoders.text import MINILM
from robot.errors import TongsError


@dataclass(frozen=True)
class LowLevel:
    """The policy that a high level speaks to; it is part of the checkpoint and never trained with it.

    Attributes:
        family, config, spec: as a checkpoint of its own has them.
        sha256: of its weights, see `policies.yay.model.weights_hash`.
    """

    family: str
    config: dict[str, Any]
    spec: dict[str, Any]
    sha256: str


@dataclass(frozen=True)
class YayConfig:
    """What shapes the high level (YAY Robot, arXiv 2403.12910); its released code's values where they differ.

    Attributes:
        low: what it speaks to.
        cameras: that it sees, in the order of their tokens.
        history: earlier pictures of each camera; those before the episode's start are black.
        spacing: s between them.
        offset: s by which the command that it learns to give is ahead of what it sees.
        skill: s for which a command holds, its own or a person's, before it is asked again.
        task_token: also read what was asked for when the episode began. The paper's robot has one thing to do at a
            time, and its high level sees pictures only.
        one_hot: score commands as mere numbers instead of by what they say (the paper's ablation).
        temperature: at the beginning; it is learned. 1 in the released code.
        vision: "patch_stem" (its size by the next settings), a timm model, or "clip:" and a CLIP model; one network
            for all cameras except for the patch stem, of which each camera has its own. CLIP ViT-B/32 in the paper.
        vision_pretrained: start it from its published weights.
        train_vision: train it; otherwise it stays as it is (the paper's).
        width, layers, heads, feed_forward, dropout: of the transformer; 512, 6, 8, 512 and 0.1.
        hidden: of the layer between it and the prediction; 512.
        text_encoder, max_tokens: of the sentences, frozen; DistilBERT in the paper.
        shift, colour: random image shift in training, in pixels at a height of 96, and colour change; one for all
            pictures of a sample.
    """

    low: LowLevel
    cameras: tuple[str, ...] = ("front", "wrist")
    history: int = 3
    spacing: float = 1.0
    offset: float = 0.4
    skill: float = 4.0
    task_token: bool = True
    one_hot: bool = False
    temperature: float = 0.1
    vision: str = "patch_stem"
    vision_pretrained: bool = False
    train_vision: bool = True
    vision_channels: tuple[int, ...] = (48, 64, 96)
    vision_features: int = 128
    keypoints: int = 32
    described_keypoints: int = 8
    width: int = 256
    layers: int = 4
    heads: int = 8
    feed_forward: int = 512
    dropout: float = 0.1
    hidden: int = 512
    text_encoder: str = MINILM
    max_tokens: int = 64
    shift: int = 4
    colour: float = 0.1

    def __post_init__(self) -> None:
        for name in ("skill", "spacing", "temperature"):
            if not getattr(self, name) > 0:
                raise TongsError(f"setting {name} of YayConfig must be positive, got {getattr(self, name)}")
        for name in ("history", "offset", "shift", "colour"):
            if not getattr(self, name) >= 0:
                raise TongsError(f"setting {name} of YayConfig must be at least 0, got {getattr(self, name)}")
        if not self.cameras:
            raise TongsError("setting cameras of YayConfig needs at least one camera")
        if self.width % self.heads:
            raise TongsError(
                f"setting width of YayConfig must be a multiple of heads, got {self.width} and {self.heads}"
            )
        if not self.train_vision and self.vision == "patch_stem":
            raise TongsError("train_vision=false would leave the patch stem at random; it is for published weights")
