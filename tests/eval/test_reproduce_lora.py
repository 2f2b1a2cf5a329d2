"""The reproduction of OpenVLA's claim about adapters: what it concludes, and the whole way at the smallest size."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import tongs
from eval.paired import paired_rates
from eval.reproduce_lora import LoraReproductionConfig, claims
from robot.errors import TongsError

pytest.importorskip("peft")


def test_claims_are_judged_by_their_numbers() -> None:
    lora = [True] * 80 + [False] * 20
    near, far = [True] * 82 + [False] * 18, [True] * 40 + [False] * 60
    assert [held for _, held in claims(0.04, paired_rates(near, lora), paired_rates(far, lora))] == [True] * 3
    much = [True] * 90 + [False] * 10
    found = claims(0.06, paired_rates(much, lora), paired_rates(lora, lora))
    assert [held for _, held in found] == [False] * 3
    assert "-10.0 [" in found[0][0] and "6.00 %" in found[1][0]


def test_settings_that_make_no_sense() -> None:
    with pytest.raises(TongsError, match="is pretrained on, so it is no target"):
        LoraReproductionConfig("x", pretrain=("open_drawer",), targets=("open_drawer",))
    with pytest.raises(TongsError, match="unknown split 'novel'"):
        LoraReproductionConfig("x", targets=("open_drawer:novel",))
    with pytest.raises(TongsError, match="rank must be at least 1"):
        LoraReproductionConfig("x", rank=0)


@pytest.mark.slow
@pytest.mark.usefixtures("in_this_process")
def test_the_whole_way(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = "policy.language_model"
    settings = [
        *("image_size=32", "horizon=4", "held_out=0.5", f"{model}.hidden_size=32", f"{model}.intermediate_size=32"),
        *(f"{model}.num_hidden_layers=1", f"{model}.num_attention_heads=2", f"{model}.num_key_value_heads=2"),
    ]
    words = [
        *("pretrain=open_drawer", "targets=close_drawer", "demonstrations=3", "few=3", "episodes=1", "rank=2"),
        *("pretrain_steps=1", "adapt_steps=1", "batch_size=4", "threads=1", "processes=1"),
        *(f"settings={','.join(settings)}", f"output={tmp_path / 'out'}"),
    ]
    assert tongs.main(["reproduce", "openvla-lora", *words]) == 0
    report = (tmp_path / "out/report.md").read_text()
    assert "| close_drawer |" in report and "## Claims" in report
    assert 0 < json.loads((tmp_path / "out/report.json").read_text())["share"] < 1
    before = (tmp_path / "out/runs/pretrain/last").resolve().stat().st_mtime_ns
    assert tongs.main(["reproduce", "openvla-lora", *words]) == 0  # nothing is done twice
    assert (tmp_path / "out/runs/pretrain/last").resolve().stat().st_mtime_ns == before
    capsys.readouterr()
    assert tongs.main(["reproduce", "openvla-lora", *words, "rank=3"]) == 2
    assert "holds a reproduction with rank=2, not 3" in capsys.readouterr().err
