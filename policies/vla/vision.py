"""Images to patch features: resizing, normalisation, and one or two timm towers read at their second-to-last block."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from policies.vla.config import Tower
from robot.errors import TongsError

TOWER_NAMES = ("featurizer", "fused_featurizer")
"""What the published checkpoints call the first and the second tower."""


class FilmLayer(nn.Module):
    """x (1 + gamma) + beta from the mean language embedding, for all patches alike; the identity before training."""

    def __init__(self, language_width: int, width: int) -> None:
        super().__init__()
        self.scale = nn.Linear(language_width, width)
        self.shift = nn.Linear(language_width, width)
        for parameter in self.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor, language: Tensor) -> Tensor:
        """x: (B, P, width); language: (B, language_width)."""
        return x * (1 + self.scale(language)[:, None]) + self.shift(language)[:, None]


class VisionBackbone(nn.Module):
    """The fused towers of Prismatic: patches of the same place, joined along the channels.

    Prefix tokens (class, registers) are dropped and no final norm is applied. Convolutional timm models are read at
    their second-to-last stage.

    Args:
        towers: one or two.
        image_size: side of the images in pixels.
        prune: leave out what comes after the block that is read.
        film_width: size of the language embeddings that modulate the towers; None for no FiLM.

    Raises:
        TongsError: timm has no such model, the towers' grids differ, or a tower cannot be modulated.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, towers: tuple[Tower, ...], image_size: int, prune: bool = False, film_width: int | None = None
    ) -> None:
        super().__init__()
        self.image_size = image_size
        models = [_build(tower, image_size) for tower in towers]
        self.levels = [_read_level(tower.name, model) for tower, model in zip(towers, models, strict=True)]
        described = [model.feature_info[level] for model, level in zip(models, self.levels, strict=True)]
        grids = [image_size // int(info["reduction"]) for info in described]
        if len(set(grids)) > 1:
            raise TongsError(
                f"the towers {towers[0].name} and {towers[1].name} must see the same grid of patches; "
                f"theirs are {grids[0]}x{grids[0]} and {grids[1]}x{grids[1]}"
            )
        self.patches = grids[0] ** 2
        self.width = sum(int(info["num_chs"]) for info in described)
        self.names = TOWER_NAMES[: len(towers)]
        for name, model, level in zip(self.names, models, self.levels, strict=True):
            if prune:
                model.prune_intermediate_layers([level], prune_norm=True, prune_head=True)
            else:
                _freeze_unread(model, level)
            self.add_module(name, model)
        self.film = nn.ModuleDict()
        if film_width is not None:
            for name, tower, model in zip(self.names, towers, models, strict=True):
                if not hasattr(model, "_pos_embed"):
                    raise TongsError(f"FiLM needs a vision transformer, and {tower.name} is none")
                self.film[name] = nn.ModuleList(FilmLayer(film_width, model.embed_dim) for _ in model.blocks)
        published = [model.default_cfg for model in models]
        mean = [tower.mean or one["mean"] for tower, one in zip(towers, published, strict=True)]
        std = [tower.std or one["std"] for tower, one in zip(towers, published, strict=True)]
        self.register_buffer("mean", torch.tensor(mean).flatten().view(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).flatten().view(-1, 1, 1), persistent=False)

    def pixel_values(
        self,
        images: Tensor,
        factor: Tensor | None = None,
        offset: Tensor | None = None,
        chroma: Tensor | None = None,
    ) -> Tensor:
        """Square images uint8 (N, S, S, 3) to normalised float32 (N, 3 * towers, S, S), the first tower first.

        `factor` and `offset`, (N, 3), change contrast and brightness of values in [-1, 1]; `chroma`, (N, 3, 3),
        the colours.
        """
        values = images.permute(0, 3, 1, 2).float() / 255  # (N, 3, S, S)
        if factor is not None and offset is not None:
            values = ((values * 2 - 1) * factor[:, :, None, None] + offset[:, :, None, None] + 1) / 2
        if chroma is not None:
            values = (chroma @ values.flatten(2)).view(values.shape)
        return (values.repeat(1, len(self.names), 1, 1) - self.mean) / self.std

    def square(self, image: NDArray[np.uint8], resize: str) -> NDArray[np.uint8]:
        """An image (H, W, 3) as `pixel_values` takes it; a letterbox has the last tower's mean colour."""
        return resized(image, self.image_size, resize, self.mean.flatten()[-3:].tolist())

    def forward(self, pixels: Tensor, language: Tensor | None = None) -> Tensor:
        """Pixel values (B, K, 3 * towers, S, S) of K cameras to patches (B, K * P, width).

        `language`, (B, film_width), is the mean embedding of the prompt; needed with FiLM.
        """
        batch, cameras = pixels.shape[:2]
        dtype = next(self.parameters()).dtype
        parts = pixels.flatten(0, 1).to(dtype).split(3, dim=1)
        if language is not None:
            language = language.repeat_interleave(cameras, dim=0)
        features = [
            self._read(name, level, part, language)
            for name, level, part in zip(self.names, self.levels, parts, strict=True)
        ]
        return torch.cat(features, dim=2).view(batch, cameras * self.patches, self.width)

    def _read(self, name: str, level: int, pixels: Tensor, language: Tensor | None) -> Tensor:
        """The features (N, P, channels) of one tower."""
        model: Any = getattr(self, name)
        if not self.film:
            (features,) = model.forward_intermediates(pixels, indices=[level], stop_early=True, intermediates_only=True)
            return features.flatten(2).transpose(1, 2)
        if language is None:
            raise TongsError("a VLA with FiLM needs the instruction to look at an image")
        x = model.norm_pre(model.patch_drop(model._pos_embed(model.patch_embed(pixels))))
        layers: Any = self.film[name]
        for block, film in zip(model.blocks[: level + 1], layers, strict=False):
            x = x + block.drop_path1(block.ls1(block.attn(block.norm1(x))))
            x = film(x, language)  # OFT, appendix: between attention and feed-forward
            x = x + block.drop_path2(block.ls2(block.mlp(block.norm2(x))))
        return x[:, model.num_prefix_tokens :]


def resized(
    image: NDArray[np.uint8], size: int, resize: str, fill: Sequence[float] = (0.5, 0.5, 0.5)
) -> NDArray[np.uint8]:
    """An image uint8 (H, W, 3) as (size, size, 3), by bicubic interpolation of the whole picture ("squash"), with
    borders of the colour `fill` (0..1) around it ("letterbox"), or of its middle ("crop").

    Raises:
        TongsError: it is not a uint8 image of three colours.
    """
    image = np.asarray(image)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise TongsError(f"an image must be uint8 of shape (height, width, 3), got {image.dtype} {image.shape}")
    if image.shape[:2] == (size, size):
        return image
    from PIL import Image
    from torchvision.transforms import InterpolationMode, functional

    picture = Image.fromarray(image)
    if resize == "letterbox":
        width, height = picture.size
        side = max(width, height)
        border = [(side - width) // 2, (side - height) // 2] * 2
        colour: Any = tuple(int(part * 255) for part in fill)
        picture = functional.pad(picture, border, fill=colour)  # type: ignore[arg-type]
    shape = [size, size] if resize == "squash" else [size]
    picture = functional.resize(picture, shape, InterpolationMode.BICUBIC)  # type: ignore[arg-type]
    return np.array(functional.center_crop(picture, [size, size]))  # type: ignore[arg-type]


def _build(tower: Tower, image_size: int) -> Any:
    import timm

    if not timm.is_model(tower.name.partition(".")[0]):
        raise TongsError(f"timm has no vision tower {tower.name!r}; timm.list_models() gives the names")
    options = dict(tower.options)
    if getattr(timm.get_pretrained_cfg(tower.name), "fixed_input_size", False):  # convolutions take any size
        options["img_size"] = image_size
    if tower.activation:
        options["act_layer"] = tower.activation
    try:
        return timm.create_model(tower.name, pretrained=False, num_classes=0, **options)
    except (TypeError, RuntimeError) as error:
        raise TongsError(f"timm cannot build the vision tower {tower.name!r} with {options}: {error}") from error


def _read_level(name: str, model: Any) -> int:
    if not hasattr(model, "forward_intermediates") or len(model.feature_info) < 2:
        raise TongsError(f"vision tower {name!r} cannot be read at its second-to-last block")
    return len(model.feature_info) - 2


def _freeze_unread(model: Any, level: int) -> None:
    """Take out of training what gets no gradient: the blocks after the one that is read, the final norm, the head."""
    pruned = copy.deepcopy(model)
    pruned.prune_intermediate_layers([level], prune_norm=True, prune_head=True)
    read = {name for name, _ in pruned.named_parameters()}
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in read)
