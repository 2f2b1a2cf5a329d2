"""RT-H's reproduction: what is trained and measured, that it goes on where it stopped, and the claims."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eval.action_error import PREDICTED, TRUE, action_change, action_error
from eval.reproduce_rth import METHODS, TAUGHT, RthReproductionConfig, _words, reproduce
from eval.reproduce_rth_report import claims
from robot.errors import TongsError

TINY = (
    "policy.vla.towers=[{name: vit_tiny_patch16_224, options: {depth: 2, embed_dim: 16, num_heads: 2, patch_size: 8}}]",
    *(
        f"policy.vla.language_model.{name}={value}"
        for name, value in (
            ("hidden_size", 32),
            ("intermediate_size", 64),
            ("num_hidden_layers", 1),
            ("num_attention_heads", 2),
            ("num_key_value_heads", 2),
        )
    ),
    "policy.motion_tokens=40",
    "horizon=6",
    "held_out=0.4",
)
"""A network that learns nothing in two steps, and takes no time either."""


def test_every_method_is_a_configuration_of_the_same_code() -> None:
    from configs.composition import compose
    from policies.configuration import configuration
    from policies.rth.config import RthConfig
    from policies.vla.config import VlaConfig

    for words in METHODS.values():
        settings = compose("train", ["data=unused", "policy=rth", *words])["policy"]
        assert settings.pop("family") == "rth" and settings.pop("backbone") is None
        vla = settings.pop("vla") | {"image_size": 96, "prompt": "{instruction}"}
        config = configuration(RthConfig, settings | {"vla": configuration(VlaConfig, vla)})
        assert (config.mixture.flat, config.mixture.motion, config.mixture.action) == (0.5, 0.25, 0.25)
    for taught in TAUGHT.values():
        stage = compose("train", ["data=unused", "policy=rth", *taught.words])["stage"]
        assert stage in ("corrections", "interventions") and taught.base in METHODS


def test_words_of_a_training() -> None:
    config = RthReproductionConfig("x", ahead=2, extra=("horizon=6",))
    words = _words(config, [Path("a"), Path("b")], METHODS["RT-H-OneHot"], 1, 300)
    assert {"data=a,b", "policy=rth", "policy.labels=ids", "policy.ahead=2", "train.seed=1", "train.steps=300"} <= set(
        words
    )
    assert "train.warmup_steps=30" in words and words[-1] == "horizon=6"
    assert "train.warmup_steps=100" in _words(config, [Path("a")], (), 0, 3000, 100)


def cell(measure: str, method: str, rate: float, seed: int = 0) -> dict[str, Any]:
    won = [["open_drawer", scene, scene < 100 * rate] for scene in range(100)]
    return {"measure": measure, "method": method, "seed": seed, "episodes": won}


def errors(method: str, motions: str, mean: float) -> dict[str, Any]:
    spread = np.random.default_rng(1).normal(size=40) * 0.1
    return {"measure": f"error-{motions}", "method": method, "seed": 0, "episodes": (mean + spread).tolist()}


def test_claims() -> None:
    measured = [
        cell("success", "flat", 0.4),
        cell("success", "RT-H", 0.45),
        cell("helped", "RT-H", 0.7),
        cell("success", "RT-H-Intervene", 0.5),
        cell("success", "IWR", 0.5),
        errors("RT-H", TRUE, 1.0),
        errors("RT-H", PREDICTED, 1.1),
        errors("flat", PREDICTED, 1.1),
    ]
    assert [held for _, held in claims(measured)] == [True, False, True, True, False, False]
    better = [*measured[:3], cell("success", "RT-H-Intervene", 0.65), *measured[4:7], errors("flat", PREDICTED, 1.3)]
    assert [held for _, held in claims(better)] == [True] * 6
    assert claims([]) == []
    assert "by 0.1000 [0.1000, 0.1000]" in claims(measured)[0][0]  # pair by pair the same difference


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"methods": ("flat", "RT-X")}, "unknown method 'RT-X'.*RT-H-Joint"),
        ({"tasks": ("compose",)}, "unknown task 'compose'"),
        ({"taught": ("YAY",)}, "unknown taught method 'YAY'"),
        ({"methods": ("RT-H",)}, "IWR begins with flat, which must be among the methods"),
        ({"episodes": 0}, "episodes must be at least 1, got 0"),
    ],
)
def test_bad_settings(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(TongsError, match=message):
        RthReproductionConfig("x", **changes)


@pytest.mark.slow
@pytest.mark.usefixtures("in_this_process")
def test_it_runs_from_end_to_end_and_goes_on_where_it_stopped(tmp_path: Path) -> None:
    """Real demonstrations, labels, trainings, corrections and evaluations, of tiny size."""
    import tongs
    from eval.policies import choose_policy
    from train.demonstrations import CollectConfig
    from train.demonstrations import collect as collect_demonstrations
    from train.state import has_state

    trained: list[str] = []

    def collect(folder: Path, tasks: Sequence[str], demonstrations: int, split: str, start: int) -> Path:
        collect_demonstrations(CollectConfig(tasks, demonstrations, str(folder), split, start, processes=1))
        return folder

    def train(words: list[str], run: Path) -> None:
        if len(trained) == 1:
            trained.append("interrupted")
            raise KeyboardInterrupt
        trained.append(run.name)
        tongs._train([*words, f"output={run}", f"resume={str(has_state(run)).lower()}"])

    config = RthReproductionConfig(
        str(tmp_path),
        tasks=("pickup_object",),
        demonstrations=4,
        taught=("RT-H-Intervene", "IWR"),
        seeds=1,
        train_steps=2,
        teach_steps=2,
        batch_size=8,
        corrections=1,
        corrector={"interval": 0.4, "patience": 0.2, "most": 60},
        image_size=32,
        episodes=1,
        heldout=2,
        videos=0,
        threads=1,
        processes=1,
        extra=TINY,
    )
    with pytest.raises(KeyboardInterrupt):
        reproduce(config, collect, train)
    report = reproduce(config, collect, train).read_text()
    runs = ["flat-0", "RT-H-0", "RT-H-Intervene-0", "IWR-0"]
    assert [name for name in trained if name != "interrupted"] == runs
    for row in ("| flat |", "| RT-H |", "| RT-H + corrections |", "| RT-H-Intervene |", "| IWR |"):
        assert row in report
    assert "the error with true motions is below" in report and "after training on corrections" in report
    assert "collected by motions, seed 0: pickup_object" in report
    steps = tmp_path / "runs" / "RT-H-0" / "evaluation-helped" / "motions" / "pickup_object-0.jsonl"
    assert '"source": "human"' in steps.read_text()
    policy: Any = choose_policy(str(tmp_path / "runs" / "RT-H-0" / "last")).load()
    heldout = [tmp_path / "labelled_heldout" / "pickup_object"]
    told = action_error(policy, heldout, TRUE)
    assert len(told["episodes"]) == 2 and told["mean"] > 0
    assert action_change(policy, policy, heldout)["difference"] == 0.0
    with pytest.raises(TongsError, match="unknown motions 'guessed'"):
        action_error(policy, heldout, "guessed")
