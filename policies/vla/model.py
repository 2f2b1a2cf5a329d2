"""The network: towers, projector, language model, and how it is asked for actions (OpenVLA; OFT)."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence as Ordered
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from policies.encoders.augmentation import as_before, central_cut
from policies.randomness import Randomness, choose, draw
from policies.vla.action_heads import DiffusionHead, L1Head
from policies.vla.action_tokenizer import ActionTokenizer, UniformBins
from policies.vla.bounds import Bounds, NormStatistics, of_dataset
from policies.vla.config import AUTOREGRESSIVE, DIFFUSION, L1, PARALLEL, VlaConfig
from policies.vla.fast import FastTokens
from policies.vla.projector import Projector, ScalarProjector
from policies.vla.prompt import Prompter
from policies.vla.sequence import NextToken, Sequence, last_hidden_states, multimodal, require_bidirectional
from policies.vla.vision import VisionBackbone
from robot.errors import TongsError

IGNORED = -100
"""The label of what the loss passes over."""


@dataclass(frozen=True)
class Prediction:
    """What the network says about a batch of observations.

    Attributes:
        actions: scaled to [-1, 1], float32 (B, H, A).
        tokens: the action tokens of each row, without the end token; None with a continuous head.
        log_probabilities: of each of them, natural logarithm, under the distribution that it was drawn from (the
            model's own where the likeliest is taken); float32 of the same lengths, None with a continuous head.
    """

    actions: Tensor
    tokens: list[Tensor] | None = None
    log_probabilities: list[Tensor] | None = None


@dataclass(frozen=True)
class Size:
    """What a network is built for besides its configuration.

    Attributes:
        cameras: 1 to 3.
        state: entries of the proprioception; 0 for none.
        horizon: H, actions in a chunk.
        actions: A, numbers in one action.
    """

    cameras: int = 1
    state: int = 0
    horizon: int = 1
    actions: int = 7

    def __post_init__(self) -> None:
        if not 1 <= self.cameras <= 3:
            raise TongsError(f"a VLA sees through one to three cameras, got {self.cameras}")
        if self.horizon < 1 or self.actions < 1 or self.state < 0:
            raise TongsError(f"a VLA needs at least one action of at least one number, got {self}")


class VisionLanguageAction(nn.Module):
    """OpenVLA's network, with the options of OFT. Parameters have the names of the published checkpoints.

    The sequence is [begin] [patches of each camera] [proprioception] [noise level] [rest of the prompt] [actions].

    Args:
        config: see `VlaConfig`.
        size: see `Size`.
        norm_statistics: of the datasets that it was trained on, for `predict_action`.
    """

    def __init__(self, config: VlaConfig, size: Size, norm_statistics: NormStatistics | None = None) -> None:
        super().__init__()
        self.config, self.size = config, size
        self.norm_statistics = dict(norm_statistics or {})
        self.prompter = Prompter(config)
        self.action_tokenizer = _action_tokenizer(config, size)
        self.language_model = _language_model(config.language_model)
        width = int(self.language_model.get_input_embeddings().embedding_dim)
        self.vision_backbone = VisionBackbone(
            config.towers, config.image_size, config.prune_towers, width if config.film else None
        )
        self.projector = Projector(self.vision_backbone.width, width, len(config.towers) == 2)
        self.proprio_projector = ScalarProjector(size.state, width) if size.state else None
        self.noisy_action_projector = ScalarProjector(1, width) if config.prediction == DIFFUSION else None
        self.action_head: L1Head | DiffusionHead | None = None
        if config.prediction == L1:
            self.action_head = L1Head(width, size.actions)
        elif config.prediction == DIFFUSION:
            self.action_head = DiffusionHead(width, size.actions, config.diffusion_steps)
        words = self.language_model.get_output_embeddings().weight
        if self.action_head is not None and words is not self.embed.weight:
            words.requires_grad_(False)  # nothing is said in words
        self._sees_both_ways = False

    @property
    def device(self) -> torch.device:
        return self.embed.weight.device

    @property
    def embed(self) -> nn.Embedding:
        return self.language_model.get_input_embeddings()

    def read(self, texts: list[Tensor], pixels: Tensor, state: Tensor | None) -> Sequence:
        """The observation as a sequence that ends with the prompt.

        Args:
            texts: B vectors of prompt ids.
            pixels: (B, cameras, 3 * towers, S, S), see `VisionBackbone.pixel_values`.
            state: scaled proprioception (B, D), if the network takes it.
        """
        return multimodal(texts, self.see(pixels, state, self._mean_words(texts)), self.embed)

    def see(self, pixels: Tensor, state: Tensor | None, words: Tensor | None = None) -> Tensor:
        """(B, P, width): the patches of all cameras, then the proprioception.

        `words` (B, width) is the mean embedding of the prompt, for FiLM; the others are as in `read`.
        """
        if pixels.shape[1] != self.size.cameras:
            raise TongsError(f"this VLA sees through {self.size.cameras} cameras, got images of {pixels.shape[1]}")
        image = self.projector(self.vision_backbone(pixels, words))
        if self.proprio_projector is None:
            return image
        if state is None or state.shape[-1] != self.size.state:
            got = "none" if state is None else f"{state.shape[-1]} entries"
            raise TongsError(f"this VLA needs a proprioception of {self.size.state} entries, got {got}")
        return torch.cat([image, self.proprio_projector(state.to(image.dtype))[:, None]], dim=1)

    def with_level(self, image: Tensor, levels: Tensor) -> Tensor:
        """What `see` gave, and behind it the noise levels (B,) of the diffusion head: (B, P + 1, width)."""
        assert isinstance(self.action_head, DiffusionHead)
        return torch.cat([image, self.action_head.time_embedding(levels)[:, None].to(image.dtype)], dim=1)

    def _mean_words(self, texts: list[Tensor]) -> Tensor | None:
        """(B, width): the mean embedding of prompt and end token, for FiLM."""
        if not self.config.film:
            return None
        end = torch.tensor([self.config.end_token], device=self.device)
        return torch.stack([self.embed(torch.cat([text, end])).mean(dim=0) for text in texts])

    def token_logits(self, sequence: Sequence, tokens: Tensor, real: Tensor) -> Tensor:
        """Logits (B, K, vocabulary) that predict K action tokens (the end token among them) after `sequence`.

        In autoregressive form each sees those before it; in parallel none is seen.

        Args:
            tokens: (B, K); after a row's end anything.
            real: bool (B, K).
        """
        if self.config.in_parallel:
            return self.language_model.get_output_embeddings()(self.chunk_states(sequence))
        whole = sequence.append(self.embed(tokens[:, :-1]), real[:, :-1])
        output = self.language_model(
            inputs_embeds=whole.embeddings,
            attention_mask=whole.mask(causal=True),
            position_ids=whole.places,
            use_cache=False,
            logits_to_keep=tokens.shape[1],
        )
        return output.logits

    def chunk_states(self, sequence: Sequence, placeholders: Tensor | None = None) -> Tensor:
        """Hidden states (B, K, width) of the places that predict what follows, K = H * A numbers of a chunk, in one
        pass.

        `placeholders`, (B, K, width), stand where it will be; H * A zeros if None.
        """
        if placeholders is None:
            batch, _, width = sequence.embeddings.shape
            placeholders = sequence.embeddings.new_zeros(batch, self.size.horizon * self.size.actions, width)
        count = placeholders.shape[1]
        whole = self._with_placeholders(sequence, placeholders)
        first = sequence.length - 1  # the last token of the prompt predicts the first number
        return last_hidden_states(self.language_model, whole, causal=False)[:, first : first + count]

    def _with_placeholders(self, sequence: Sequence, placeholders: Tensor) -> Sequence:
        if not self._sees_both_ways:
            require_bidirectional(self.language_model)
            self._sees_both_ways = True
        ends = torch.full((len(placeholders), 1), self.config.end_token, device=placeholders.device)
        return sequence.append(placeholders).append(self.embed(ends))

    def noise(self, sequence: Sequence, noisy: Tensor) -> Tensor:
        """The noise float32 (B, H, A) that the diffusion head sees in chunks, after a sequence with their levels."""
        assert isinstance(self.action_head, DiffusionHead) and self.noisy_action_projector is not None
        numbers = noisy.flatten(1)[:, :, None].to(sequence.embeddings.dtype)
        return self.action_head(self.chunk_states(sequence, self.noisy_action_projector(numbers))).float()

    @torch.no_grad()
    def predict(
        self,
        texts: list[Tensor],
        pixels: Tensor,
        state: Tensor | None,
        generator: Randomness = None,
        temperature: float | None = None,
    ) -> Prediction:
        """Scaled chunks for a batch; arguments as in `read`, temperature None for the configuration's."""
        temperature = self.config.sampling.temperature if temperature is None else temperature
        prediction = self.config.prediction
        if prediction == DIFFUSION:
            return Prediction(self._denoise(texts, pixels, state, generator))
        sequence = self.read(texts, pixels, state)
        if prediction == L1:
            assert isinstance(self.action_head, L1Head)
            return Prediction(self.action_head(self.chunk_states(sequence)).float())
        if prediction == PARALLEL:
            logits = self.language_model.get_output_embeddings()(self.chunk_states(sequence))
            tokens, logs = self._choose(logits, temperature, generator)
            return Prediction(self.action_tokenizer.decode(list(tokens)), list(tokens), list(logs))
        tokens, logs = self._generate(sequence, temperature, generator)
        return Prediction(self.action_tokenizer.decode(tokens), tokens, logs)

    def _denoise(self, texts: list[Tensor], pixels: Tensor, state: Tensor | None, generator: Randomness) -> Tensor:
        head, steps = self.action_head, self.config.sampling.steps
        assert isinstance(head, DiffusionHead)
        shape = (len(texts), self.size.horizon, self.size.actions)
        noisy = draw(torch.randn, shape, generator, pixels.device)
        image = self.see(pixels, state, self._mean_words(texts))
        for level in head.levels(steps):
            levels = torch.full((len(texts),), level, device=pixels.device)
            sequence = multimodal(texts, self.with_level(image, levels), self.embed)
            noisy = head.denoise(noisy, self.noise(sequence, noisy), level, steps)
        return noisy

    def _generate(
        self, sequence: Sequence, temperature: float, generator: Randomness
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Tokens one after another."""
        device, fixed, end = sequence.real.device, self.action_tokenizer.fixed, self.config.end_token
        ended = torch.zeros(len(sequence.real), dtype=torch.bool, device=device)
        following = NextToken(self.language_model, self.embed, sequence)
        tokens, logs, spare = [], [], torch.Generator(device)
        for step in range(self.action_tokenizer.longest):
            if isinstance(generator, Ordered):  # what ended draws no more, as it would not alone
                generator = [spare if over else own for over, own in zip(ended.tolist(), generator, strict=True)]
            token, log = self._choose(following.logits, temperature, generator)
            tokens.append(token)
            logs.append(log)
            ended |= (token == end) & (not fixed)
            if step + 1 == self.action_tokenizer.longest or bool(ended.all()):
                break
            following.take(token)
        rows, row_logs = torch.stack(tokens, dim=1), torch.stack(logs, dim=1)
        if fixed:
            return list(rows), list(row_logs)
        counts = (rows != end).long().cumprod(dim=1).sum(dim=1).tolist()
        return [row[:n] for row, n in zip(rows, counts, strict=True)], [
            row[:n] for row, n in zip(row_logs, counts, strict=True)
        ]

    def _choose(self, logits: Tensor, temperature: float, generator: Randomness) -> tuple[Tensor, Tensor]:
        """Tokens for logits (..., vocabulary) and their log-probabilities.

        Without temperature the likeliest of the whole vocabulary, as in the reference; else drawn among action tokens
        (and the end token where the number of tokens is open).
        """
        logits = logits.float()
        if temperature == 0:
            tokens = logits.argmax(dim=-1)
        else:
            allowed = torch.zeros(logits.shape[-1], dtype=torch.bool, device=logits.device)
            allowed[self.action_tokenizer.first : self.config.vocabulary] = True
            allowed[self.config.end_token] |= not self.action_tokenizer.fixed
            logits = (logits / temperature).masked_fill(~allowed, -torch.inf)
            flat = logits.softmax(dim=-1).flatten(0, -2)
            tokens = choose(flat, generator).view(logits.shape[:-1])
        return tokens, logits.log_softmax(dim=-1).gather(-1, tokens[..., None])[..., 0]

    def loss(
        self,
        texts: list[Tensor],
        pixels: Tensor,
        state: Tensor | None,
        actions: Tensor,
        weight: Tensor,
        randomness: Randomness = None,
    ) -> dict[str, Tensor]:
        """What training minimises, as "loss", and the mean absolute error of scaled actions or token accuracy.

        Args:
            texts, pixels, state: as in `read`.
            actions: scaled chunks (B, H, A).
            weight: of each action (B, H); zero on padding.
        """
        prediction = self.config.prediction
        if prediction == L1:
            assert isinstance(self.action_head, L1Head)
            predicted = self.action_head(self.chunk_states(self.read(texts, pixels, state)))
            loss = weighted_mean((predicted.float() - actions).abs().mean(dim=-1), weight)
            return {"loss": loss, "action_l1": loss.detach()}
        if prediction == DIFFUSION:
            assert isinstance(self.action_head, DiffusionHead)
            noise = draw(torch.randn, actions.shape, randomness, actions.device)
            part = draw(torch.rand, (len(actions),), randomness, actions.device)
            levels = (part * self.config.diffusion_steps).long()
            noisy = self.action_head.noisy(actions, noise, levels)
            image = self.with_level(self.see(pixels, state, self._mean_words(texts)), levels)
            error = (self.noise(multimodal(texts, image, self.embed), noisy) - noise).square().mean(dim=-1)
            return {"loss": weighted_mean(error, weight)}
        return self._token_loss(self.read(texts, pixels, state), actions, weight)

    def _token_loss(self, sequence: Sequence, actions: Tensor, weight: Tensor) -> dict[str, Tensor]:
        """Cross-entropy of the action tokens and, in autoregressive form, of the end token."""
        tokens, labels, share = self.labelled(actions, weight)
        logits = self.token_logits(sequence, tokens, labels != IGNORED).float()
        entropy = nn.functional.cross_entropy(
            logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED, reduction="none"
        ).view(labels.shape)
        is_action = ((labels >= self.action_tokenizer.first) & (labels < self.config.vocabulary)).float() * share
        hits = (logits.detach().argmax(dim=-1) == labels).float()
        return {"loss": weighted_mean(entropy, share), "token_accuracy": weighted_mean(hits, is_action)}

    def labelled(self, actions: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Tokens, labels and weights (B, K) of scaled chunks (B, H, A) with weights (B, H).

        After its actions every row has the end token, which is in the loss; beyond that the label is `IGNORED`. With
        parallel decoding there is no end token to predict.
        """
        config, tokenizer = self.config, self.action_tokenizer
        ends = [] if config.in_parallel else [torch.tensor([config.end_token], device=actions.device)]
        rows = [torch.cat([row, *ends]) for row in tokenizer.encode(actions)]
        labels = nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=IGNORED)
        if tokenizer.fixed:  # one token per number, so an action that is padding can be left out
            share = weight.repeat_interleave(self.size.actions, dim=1)
            share = torch.cat([share, *[weight.amax(dim=1, keepdim=True) for _ in ends]], dim=1)
        else:
            share = weight.amax(dim=1, keepdim=True).expand(labels.shape)
        share = share * (labels != IGNORED)
        return labels.masked_fill(labels == IGNORED, config.end_token), labels, share

    @torch.inference_mode()
    def predict_action(
        self,
        image: NDArray[np.uint8] | Ordered[NDArray[np.uint8]],
        instruction: str,
        unnorm_key: str | None = None,
        proprioception: NDArray[np.floating] | None = None,
    ) -> NDArray[np.float64]:
        """The action (A,) for one observation, or the chunk (H, A) if the network predicts more than one; in the units
        of the dataset `unnorm_key`.

        Args:
            image: uint8 (H, W, 3) of any size, or one per camera.
            instruction: what to do.
            unnorm_key: dataset whose statistics give the units; may be None if there is only one.
            proprioception: (D,) in the dataset's units, if the network takes it.
        """
        images = [image] if isinstance(image, np.ndarray) and image.ndim == 3 else list(image)
        states = None if proprioception is None else np.asarray(proprioception)[None]
        actions, _ = self.predict_actions([images], [instruction], unnorm_key, states)
        return actions[0, 0] if self.size.horizon == 1 else actions[0]

    @torch.inference_mode()
    def predict_actions(
        self,
        images: Ordered[Ordered[NDArray[np.uint8]]],
        instructions: Ordered[str],
        unnorm_key: str | None = None,
        proprioception: NDArray[np.floating] | None = None,
        temperature: float | None = None,
        generator: Randomness = None,
    ) -> tuple[NDArray[np.float64], Prediction]:
        """Chunks (B, H, A) in the dataset's units for B observations, and what the network said; see `predict_action`.

        Args:
            images: for every observation one image per camera.
            instructions: B of them, of any lengths.
            proprioception: (B, D).
            temperature: None for the configuration's.
            generator: for sampled tokens and the noise of the diffusion head.
        """
        statistics = of_dataset(self.norm_statistics, unnorm_key)
        units = Bounds(statistics, "action", self.size.actions, self.config.span).to(self.device)
        state = None
        if self.size.state and proprioception is not None:
            scaling = Bounds(statistics, "proprio", self.size.state, self.config.span, limit_unmasked=True)
            if proprioception.shape[-1] != self.size.state:
                got = proprioception.shape[-1]
                raise TongsError(f"this VLA needs a proprioception of {self.size.state} entries, got {got}")
            state = scaling.normalise(torch.as_tensor(proprioception, dtype=torch.float32)).to(self.device)
        texts = self.prompter.batch(instructions, self.device)
        prediction = self.predict(texts, self.pixel_values(images), state, generator, temperature)
        return units.physical(prediction.actions).cpu().numpy().astype(np.float64), prediction

    def pixel_values(self, images: Ordered[Ordered[NDArray[np.uint8]]]) -> Tensor:
        """(B, cameras, 3 * towers, S, S) of images of any size, one list per observation."""
        vision = self.vision_backbone
        squares = [np.stack([vision.square(image, self.config.resize) for image in row]) for row in images]
        together = torch.from_numpy(np.stack(squares)).to(self.device)
        pictures = together.flatten(0, 1)
        if self.config.cut < 1:
            pictures = as_before(central_cut(pictures, self.config.cut), vision.image_size)
        return vision.pixel_values(pictures).unflatten(0, together.shape[:2])


def weighted_mean(values: Tensor, weight: Tensor) -> Tensor:
    """Zero if nothing has weight."""
    weight = weight.to(values.dtype)
    return (values * weight).sum() / weight.sum().clamp(min=1e-8)


def _action_tokenizer(config: VlaConfig, size: Size) -> ActionTokenizer:
    if config.action_tokens == "fast" and config.prediction == AUTOREGRESSIVE:
        return FastTokens(config.fast_tokenizer, config.vocabulary, size.horizon, size.actions)
    return UniformBins(config.vocabulary, config.bins, size.horizon, size.actions)


def _language_model(settings: Mapping[str, Any]) -> Any:
    """A causal language model of transformers with weights of no training."""
    from transformers import AutoConfig, AutoModelForCausalLM

    try:
        settings = dict(settings)
        config = AutoConfig.for_model(settings.pop("model_type"), **settings)
        return AutoModelForCausalLM.from_config(config, attn_implementation="sdpa")
    except (ValueError, KeyError) as error:
        raise TongsError(f"transformers cannot build this language model: {str(error).splitlines()[0]}") from error
