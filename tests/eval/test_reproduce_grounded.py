"""Grounded Decoding's reproduction: its claims, which methods a model allows, and all of it at a tiny size."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

import tongs
from eval import reproduce_grounded
from eval.reproduce_grounded import AFFORDANCE, BEAM, GREEDY, LANGUAGE, OPTIONS, SAYCAN, GroundedReproductionConfig
from eval.reproduce_grounded import reproduce as reproduce_all
from eval.reproduce_grounded_report import claims, through_zero
from policies.lmp.language_models import ModelSettings
from policies.lmp.language_models.openai_endpoint import OpenAIEndpoint
from robot.errors import TongsError
from sim.scenes import draw_scene
from sim.tasks.tabletop.planning import skills
from train.programs.pairs import scene_names
from train.programs.teaching import TeachConfig, teach


def played(method: str, won: int, task: str = "planning_plain", of: int = 20) -> dict[str, Any]:
    episodes = [[task, scene, scene < won] for scene in range(of)]
    return {"measure": "success", "method": method, "task": task, "episodes": episodes}


def costs(method: str, tokens: dict[int, int]) -> list[dict[str, Any]]:
    return [{"measure": "cost", "method": method, "size": size, "tokens": count} for size, count in tokens.items()]


def held(cells: list[dict[str, Any]]) -> dict[str, bool]:
    return {text.split(":")[0]: won for text, won in claims(cells)}


def test_claims_about_success() -> None:
    won = {LANGUAGE: 4, AFFORDANCE: 0, GREEDY: 14, BEAM: 16, SAYCAN: 16}
    found = held([played(method, count) for method, count in won.items()])
    assert len(found) == 7 and list(found.values()).count(False) == 0, found
    assert "greedy is above language alone" in found and "beam is above affordance alone" in found
    worse = held([played(method, count) for method, count in (won | {GREEDY: 5, BEAM: 4}).items()])
    assert not worse["greedy is above language alone"]  # by one scene of twenty
    assert not worse["beam is not below greedy"]
    assert not worse["beam is at most 10 points below scoring all options"]
    behind_an_endpoint = held([played(SAYCAN, 12), played(OPTIONS, 3), played(AFFORDANCE, 0)])
    assert behind_an_endpoint == {"saycan is above language options alone": True}
    assert claims([played(GREEDY, 20)]) == []


def test_claims_about_what_must_not_be_touched() -> None:
    def told(alone: int, joint: int) -> list[bool]:
        cells = [played(LANGUAGE, alone, "planning_unsafe"), played(GREEDY, joint, "planning_unsafe")]
        return [won for text, won in claims(cells) if "touched" in text or "succeeds there" in text]

    assert told(4, 15) == [True, True]
    assert told(5, 15) == [False, True]
    assert told(4, 14) == [True, False]


def test_claims_about_cost() -> None:
    flat = costs(GREEDY, {10: 17, 30: 17, 100: 19}) + costs(SAYCAN, {10: 160, 30: 480, 100: 1610})
    assert [won for _, won in claims(flat)] == [True, True]
    assert "17 for 10, 19 for 100" in claims(flat)[0][0]
    assert not claims(costs(GREEDY, {10: 17, 100: 30}))[0][1]
    assert not claims(costs(SAYCAN, {10: 160, 30: 480, 100: 500}))[0][1]
    assert through_zero([1, 2, 3], [2, 4, 6]) == pytest.approx(1.0)
    assert through_zero([1, 2, 3], [10, 11, 12]) < 0  # a line, but not through zero
    assert through_zero([1, 2], [5, 5]) == 0.0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"methods": "guess"}, "unknown method 'guess'"),
        ({"tasks": "tabletop_long"}, "unknown planning task 'tabletop_long'"),
        ({"semantics": "word"}, "unknown semantics 'word'"),
        ({"split": "dev"}, "unknown split 'dev'"),
        ({"sizes": 0}, "sizes are numbers of options from 1 to"),
        ({"episodes": 0}, "episodes must be at least 1, got 0"),
    ],
)
def test_bad_settings(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(TongsError, match=message):
        GroundedReproductionConfig("x", **changes)


def test_models_that_do_not_fit_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "said.json").write_text(json.dumps([{"program": "x", "query": "x", "completion": "x"}]))
    recorded = ["lmp.model.backend=transcript", f"lmp.model.model={tmp_path / 'said.json'}"]
    local = ["lmp.model.backend=openai", "lmp.model.url=http://localhost:1/v1", "lmp.model.model=tiny"]
    for words, sentence in (
        ([f"lmp.model.model={tmp_path / 'taught'}"], "taught lacks config.json; teach one with: tongs teach output="),
        (recorded, "transcript said.json gives no log-probabilities"),
        ([*local], "asked as a chat, which gives no log-probabilities of options; lmp.model.completion=true"),
        ([*local, "lmp.model.completion=true", "methods=greedy"], "needs a language model in this process"),
    ):
        assert tongs.main(["reproduce", "grounded-decoding", f"output={tmp_path / 'out'}", *words]) == 2
        assert sentence in capsys.readouterr().err
        assert not (tmp_path / "out").exists()


TINY = {"width": 32, "layers": 1, "heads": 2, "inner": 32, "vocabulary": 500, "tokenizer_pairs": 40}


def test_all_of_it_at_a_tiny_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A model that was hardly taught, all methods, in the simulator: what is grounded says only what there is."""
    monkeypatch.setattr("train.programs.teaching._SHUFFLED", 8)
    pace = {"steps": 2, "batch": 4, "warmup": 1, "questions": 1, "checkpoint": 2}
    folder = teach(TeachConfig(str(tmp_path / "model"), ("planning_plain",), **TINY, **pace))  # type: ignore[arg-type]
    assert "exact programs" not in (folder / "README.md").read_text()  # plans have no single right answer
    words = [f"output={tmp_path / 'out'}", f"lmp.model.model={folder}", "tasks=planning_infeasible", "episodes=1"]
    words += ["most_steps=2", "tries=20", "sizes=[5,20,60]", "beams=2", "candidates=500", "threads=1"]
    assert tongs.main(["reproduce", "grounded-decoding", *words]) == 0, capsys.readouterr().err
    cells = [json.loads(file.read_text()) for file in (tmp_path / "out/cells").iterdir()]
    plans = {cell["method"]: cell["plans"][0] for cell in cells if cell["measure"] == "success"}
    assert set(plans) == {LANGUAGE, AFFORDANCE, GREEDY, BEAM, SAYCAN}
    known = skills(scene_names(draw_scene("planning_infeasible", "test", 0)))
    for method in (AFFORDANCE, GREEDY, BEAM, SAYCAN):
        assert set(plans[method]["steps"]) <= set(known), method
    assert not set(plans[LANGUAGE]["steps"]) & set(known)
    assert plans[AFFORDANCE]["tokens"] == 0 and len(plans[AFFORDANCE]["steps"]) == 2
    tokens = {(cell["method"], cell["size"]): cell["tokens"] for cell in cells if cell["measure"] == "cost"}
    assert max(tokens[GREEDY, size] for size in (5, 20, 60)) <= 40
    assert tokens[SAYCAN, 60] == pytest.approx(3 * tokens[SAYCAN, 20], rel=0.2)
    assert tokens[SAYCAN, 60] > 10 * tokens[GREEDY, 60]
    report = (tmp_path / "out/report.md").read_text()
    for method in plans:
        assert f"| {method} | " in report
    assert "tokens of scoring grow with the options in a line through zero" in capsys.readouterr().out
    assert (tmp_path / "out/figure.png").stat().st_size > 10_000
    monkeypatch.setattr(reproduce_grounded, "_play", None)  # nothing is played again
    assert tongs.main(["reproduce", "grounded-decoding", *words]) == 0
    assert tongs.main(["reproduce", "grounded-decoding", *words, "beams=4"]) == 2
    assert "holds a reproduction with beams=2, not 4" in capsys.readouterr().err


