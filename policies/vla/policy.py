"""The VLA as a policy of the robot contract: what is trained, saved and run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from policies.base import Batch, PolicyModule, TrainingData
from policies.configuration import configuration
from policies.encoders.augmentation import (
    as_before,
    central_cut,
    chroma_change,
    colour_change,
    random_cut,
    random_shift,
)
from policies.exporting.parts import Parts
from policies.normalisation import SMALLEST_RANGE, Statistics
from policies.randomness import Randomness
from policies.vla.bounds import Bounds, of_dataset
from policies.vla.config import Sampling, VlaConfig
from policies.vla.fast import fit
from policies.vla.model import Size, VisionLanguageAction
from policies.vla.prompt import Prompter, learn_tokenizer
from robot.errors import TongsError
from robot.interface import PolicySpec

if TYPE_CHECKING:
    from typing_extensions import Self

STATE, ACTION = "observation.state", "action"
ROWS = 64
"""Embedding rows come in multiples of this, as in OpenVLA."""

FIT_CHUNKS = 20000
"""Action chunks that fast action tokens are fitted to."""


class Vla(PolicyModule):
    """OpenVLA (arXiv 2406.09246) and OFT (arXiv 2502.19645), of any size, with chunks, cameras and proprioception.

    Args:
        config: see `VlaConfig`.
        spec: one to three cameras, state names (none for no proprioception), action space and horizon.
        statistics: of "action" and, with state names, "observation.state". A "mask" of the action says which entries
            are scaled; without one it follows from `VlaConfig.unscaled`.

    Raises:
        TongsError: statistics are missing, or the network cannot be built.
    """

    family: ClassVar[str] = "vla"
    config_class: ClassVar[type] = VlaConfig
    config: VlaConfig

    def __init__(self, config: VlaConfig, spec: PolicySpec, statistics: Statistics) -> None:
        space = spec.action_space
        statistics = dict(statistics)
        if "mask" not in statistics.get(ACTION, {}) and ACTION in statistics:
            mask = [name not in config.unscaled for name in space.names]
            statistics[ACTION] = {**statistics[ACTION], "mask": mask}
        super().__init__(config, spec, statistics)
        size = Size(len(spec.cameras), len(spec.state_names), spec.horizon, space.dimension)
        self.action_bounds = Bounds(statistics, ACTION, space.dimension, config.span)
        self.state_bounds = (
            Bounds(statistics, STATE, size.state, config.span, limit_unmasked=True) if size.state else None
        )
        self.network = VisionLanguageAction(config, size)

    @classmethod
    def new(cls, settings: Mapping[str, Any], spec: PolicySpec, data: TrainingData) -> Self:
        """A policy whose text tokenizer and, if it has them, fast action tokens are learned from the data."""
        values = dict(settings)
        if values.get("image_size") is None:
            values["image_size"] = max(side for size in spec.cameras.values() for side in size)
        config = configuration(VlaConfig, values)
        statistics = {**data.statistics, ACTION: _widened(data.statistics[ACTION])}
        if config.action_tokens == "fast" and not config.fast_tokenizer:
            mask = [name not in config.unscaled for name in spec.action_space.names]
            bounds = Bounds({ACTION: {**statistics[ACTION], "mask": mask}}, ACTION, len(mask), config.span)
            chunks = bounds.normalise(torch.from_numpy(data.chunks(FIT_CHUNKS))).numpy()
            config = replace(config, fast_tokenizer=fit(chunks, config.fast_pieces, config.fast_scale))
        if not config.tokenizer:
            config = _with_own_words(config, data.instructions)
        return cls(config, spec, statistics)

    @classmethod
    def from_network(cls, network: VisionLanguageAction, spec: PolicySpec, unnorm_key: str | None = None) -> Self:
        """A published network as a policy that acts in the units of one of its datasets.

        Args:
            network: from `policies.vla.openvla_checkpoint` or `policies.vla.oft_checkpoint`.
            spec: cameras in the network's order, the names of its proprioception, and the action space in which that
                dataset's actions are meant.
            unnorm_key: as in `VisionLanguageAction.predict_action`.

        Raises:
            TongsError: the spec is of another size, or there are no such statistics.
        """
        size = Size(len(spec.cameras), len(spec.state_names), spec.horizon, spec.action_space.dimension)
        if size != network.size:
            raise TongsError(f"the policy is to have {size}, and the network has {network.size}")
        entries = of_dataset(network.norm_statistics, unnorm_key)
        named = {ACTION: entries["action"]} | ({STATE: entries["proprio"]} if size.state else {})
        bare = cls.__new__(cls)
        nn.Module.__init__(bare)
        PolicyModule.__init__(bare, network.config, spec, named)
        bare.action_bounds = Bounds(named, ACTION, size.actions, network.config.span)
        bare.state_bounds = (
            Bounds(named, STATE, size.state, network.config.span, limit_unmasked=True) if size.state else None
        )
        bare.network = network
        return bare.eval()

    @property
    def sampling(self) -> Sampling:
        """How actions are drawn; assign another `Sampling` to change it, without retraining."""
        return self.config.sampling

    @sampling.setter
    def sampling(self, sampling: Sampling) -> None:
        self.config = self.network.config = replace(self.config, sampling=sampling)

    @property
    def heavy_parts(self) -> list[nn.Module]:
        return [self.network.vision_backbone]

    @property
    def parts(self) -> Mapping[str, Sequence[nn.Module]]:
        """OpenVLA, section 5.3: its "last layer" is the last one of the language model with both ends of its words."""
        network, model = self.network, self.network.language_model
        heads = (network.action_head or _words_out(model), network.noisy_action_projector)
        seen = (network.vision_backbone, network.projector, network.proprio_projector)
        last = (network.embed, model.base_model.layers[-1], *heads)
        return {"vision": [part for part in seen if part], "last": [part for part in last if part]}

    def prepare(self, instructions: Sequence[str]) -> None:
        """Tokenise every instruction, so that one that is too long is known before training."""
        for instruction in instructions:
            self.network.prompter.ids(instruction)

    def loss(self, batch: Batch, generator: Randomness = None) -> dict[str, Tensor]:
        """See `VisionLanguageAction.loss`: loss, and token_accuracy or action_l1; and `PolicyModule.loss`."""
        actions = self.action_bounds.normalise(batch["actions"])
        weight = (~batch["action_is_pad"]).float()
        if batch.get("weight") is not None:
            weight = weight * batch["weight"][:, None]
        return self.network.loss(
            self.network.prompter.batch(batch["instruction"], self.device),
            self.pixels(batch["images"], generator),
            self.scaled_state(batch["state"]),
            actions,
            weight,
            generator,
        )

    def predict(self, batch: Batch, generator: Randomness) -> Tensor:
        """Actions (B, H, A) in physical units; see `PolicyModule.predict`."""
        prediction = self.network.predict(
            self.network.prompter.batch(batch["instruction"], self.device),
            self.pixels(batch["images"]),
            self.scaled_state(batch["state"]),
            generator,
        )
        return self.action_bounds.physical(prediction.actions)

    def exported(self) -> Parts:
        from policies.vla.export import parts

        return parts(self)

    def scaled_state(self, state: Tensor) -> Tensor | None:
        """Proprioception (B, 1, D) as the network takes it, (B, D)."""
        return None if self.state_bounds is None else self.state_bounds.normalise(state[:, -1])

    def pixels(self, images: Mapping[str, Tensor], generator: Randomness = None) -> Tensor:
        """Images {camera: uint8 (B, 1, H, W, 3)} as pixel values (B, cameras, 3 * towers, S, S), augmented in training.

        Raises:
            TongsError: a camera is missing, or its images are of another size or type.
        """
        cameras = [self._camera(name, size, images, generator) for name, size in self.spec.cameras.items()]
        return torch.stack(cameras, dim=1)

    def _camera(
        self, camera: str, size: tuple[int, int], images: Mapping[str, Tensor], generator: Randomness
    ) -> Tensor:
        if camera not in images:
            raise TongsError(f"the batch has no camera {camera!r}; it has: {', '.join(images) or 'none'}")
        pictures = images[camera][:, -1]  # (B, H, W, 3)
        if pictures.shape[1:] != (*size, 3) or pictures.dtype != torch.uint8:
            raise TongsError(
                f"camera {camera!r}: expected uint8 images of {size[0]}x{size[1]}x3, "
                f"got {str(pictures.dtype).removeprefix('torch.')} {tuple(pictures.shape[1:])}"
            )
        config, vision = self.config, self.network.vision_backbone
        if self.training and config.shift:
            pictures = random_shift(pictures, max(1, round(config.shift * size[0] / 96)), 1, generator)
        if size != (vision.image_size, vision.image_size):
            squares = [vision.square(picture, config.resize) for picture in pictures.cpu().numpy()]
            pictures = torch.from_numpy(np.stack(squares)).to(pictures.device)
        if config.cut < 1:
            cut = random_cut(pictures, config.cut, 1, generator) if self.training else central_cut(pictures, config.cut)
            pictures = as_before(cut, vision.image_size)
        if not self.training:
            return vision.pixel_values(pictures)
        count, device = len(pictures), pictures.device
        factor, offset = colour_change(count, config.colour, generator, device) if config.colour else (None, None)
        chroma = None
        if config.saturation or config.hue:
            chroma = chroma_change(count, config.saturation, config.hue, generator, device)
        return vision.pixel_values(pictures, factor, offset, chroma)


def _words_out(language_model: Any) -> nn.Module:
    return language_model.get_output_embeddings()


def load_openvla(folder: Path | str, spec: PolicySpec, unnorm_key: str | None = None) -> Vla:
    """A published OpenVLA checkpoint as a policy; see `Vla.from_network`."""
    from policies.vla.openvla_checkpoint import read_openvla

    return Vla.from_network(read_openvla(folder), spec, unnorm_key)


def _widened(statistics: Mapping[str, Any]) -> dict[str, Any]:
    """Statistics whose quantiles are the extremes where hardly any action is different from the rest.

    A dimension that only few demonstrations use would otherwise be cut off to nothing.
    """
    q01, q99 = np.array(statistics["q01"], float), np.array(statistics["q99"], float)
    narrow = q99 - q01 < SMALLEST_RANGE
    q01, q99 = np.where(narrow, statistics["min"], q01), np.where(narrow, statistics["max"], q99)
    return {**statistics, "q01": q01.tolist(), "q99": q99.tolist()}


def _with_own_words(config: VlaConfig, instructions: Sequence[str]) -> VlaConfig:
    """The configuration with a tokenizer learned from the instructions and the action tokens behind its words."""
    from tokenizers import Tokenizer

    plain = replace(config, begin_token=1, end_token=2, pad_token=0, answer_token=None)
    words = Prompter(plain).words
    tokenizer = learn_tokenizer([words.text(instruction) for instruction in instructions], config.text_pieces)
    pieces = Tokenizer.from_str(tokenizer).get_vocab_size()
    actions = config.bins
    if config.action_tokens == "fast":
        import json

        actions = Tokenizer.from_str(json.loads(config.fast_tokenizer)["tokenizer"]).get_vocab_size()
    rows = -(-(pieces + actions) // ROWS) * ROWS
    ids = {"vocab_size": rows, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    model = {**config.language_model, **ids}
    return replace(plain, tokenizer=tokenizer, vocabulary=pieces + actions, language_model=model)
