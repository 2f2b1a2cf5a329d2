"""Image encoders that say where things are: a convolutional map, read out by soft-argmax keypoints."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from policies.precision import full_precision
from robot.errors import TongsError


class FiLM(nn.Module):
    """Feature-wise linear modulation (Perez et al. 2018): x (1 + gamma(l)) + beta(l); starts as the identity."""

    def __init__(self, language_width: int, channels: int) -> None:
        super().__init__()
        self.linear = nn.Linear(language_width, 2 * channels)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, features: Tensor, language: Tensor) -> Tensor:
        """features: (N, C, h, w); language: (N, language_width)."""
        gamma, beta = self.linear(language)[:, :, None, None].chunk(2, dim=1)
        return torch.addcmul(beta, features, 1 + gamma)


class PatchStem(nn.Module):
    """A small convolutional encoder made for CPUs.

    One linear map of 4x4 patches, then blocks of 3x3 convolution, GroupNorm, FiLM by the instruction and ReLU. The
    first block halves the resolution: 96x96 pixels become a 12x12 map.

    Args:
        language_width: size of the instruction vector.
        channels: of the patches, then of each block; multiples of 8.
        inputs: channels of a picture.
    """

    def __init__(self, language_width: int, channels: Sequence[int], inputs: int = 3) -> None:
        super().__init__()
        self.channels = channels[-1]
        self.patches = nn.Conv2d(inputs, channels[0], kernel_size=4, stride=4)
        self.convolutions = nn.ModuleList(
            nn.Conv2d(before, after, kernel_size=3, stride=2 if first else 1, padding=1)
            for first, before, after in zip([True] + [False] * len(channels), channels, channels[1:], strict=False)
        )
        self.norms = nn.ModuleList(nn.GroupNorm(8, width) for width in channels[1:])
        self.films = nn.ModuleList(FiLM(language_width, width) for width in channels[1:])
        self.activation = nn.ReLU(inplace=True)

    def forward(self, images: Tensor, language: Tensor) -> Tensor:
        """(N, 3, H, W) in [-1, 1] and (N, language_width) to (N, channels, H/8, W/8)."""
        x = self.activation(self.patches(images))
        for convolution, norm, film in zip(self.convolutions, self.norms, self.films, strict=True):
            x = self.activation(film(norm(convolution(x)), language))
        return x


class TimmEncoder(nn.Module):
    """Any timm backbone, convolutional or transformer, as a spatial map with FiLM by the instruction after it.

    Args:
        name: a timm model name such as "resnet18.a1_in1k".
        pretrained: load its published weights (from the hub or the local cache of it).
        size: (height, width) of the images in pixels.
        language_width: size of the instruction vector.

    Raises:
        TongsError: timm has no such model, its weights cannot be had, or its output has no spatial layout.
    """

    backbone: Any  # timm's own classes, of many kinds
    mean: Tensor
    std: Tensor

    def __init__(self, name: str, pretrained: bool, size: tuple[int, int], language_width: int) -> None:
        super().__init__()
        import timm

        if not timm.is_model(name):
            raise TongsError(f"timm has no backbone {name!r}; timm.list_models() gives the names")
        fixed = getattr(timm.get_pretrained_cfg(name), "fixed_input_size", False)
        options: dict[str, Any] = {"img_size": size} if fixed else {}
        try:
            self.backbone = timm.create_model(name, pretrained=pretrained, num_classes=0, global_pool="", **options)
        except (OSError, RuntimeError) as error:
            raise TongsError(f"the weights of timm backbone {name!r} cannot be loaded: {error}") from error
        self.channels = int(self.backbone.num_features)
        published = self.backbone.default_cfg
        self.register_buffer("mean", torch.tensor(published["mean"]).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(published["std"]).view(1, 3, 1, 1), persistent=False)
        self.film = FiLM(language_width, self.channels)
        self._grid = self._grid_of(name, size)

    def _grid_of(self, name: str, size: tuple[int, int]) -> tuple[int, int]:
        """Rows and columns of the map, found by running the backbone once."""
        self.backbone.eval()
        with torch.no_grad():
            output = self.backbone(torch.zeros(1, 3, *size))
        self.backbone.train()
        if output.ndim == 4 and output.shape[1] == self.channels:
            return output.shape[2], output.shape[3]
        if output.ndim == 4 and output.shape[3] == self.channels:
            return output.shape[1], output.shape[2]
        patches = output.shape[1] - getattr(self.backbone, "num_prefix_tokens", 0) if output.ndim == 3 else 0
        side = int(patches**0.5)
        if side == 0 or side * side != patches:
            raise TongsError(f"timm backbone {name!r} gives {tuple(output.shape)}, which is no square map of features")
        return side, side

    def forward(self, images: Tensor, language: Tensor) -> Tensor:
        """(N, 3, H, W) in [-1, 1] and (N, language_width) to (N, channels, h, w)."""
        x = self.backbone(((images + 1) / 2 - self.mean) / self.std)
        if x.ndim == 3:  # a transformer's tokens
            x = x[:, getattr(self.backbone, "num_prefix_tokens", 0) :]
            x = x.transpose(1, 2).reshape(len(x), self.channels, *self._grid)
        elif x.shape[1] != self.channels:  # channels last
            x = x.permute(0, 3, 1, 2)
        return self.film(x, language)


_QUERY_RANK = 16
"""Numbers of an instruction from which the queries of the keypoints are made."""


class KeypointReadout(nn.Module):
    """Spatial soft-argmax (Levine et al. 2016): where each of K learned maps looks, and what some of them see there.

    Instructed keypoints also look where the words say: to their map is added the product of a query, made of the
    instruction, with what is seen at a cell and where that cell is. So one of them can be on "the left cup", which no
    local feature tells. The queries start at zero.

    Args:
        channels: of the feature map.
        features: size of the result.
        keypoints: K.
        described: the first so many keypoints also give the feature vector under them.
        instructed: the first so many keypoints look where the instruction says.
        language_width: size of the instruction vector.
    """

    def __init__(
        self,
        channels: int,
        features: int,
        keypoints: int = 32,
        described: int = 8,
        instructed: int = 0,
        language_width: int = 0,
    ) -> None:
        super().__init__()
        self.described, self.instructed = described, instructed
        self.maps = nn.Conv2d(channels, keypoints, kernel_size=1)
        self.linear = nn.Linear(2 * keypoints + described * channels, features)
        if instructed:
            query = nn.Linear(_QUERY_RANK, instructed * (channels + 2))
            nn.init.zeros_(query.weight)
            nn.init.zeros_(query.bias)
            self.queries = nn.Sequential(nn.Linear(language_width, _QUERY_RANK), query)

    def forward(self, features: Tensor, language: Tensor) -> Tensor:
        """(N, C, h, w) and (N, language_width) to (N, features)."""
        attention = self.attention(features, language)  # (N, K, h * w)
        with full_precision(features):
            where = attention @ _grid(features)  # (N, K, 2)
            what = attention[:, : self.described] @ features.float().flatten(2).transpose(1, 2)  # (N, described, C)
            return self.linear(torch.cat([where.flatten(1), what.flatten(1)], dim=1))

    def attention(self, features: Tensor, language: Tensor) -> Tensor:
        """How strongly each keypoint looks at each cell: float32 (N, K, h * w), rows sum to one."""
        scores = self.maps(features).flatten(2).float()
        if self.instructed:
            with full_precision(features):
                queries = self.queries(language.float()).view(len(features), self.instructed, -1)
                what, where = features.float().flatten(2), _grid(features).T  # (N, C, h * w), (2, h * w)
                told = queries[..., :-2] @ what + queries[..., -2:] @ where
            scores = torch.cat([scores[:, : self.instructed] + told, scores[:, self.instructed :]], dim=1)
        return scores.softmax(dim=-1)


def _grid(features: Tensor) -> Tensor:
    """(h * w, 2): x to the right and y down of every cell centre, in [-1, 1] over the picture."""
    height, width = features.shape[-2:]
    y = (torch.arange(height, device=features.device, dtype=torch.float32) + 0.5) / height * 2 - 1
    x = (torch.arange(width, device=features.device, dtype=torch.float32) + 0.5) / width * 2 - 1
    return torch.stack([x.repeat(height), y.repeat_interleave(width)], dim=1)


class CameraEncoder(nn.Module):
    """One camera's pictures to vectors: a backbone and its keypoint readout."""

    def __init__(self, backbone: PatchStem | TimmEncoder, readout: KeypointReadout) -> None:
        super().__init__()
        self.backbone, self.readout = backbone, readout

    def forward(self, images: Tensor, language: Tensor) -> Tensor:
        """(N, 3, H, W) in [-1, 1] and (N, language_width) to (N, features)."""
        return self.readout(self.backbone(images, language), language)
