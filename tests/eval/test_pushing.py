"""Evaluating in the pushing world, and BESO's reproduction with everything small."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

import tongs
from eval.pushing import PushEpisode, coverage, mean_interval, roll_out, roll_out_expert
from eval.reproduce_beso import ReproductionConfig, reproduce
from eval.reproduce_beso_report import claims
from policies.base import PolicyModule, policy_class
from robot.errors import TongsError
from robot.interface import PLANAR_DELTA, PolicySpec
from sim.block_push.world import STATE_NAMES


def test_the_expert_solves_scenes_through_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["eval", "task=block_push", "policy=expert", "scenes=5:9", f"output={tmp_path}"]
    assert tongs.main(words) == 0
    assert "result: 1.000" in capsys.readouterr().out
    written = json.loads((tmp_path / "results.json").read_text())
    assert [episode["scene"] for episode in written["episodes"]] == [5, 6, 7, 8]
    assert written["result"]["episodes"] == 4
    assert tongs.main([*words, "wording=unseen"]) == 2
    assert "wording means nothing to task=block_push" in capsys.readouterr().err


def test_coverage_is_an_entropy() -> None:
    def episodes(*ways: tuple[int, int] | None) -> list[PushEpisode]:
        return [PushEpisode(0, 1.0, 1.0, *(way or (None, None)), 100) for way in ways]

    assert coverage(episodes((0, 0), (0, 1), (1, 0), (1, 1))) == pytest.approx(1.0)
    assert coverage(episodes((0, 0), (0, 0), (1, 1), (1, 1))) == pytest.approx(0.5)
    assert coverage(episodes((0, 0), (0, 0), None)) == 0.0
    assert coverage(episodes(None)) == 0.0


def test_the_interval_is_wilson_s() -> None:
    mean = mean_interval([1.0, 0.5, 0.5, 0.0] * 25)
    z, n = 1.959964, 100
    centre = (0.5 + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(0.25 / n + z**2 / (4 * n**2))
    assert (mean.mean, mean.low, mean.high) == pytest.approx((0.5, centre - half, centre + half), rel=1e-5)


def policy(family: str = "bc") -> PolicyModule:
    kind = policy_class(family)
    config = kind.config_class(window=2, observation="state", goal="state", goal_tokens=1, width=8, layers=1, heads=1)
    bounds = {"mean": 0.0, "std": 0.1, "min": -0.02, "q01": -0.02, "q99": 0.02, "max": 0.02}
    statistics = {
        key: {name: [value] * size for name, value in bounds.items()}
        for key, size in (("observation.state", 10), ("action", 2))
    }
    torch.manual_seed(0)
    spec = PolicySpec({}, STATE_NAMES, PLANAR_DELTA, 1, goals=("state",))
    return kind(config, spec, statistics)  # type: ignore[call-arg]


def test_roll_outs_are_those_of_single_worlds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sim.block_push.world.MAX_STEPS", 20)
    built = policy().eval()
    with torch.no_grad():
        built.transformer.head.bias.copy_(torch.tensor([1.0, 0.3]))  # type: ignore[union-attr, operator]
    together = roll_out(built, [0, 1, 2])
    assert together == [roll_out(built, [scene])[0] for scene in (0, 1, 2)]
    assert {episode.steps for episode in together} == {20}
    assert roll_out_expert([0])[0].steps <= 20


def test_claims() -> None:
    def row(result: float, seconds: float = 0.01, reward: float = 0.95) -> dict:
        values = [1.0] * round(300 * result) + [0.0] * round(300 * (1 - result))
        rewards = [1.0] * round(300 * reward) + [0.0] * round(300 * (1 - reward))
        return {"result": mean_interval(values), "reward": mean_interval(rewards), "seconds": seconds}

    a = {
        ("C-BESO", None): row(0.9),
        ("CFG-BESO", 0.0): row(0.47),
        ("GC-BC", None): row(0.6),
        ("C-BeT", None): row(0.87),
        ("DDPM", None): row(0.9, 0.1),
    }
    b = {("ddim", 3): row(0.9), ("ddim", 50): row(0.95)}
    assert [held for _, held in claims(a, b)] == [False, True, False, True, True]
    assert claims({}, {}) == []


def test_reproduction_goes_on_where_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sim.block_push.world.MAX_STEPS", 5)
    config = ReproductionConfig(
        str(tmp_path),
        seeds=2,
        rollouts=2,
        guidance=(0.0, 2.0),
        samplers=("ddim",),
        sampler_steps=(1, 3),
        sampler_rollouts=1,
        coverage_rollouts=2,
        policies=("C-BESO", "CFG-BESO", "GC-BC"),
        threads=1,
    )
    trained: list[str] = []

    def train(words: list[str], run: Path) -> None:
        if len(trained) == 4:
            trained.append("interrupted")
            raise KeyboardInterrupt
        trained.append(run.name)
        assert "policy.goal=state" in words and "goals.last=1.0" in words
        family = next(word for word in words if word.startswith("policy="))
        policy(family.removeprefix("policy=")).save(run / "last")

    def collect(folder: Path, demonstrations: int) -> Path:
        return folder / "data"

    with pytest.raises(KeyboardInterrupt):
        reproduce(config, collect, train)
    report = reproduce(config, collect, train).read_text()
    assert [name for name in trained if name != "interrupted"] == [
        f"{name}-{seed}" for seed in range(2) for name in ("C-BESO", "CFG-BESO", "GC-BC")
    ]
    for line in ("| CFG-BESO | 2 | 0.00 [", "| ddim | 0.00 (", "| GC-BC | 0.00 |", "- does not hold: result of C-BESO"):
        assert line in report
    assert (tmp_path / "figure.png").stat().st_size > 10_000
    cells = {file.name: file.stat().st_mtime_ns for file in (tmp_path / "cells").iterdir()}
    assert len(cells) == 2 * (1 + 2 + 1) + 2 + 2 * 2
    reproduce(config, collect, train)
    assert cells == {file.name: file.stat().st_mtime_ns for file in (tmp_path / "cells").iterdir()}
    with pytest.raises(TongsError, match="holds a reproduction with seeds=2, not 3"):
        reproduce(ReproductionConfig(**{**vars(config), "seeds": 3}), collect, train)
    assert np.isfinite(json.loads((tmp_path / "cells" / "b_ddim_3.json").read_text())["seconds"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"policies": ("BESO",)}, "unknown policy 'BESO'.*C-BESO"),
        ({"samplers": ("plms",)}, "unknown sampler 'plms'.*ddim"),
        ({"rollouts": 0}, "rollouts must be at least 1, got 0"),
    ],
)
def test_bad_settings(changes: dict, message: str) -> None:
    with pytest.raises(TongsError, match=message):
        ReproductionConfig("x", **changes)
