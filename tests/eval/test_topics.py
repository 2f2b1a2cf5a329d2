"""The same evaluation over topics: a simulated robot, and a policy runner beside it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from eval.comparison import compare
from eval.evaluation import evaluate
from eval.protocol import EvaluationConfig
from eval.results_file import read_results
from robot.errors import TongsError

QUIET = Console(quiet=True)


@pytest.mark.slow
def test_the_expert_reaches_over_topics_what_it_reaches_directly(tmp_path: Path) -> None:
    pytest.importorskip("cyclonedds")
    pytest.importorskip("rosbags")
    fields: dict[str, Any] = {"policy": "expert", "tasks": ("open_drawer",), "scenes": (0, 3), "videos": 0}
    topics, direct = tmp_path / "topics", tmp_path / "direct"
    evaluate(EvaluationConfig(**fields, output=str(topics), robot="dds", processes=1), QUIET)
    evaluate(EvaluationConfig(**fields, output=str(direct), processes=1), QUIET)
    over, without = (json.loads((folder / "results.json").read_text()) for folder in (topics, direct))
    assert over["protocol"]["robot"] == "dds" and "robot" not in without["protocol"]
    assert over["overall"]["successes"] == without["overall"]["successes"] == 3
    for one, other in zip(over["episodes"], without["episodes"], strict=True):
        for key in ("task", "scene", "instruction", "goal", "start"):
            assert one[key] == other[key]
        assert one["reached"] == pytest.approx(other["reached"], abs=0.01)
        # the expert tells one action at a time, and the loop brakes at the end of what it knows
        assert other["length"] < one["length"] < 1.7 * other["length"]
    pairs = [read_results(folder) for folder in (topics, direct)]
    with pytest.raises(TongsError, match="robot: dds in a, None in b"):
        compare(*pairs)
    compared = compare(*pairs, across=("robot", "latency_ms", "jitter_ms", "execution"))
    assert compared.overall.pairs == 3


def test_a_runner_that_cannot_begin_says_why(tmp_path: Path) -> None:
    pytest.importorskip("cyclonedds")
    pytest.importorskip("rosbags")
    from eval import topic_worker

    config = EvaluationConfig("remote:ws://127.0.0.1:9", ("open_drawer",), (0, 1), str(tmp_path), robot="dds")
    with pytest.raises(TongsError, match="the policy runner ended: nothing listens at 127.0.0.1, port 9"):
        topic_worker.TopicWorker(config).run("open_drawer", 0)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"robot": "ur5"}, "unknown robot 'ur5'; known are: dds, sim"),
        ({"policy": "oracle"}, "robot=dds is for learned policies, policy servers and the expert; 'oracle'"),
        ({"realtime": True}, "robot=dds has the control loop anyway"),
        ({"protocol": "keypose"}, "robot=dds is for protocol=closed_loop"),
        ({"goal": "image:expert"}, "robot=dds is for goals in words"),
        ({"executor": "ray"}, "robot=dds is for executor=local"),
    ],
)
def test_refused_settings(settings: dict[str, Any], said: str) -> None:
    fields = {"policy": "expert", "tasks": ("open_drawer",), "scenes": (0, 1), "output": "x", "robot": "dds"}
    with pytest.raises(TongsError, match=said):
        EvaluationConfig(**fields | settings)


def test_the_command_says_that_it_was_over_topics() -> None:
    config = EvaluationConfig("expert", ("open_drawer",), (0, 1), "x", robot="dds", latency_ms=80.0)
    assert "robot=dds latency_ms=80.0" in config.command and "realtime" not in config.command
