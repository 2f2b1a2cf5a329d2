"""The two encoders of a task: h(start, goal) of two pictures and f(l) of an instruction, unit vectors of one space."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from policies.encoders.pictures import CLIP, PictureNetwork, PictureSettings, clip_model
from policies.encoders.text import TextEncoder
from policies.encoders.text_reader import TextReader
from policies.grif.config import AlignedConfig
from robot.errors import TongsError


def see_two_pictures(network: nn.Module) -> None:
    """Let an image network see two pictures instead of one, as channels 0-2 and 3-5.

    The weights W of its first convolution become [W / 2, W / 2] (GRIF, section 4.2), so that two equal pictures give
    what the one gave, and a trained network keeps what it knows. Until it is trained further, it does not know which
    of the two pictures is which.

    Raises:
        TongsError: the network has no convolution of three channels.
    """
    found = [(n, p) for n, p in network.named_modules() if isinstance(p, nn.Conv2d) and p.in_channels == 3]
    if not found:
        raise TongsError(f"{type(network).__name__} has no convolution that sees a picture of three channels")
    name, part = found[0]
    width = part.weight.shape
    wide = nn.Conv2d(6, width[0], part.kernel_size, part.stride, part.padding, bias=part.bias is not None)  # type: ignore[arg-type]
    with torch.no_grad():
        wide.weight.copy_(torch.cat([part.weight, part.weight], dim=1) / 2)
        if part.bias is not None and wide.bias is not None:
            wide.bias.copy_(part.bias)
    parent, _, own = name.rpartition(".")
    setattr(network.get_submodule(parent), own, wide)


class TransitionTower(PictureNetwork):
    """h(s0, g): what changes between two pictures; without the start h(g), the same network unchanged.

    A network that may come with published weights is changed by `see_two_pictures`. The patch stem, which has none to
    keep, is made for two pictures.

    Args:
        config: which network, see `AlignedConfig`.
        size: (height, width) of the pictures.

    Raises:
        TongsError: there is no such network, its weights cannot be had, or a CLIP tower has another width.
    """

    def __init__(self, config: AlignedConfig, size: tuple[int, int]) -> None:
        settings = PictureSettings(
            config.tower,
            config.tower_pretrained,
            config.vision_channels,
            config.vision_features,
            config.keypoints,
            config.described_keypoints,
            6 if config.start else 3,
        )
        super().__init__(settings, size)
        self.start = config.start
        own = self.own_space
        self.projection = nn.Identity() if own else nn.Linear(self.features, config.embedding_width, bias=False)
        if own:
            _require_width(config.tower, self.features, config.embedding_width)
        if config.start and config.tower != "patch_stem":
            see_two_pictures(self.network)

    def forward(self, start: Tensor, goal: Tensor) -> Tensor:  # type: ignore[override]
        """Pictures (N, 3, H, W) in [-1, 1] to unit vectors (N, embedding_width)."""
        pictures = torch.cat([self.prepare(start), self.prepare(goal)], dim=1) if self.start else self.prepare(goal)
        return normalize(self.projection(self.see(pictures)).float(), dim=-1)


def text_tower(config: AlignedConfig) -> TextTower:
    """The text tower that a configuration asks for."""
    return ClipTextTower(config) if config.text_tower.startswith(CLIP) else ReaderTower(config)


class TextTower(nn.Module):
    """f(l): unit vectors of instructions; every distinct one is read once."""

    def forward(self, instructions: Sequence[str], device: torch.device) -> Tensor:
        """(len(instructions), embedding_width).

        Raises:
            TongsError: an instruction is too long, or the encoder cannot be loaded.
        """
        distinct = {text: row for row, text in enumerate(dict.fromkeys(instructions))}
        vectors = normalize(self.read(list(distinct), device).float(), dim=-1)
        return vectors[torch.tensor([distinct[text] for text in instructions], device=device)]

    def remember(self, instructions: Sequence[str], device: torch.device) -> None:
        """Told before training which instructions will come."""

    def hear(self, instructions: Sequence[str], device: torch.device) -> None:
        """Told when the policy is made how the instructions of the data differ."""

    def read(self, texts: list[str], device: torch.device) -> Tensor:
        """Vectors (len(texts), embedding_width) of distinct texts, of any length."""
        raise NotImplementedError


class ReaderTower(TextTower):
    """A trained reader of a frozen encoder's tokens, in which numbers survive."""

    def __init__(self, config: AlignedConfig) -> None:
        super().__init__()
        self.encoder = TextEncoder(config.text_encoder, config.max_tokens)
        self.reader = TextReader(
            self.encoder.dimension,
            config.embedding_width,
            1,
            config.max_tokens,
            config.reader_width,
            config.reader_layers,
            config.reader_heads,
            config.reader_directions,
        )

    def hear(self, instructions: Sequence[str], device: torch.device) -> None:
        if self.reader.directions:
            self.reader.whiten(self.encoder.portions(instructions, device))

    def remember(self, instructions: Sequence[str], device: torch.device) -> None:
        self.encoder.remember(instructions, device)

    def read(self, texts: list[str], device: torch.device) -> Tensor:
        return self.reader(*self.encoder.encode(texts, device))[:, 0]


class ClipTextTower(TextTower):
    """CLIP's text tower with its projection."""

    def __init__(self, config: AlignedConfig) -> None:
        super().__init__()
        from transformers import AutoTokenizer, CLIPTextModelWithProjection

        name = config.text_tower
        self.network: Any = clip_model(name, CLIPTextModelWithProjection, config.tower_pretrained)
        _require_width(name, self.network.config.projection_dim, config.embedding_width)
        try:
            self.tokenizer = AutoTokenizer.from_pretrained(name.removeprefix(CLIP))
        except (OSError, ValueError) as error:
            raise TongsError(f"the tokenizer of {name!r} cannot be loaded: {error}") from error
        self.max_tokens = min(config.max_tokens, self.network.config.max_position_embeddings)

    def read(self, texts: list[str], device: torch.device) -> Tensor:
        tokens = self.tokenizer(texts, padding=True, return_tensors="pt")
        if (longest := tokens["input_ids"].shape[1]) > self.max_tokens:
            long = max(texts, key=len)
            raise TongsError(f"an instruction may have {self.max_tokens} tokens, one has {longest}, such as {long!r}")
        return self.network(**tokens.to(device)).text_embeds


def _require_width(name: str, own: int, wanted: int) -> None:
    if own != wanted:
        raise TongsError(f"{name} gives vectors of {own} numbers; set policy.embedding_width={own}, not {wanted}")
