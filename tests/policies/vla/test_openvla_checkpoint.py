"""OpenVLA's folders, both ways, and what is wrong with some."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from policies.vla.model import Size, VisionLanguageAction
from policies.vla.openvla_checkpoint import openvla_7b, read_openvla, write_native, write_openvla
from robot.errors import TongsError
from tests.policies.vla import small
from tests.policies.vla.published import Reference, openvla_folder

REFERENCE = Reference("openvla")
FIRST_SHARD = "model-00001-of-00002.safetensors"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return openvla_folder(tmp_path / "published", REFERENCE)


def greedy(model: VisionLanguageAction) -> torch.Tensor:
    pixels = model.pixel_values([[REFERENCE["image"].numpy()], [REFERENCE["image_2"].numpy()]])
    prediction = model.predict([REFERENCE["prompt"][0], REFERENCE["prompt_2"][0]], pixels, None)
    assert prediction.tokens is not None
    return torch.stack(prediction.tokens)


def test_hugging_face_layout_both_ways(folder: Path, tmp_path: Path) -> None:
    write_openvla(tmp_path / "ours", read_openvla(folder), shard_size="3MB")
    theirs = json.loads((folder / "model.safetensors.index.json").read_text())["weight_map"]
    ours = json.loads((tmp_path / "ours" / "model.safetensors.index.json").read_text())["weight_map"]
    assert set(ours) == set(theirs) and len(set(ours.values())) > 1
    for file in set(ours.values()):
        for name, value in load_file(tmp_path / "ours" / file).items():
            assert torch.equal(value, load_file(folder / theirs[name])[name])
    written = json.loads((tmp_path / "ours" / "config.json").read_text())
    for name, value in REFERENCE.note("config").items():
        if name not in ("text_config", "transformers_version"):
            assert written[name] == value, name
    for name, value in REFERENCE.note("config")["text_config"].items():
        assert name in ("torch_dtype", "transformers_version") or written["text_config"][name] == value, name
    assert torch.equal(greedy(read_openvla(tmp_path / "ours")), REFERENCE["greedy"])


def test_native_layout_both_ways(folder: Path, tmp_path: Path) -> None:
    model = read_openvla(folder)
    write_native(tmp_path / "native", model)
    parts = torch.load(tmp_path / "native" / "checkpoints" / "latest-checkpoint.pt", weights_only=True)["model"]
    assert set(parts) == {"vision_backbone", "projector", "llm_backbone"}
    assert "dino_featurizer.blocks.0.ls1.gamma" in parts["vision_backbone"]
    assert "siglip_featurizer.attn_pool.latent" in parts["vision_backbone"]
    assert set(parts["projector"]) == {
        f"projector.{layer}.{kind}" for layer in (0, 2, 4) for kind in ("weight", "bias")
    }
    assert "llm.model.embed_tokens.weight" in parts["llm_backbone"]
    assert torch.equal(greedy(read_openvla(tmp_path / "native")), REFERENCE["greedy"])


def test_native_files_execute_nothing(folder: Path, tmp_path: Path) -> None:
    write_native(tmp_path / "native", read_openvla(folder))
    torch.save({"model": Path("x")}, tmp_path / "native" / "checkpoints" / "latest-checkpoint.pt")
    with pytest.raises(TongsError, match="is damaged, or holds more than tensors"):
        read_openvla(tmp_path / "native")


def test_half_precision_stays(folder: Path) -> None:
    model = read_openvla(folder, dtype=torch.bfloat16)
    assert {value.dtype for value in model.state_dict().values()} == {torch.bfloat16}
    assert greedy(model).shape == (2, 7)


def test_another_architecture(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["text_config"]["num_hidden_layers"] = 4
    config["timm_model_options"][0]["depth"] = 2
    (folder / "config.json").write_text(json.dumps(config))
    missing = r"'language_model.model.layers.3.self_attn.q_proj.weight' is missing \(9 in all\)"
    with pytest.raises(TongsError, match=missing + r" and weight 'vision_backbone.featurizer.blocks.2.* \(14 in all\)"):
        read_openvla(folder)


def test_a_weight_of_another_shape(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["text_config"]["intermediate_size"] = 40
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(TongsError, match=r"gate_proj.weight' has shape \(48, 32\) and should have \(40, 32\)"):
        read_openvla(folder)


def test_damaged_or_incomplete_folders(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(TongsError, match="is no OpenVLA checkpoint: it has no config.json"):
        read_openvla(tmp_path)
    values = {name: value.clone() for name, value in load_file(folder / FIRST_SHARD).items()}
    (folder / FIRST_SHARD).write_bytes(b"nothing")
    with pytest.raises(TongsError, match=f"{FIRST_SHARD} is damaged"):
        read_openvla(folder)
    (folder / FIRST_SHARD).unlink()
    with pytest.raises(TongsError, match=f"has no {FIRST_SHARD}"):
        read_openvla(folder)
    save_file({name: value for name, value in values.items() if "scale_factor" not in name}, folder / FIRST_SHARD)
    with pytest.raises(TongsError, match=r"weight 'vision_backbone.featurizer.blocks.0.ls1.gamma' is missing"):
        read_openvla(folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "llava"}))
    with pytest.raises(TongsError, match="is of model type 'llava', not 'openvla'"):
        read_openvla(folder)


def test_which_dataset(folder: Path) -> None:
    model = read_openvla(folder)
    image = REFERENCE["image"].numpy()
    with pytest.raises(TongsError, match="choose the unnorm_key, one of: tiny_a, tiny_b"):
        model.predict_action(image, "close it")
    with pytest.raises(TongsError, match="unknown unnorm_key 'bridge_orig'; this model was trained on: tiny_a, tiny_b"):
        model.predict_action(image, "close it", "bridge_orig")


def test_pruned_towers_have_no_place_there(tmp_path: Path) -> None:
    with pytest.raises(TongsError, match="pruned towers has no place in OpenVLA's layout"):
        write_openvla(tmp_path / "new", small.policy().network)


def test_the_7b_architecture() -> None:
    """Its number of parameters and widths, without memory for them."""
    from accelerate import init_empty_weights

    with init_empty_weights(include_buffers=False):
        model = VisionLanguageAction(openvla_7b(), Size())
    assert model.vision_backbone.patches == 256 and model.vision_backbone.width == 1024 + 1152
    assert sum(parameter.numel() for parameter in model.parameters()) == 7_541_237_184
    assert model.embed.num_embeddings == 32064 and model.config.vocabulary == 32000
    assert model.action_tokenizer.first == 31744


@pytest.mark.skipif("TONGS_OPENVLA_7B" not in os.environ, reason="TONGS_OPENVLA_7B names no folder of openvla-7b")
def test_the_real_openvla_7b() -> None:
    """Loads strictly, tokenises as transformers does with the folder's own tokenizer, and acts in Bridge's units."""
    from transformers import AutoTokenizer

    folder = Path(os.environ["TONGS_OPENVLA_7B"])
    model = read_openvla(folder, dtype=torch.bfloat16)
    words = "In: What action should the robot take to pick up the spoon?\nOut:"
    assert model.prompter.ids("Pick up the spoon").tolist() == [
        *AutoTokenizer.from_pretrained(folder)(words).input_ids,
        29871,
    ]
    image = np.random.default_rng(0).integers(0, 256, (224, 224, 3), dtype=np.uint8)
    with pytest.raises(TongsError, match="bridge_orig"):
        model.predict_action(image, "pick up the spoon")
    assert model.predict_action(image, "pick up the spoon", "bridge_orig").shape == (7,)
