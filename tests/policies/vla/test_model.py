"""The network in all its forms: batches, caches, sampling, both directions."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from policies.vla.action_heads import L1Head
from policies.vla.config import Sampling, Tower, VlaConfig
from policies.vla.model import VisionLanguageAction
from policies.vla.openvla_checkpoint import LLAMA_2_7B
from policies.vla.projector import Projector
from policies.vla.vision import FilmLayer, VisionBackbone, resized
from robot.errors import TongsError
from tests.policies.small import INSTRUCTIONS
from tests.policies.vla import small


def observations(network: VisionLanguageAction, count: int = 4) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(3)
    side = network.config.image_size
    images = torch.randint(0, 256, (count * 2, side, side, 3), dtype=torch.uint8, generator=generator)
    return {
        "texts": network.prompter.batch(INSTRUCTIONS[:count]),
        "pixels": network.vision_backbone.pixel_values(images).unflatten(0, (count, 2)),
        "state": torch.rand(count, 3, generator=generator) * 2 - 1,
    }


def row(inputs: dict[str, Any], index: int) -> dict[str, Any]:
    return {name: value[index : index + 1] for name, value in inputs.items()}


@pytest.mark.parametrize("prediction", ["autoregressive", "parallel", "l1"])
def test_a_batch_of_unequal_prompts_is_as_each_alone(prediction: str) -> None:
    network = small.policy(prediction=prediction).network.eval()
    inputs = observations(network)
    assert len({len(text) for text in inputs["texts"]}) > 1
    together = network.predict(**inputs)
    for index in range(4):
        alone = network.predict(**row(inputs, index))
        torch.testing.assert_close(together.actions[index], alone.actions[0], atol=1e-5, rtol=1e-5)
        if together.log_probabilities is not None and alone.log_probabilities is not None:
            torch.testing.assert_close(
                together.log_probabilities[index], alone.log_probabilities[0], atol=1e-4, rtol=1e-4
            )


@torch.no_grad()
def test_tokens_with_the_cache_are_those_without() -> None:
    """Each token again from a pass over everything before it, as training does it."""
    network = small.policy().network.eval()
    inputs = observations(network)
    prediction = network.predict(**inputs)
    assert prediction.tokens is not None and prediction.log_probabilities is not None
    tokens = torch.stack(prediction.tokens)
    logits = network.token_logits(network.read(**inputs), tokens, torch.ones_like(tokens, dtype=torch.bool))
    assert torch.equal(logits.argmax(dim=-1), tokens)
    expected = logits.log_softmax(dim=-1).gather(-1, tokens[..., None])[..., 0]
    torch.testing.assert_close(torch.stack(prediction.log_probabilities), expected, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_sampled_tokens_follow_the_model(prediction: str = "autoregressive") -> None:
    """The first token of many draws, against the distribution that training sees."""
    network = small.policy(horizon=1, prediction=prediction).network.eval()
    inputs = row(observations(network), 0)
    many = {"texts": inputs["texts"] * 2000} | {
        n: inputs[n].expand(2000, *inputs[n].shape[1:]) for n in ("pixels", "state")
    }
    drawn = network.predict(**many, generator=torch.Generator().manual_seed(0), temperature=2.0)
    assert drawn.tokens is not None and drawn.log_probabilities is not None
    first = torch.stack(drawn.tokens)[:, 0]
    tokens = torch.full((1, 7), network.config.vocabulary - 1)
    logits = network.token_logits(network.read(**inputs), tokens, torch.ones_like(tokens, dtype=torch.bool))[0, 0]
    lowest, highest = network.action_tokenizer.first, network.config.vocabulary
    wanted = (logits[lowest:highest] / 2).softmax(dim=0)
    counts = torch.bincount(first - lowest, minlength=highest - lowest) / len(first)
    assert (counts - wanted).abs().max() < 4 * (0.25 / len(first)) ** 0.5
    logs = torch.stack(drawn.log_probabilities)[:, 0]
    torch.testing.assert_close(logs, wanted.log()[first - lowest], atol=1e-3, rtol=1e-3)


def test_the_seed_decides_what_is_sampled() -> None:
    network = small.policy().network.eval()
    inputs = observations(network)
    one, again, other = (
        network.predict(**inputs, generator=torch.Generator().manual_seed(seed), temperature=1.0).actions
        for seed in (1, 1, 2)
    )
    assert torch.equal(one, again) and not torch.equal(one, other)


@torch.no_grad()
def test_a_later_placeholder_reaches_earlier_hidden_states() -> None:
    network = small.policy(prediction="l1").network.eval()
    sequence = network.read(**observations(network))
    count = network.size.horizon * network.size.actions
    zeros = torch.zeros(4, count, sequence.embeddings.shape[-1])
    changed = zeros.clone()
    changed[:, -1] = 1.0
    before, after = network.chunk_states(sequence, zeros), network.chunk_states(sequence, changed)
    torch.testing.assert_close(before, network.chunk_states(sequence))
    assert ((before - after).abs().amax(dim=-1) > 1e-6).all()


@torch.no_grad()
def test_autoregressive_logits_do_not_see_later_tokens() -> None:
    network = small.policy().network.eval()
    sequence = network.read(**observations(network))
    tokens = torch.full((4, 28), network.config.vocabulary - 1)
    changed = tokens.clone()
    changed[:, 5:] -= 7
    real = torch.ones_like(tokens, dtype=torch.bool)
    before, after = network.token_logits(sequence, tokens, real), network.token_logits(sequence, changed, real)
    torch.testing.assert_close(before[:, :6], after[:, :6])
    assert not torch.allclose(before[:, 6], after[:, 6])


class Causal(nn.Module):
    """A language model that, like one with its own causal mask, passes over the mask it is given."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, **arguments: Any) -> Any:
        return self.model(**arguments | {"attention_mask": None})


