"""The VLA as graphs: word embeddings, and the one pass of OFT (or the denoising loop of its diffusion head)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from policies.exporting.parts import Parts
from policies.vla.action_heads import DiffusionHead
from policies.vla.action_tokenizer import UniformBins
from policies.vla.config import AUTOREGRESSIVE, DIFFUSION, L1
from policies.vla.sequence import Sequence
from robot.errors import TongsError

if TYPE_CHECKING:
    from policies.vla.policy import Vla


class Actions(nn.Module):
    """One observation and the embeddings of its prompt to actions in physical units."""

    centres: Tensor

    def __init__(self, policy: Vla) -> None:
        super().__init__()
        self.vla = policy
        tokenizer = policy.network.action_tokenizer
        if isinstance(tokenizer, UniformBins):
            self.register_buffer("centres", torch.from_numpy(tokenizer.centres).float(), persistent=False)

    def forward(self, images: Mapping[str, Tensor], state: Tensor, language: Tensor, noise: Tensor | None) -> Tensor:
        vla, network = self.vla, self.vla.network
        pixels = vla.pixels({name: values[:, None] for name, values in images.items()})
        told = None
        if network.config.film:
            end = network.embed(torch.tensor([network.config.end_token]))
            told = (language.sum(dim=1) + end) / (language.shape[1] + 1)
        image = network.see(pixels, vla.scaled_state(state[:, None]), told)
        head, config = network.action_head, network.config
        if config.prediction == DIFFUSION:
            assert isinstance(head, DiffusionHead) and noise is not None
            noisy = noise
            for level in head.levels(config.sampling.steps):
                sequence = _sequence(network.with_level(image, torch.tensor([level])), language)
                noisy = head.denoise(noisy, network.noise(sequence, noisy), level, config.sampling.steps)
            return vla.action_bounds.physical(noisy)
        states = network.chunk_states(_sequence(image, language))
        if config.prediction == L1:
            assert head is not None
            return vla.action_bounds.physical(head(states))
        ids = network.language_model.get_output_embeddings()(states).argmax(dim=-1)
        places = (config.vocabulary - ids - 1).clamp(0, len(self.centres) - 1)
        chunk = self.centres[places].view(1, network.size.horizon, network.size.actions)
        return vla.action_bounds.physical(chunk)


def parts(policy: Vla) -> Parts:
    """See `Parts`.

    Raises:
        TongsError: the policy says its actions one after another, or scales its images in a way that graphs do not.
    """
    config = policy.config
    if config.prediction == AUTOREGRESSIVE or policy.sampling.temperature:
        raise TongsError(
            "an autoregressive or sampled VLA is no fixed graph; export one with prediction l1, parallel or diffusion, "
            "or take backend=torch"
        )
    side = policy.network.vision_backbone.image_size
    if other := [name for name, size in policy.spec.cameras.items() if size != (side, side)]:
        raise TongsError(
            f"only a VLA that sees its cameras at {side}x{side} can be exported; {other[0]} has another size"
        )
    words = policy.network.prompter.words
    return Parts(policy.network.embed, Actions(policy).eval(), words, noise=config.prediction == DIFFUSION)


def _sequence(image: Tensor, words: Tensor) -> Sequence:
    """[begin] [image] [rest of the prompt] of one observation, without padding."""
    embeddings = torch.cat([words[:, :1], image, words[:, 1:]], dim=1)
    places = torch.arange(embeddings.shape[1], device=words.device)[None]
    return Sequence(embeddings, places, torch.ones_like(places, dtype=torch.bool))
