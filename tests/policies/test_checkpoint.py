"""Saving and loading a policy."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from policies import checkpoint
from policies.base import load_policy
from policies.beso.model import Beso
from robot.errors import TongsError
from tests.policies import small


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    small.policy().save(tmp_path / "policy")
    return tmp_path / "policy"


def edit(file: Path, **changes: object) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def test_round_trip_gives_the_same_actions_bit_for_bit(tmp_path: Path) -> None:
    policy = small.policy().eval()
    policy.sampling = replace(policy.sampling, steps=5, sampler="heun")
    policy.trained_on = ("panda_bullet", "panda_mujoco")
    policy.save(tmp_path / "policy", card="# Mine\n")
    loaded = load_policy(tmp_path / "policy")
    assert isinstance(loaded, Beso) and not loaded.training
    assert loaded.spec == policy.spec and loaded.config == policy.config and loaded.statistics == policy.statistics
    actions = [each.predict(small.batch(), torch.Generator().manual_seed(3)) for each in (policy, loaded)]
    assert torch.equal(*actions)
    assert loaded.trained_on == policy.trained_on
    assert (tmp_path / "policy" / "README.md").read_text() == "# Mine\n"


def test_a_checkpoint_from_before_it_said_where_it_was_trained_still_loads(folder: Path) -> None:
    header = json.loads((folder / "config.json").read_text())
    del header["trained_on"]
    (folder / "config.json").write_text(json.dumps(header))
    assert load_policy(folder).trained_on == ()


def test_a_folder_holds_four_files_and_no_text_encoder(folder: Path) -> None:
    assert {file.name for file in folder.iterdir()} == {
        "config.json", "model.safetensors", "statistics.json", "README.md"
    }  # fmt: skip
    assert json.loads((folder / "config.json").read_text())["config"]["text_encoder"] == "all-MiniLM-L6-v2"
    assert not [name for name in load_file(folder / "model.safetensors") if "text_encoder" in name]
    assert "7 state" not in (folder / "README.md").read_text()
    assert "ee_delta" in (folder / "README.md").read_text()


def test_overwriting_replaces_the_whole_folder_and_leaves_nothing_beside_it(folder: Path) -> None:
    other = small.policy(seed=1)
    other.save(folder)
    assert torch.equal(
        load_policy(folder).state_dict()["text_reader.queries"], other.state_dict()["text_reader.queries"]
    )
    assert [entry.name for entry in folder.parent.iterdir()] == ["policy"]


def test_a_failed_write_leaves_the_earlier_checkpoint(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = (folder / "model.safetensors").read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "_synchronise", full)
    with pytest.raises(TongsError, match="No space left on device"):
        small.policy(seed=1).save(folder)
    assert (folder / "model.safetensors").read_bytes() == before
    assert [entry.name for entry in folder.parent.iterdir()] == ["policy"]


def test_a_failed_rename_brings_the_earlier_checkpoint_back(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = (folder / "model.safetensors").read_bytes()
    rename = Path.rename

    def fail_into_place(self: Path, target: Path) -> Path:
        if target == folder and not self.name.startswith(".policy-earlier-"):
            raise OSError(5, "Input/output error")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail_into_place)
    with pytest.raises(TongsError, match="Input/output error"):
        small.policy(seed=1).save(folder)
    assert (folder / "model.safetensors").read_bytes() == before
    assert [entry.name for entry in folder.parent.iterdir()] == ["policy"]


def test_something_else_is_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(TongsError, match="is not a checkpoint"):
        small.policy().save(tmp_path)
    assert (tmp_path / "thesis.txt").exists()


def test_missing_and_unexpected_weights_are_named(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights["stray"] = weights.pop("text_reader.queries")
    save_file(weights, folder / "model.safetensors")
    with pytest.raises(TongsError, match="'text_reader.queries' is missing .* 'stray' is not expected"):
        load_policy(folder)


def test_weights_of_another_shape_are_named(folder: Path) -> None:
    header = json.loads((folder / "config.json").read_text())
    edit(folder / "config.json", config=header["config"] | {"width": 64})
    with pytest.raises(TongsError, match=r"score_transformer.position.* \(7, 32\) and should have \(7, 64\)"):
        load_policy(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"policy": "magic"}, "unknown policy family 'magic'; known are: bc, beso"),
        ({"format_version": 99}, "format version 99; this program reads 1"),
        ({"config": {}}, "setting 'window' of BesoConfig is missing"),
        ({"config": {"depth": 3}}, "unknown setting of BesoConfig 'depth'"),
        ({"spec": {"cameras": {}}}, "spec in .* is damaged"),
    ],
)
def test_damaged_config(folder: Path, changes: dict[str, object], message: str) -> None:
    if "depth" in changes.get("config", {}):  # type: ignore[operator]
        whole = json.loads((folder / "config.json").read_text())["config"]
        changes = {"config": whole | changes["config"]}  # type: ignore[operator]
    edit(folder / "config.json", **changes)
    with pytest.raises(TongsError, match=message):
        load_policy(folder)


def test_missing_and_damaged_files(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(TongsError, match="has no config.json"):
        load_policy(tmp_path)
    weights = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    with pytest.raises(TongsError, match="model.safetensors is damaged"):
        load_policy(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(TongsError, match="has no model.safetensors"):
        load_policy(folder)
    (folder / "config.json").write_text("{")
    with pytest.raises(TongsError, match="config.json is damaged"):
        load_policy(folder)
