"""The high level's network: a history of pictures to one vector, scored against what the commands say."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from policies.encoders.pictures import PictureNetwork, PictureSettings
from policies.yay.config import YayConfig

_SMALLEST = 1e-8
_ALL = "all"


class HighLevel(nn.Module):
    """Pictures and, if it reads it, the longer instruction, to a prediction of the command (YAY Robot, section IV-B).

    One token per picture, oldest first and the cameras of one moment in their order, after that of the instruction;
    sinusoidal positions, a transformer encoder, and two layers from its last token.

    Args:
        config: see `YayConfig`.
        sizes: {camera: (height, width)} of the pictures.
        sentence_width: size of a sentence vector.
        outputs: size of the prediction.
    """

    positions: Tensor

    def __init__(
        self, config: YayConfig, sizes: Mapping[str, tuple[int, int]], sentence_width: int, outputs: int
    ) -> None:
        super().__init__()
        self.cameras = config.cameras
        settings = PictureSettings(
            config.vision,
            config.vision_pretrained,
            config.vision_channels,
            config.vision_features,
            config.keypoints,
            config.described_keypoints,
        )
        names = config.cameras if config.vision == "patch_stem" else (_ALL,)
        networks = {name: PictureNetwork(settings, sizes[self._camera(name)]) for name in names}
        self.vision = nn.ModuleDict(networks)
        features = next(iter(networks.values())).features
        same = features == config.width  # CLIP's 512 numbers are the paper's tokens as they are
        self.projection = nn.Identity() if same else nn.Linear(features, config.width)
        self.task = nn.Linear(sentence_width, config.width) if config.task_token else None
        tokens = (config.history + 1) * len(config.cameras) + config.task_token
        self.register_buffer("positions", sinusoidal_positions(tokens, config.width), persistent=False)
        layer = nn.TransformerEncoderLayer(
            config.width, config.heads, config.feed_forward, config.dropout, batch_first=True
        )
        self.transformer = nn.TransformerEncoder(layer, config.layers, enable_nested_tensor=False)
        self.readout = nn.Sequential(
            nn.Linear(config.width, config.hidden), nn.ReLU(), nn.Linear(config.hidden, outputs)
        )
        self.temperature = nn.Parameter(torch.tensor([float(config.temperature)]))  # FSDP takes no scalars

    def _camera(self, name: str) -> str:
        return self.cameras[0] if name == _ALL else name

    def tokens(self, pictures: Mapping[str, Tensor]) -> Tensor:
        """{camera: float32 (B, T, 3, H, W) in [-1, 1]} to the pictures' tokens (B, T * cameras, width)."""
        seen = []
        for camera in self.cameras:
            network = self.vision[camera if camera in self.vision else _ALL]
            values = pictures[camera]
            seen.append(self.projection(network(values.flatten(0, 1))).unflatten(0, values.shape[:2]))
        return torch.stack(seen, dim=2).flatten(1, 2)  # (B, T, cameras, width) to (B, T * cameras, width)

    def forward(self, pictures: Mapping[str, Tensor], tasks: Tensor | None) -> Tensor:
        """Pictures as in `tokens`, and sentence vectors (B, sentence_width) of the longer instructions where they are
        read, to predictions (B, outputs)."""
        tokens = self.tokens(pictures)
        if self.task is not None:
            assert tasks is not None
            tokens = torch.cat([self.task(tasks)[:, None], tokens], dim=1)
        return self.readout(self.transformer(tokens + self.positions)[:, -1])

    def score(self, prediction: Tensor, candidates: Tensor) -> Tensor:
        """Cosines of predictions (B, E) and unit candidates (N, E) over the temperature: (B, N)."""
        return normalize(prediction.float(), dim=-1) @ candidates.T / self.temperature.clamp(min=_SMALLEST)


def sinusoidal_positions(count: int, width: int) -> Tensor:
    """(count, width): sines in the even places and cosines in the odd ones (Vaswani et al. 2017, section 3.5)."""
    rates = torch.exp(torch.arange(0, width, 2) * (-math.log(10000.0) / width))
    angles = torch.arange(count)[:, None] * rates
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)[:, :width]
