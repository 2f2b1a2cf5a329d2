"""Settings of a vision-language-action model: towers, language model, text, action tokens, decoding."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from robot.errors import TongsError, unknown

AUTOREGRESSIVE, PARALLEL, L1, DIFFUSION = "autoregressive", "parallel", "l1", "diffusion"
OPENVLA_PROMPT = "In: What action should the robot take to {instruction}?\nOut:"
VICUNA_PROMPT = (
    "A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, detailed, "
    "and polite answers to the user's questions. USER: What action should the robot take to {instruction}? ASSISTANT:"
)
"""Of openvla-7b, and of the older openvla-7b-v01."""

LLAMA_SPACE = 29871
"""Llama's token for a lone space; in training it stood between "Out:" and the first action token."""


@dataclass(frozen=True)
class Tower:
    """One vision tower.

    Attributes:
        name: a timm model.
        options: what else timm is to build it with, such as depth and embed_dim.
        activation: overrides the activation function of the timm model.
        mean, std: of the pixel normalisation, per colour in 0..1; None for those of the timm model.
    """

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    activation: str | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None


@dataclass(frozen=True)
class Sampling:
    """How actions are drawn; may change at run time without retraining.

    Attributes:
        temperature: of sampled action tokens; 0 takes the likeliest, as in the paper.
        steps: denoising steps of the diffusion head; each costs one pass of the language model.
    """

    temperature: float = 0.0
    steps: int = 50

    def __post_init__(self) -> None:
        if not self.temperature >= 0:
            raise TongsError(f"the temperature of sampled actions must be 0 or more, got {self.temperature}")
        if self.steps < 1:
            raise TongsError(f"the diffusion head needs at least one denoising step, got {self.steps}")


@dataclass(frozen=True)
class VlaConfig:
    """Everything that shapes a VLA beyond its cameras, proprioception, action and chunk sizes.

    Attributes:
        towers: one or two vision towers whose patches are joined along the channels.
        image_size: side in pixels at which the towers see.
        resize: how an image becomes square: "squash", "letterbox" or "crop".
        prune_towers: leave out what a tower computes after its second-to-last block, which nothing reads. The published
            checkpoints hold those weights; a network trained here need not.
        language_model: fields of the configuration of a causal language model of transformers, "model_type" among them.
        tokenizer: the text of the tokenizer.json that goes with it; empty in a new policy, which then learns one of at
            most `text_pieces` from the instructions of its data.
        prompt: text of the prompt, with {instruction} where the lower-cased instruction goes.
        answer_token: the token that has to end every prompt, if there is one.
        begin_token, end_token, pad_token: ids; the first starts every prompt, the second ends the actions.
        max_tokens: longest prompt.
        vocabulary: ids below this number belong to the tokenizer or to actions; actions use the last of them.
        action_tokens: "bins" (OpenVLA) or "fast" (compressed).
        bins: edges of the uniform bins.
        fast_tokenizer: the text of the fitted tokenizer of "fast"; empty in a new policy, which then fits one of
            `fast_pieces` to its data, with coefficients times `fast_scale`.
        prediction: "autoregressive" (tokens, one after another), and with OFT's parallel decoding "parallel" (tokens),
            "l1" or "diffusion" (continuous heads).
        film: the instruction modulates the towers (OFT+).
        diffusion_steps: noise levels in training of the diffusion head.
        span: what of the data becomes -1 and 1: "quantiles" (1 % to 99 %) or "extremes".
        unscaled: actions and proprioception of these names are not scaled, as OpenVLA does with the gripper.
        shift: random image shift in training, in pixels at a height of 96.
        cut: side of what is cut out of each image, as a fraction of it: at a random place in training, in the middle
            in use, and enlarged again. OpenVLA fine-tunes with the square root of 0.9.
        colour: random change of brightness and contrast in training.
        saturation, hue: of colours in training, as a fraction and as a part of a full turn.
        sampling: the default way to draw actions.
    """

    towers: tuple[Tower, ...]
    image_size: int
    language_model: Mapping[str, Any]
    tokenizer: str = ""
    text_pieces: int = 1000
    vocabulary: int = 32000
    resize: Literal["squash", "letterbox", "crop"] = "squash"
    prune_towers: bool = False
    prompt: str = OPENVLA_PROMPT
    answer_token: int | None = LLAMA_SPACE
    begin_token: int = 1
    end_token: int = 2
    pad_token: int = 32000
    max_tokens: int = 2048
    action_tokens: Literal["bins", "fast"] = "bins"
    bins: int = 256
    fast_tokenizer: str = ""
    fast_pieces: int = 256
    fast_scale: float = 10.0
    prediction: Literal["autoregressive", "parallel", "l1", "diffusion"] = AUTOREGRESSIVE
    film: bool = False
    diffusion_steps: int = 50
    span: Literal["quantiles", "extremes"] = "quantiles"
    unscaled: tuple[str, ...] = ("gripper",)
    shift: int = 0
    cut: float = 1.0
    colour: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    sampling: Sampling = field(default_factory=Sampling)

    def __post_init__(self) -> None:
        if not 1 <= len(self.towers) <= 2:
            raise TongsError(f"a VLA has one or two vision towers, got {len(self.towers)}")
        choices = {
            "prediction": (AUTOREGRESSIVE, PARALLEL, L1, DIFFUSION),
            "action_tokens": ("bins", "fast"),
            "resize": ("squash", "letterbox", "crop"),
            "span": ("quantiles", "extremes"),
        }
        for name, known in choices.items():
            if getattr(self, name) not in known:
                raise unknown(f"{name} of a VLA", getattr(self, name), known)
        if self.action_tokens == "fast" and self.prediction == PARALLEL:
            raise TongsError("fast action tokens have no fixed number, so they cannot be predicted in parallel")
        if "{instruction}" not in self.prompt:
            raise TongsError(f"the prompt of a VLA must hold {{instruction}}, got {self.prompt!r}")
        if "model_type" not in self.language_model:
            raise TongsError("the language model of a VLA needs a model_type, such as llama")
        if not 0 < self.cut <= 1:
            raise TongsError(f"setting cut of a VLA must be above 0 and at most 1, got {self.cut}")
        if self.bins < 3:
            raise TongsError(f"a VLA needs at least 3 bin edges, got {self.bins}")

    @property
    def in_parallel(self) -> bool:
        """Whether one pass gives a whole chunk (OFT)."""
        return self.prediction != AUTOREGRESSIVE
