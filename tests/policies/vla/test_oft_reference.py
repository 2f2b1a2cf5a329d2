"""OFT here against openvla-oft's own code (with its fork of transformers) at tiny size; see fixtures.md."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from policies.vla.action_heads import DiffusionHead
from policies.vla.bounds import Bounds
from policies.vla.config import Sampling
from policies.vla.model import Size, VisionLanguageAction
from policies.vla.oft_checkpoint import LIBERO, Platform, read_oft, write_oft
from policies.vla.sequence import multimodal
from robot.errors import TongsError
from tests.policies.vla.published import Reference, openvla_folder, weight, weights

OPENVLA, OFT = Reference("openvla"), Reference("oft")


def oft_folder(folder: Path, *parts: str, prefix: str = "module.") -> Path:
    """The merged model and some parts as openvla-oft saves them."""
    openvla_folder(folder, OPENVLA)
    for part in parts:
        name = "action_head" if part == "diffusion_head" else part
        values = {key.partition(".")[2]: value for key, value in weights(OFT.note("heads")[part]).items()}
        torch.save({prefix + key: value for key, value in values.items()}, folder / f"{name}--5_checkpoint.pt")
    return folder


def film_towers() -> dict[str, torch.Tensor]:
    """The towers of a FiLM checkpoint: weights by their names without FiLM's wrapper, FiLM's by their own."""
    towers = {}
    for name, shape in OFT.note("film").items():
        own = ".scale." in name or ".shift." in name
        towers[name] = 0.3 * weight("film." + name, shape) if own else weight(name.replace(".block.", "."), shape)
    return towers


def ask(model: VisionLanguageAction) -> np.ndarray:
    """Chunks in the units of "tiny_a" for the two observations of the reference, asked for together."""
    images = [OPENVLA["image"].numpy(), OPENVLA["image_2"].numpy()]
    pixels = model.pixel_values([images, images[::-1]])
    statistics = model.norm_statistics["tiny_a"]
    scaling = Bounds(statistics, "proprio", 8, limit_unmasked=True)
    texts = [OPENVLA["prompt"][0], OPENVLA["prompt_2"][0]]
    prediction = model.predict(texts, pixels, scaling.normalise(OFT["proprio"].float()))
    return Bounds(statistics, "action", 7).physical(prediction.actions).numpy()


def test_l1_head(tmp_path: Path) -> None:
    model = read_oft(oft_folder(tmp_path, "action_head", "proprio_projector"), LIBERO)
    assert model.size == Size(cameras=2, state=8, horizon=8, actions=7)
    np.testing.assert_allclose(ask(model), OFT["l1.predicted"].numpy(), atol=1e-5)


def test_discrete_tokens_in_parallel(tmp_path: Path) -> None:
    model = read_oft(oft_folder(tmp_path, "proprio_projector", prefix=""), LIBERO)
    np.testing.assert_allclose(ask(model), OFT["discrete.predicted"].numpy(), atol=1e-6)


@torch.no_grad()
def test_hidden_states_are_read_one_place_early(tmp_path: Path) -> None:
    model = read_oft(oft_folder(tmp_path, "action_head", "proprio_projector"), LIBERO)
    images = [OPENVLA["image"].numpy(), OPENVLA["image_2"].numpy()]
    scaling = Bounds(model.norm_statistics["tiny_a"], "proprio", 8, limit_unmasked=True)
    state = scaling.normalise(OFT["proprio"].float())
    texts = [OPENVLA["prompt"][0], OPENVLA["prompt_2"][0]]
    states = model.chunk_states(model.read(texts, model.pixel_values([images, images[::-1]]), state))
    assert states.shape == (2, 56, 32)
    torch.testing.assert_close(states, OFT["l1.hidden"], atol=1e-4, rtol=1e-4)
    assert model.action_head is not None
    torch.testing.assert_close(model.action_head(states), OFT["l1.actions"], atol=1e-4, rtol=1e-4)


def diffusion(folder: Path) -> VisionLanguageAction:
    parts = ("diffusion_head", "proprio_projector", "noisy_action_projector")
    return read_oft(oft_folder(folder, *parts), LIBERO)


@torch.no_grad()
def test_diffusion_head_in_training(tmp_path: Path) -> None:
    model = diffusion(tmp_path)
    head = model.action_head
    assert isinstance(head, DiffusionHead)
    levels = OFT["diffusion.timesteps"]
    mixed = head.noisy(OFT["diffusion.clean"], OFT["diffusion.added"], levels)
    torch.testing.assert_close(mixed, OFT["diffusion.mixed"], atol=1e-5, rtol=1e-5)
    images = [OPENVLA["image"].numpy(), OPENVLA["image_2"].numpy()]
    scaling = Bounds(model.norm_statistics["tiny_a"], "proprio", 8, limit_unmasked=True)
    state = scaling.normalise(OFT["proprio"].float())
    image = model.with_level(model.see(model.pixel_values([images, images[::-1]]), state, None), levels)
    texts = [OPENVLA["prompt"][0], OPENVLA["prompt_2"][0]]
    noise = model.noise(multimodal(texts, image, model.embed), OFT["diffusion.noisy"])
    torch.testing.assert_close(noise, OFT["diffusion.noise"], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("steps", [10, 50])
def test_diffusion_head_from_the_same_noise(tmp_path: Path, steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    model = diffusion(tmp_path)
    model.config = replace(model.config, sampling=Sampling(steps=steps))
    start, randn = OFT[f"diffusion.start_{steps}"], torch.randn
    monkeypatch.setattr(
        torch,
        "randn",
        lambda *size, **options: start.expand(*size[0]) if size == ((2, 8, 7),) else randn(*size, **options),
    )
    np.testing.assert_allclose(ask(model)[0], OFT[f"diffusion.predicted_{steps}"].numpy(), atol=1e-4)


def test_film(tmp_path: Path) -> None:
    folder = oft_folder(tmp_path, "action_head", "proprio_projector")
    torch.save(film_towers(), folder / "vision_backbone--5_checkpoint.pt")
    model = read_oft(folder, LIBERO)
    assert model.config.film
    words = model.embed(OPENVLA["prompt"][0]).mean(dim=0, keepdim=True)
    images = [OPENVLA["image"].numpy(), OPENVLA["image_2"].numpy()]
    features = model.vision_backbone(model.pixel_values([images]), words)[:, : model.vision_backbone.patches]
    torch.testing.assert_close(features, OFT["film.features"], atol=1e-4, rtol=1e-4)
    np.testing.assert_allclose(ask(model), OFT["film.predicted"].numpy(), atol=1e-5)


def test_film_towers_with_unmerged_lora(tmp_path: Path) -> None:
    """OFT saves the towers of a FiLM model with their LoRA beside the base weights, alpha = min(r, 16)."""
    towers, rank, name = film_towers(), 32, "vision_backbone.featurizer.blocks.0.block.mlp.fc1"
    down, up = torch.randn(rank, 32) * 0.05, torch.randn(128, rank) * 0.05
    plain = towers.pop(f"{name}.weight")
    towers |= {f"{name}.base_layer.weight": plain, f"{name}.base_layer.bias": towers.pop(f"{name}.bias")}
    towers |= {f"{name}.lora_A.default.weight": down, f"{name}.lora_B.default.weight": up}
    folder = oft_folder(tmp_path, "action_head", "proprio_projector")
    torch.save(towers, folder / "vision_backbone--5_checkpoint.pt")
    merged = read_oft(folder, LIBERO).state_dict()["vision_backbone.featurizer.blocks.0.mlp.fc1.weight"]
    torch.testing.assert_close(merged, plain + 0.5 * up @ down)


@pytest.mark.parametrize("film", [False, True])
def test_it_writes_what_it_reads(tmp_path: Path, film: bool) -> None:
    folder = oft_folder(tmp_path / "theirs", "action_head", "proprio_projector")
    if film:
        torch.save(film_towers(), folder / "vision_backbone--5_checkpoint.pt")
    model = read_oft(folder, LIBERO)
    write_oft(tmp_path / "ours", model, step=7, shard_size="3MB")
    again = read_oft(tmp_path / "ours", LIBERO)
    np.testing.assert_array_equal(ask(again), ask(model))
    names = {file.name for file in (tmp_path / "ours").iterdir()}
    assert {"action_head--7_checkpoint.pt", "proprio_projector--7_checkpoint.pt", "dataset_statistics.json"} <= names
    assert len(list((tmp_path / "ours").glob("*.safetensors"))) > 1
    if film:
        saved = torch.load(tmp_path / "ours" / "vision_backbone--7_checkpoint.pt", weights_only=True)
        assert {name: list(value.shape) for name, value in saved.items()} == OFT.note("film")


def test_a_lora_adapter_folder(tmp_path: Path) -> None:
    """peft itself merges the same adapter to the same logits."""
    peft = pytest.importorskip("peft")
    from policies.vla.openvla_checkpoint import read_openvla

    base = openvla_folder(tmp_path / "base", OPENVLA)
    adapted = read_openvla(base)
    config = peft.LoraConfig(r=4, lora_alpha=2, target_modules=["q_proj", "fc1", "qkv"], init_lora_weights="gaussian")
    wrapped = peft.get_peft_model(adapted, config)
    with torch.no_grad():
        for name, parameter in wrapped.named_parameters():
            if "lora_B" in name:
                parameter.copy_(weight(name, list(parameter.shape)))
    wrapped.save_pretrained(tmp_path / "oft" / "lora_adapter")
    (tmp_path / "oft" / "dataset_statistics.json").write_text(json.dumps(adapted.norm_statistics))
    expected = wrapped.merge_and_unload().state_dict()
    with pytest.raises(TongsError, match="holds only a LoRA adapter; say where .* is"):
        read_oft(tmp_path / "oft", LIBERO)
    platform = Platform(horizon=1, cameras=1)
    merged = read_oft(tmp_path / "oft", platform, base=base).state_dict()
    changed = [name for name in merged if not torch.equal(merged[name], weight_of(base, name))]
    blocks = 3 + 4  # of the towers; the second one's attention pooling and the projector have a fc1, too
    assert len(changed) == 3 + blocks + blocks + 2
    for name, value in expected.items():
        torch.testing.assert_close(merged[name], value)


def weight_of(folder: Path, name: str) -> torch.Tensor:
    from policies.vla.openvla_checkpoint import to_published

    return weight(to_published(name), OPENVLA.note("shapes")[to_published(name)])


def test_parts_of_several_steps(tmp_path: Path) -> None:
    folder = oft_folder(tmp_path, "action_head")
    (folder / "action_head--10_checkpoint.pt").write_bytes((folder / "action_head--5_checkpoint.pt").read_bytes())
    with pytest.raises(TongsError, match=r"action_head of several steps \(action_head--10_checkpoint.pt, action"):
        read_oft(folder, LIBERO)


def test_a_head_for_another_action_size(tmp_path: Path) -> None:
    folder = oft_folder(tmp_path, "action_head", "proprio_projector")
    with pytest.raises(TongsError, match=r"'action_head.model.layer_norm1.weight' has shape \(224,\) and should have"):
        read_oft(folder, replace(LIBERO, actions=14))


def test_no_model_at_all(tmp_path: Path) -> None:
    with pytest.raises(TongsError, match="holds neither a model nor a lora_adapter folder"):
        read_oft(tmp_path, LIBERO)