@pytest.mark.parametrize("prediction", ["parallel", "l1", "diffusion"])
def test_parallel_decoding_refuses_a_causal_language_model(prediction: str, monkeypatch: pytest.MonkeyPatch) -> None:
    network = small.policy(prediction=prediction).network.eval()
    inner = network.language_model.base_model
    monkeypatch.setattr(type(network.language_model), "base_model", Causal(inner))
    with pytest.raises(TongsError, match="parallel decoding needs attention in both directions, and LlamaForCausalLM"):
        network.predict(**observations(network), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("prediction", ["autoregressive", "parallel", "l1", "diffusion"])
def test_one_pass_or_many(prediction: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """How often the language model runs for a chunk of 4 actions of 7 numbers."""
    policy = small.policy(prediction=prediction, sampling={"steps": 10})
    network, calls = policy.network.eval(), []
    inputs = observations(network)
    network.predict(**inputs, generator=torch.Generator().manual_seed(0))  # tries out both directions once
    network.language_model.base_model.register_forward_hook(lambda *_: calls.append(1))
    network.predict(**inputs, generator=torch.Generator().manual_seed(0))
    assert len(calls) == {"autoregressive": 28, "parallel": 1, "l1": 1, "diffusion": 10}[prediction]


def test_any_causal_language_model() -> None:
    """Learned positions instead of rotary ones, other module names: the same rows alone and together."""
    settings = {"model_type": "gpt2", "n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 256}
    for prediction in ("autoregressive", "l1"):
        network = small.policy(prediction=prediction, language_model=settings).network.eval()
        inputs = observations(network)
        together = network.predict(**inputs).actions
        alone = torch.cat([network.predict(**row(inputs, index)).actions for index in range(4)])
        torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)


def test_fast_tokens_end_by_themselves() -> None:
    policy = small.policy(action_tokens="fast")
    network = policy.network.eval()
    inputs = observations(network)
    chunk = policy.action_bounds.normalise(torch.from_numpy(small.chunks(4)))
    optimiser = torch.optim.AdamW(network.parameters(), 3e-3)
    for _ in range(120):  # enough to know four chunks by heart
        optimiser.zero_grad()
        result = network.loss(**inputs, actions=chunk, weight=torch.ones(4, 4))
        result["loss"].backward()
        optimiser.step()
    assert result["token_accuracy"] == 1
    prediction = network.predict(**inputs)
    wanted = network.action_tokenizer.encode(chunk)
    assert prediction.tokens is not None
    assert [tokens.tolist() for tokens in prediction.tokens] == [tokens.tolist() for tokens in wanted]
    torch.testing.assert_close(prediction.actions, network.action_tokenizer.decode(wanted))


def test_film_is_the_identity_when_it_is_zero_and_matters_otherwise() -> None:
    towers = (Tower("vit_tiny_patch16_224", {"depth": 3, "embed_dim": 16, "num_heads": 2, "patch_size": 8}),)
    torch.manual_seed(0)
    plain = VisionBackbone(towers, 16)
    film = VisionBackbone(towers, 16, film_width=8)
    film.load_state_dict(plain.state_dict(), strict=False)
    pixels, words = torch.randn(2, 1, 3, 16, 16), torch.randn(2, 8)
    before = film(pixels, words)
    torch.testing.assert_close(before, plain(pixels), atol=1e-5, rtol=1e-5)
    layers: Any = film.film["featurizer"]
    assert len(layers) == 3  # one for every block
    nn.init.ones_(layers[0].shift.bias)
    assert not torch.allclose(film(pixels, words), before)
    patches, layer = torch.randn(2, 5, 16), FilmLayer(8, 16)
    assert torch.equal(layer(patches, words), patches)
    nn.init.constant_(layer.scale.bias, 0.5)
    torch.testing.assert_close(layer(patches, words), 1.5 * patches)


def test_the_published_widths() -> None:
    """openvla-7b: 256 patches of 1024 and 1152, projector 2176-8704-4096-4096, L1 head on 28672."""
    from accelerate import init_empty_weights

    with init_empty_weights():
        projector, head = Projector(2176, 4096, fused=True), L1Head(4096, 7)
    assert projector.fc3 is not None
    assert [projector.fc1.out_features, projector.fc2.out_features, projector.fc3.out_features] == [8704, 4096, 4096]
    assert head.model.fc1.in_features == 28672 and len(head.model.mlp_resnet_blocks) == 2
    assert LLAMA_2_7B["vocab_size"] == 32064


def test_images_and_proprioception_that_do_not_fit() -> None:
    network = small.policy().network.eval()
    statistics: dict[str, Any] = {
        "one": {"action": {"q01": [0.0] * 7, "q99": [1.0] * 7}, "proprio": {"q01": [0.0] * 3, "q99": [1.0] * 3}}
    }
    network.norm_statistics = statistics
    image = np.zeros((20, 40, 3), np.uint8)
    floating: Any = image.astype(np.float32)
    actions = network.predict_action([image, image], "close it", proprioception=np.zeros(3))
    assert actions.shape == (4, 7)
    with pytest.raises(TongsError, match=r"must be uint8 of shape \(height, width, 3\), got float32 \(20, 40, 3\)"):
        network.predict_action([floating, floating], "close it", proprioception=np.zeros(3))
    with pytest.raises(TongsError, match=r"got uint8 \(20, 40\)"):
        resized(image[..., 0], 16, "squash")
    with pytest.raises(TongsError, match="sees through 2 cameras, got images of 1"):
        network.predict_action(image, "close it", proprioception=np.zeros(3))
    with pytest.raises(TongsError, match="needs a proprioception of 3 entries, got none"):
        network.predict_action([image, image], "close it")
    with pytest.raises(TongsError, match="needs a proprioception of 3 entries, got 2"):
        network.predict_action([image, image], "close it", proprioception=np.zeros(2))
    network.norm_statistics = {}
    with pytest.raises(TongsError, match="no dataset statistics"):
        network.predict_action([image, image], "close it", proprioception=np.zeros(3))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"towers": []}, "one or two vision towers, got 0"),
        ({"towers": [{"name": "vit_huge"}]}, "no vision tower 'vit_huge'"),
        ({"towers": [{"name": "vit_tiny_patch16_224", "options": {"speed": 3}}]}, "cannot build the vision tower"),
        ({"towers": [small.SETTINGS["towers"][0], {"name": "convnext_atto"}]}, "must see the same grid of patches"),
        ({"towers": [{"name": "convnext_atto"}], "film": True}, "FiLM needs a vision transformer"),
        ({"prediction": "magic"}, "unknown prediction of a VLA 'magic'"),
        ({"prompt": "go"}, "must hold {instruction}"),
        ({"language_model": {"model_type": "llamb"}}, "transformers cannot build this language model"),
        ({"language_model": {}}, "needs a model_type"),
        ({"prediction": "parallel", "action_tokens": "fast"}, "cannot be predicted in parallel"),
        ({"sampling": {"temperature": -1.0}}, "temperature of sampled actions must be 0 or more, got -1.0"),
        ({"bins": 2}, "at least 3 bin edges"),
        ({"speed": 1}, "unknown setting of VlaConfig 'speed'"),
    ],
)
def test_settings_that_make_no_sense(change: dict[str, Any], message: str) -> None:
    with pytest.raises(TongsError, match=message):
        small.policy(**change)


def test_a_configuration_is_complete_data() -> None:
    config = small.policy().config
    assert isinstance(config, VlaConfig) and isinstance(config.towers[0], Tower)
    assert replace(config, sampling=Sampling(temperature=1.0)).sampling.temperature == 1.0
