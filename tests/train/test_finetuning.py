"""Fine-tuning: which weights are trained, adapters merged and alone, four bits, resuming."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import tongs
from policies.adapters import merged_state
from policies.base import PolicyModule, load_policy
from policies.bits import linear_layers
from policies.encoders.augmentation import chroma_change
from policies.vla.config import Tower, VlaConfig
from policies.vla.model import Size, VisionLanguageAction
from robot.errors import TongsError
from tests.policies import small as beso
from tests.policies.vla import small as vla
from train.adaptation import LoraConfig, adapt, counted

peft = pytest.importorskip("peft")


def saved(folder: Path, kind: str = "beso") -> Path:
    policy = beso.policy() if kind == "beso" else vla.policy(prediction="l1")
    policy.save(folder)
    return folder


def trained(folder: Path, mode: str = "lora", **lora: object) -> PolicyModule:
    """A few steps on one batch."""
    policy = load_policy(folder)
    torch.manual_seed(0)
    adapt(policy, mode, LoraConfig(**{"r": 4, **lora}), folder)
    parameters = [parameter for parameter in policy.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(parameters, 1e-2)
    policy.train()
    for _ in range(3):
        optimiser.zero_grad()
        policy.loss(beso.batch(), torch.Generator().manual_seed(0))["loss"].backward()
        optimiser.step()
    return policy.eval()


def actions(policy: PolicyModule) -> np.ndarray:
    policy.eval().bind(beso.ROBOT)
    policy.reset(3)
    return policy.act(beso.observation()).actions


@pytest.mark.parametrize("kind", ["beso", "vla"])
@pytest.mark.parametrize("merge", [True, False])
def test_an_adapted_policy_is_the_same_when_loaded(kind: str, merge: bool, tmp_path: Path) -> None:
    base = saved(tmp_path / "base", kind)
    policy = trained(base, merge=merge)
    policy.save(tmp_path / "adapted")
    again = load_policy(tmp_path / "adapted")
    np.testing.assert_allclose(actions(again), actions(policy), rtol=2e-4, atol=2e-6)
    assert np.abs(actions(again) - actions(load_policy(base))).max() > 1e-5
    smaller = (tmp_path / "adapted/model.safetensors").stat().st_size < (base / "model.safetensors").stat().st_size
    assert smaller != merge
    assert set(again.state_dict()) == set(load_policy(base).state_dict())


def test_merging_is_what_peft_does(tmp_path: Path) -> None:
    policy = trained(saved(tmp_path / "base"))
    ours = merged_state(policy)
    for module in policy.modules():
        if isinstance(module, peft.tuners.lora.LoraLayer):
            module.merge()  # type: ignore[operator]
    theirs = {name.replace(".base_layer.", "."): v for name, v in policy.state_dict().items() if ".lora_" not in name}
    assert set(ours) == set(theirs)
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value, rtol=1e-5, atol=1e-6)


def test_adapters_begin_as_nothing_and_train_little(tmp_path: Path) -> None:
    base = saved(tmp_path / "base")
    policy = load_policy(base)
    before = actions(policy)
    adapt(policy, "lora", LoraConfig(r=2), base)
    np.testing.assert_allclose(actions(policy), before, rtol=1e-5, atol=1e-7)
    assert policy.adapter is not None and policy.adapter.alpha == 2  # min(r, 16)
    names = [name for name, parameter in policy.named_parameters() if parameter.requires_grad]
    assert names and all(".lora_" in name for name in names)
    down = torch.cat([p.flatten() for n, p in policy.named_parameters() if ".lora_A." in n])
    assert abs(float(down.detach().std()) - 1 / 2) < 0.05  # gaussian of standard deviation 1 / r


def test_openvla_has_the_published_number_of_adapter_weights() -> None:
    """110,828,288 with r = 32, as the official fine-tuning prints for openvla-7b."""
    towers = (
        Tower("vit_large_patch14_reg4_dinov2.lvd142m", {}),
        Tower("vit_so400m_patch14_siglip_224", {}),
    )
    config = VlaConfig(
        towers, 224, {"model_type": "llama", "vocab_size": 32064, "hidden_size": 4096, "intermediate_size": 11008}
    )
    with torch.device("meta"):
        model = VisionLanguageAction(config, Size())
    shapes = [model.get_submodule(name).weight.shape for name in linear_layers(model)]
    assert sum(32 * (shape[0] + int(np.prod(shape[1:]))) for shape in shapes) == 110_828_288


@pytest.mark.parametrize("kind", ["beso", "vla"])
def test_few_layers(kind: str, tmp_path: Path) -> None:
    base = saved(tmp_path / "base", kind)
    counts = {}
    for mode in ("last_layer", "sandwich", "full"):
        policy = load_policy(base)
        adapt(policy, mode, LoraConfig(), base)
        counts[mode] = counted(policy)[0]
        vision = [parameter for part in policy.parts["vision"] for parameter in part.parameters()]
        assert any(parameter.requires_grad for parameter in vision) == (mode != "last_layer")
    assert 0 < counts["last_layer"] < counts["sandwich"] < counts["full"]


def test_an_adapter_without_its_base(tmp_path: Path) -> None:
    policy = trained(saved(tmp_path / "base"), merge=False)
    policy.save(tmp_path / "adapted")
    (tmp_path / "base").rename(tmp_path / "moved")
    with pytest.raises(TongsError, match="only an adapter of .*base, and that is not there"):
        load_policy(tmp_path / "adapted")
    beso.policy(seed=5).save(tmp_path / "base")
    with pytest.raises(TongsError, match="adapter of other weights"):
        load_policy(tmp_path / "adapted")


@pytest.mark.slow  # bitsandbytes compiles its kernels for the CPU at the first call
def test_four_bits(tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes")
    base = saved(tmp_path / "base", "vla")
    policy = trained(base, quantize="nf4")
    policy.save(tmp_path / "adapted")
    whole, plain = counted(policy)[1], sum(p.numel() for p in load_policy(base).parameters())
    assert whole > plain  # four-bit weights count as what they stand for
    np.testing.assert_allclose(actions(load_policy(tmp_path / "adapted")), actions(policy), rtol=2e-3, atol=2e-4)


@pytest.mark.parametrize(
    ("mode", "lora", "message"),
    [
        ("half", {}, "unknown mode of fine-tuning 'half'"),
        ("lora", {"r": 0}, "lora.r must be at least 1"),
        ("lora", {"quantize": "fp3"}, "unknown lora.quantize 'fp3'"),
        ("lora", {"also": ["nothing.*"]}, "no parameter is called nothing"),
    ],
)
def test_settings_that_make_no_sense(mode: str, lora: dict, message: str, tmp_path: Path) -> None:
    with pytest.raises(TongsError, match=message):
        trained(saved(tmp_path / "base"), mode, **lora)


def test_colours_turn_and_grey_stays() -> None:
    matrices = chroma_change(50, 0.2, 0.05, torch.Generator().manual_seed(0), torch.device("cpu"))
    grey = torch.full((3,), 0.4)
    torch.testing.assert_close(matrices @ grey, grey.expand(50, 3), atol=1e-5, rtol=0)
    assert float((matrices @ torch.tensor([1.0, 0.0, 0.0]))[:, 1:].abs().mean()) > 0.01
    torch.testing.assert_close(
        chroma_change(2, 0.0, 0.0, None, torch.device("cpu")), torch.eye(3).expand(2, 3, 3), atol=1e-6, rtol=0
    )


def test_a_policy_in_use_sees_the_middle_of_what_it_was_trained_on() -> None:
    """With a cut, whatever lies outside the middle does not matter."""
    policy = vla.policy(prediction="l1")
    cut = type(policy)(replace(policy.config, cut=0.5), policy.spec, policy.statistics).eval()
    images = beso.batch()["images"]
    edged = {name: values.clone() for name, values in images.items()}
    for values in edged.values():
        values[:, :, :4] = values[:, :, -4:] = 0
        values[:, :, :, :4] = values[:, :, :, -4:] = 0
    torch.testing.assert_close(cut.pixels(images), cut.pixels(edged))
    assert not torch.equal(policy.eval().pixels(images), policy.pixels(edged))
    assert cut.pixels(images).shape == policy.pixels(images).shape


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["task=open_drawer", "episodes=3", "processes=1", f"output={tmp_path / 'data'}"]
    assert tongs.main(["collect", *words]) == 0
    small = [
        *("policy=vla_oft", "image_size=32", "horizon=4", "train.steps=1", "train.batch_size=4", "train.threads=1"),
        *("policy.language_model.hidden_size=32", "policy.language_model.intermediate_size=32"),
        *("policy.language_model.num_hidden_layers=2", "policy.language_model.num_attention_heads=2"),
        *("policy.language_model.num_key_value_heads=2", "held_out=0.3"),
    ]
    data = f"data={tmp_path / 'data'}"
    assert tongs.main(["train", data, f"output={tmp_path / 'base'}", *small]) == 0
    tune = [f"policy={tmp_path / 'base/last'}", data, "lora.r=2", "lora.merge=false", "augmentation.cut=0.95"]
    tune += ["train.batch_size=4", "train.threads=1", "train.log_every=1", "held_out=0.3", f"output={tmp_path / 'run'}"]
    assert tongs.main(["finetune", *tune, "train.steps=1"]) == 0
    assert "parameters (" in capsys.readouterr().out
    report = json.loads((tmp_path / "run/finetune.json").read_text())
    assert 0 < report["share"] < 0.2 and report["memory_gb"] > 0 and report["samples_per_second"] > 0
    assert tongs.main(["finetune", *tune, "train.steps=2", "resume=true"]) == 0
    again = load_policy(tmp_path / "run/last")
    assert again.config.cut == 0.95
    header = json.loads((tmp_path / "run/last/config.json").read_text())
    assert Path(header["adapter"]["base"]) == (tmp_path / "base/last").resolve()
    assert tongs.main(["finetune", *tune[1:], "policy=expert"]) == 2
    assert "starts from a checkpoint of ours" in capsys.readouterr().err