def test_an_endpoint_scores_options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind an endpoint of text completions the plan is made at option level: here by one that likes short words."""
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content)
        assert request.url.path == "/v1/completions" and body["echo"] and body["model"] == "tiny"
        choices = []
        for index, text in enumerate(body["prompt"]):
            asked.append(text)
            tokens = re.findall(r"\s*\S+|\s+$", text)
            starts = [sum(map(len, tokens[:place])) for place in range(len(tokens))]
            values = [None, *(-0.1 * len(token) for token in tokens[1:])]
            told = {"tokens": tokens, "token_logprobs": values, "text_offset": starts}
            choices.append({"index": index, "text": text, "logprobs": told})
        return httpx.Response(200, json={"choices": choices})

    settings = ModelSettings("openai", "tiny", url="http://localhost:1/v1", completion=True)
    model = OpenAIEndpoint(settings, httpx.MockTransport(answer))
    monkeypatch.setattr(reproduce_grounded, "_model", lambda config: model)
    lmp = {"model": {"backend": "openai", "model": "tiny", "url": "http://localhost:1/v1", "completion": True}}
    config = GroundedReproductionConfig(
        str(tmp_path), lmp, tasks=("planning_plain",), episodes=1, most_steps=1, tries=20, sizes=(5, 10), threads=1
    )
    report = reproduce_all(config).read_text()
    cells = [json.loads(file.read_text()) for file in (tmp_path / "cells").iterdir()]
    plans = {cell["method"]: cell["plans"][0] for cell in cells if cell["measure"] == "success"}
    assert set(plans) == {AFFORDANCE, SAYCAN, OPTIONS}
    assert plans[OPTIONS]["done"] and plans[OPTIONS]["steps"] == []  # "done" is the shortest
    assert plans[SAYCAN]["done"] and plans[SAYCAN]["tokens"] > 100
    assert len(plans[AFFORDANCE]["steps"]) == 1
    assert any(text.startswith("Plans for a robot arm") and text.endswith("Step 1: done\n") for text in asked)
    assert "| saycan | " in report and "| greedy | " not in report
    with pytest.raises(TongsError, match="holds a reproduction with tries=20, not 30"):
        reproduce_all(replace(config, tries=30))
