"""Networks that turn one picture into one vector: a small one of our own, any of timm's, and CLIP's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from policies.encoders.vision import CameraEncoder, KeypointReadout, PatchStem
from robot.errors import TongsError

CLIP = "clip:"
"""What the names of CLIP's towers begin with."""


@dataclass(frozen=True)
class PictureSettings:
    """Which network, and how large a small one of our own is.

    Attributes:
        name: "patch_stem", a timm model, or "clip:" and a CLIP model of the hub or a folder.
        pretrained: begin with published weights, of a timm or CLIP model.
        channels, features, keypoints, described_keypoints: of the patch stem and its readout.
        inputs: channels that the patch stem sees.
    """

    name: str
    pretrained: bool
    channels: Sequence[int]
    features: int
    keypoints: int
    described_keypoints: int
    inputs: int = 3


class PictureNetwork(nn.Module):
    """Pictures (N, 3, H, W) in [-1, 1] to what a network makes of them, (N, features).

    They are brought to the size and the scale of values that the network was made for.

    Args:
        settings: see `PictureSettings`.
        size: (height, width) of the pictures.

    Attributes:
        features: numbers that it gives.
        own_space: whether these are of a space of CLIP's, to which a projection of its own leads.

    Raises:
        TongsError: there is no such network, or its weights cannot be had.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, settings: PictureSettings, size: tuple[int, int]) -> None:
        super().__init__()
        self.network: Any
        self.network, self.features, self.size, mean, std = _network(settings, size)
        self.own_space = settings.name.startswith(CLIP)
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)

    def forward(self, pictures: Tensor) -> Tensor:
        return self.see(self.prepare(pictures))

    def prepare(self, pictures: Tensor) -> Tensor:
        """Pictures in [-1, 1] as the network wants them."""
        if tuple(pictures.shape[2:]) != self.size:
            pictures = interpolate(pictures, self.size, mode="bicubic", align_corners=False, antialias=True)
        return ((pictures + 1) / 2 - self.mean) / self.std

    def see(self, prepared: Tensor) -> Tensor:
        """What the network makes of prepared pictures."""
        if isinstance(self.network, CameraEncoder):
            return self.network(prepared, prepared.new_ones((len(prepared), 1)))
        output = self.network(prepared)
        return output if isinstance(output, Tensor) else output.image_embeds


def clip_model(name: str, kind: Any, pretrained: bool) -> Any:
    """A tower of CLIP, `kind` of transformers, with its published weights or only its shape."""
    source = name.removeprefix(CLIP)
    try:
        if pretrained:
            return kind.from_pretrained(source)
        return kind(kind.config_class.from_pretrained(source))
    except (OSError, ValueError) as error:
        raise TongsError(f"the CLIP model {source!r} cannot be loaded: {error}") from error


def _network(
    settings: PictureSettings, size: tuple[int, int]
) -> tuple[nn.Module, int, tuple[int, int], Sequence[float], Sequence[float]]:
    """A network for one picture, numbers it gives, the size it sees, and the mean and deviation of pixels in 0..1."""
    name = settings.name
    if name == "patch_stem":
        stem = PatchStem(1, settings.channels, settings.inputs)  # which is told nothing but 1
        readout = KeypointReadout(stem.channels, settings.features, settings.keypoints, settings.described_keypoints)
        return CameraEncoder(stem, readout), settings.features, size, (0.5,) * 3, (0.5,) * 3
    if name.startswith(CLIP):
        from transformers import CLIPVisionModelWithProjection
        from transformers.utils.constants import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD

        clip = clip_model(name, CLIPVisionModelWithProjection, settings.pretrained)
        side = clip.config.image_size
        return clip, clip.config.projection_dim, (side, side), OPENAI_CLIP_MEAN, OPENAI_CLIP_STD
    import timm

    if not timm.is_model(name):
        raise TongsError(
            f"timm has no tower {name!r}; timm.list_models() gives the names (or patch_stem, {CLIP}<model>)"
        )
    fixed = getattr(timm.get_pretrained_cfg(name), "fixed_input_size", False)
    options: dict[str, Any] = {"img_size": size} if fixed else {}
    try:
        network: Any = timm.create_model(name, pretrained=settings.pretrained, num_classes=0, **options)
    except (OSError, RuntimeError) as error:
        raise TongsError(f"the weights of timm tower {name!r} cannot be loaded: {error}") from error
    published = network.default_cfg
    with torch.no_grad():
        features = network.eval()(torch.zeros(1, 3, *size)).shape[-1]
    return network.train(), features, size, published["mean"], published["std"]
