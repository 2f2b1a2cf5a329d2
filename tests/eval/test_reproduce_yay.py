"""YAY's reproduction: what is trained over what, that it goes on where it stopped, the claims, and all of it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import tongs
from data.reader import Dataset
from data.segments import SegmentRules, dataset_segments
from eval import reproduce_yay, reproduction
from eval.correcting import CorrectedEpisode, Help
from eval.protocol import EvaluationConfig
from eval.reproduce_yay import YayReproductionConfig, reproduce
from eval.reproduce_yay_report import claims
from eval.results import Results
from policies.base import load_policy
from policies.yay.model import Yay, weights_hash
from robot.errors import TongsError
from sim.world import World
from tests.eval.episodes import episode, results
from tests.policies import small
from tests.policies.small_yay import policy

WON = {"base": 3, "one-hot": 1, "round-1": 5, "round-2": 7, "flat": 0}
"""Scenes of ten in which a made-up policy succeeds."""


def test_reproduction_goes_on_where_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = YayReproductionConfig(str(tmp_path), episodes=10)
    trained: dict[str, list[str]] = {}
    played: list[str] = []
    collected: list[tuple[str, int, int]] = []

    def train(words: list[str], run: Path) -> None:
        if len(trained) == 4 and "interrupted" not in trained:
            trained["interrupted"] = []
            raise KeyboardInterrupt
        trained[run.name] = words
        (small.policy() if run.name in ("low", "flat") else policy()).save(run / "last")

    def collect(folder: Path, tasks: Sequence[str], demonstrations: int, split: str, start: int) -> Path:
        assert (tasks, demonstrations, split, start) == (("compose",), 1000, "train", 0)
        return folder

    def evaluate(given: EvaluationConfig, console: object) -> Results:
        name = Path(given.policy).parent.name
        played.append(name)
        assert given.tasks == ("compose",) and given.scenes == (0, 10)
        parts = ("open_drawer", "put_in_drawer", "close_drawer")
        made = (scene < WON[name] for scene in range(10))
        return results(
            *(
                episode(scene=scene, success=won, reached=3.0 if won else 1.0, subgoals=parts)
                for scene, won in enumerate(made)
            )
        )

    def corrected(given: Help, scenes: range, record: bool = False) -> Iterator[CorrectedEpisode]:
        assert Path(given.policy).parent.name == "base" and given.split == "test" and not record
        yield from (CorrectedEpisode(scene, scene < 8, 3 if scene < 8 else 2, 3, 50, ((1.0, "x"),)) for scene in scenes)

    def corrections(given: Help, folder: Path, wanted: int, start: int) -> int:
        assert given.split == "train"
        collected.append((Path(given.policy).parent.name, wanted, start))
        return wanted

    monkeypatch.setattr(reproduction, "evaluate", evaluate)
    monkeypatch.setattr(reproduce_yay, "corrected_episodes", corrected)
    monkeypatch.setattr(reproduce_yay, "collect_corrections", corrections)
    with pytest.raises(KeyboardInterrupt):
        reproduce(config, collect, train)
    report = reproduce(config, collect, train).read_text()
    del trained["interrupted"]
    assert list(trained) == ["low", "flat", "one-hot", "base", "round-1", "round-2"]
    assert "segments=true" in trained["low"] and "segments=false" in trained["flat"]
    assert [a for a, b in zip(trained["low"], trained["flat"], strict=True) if a != b] == ["segments=true"]
    seed = tmp_path / "seed-0"
    assert "policy.one_hot=true" in trained["one-hot"] and f"policy.low={seed / 'low/last'}" in trained["base"]
    assert "stage=post" in trained["round-1"] and f"start_from={seed / 'base/last'}" in trained["round-1"]
    data = f"data={tmp_path / 'data/compose'},{seed / 'corrections-1'},{seed / 'corrections-2'}"
    assert data in trained["round-2"] and f"start_from={seed / 'round-1/last'}" in trained["round-2"]
    assert [(name, wanted) for name, wanted, _ in collected] == [("base", 60), ("round-1", 60)]
    assert len({start for _, _, start in collected}) == 2
    assert sorted(played) == sorted(WON)
    for line in (
        "| flat | 100 [72, 100] | 0 [0, 28] | 0 [0, 28] |",
        "| oracle | 100 [72, 100] | 100 [72, 100] | 80 [49, 94] |",
        "round 2 - base = +40.0 [",
        "- holds: the low level is the same before and after (SHA-256)",
    ):
        assert line in report, report
    assert (tmp_path / "figure.png").stat().st_size > 10_000
    reproduce(config, collect, train)
    assert len(played) == len(WON) and len(collected) == 2
    with pytest.raises(TongsError, match="holds a reproduction with rounds=2, not 3"):
        reproduce(replace(config, rounds=3), collect, train)


def test_a_policy_that_is_never_wrong_has_nothing_to_learn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained: list[str] = []

    def train(words: list[str], run: Path) -> None:
        trained.append(run.name)
        (small.policy() if run.name in ("low", "flat") else policy()).save(run / "last")

    monkeypatch.setattr(reproduction, "evaluate", lambda *_: results(episode(scene=0)))
    monkeypatch.setattr(reproduce_yay, "collect_corrections", lambda *_: 0)
    monkeypatch.setattr(reproduce_yay, "corrected_episodes", lambda *_: iter([CorrectedEpisode(0, True, 1, 1, 50, ())]))
    reproduce(YayReproductionConfig(str(tmp_path), data="unused", episodes=1), lambda *_: tmp_path, train)
    assert trained == ["low", "flat", "one-hot", "base"]


def test_claims() -> None:
    def rate(share: float) -> dict[tuple[int, int], tuple[bool, int, int]]:
        return {(0, scene): (scene < 100 * share, 1, 2) for scene in range(100)}

    good = {"flat": rate(0.1), "one-hot": rate(0.3), "base": rate(0.4), "round 2": rate(0.6), "oracle": rate(0.7)}
    assert [held for _, held in claims(good, "round 2")] == [True] * 4
    assert [held for _, held in claims(good | {"round 2": rate(0.5)}, "round 2")] == [False, True, True, True]
    assert [held for _, held in claims(good | {"flat": rate(0.4)}, "round 2")] == [True, False, True, True]
    assert [held for _, held in claims(good | {"oracle": rate(0.5)}, "round 2")] == [True, True, True, False]
    assert claims({"base": rate(0.5)}, "round 2") == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rounds": 0}, "rounds must be at least 1, got 0"),
        ({"share": 1.0}, "share must lie between 0 and 1, got 1.0"),
        ({"patience": -1.0}, "patience must be at least 0 s"),
    ],
)
def test_bad_settings(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(TongsError, match=message):
        YayReproductionConfig("x", **changes)


VISION = (
    *("policy.vision_channels=[8,8,8]", "policy.vision_features=8", "policy.keypoints=4"),
    *("policy.described_keypoints=2", "policy.width=32", "policy.layers=1", "train.log_every=1", "held_out=0.5"),
)
LOW = (
    "policy.observation_width=32",
    "policy.reader_width=32",
    "policy.reader_layers=1",
    "policy.instructed_keypoints=2",
)
HIGH = ("policy.heads=2", "policy.feed_forward=32", "policy.hidden=32")


@pytest.mark.slow
@pytest.mark.usefixtures("in_this_process")
def test_all_of_it_at_a_tiny_size(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Demonstrations, five trainings, a round of corrections and five measurements through the command line; then what
    does not fit is one sentence."""
    words = ["task=compose", "episodes=2", "instructions=1", "processes=1", f"output={tmp_path / 'data'}"]
    assert tongs.main(["collect", *words]) == 0, capsys.readouterr().err
    monkeypatch.setattr(World, "finished", property(lambda world: world.success or world.steps >= 60))  # 6 s are enough
    counts = ("rounds=1", "corrections=2", "episodes=1", "videos=0", "processes=1", "threads=1")
    steps = ("low_steps=2", "high_steps=2", "post_steps=2", "low_batch_size=8", "high_batch_size=20", "image_size=32")
    low, high = (f"{key}={[*VISION, *own]}" for key, own in (("low_words", LOW), ("high_words", HIGH)))
    data = f"data={tmp_path / 'data/compose'}"
    words = ["reproduce", "yay", data, f"output={tmp_path}", *counts, *steps, low, high]
    assert tongs.main(words) == 0, capsys.readouterr().err
    report = (tmp_path / "report.md").read_text()
    for name in ("flat", "one-hot", "base", "round 1", "oracle"):
        assert f"| {name} | " in report
    assert "- holds: the low level is the same before and after (SHA-256)" in report

    seed, demonstrations = tmp_path / "seed-0", Dataset(tmp_path / "data/compose")
    told = dataset_segments(demonstrations, SegmentRules())
    assert all(len(segments) in (2, 3) and segments[0].start == 0 for segments in told)
    assert not any(segment.corrects for segments in told for segment in segments)
    base, better, alone = (load_policy(seed / name / "last") for name in ("base", "round-1", "low"))
    assert isinstance(base, Yay) and isinstance(better, Yay)
    assert set(base.spec.commands) == {segment.text for segments in told for segment in segments}
    assert weights_hash(base.low) == weights_hash(better.low) == weights_hash(alone)
    said = Dataset(seed / "corrections-1")
    texts = [e.text for n in range(len(said.episodes)) for e in said.events(n) if e.style == "interjection"]
    assert len(texts) == 2 and set(base.spec.commands) | set(texts) == set(better.spec.commands)
    assert better.spec.commands[: len(base.spec.commands)] == base.spec.commands
    assert not all(
        (one == other).all() for one, other in zip(base.high.parameters(), better.high.parameters(), strict=True)
    )
    header = (seed / "round-1/train.csv").read_text().splitlines()[0]
    assert "accuracy" in header and "temperature" in header
    assert json.loads((seed / "corrections-1.json").read_text()) == {"corrections": 2}

    for wrong, sentence in (
        (["policy=yay", data], "a high level needs a low level; give policy.low="),
        (["policy=yay", data, "stage=post"], "give start_from="),
        (["policy=yay", data, "stage=after"], "unknown stage of a yay training 'after'"),
        (["policy=beso", data, "stage=post"], "unknown stage of a beso training 'post'; known are: control"),
        (["policy=yay", data, f"policy.low={seed / 'base/last'}"], "has to be a policy that is told in words"),
        (["policy=yay", data, f"policy.low={seed / 'low/last'}"], "give it the same image_size"),
        (["policy=yay", data, "horizon=4"], "horizon means nothing to policy=yay"),
        (["policy=yay", data, "stage=post", f"start_from={seed / 'low/last'}"], "holds a beso policy"),
        (["policy=yay", data, "stage=post", f"start_from={seed / 'base/last'}"], "give both"),
    ):
        assert tongs.main(["train", *wrong, f"output={tmp_path / 'wrong'}"]) == 2
        assert sentence in capsys.readouterr().err
