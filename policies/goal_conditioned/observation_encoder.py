"""Pictures, proprioception and instruction fused into one state vector per time step."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from policies.encoders.augmentation import (
    central_cut,
    colour_change,
    enlarged,
    random_cut,
    random_shift,
    repainted,
)
from policies.encoders.film_resnet import STAGES, FilmResNet
from policies.encoders.vision import CameraEncoder, KeypointReadout, PatchStem, TimmEncoder
from policies.goal_conditioned.config import GoalConditionedConfig
from policies.precision import full_precision
from policies.randomness import Randomness
from robot.errors import TongsError
from robot.interface import PolicySpec


class ObservationEncoder(nn.Module):
    """The state s_i of the score transformer: camera features, proprioception and language through an MLP.

    The instruction enters twice, as FiLM in the vision backbones and beside their features.
    """

    def __init__(self, config: GoalConditionedConfig, spec: PolicySpec) -> None:
        super().__init__()
        self.width = width = config.observation_width
        self.cameras = dict(spec.cameras)
        self.shift, self.cut, self.colour, self.repaint = config.shift, config.cut, config.colour, config.repaint
        self.encoders = nn.ModuleDict()
        inputs = len(spec.state_names) + width
        for camera, size in spec.cameras.items():
            if config.vision in STAGES:
                resnet = FilmResNet(config.vision, width, config.vision_channels[0])
                self.encoders[camera] = resnet
                inputs += resnet.features
                continue
            backbone = (
                PatchStem(width, config.vision_channels)
                if config.vision == "patch_stem"
                else TimmEncoder(config.vision, config.vision_pretrained, size, width)
            )
            readout = KeypointReadout(
                backbone.channels,
                config.vision_features,
                config.keypoints,
                config.described_keypoints,
                config.instructed_keypoints,
                width,
            )
            self.encoders[camera] = CameraEncoder(backbone, readout)
            inputs += config.vision_features
        self.fusion = nn.Sequential(
            nn.Linear(inputs, 2 * width), nn.LayerNorm(2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )

    def forward(
        self, images: Mapping[str, Tensor], state: Tensor, language: Tensor, generator: Randomness = None
    ) -> Tensor:
        """The fused observations.

        Args:
            images: {camera: uint8 (B, T, H, W, 3)}; augmented in training mode.
            state: normalised proprioception (B, T, D).
            language: instruction vector (B, observation_width).
            generator: for augmentation.

        Returns:
            (B, T, observation_width).
        """
        pictures = {camera: self.prepare(camera, images, generator) for camera in self.encoders}
        return self.encode(pictures, state, language)

    def encode(self, pictures: Mapping[str, Tensor], state: Tensor, language: Tensor) -> Tensor:
        """As `forward`, of pictures that are prepared: {camera: float32 (B * T, 3, H, W) in [-1, 1]}."""
        batch, window, _ = state.shape
        language = language.repeat_interleave(window, dim=0)  # (B * T, width)
        parts = [encoder(pictures[camera], language) for camera, encoder in self.encoders.items()]
        with full_precision(state):
            fused = torch.cat([*(part.float() for part in parts), state.flatten(0, 1), language.float()], dim=1)
            return self.fusion(fused).view(batch, window, -1)

    def picture_features(
        self, camera: str, images: Mapping[str, Tensor], language: Tensor | None, generator: Randomness = None
    ) -> Tensor:
        """What one camera's encoder says of its pictures (B, T, H, W, 3): (B * T, vision_features).

        `language` (B * T, observation_width); None for pictures that are looked at without an instruction.
        """
        pictures = self.prepare(camera, images, generator)
        if language is None:
            language = torch.zeros((len(pictures), self.width), device=pictures.device)
        return self.encoders[camera](pictures, language)

    def prepare(self, camera: str, images: Mapping[str, Tensor], generator: Randomness = None) -> Tensor:
        """One camera's pictures (B, T, H, W, 3) as float32 (B * T, 3, H, W) in [-1, 1], augmented in training mode.

        Those of one row are augmented alike.
        """
        height, width = self.cameras[camera]
        if camera not in images:
            raise TongsError(f"the batch has no camera {camera!r}; it has: {', '.join(images) or 'none'}")
        pictures = images[camera]
        if pictures.shape[2:] != (height, width, 3):
            raise TongsError(
                f"camera {camera!r}: expected images of {height}x{width}x3, got {tuple(pictures.shape[2:])}"
            )
        window = pictures.shape[1]
        pictures = pictures.flatten(0, 1)
        augment = self.training
        if augment and self.repaint:
            pictures = repainted(pictures, self.repaint, window, generator)
        if augment and self.shift:
            pictures = random_shift(pictures, max(1, round(self.shift * height / 96)), window, generator)
        if self.cut < 1:
            pictures = random_cut(pictures, self.cut, window, generator) if augment else central_cut(pictures, self.cut)
        values = pictures.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format)
        if self.cut < 1:
            values = enlarged(values, height, width)
        if not (augment and self.colour):
            return values.mul_(2 / 255).sub_(1)
        factor, offset = colour_change(len(values) // window, self.colour, generator, values.device)
        factor = factor.repeat_interleave(window, dim=0)[:, :, None, None]
        offset = offset.repeat_interleave(window, dim=0)[:, :, None, None]
        return values.mul_(factor * (2 / 255)).add_(offset - factor)
