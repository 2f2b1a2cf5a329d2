"""BESO as graphs: the frozen text encoder with its reader, and the rest with the denoising loop unrolled."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from policies.exporting.parts import Parts
from robot.errors import TongsError
from robot.words import Words

if TYPE_CHECKING:
    from policies.beso.model import Beso

DETERMINISTIC = ("ddim", "dpm_2", "dpmpp_2m", "dpmpp_2s", "euler", "heun", "lms")
"""Samplers that draw nothing after the first noise and take a fixed number of steps."""


class Language(nn.Module):
    """Token ids to goal tokens."""

    def __init__(self, policy: Beso) -> None:
        super().__init__()
        self.encoder: Any = policy.text_encoder.model
        self.reader = policy.text_reader

    def forward(self, ids: Tensor) -> Tensor:
        """(1, L) to (1, G, token_width)."""
        hidden = self.encoder(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state
        return self.reader(hidden.half().float(), torch.ones_like(ids, dtype=torch.bool))


class Actions(nn.Module):
    """Observation, goal tokens and noise to actions in physical units."""

    def __init__(self, policy: Beso) -> None:
        super().__init__()
        self.beso = policy

    def forward(self, images: Mapping[str, Tensor], state: Tensor, language: Tensor, noise: Tensor) -> Tensor:
        batch = {"images": {name: values[:, None] for name, values in images.items()}, "state": state[:, None]}
        return self.beso.action_scaling.unscale(self.beso.denoised(batch, language, noise))


def parts(policy: Beso) -> Parts:
    """See `Parts`.

    Raises:
        TongsError: the policy's goals, history or sampler have no place in a fixed graph.
    """
    config, sampling = policy.config, policy.sampling
    if policy.family != "beso" or config.goal != "language" or config.window > 1 or config.observation != "fused":
        raise TongsError("only a BESO policy of one observation and instructions can be exported")
    if sampling.sampler not in DETERMINISTIC or sampling.churn:
        raise TongsError(
            f"sampler {sampling.sampler} draws noise on its way or has no fixed number of steps; "
            f"export with sampling.sampler one of {', '.join(DETERMINISTIC)} and no churn"
        )
    words = Words(policy.text_encoder.tokenizer_json, config.max_tokens)
    return Parts(Language(policy).eval(), Actions(policy).eval(), words, noise=True)
