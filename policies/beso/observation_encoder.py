"""Pictures, proprioception and instruction fused into one state vector per time step."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from policies.beso.config import BesoConfig
from policies.encoders.augmentation import colour_change, random_shift
from policies.encoders.vision import CameraEncoder, PatchStem, TimmEncoder
from policies.precision import full_precision
from robot.errors import TongsError
from robot.interface import PolicySpec


class ObservationEncoder(nn.Module):
    """The state s_i of the score transformer: camera features, proprioception and language through an MLP.

    The instruction enters twice, as FiLM in the vision backbones and beside their features.
    """

    def __init__(self, config: BesoConfig, spec: PolicySpec) -> None:
        super().__init__()
        width = config.observation_width
        self.cameras = dict(spec.cameras)
        self.shift, self.colour = config.shift, config.colour
        self.encoders = nn.ModuleDict()
        for camera, size in spec.cameras.items():
            backbone = (
                PatchStem(width, config.vision_channels)
                if config.vision == "patch_stem"
                else TimmEncoder(config.vision, config.vision_pretrained, size, width)
            )
            self.encoders[camera] = CameraEncoder(
                backbone, config.vision_features, config.keypoints, config.described_keypoints
            )
        inputs = len(spec.cameras) * config.vision_features + len(spec.state_names) + width
        self.fusion = nn.Sequential(
            nn.Linear(inputs, 2 * width), nn.LayerNorm(2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )

    def forward(
        self, images: Mapping[str, Tensor], state: Tensor, language: Tensor, generator: torch.Generator | None = None
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
        batch, window, _ = state.shape
        language = language.repeat_interleave(window, dim=0)  # (B * T, width)
        parts = []
        for camera, encoder in self.encoders.items():
            pictures = self._prepare(camera, images, generator)
            parts.append(encoder(pictures, language))
        with full_precision(state):
            fused = torch.cat([*(part.float() for part in parts), state.flatten(0, 1), language.float()], dim=1)
            return self.fusion(fused).view(batch, window, -1)

    def _prepare(self, camera: str, images: Mapping[str, Tensor], generator: torch.Generator | None) -> Tensor:
        """float32 (B * T, 3, H, W) in [-1, 1], augmented in training mode."""
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
        if augment and self.shift:
            pictures = random_shift(pictures, max(1, round(self.shift * height / 96)), window, generator)
        values = pictures.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format)
        if not (augment and self.colour):
            return values.mul_(2 / 255).sub_(1)
        factor, offset = colour_change(len(values) // window, self.colour, generator, values.device)
        factor = factor.repeat_interleave(window, dim=0)[:, :, None, None]
        offset = offset.repeat_interleave(window, dim=0)[:, :, None, None]
        return values.mul_(factor * (2 / 255)).add_(offset - factor)
