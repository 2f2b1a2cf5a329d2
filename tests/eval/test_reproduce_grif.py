"""GRIF's reproduction: what is trained, that it goes on where it stopped, retrieval, and the claims."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from data.features import ACTION, IMAGES, STATE, robot_features
from data.writer import DatasetWriter
from eval import reproduce_grif, reproduction
from eval.protocol import EvaluationConfig
from eval.reproduce_grif import METHODS, GrifReproductionConfig, reproduce
from eval.reproduce_grif_report import claims
from eval.results import Results
from eval.retrieval import retrieval_accuracy
from robot.errors import TongsError
from robot.interface import EE_DELTA
from tests.eval.episodes import episode, results
from tests.policies import small
from tests.policies.small_grif import policy

EPISODES = 20


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Episodes of three frames in which a picture turns from one grey to another; the words name both."""
    folder = tmp_path_factory.mktemp("greys") / "open_drawer"
    features = robot_features({"front": small.SIZE}, small.STATE_NAMES, EE_DELTA.names, ())
    with DatasetWriter(folder, round(EE_DELTA.rate), features, "test_arm", "png") as writer:
        for number in range(EPISODES):
            start, end = 40 + 10 * (number % 4), 120 + 12 * (number // 2)
            greys = np.array([start, (start + end) // 2, end])
            pictures = np.broadcast_to(greys[:, None, None, None], (3, *small.SIZE, 3)).astype(np.uint8)
            columns = {
                STATE: np.zeros((3, len(small.STATE_NAMES)), np.float32),
                ACTION: np.zeros((3, EE_DELTA.dimension), np.float32),
            }
            writer.add_episode(columns, [f"{number // 2} to {end}"] * 3, images={IMAGES + "front": pictures})
    return folder


def test_retrieval_by_hand(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = policy().eval()

    def unit(angle: torch.Tensor) -> torch.Tensor:
        return torch.stack([angle.cos(), angle.sin()], dim=1)

    monkeypatch.setattr(
        model, "embed_transitions", lambda batch: unit(batch["goal_images"]["front"].float().mean((1, 2, 3, 4)) / 300)
    )
    monkeypatch.setattr(
        model, "embed_instructions", lambda texts: unit(torch.tensor([float(text.split()[-1]) for text in texts]) / 300)
    )
    perfect = retrieval_accuracy(model, [dataset], k=1, batch=10)
    assert perfect == {"accuracy": 1.0, "chance": 0.1, "batch": 10, "episodes": 20, "k": 1}
    monkeypatch.setattr(model, "embed_instructions", lambda texts: unit(torch.zeros(len(texts))))
    blind = retrieval_accuracy(model, [dataset], k=5)
    assert blind["batch"] == EPISODES and blind["episodes"] == EPISODES
    assert blind["accuracy"] == pytest.approx(6 / EPISODES)  # five nearest of pairs: three pairs fit one of them
    with pytest.raises(TongsError, match="told its task in words or pictures, not grif"):
        retrieval_accuracy(policy(goal="language"), [dataset])


def test_what_is_trained() -> None:
    config = GrifReproductionConfig("x", labels=(2, 10, 100), ablation_labels=(10, 100), seeds=2)
    runs = [(name, percent) for name, percent, seed in config.runs if seed == 1]
    assert len(runs) == len(set(runs)) and len(config.runs) == 2 * len(runs)
    assert [percent for name, percent in runs if name == "GRIF"] == [2, 10, 100]
    assert [percent for name, percent in runs if name == "no-start"] == [10, 100]
    assert [percent for name, percent in runs if name == "labelled-only"] == [10]  # at 100 % it is GRIF
    assert [percent for name, percent in runs if name == "goal-BC"] == [0.0]
    words = reproduce_grif._words(config, [Path("a"), Path("b")], "LCBC", 2, 1)
    assert {"data=a,b", "policy.goal=language", "labelled.fraction=0.02", "labelled.share=1.0"} <= set(words)
    words = reproduce_grif._words(config, [Path("a")], "GRIF", 2, 1)
    assert {"labelled.fraction=0.02", "labelled.share=0.25", "labelled.seed=1"} <= set(words)
    assert "labelled.share=null" in reproduce_grif._words(config, [Path("a")], "goal-BC", 0.0, 1)


def test_every_method_is_a_configuration_of_the_same_code() -> None:
    from configs.composition import compose
    from policies.base import policy_class
    from policies.configuration import configuration

    for method in METHODS.values():
        settings = compose("train", ["data=unused", *method.words])["policy"]
        family = policy_class(settings.pop("family"))
        config: Any = configuration(family.config_class, settings)
        assert set(method.goals) == {"aligned": {"language", "image"}}.get(config.goal, {config.goal})


def test_reproduction_goes_on_where_it_stopped(dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = GrifReproductionConfig(
        str(tmp_path), tasks=("open_drawer",), labels=(5, 10), methods=("GRIF", "LCBC", "goal-BC"), episodes=2
    )
    trained: list[str] = []
    played: list[EvaluationConfig] = []

    def train(words: list[str], run: Path) -> None:
        if len(trained) == 2:
            trained.append("interrupted")
            raise KeyboardInterrupt
        trained.append(run.name)
        goal = next((word.removeprefix("policy.goal=") for word in words if word.startswith("policy.goal=")), "aligned")
        policy(goal=goal).save(run / "last")

    def collect(folder: Path, tasks: Sequence[str], demonstrations: int, split: str, start: int) -> Path:
        assert tasks == ("open_drawer",) and (demonstrations, split) in {(600, "train"), (512, "val")} and start == 0
        return dataset.parent

    def evaluate(given: EvaluationConfig, console: object) -> Results:
        played.append(given)
        won = "GRIF" in given.policy
        return results(*(episode(scene=scene, success=won, failure=None if won else "dropped") for scene in range(2)))

    monkeypatch.setattr(reproduction, "evaluate", evaluate)
    with pytest.raises(KeyboardInterrupt):
        reproduce(config, collect, train)
    report = reproduce(config, collect, train).read_text()
    expected = ["GRIF-5-0", "LCBC-5-0", "goal-BC-0-0", "GRIF-10-0", "LCBC-10-0"]
    assert [name for name in trained if name != "interrupted"] == expected
    told = [(Path(given.policy).parent.name, given.goal, given.wording) for given in played]
    assert ("LCBC-10-0", "language", "unseen") in told and ("goal-BC-0-0", "image:expert", "seen") in told
    assert len(told) == len(set(told)) == 2 * 2 + 2 + 1
    for line in (
        "| GRIF | 100 [34, 100] | 100 [34, 100] |",
        "| goal-BC | 0 [0, 66] | 0 [0, 66] |",
        "is above LCBC by 15",
    ):
        assert line in report
    assert (tmp_path / "figure.png").stat().st_size > 10_000
    reproduce(config, collect, train)
    assert len(trained) == len(expected) + 1 and len(told) == len(played)
    with pytest.raises(TongsError, match="holds a reproduction with episodes=2, not 3"):
        reproduce(replace(config, episodes=3), collect, train)


def test_claims() -> None:
    def cell(rate: float, seed: int = 0, **more: Any) -> dict[str, Any]:
        return {"seed": seed, "episodes": [["open_drawer", n, n < 100 * rate] for n in range(100)], **more}

    language = {
        ("GRIF", 10.0): [cell(0.6), cell(0.6, 1)],
        ("LCBC", 10.0): [cell(0.4), cell(0.4, 1)],
        ("no-start", 10.0): [cell(0.6), cell(0.6, 1)],
        ("no-align", 10.0): [cell(0.5), cell(0.3, 1)],
    }
    image = {("GRIF", 10.0): [cell(0.6)], ("goal-BC", 0.0): [cell(0.65)]}
    found = {("GRIF", percent): [{"accuracy": value}] for percent, value in ((2.0, 0.3), (10.0, 0.5), (100.0, 0.8))}
    assert [held for _, held in claims(language, image, found)] == [True, False, True, False, True]
    assert claims({}, {}, {}) == []
    assert not claims({}, {}, found | {("GRIF", 25.0): [{"accuracy": 0.1}]})[0][1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"methods": ("BC-Z",)}, "unknown method 'BC-Z'.*LCBC"),
        ({"tasks": ("compose",)}, "unknown task 'compose'"),
        ({"labels": (0,)}, "above 0 and at most 100, got 0"),
        ({"episodes": 0}, "episodes must be at least 1, got 0"),
        ({"labelled_share": 2.0}, "labelled_share must lie in 0..1"),
    ],
)
def test_bad_settings(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(TongsError, match=message):
        GrifReproductionConfig("x", **changes)
