"""Evaluations run for real: the same result whatever the processes, and nothing lost when one is cut short."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import Future
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from eval import evaluation
from eval.evaluation import evaluate
from eval.protocol import EvaluationConfig
from robot.errors import TongsError
from sim.outcome import FAILURES

QUIET = Console(quiet=True)


def config(output: Path, **changes: Any) -> EvaluationConfig:
    fields = {"policy": "expert", "tasks": ("open_drawer", "close_drawer"), "scenes": (3, 5), "videos": 0}
    return EvaluationConfig(output=str(output), **fields | changes)


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("two")
    evaluate(config(output, processes=2, videos=1), QUIET)
    return output


def test_any_number_of_processes_gives_the_same_result(two_processes: Path, tmp_path: Path) -> None:
    evaluate(config(tmp_path, processes=1), QUIET)
    one, two = (json.loads((folder / "results.json").read_text()) for folder in (tmp_path, two_processes))
    for part in ("episodes", "tasks", "overall", "protocol", "policy"):
        assert one[part] == two[part]


def test_results_hold_what_is_needed_to_repeat_them(two_processes: Path) -> None:
    fields = json.loads((two_processes / "results.json").read_text())
    assert fields["complete"] is True
    assert [(e["task"], e["scene"]) for e in fields["episodes"]] == [
        *[("open_drawer", 3), ("open_drawer", 4), ("close_drawer", 3), ("close_drawer", 4)]
    ]
    assert fields["overall"]["successes"] == sum(e["success"] for e in fields["episodes"])
    for task in ("open_drawer", "close_drawer"):
        assert {"successes", "episodes", "success_rate", "interval"} <= set(fields["tasks"][task])
        assert list(fields["tasks"][task]["failures"]) == list(FAILURES)
    assert {"instruction", "goal", "start", "reached", "success", "failure", "length"} <= set(fields["episodes"][0])
    assert fields["versions"]["mujoco"] and fields["machine"]["python"]
    assert fields["timing"]["overall"]["steps_per_second"] > 0


def test_the_report_has_films_of_the_episodes(two_processes: Path) -> None:
    assert (two_processes / "report.html").read_text().count("data:video/mp4;base64,") == 2


@pytest.mark.usefixtures("in_this_process")
def test_a_longer_task_reports_its_subgoals(tmp_path: Path) -> None:
    console = Console(record=True, width=100, file=StringIO())
    evaluate(config(tmp_path, tasks=("compose",), scenes=(0, 2), processes=1), console)
    fields = json.loads((tmp_path / "results.json").read_text())
    assert [len(episode["subgoals"]) for episode in fields["episodes"]] == [3, 2]
    assert [episode["goal"] for episode in fields["episodes"]] == [3.0, 2.0]
    counted = fields["tasks"]["compose"]["subgoals"]
    assert [rate["episodes"] for rate in counted] == [2, 2, 1]
    assert [rate["successes"] for rate in counted] == [2, 2, 1]
    assert all(episode["success"] for episode in fields["episodes"])
    assert "3 or more sub-goals" in console.export_text()


def stop_after_one(error: type[BaseException] | BaseException) -> Any:
    def completed(futures: list[Future]) -> Iterator[Future]:
        futures[0].result()
        yield futures[0]
        raise error

    return completed


def test_an_interruption_keeps_the_finished_episodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation, "as_completed", stop_after_one(KeyboardInterrupt))
    results = evaluate(config(tmp_path, processes=1), QUIET)
    assert results.complete is False
    fields = json.loads((tmp_path / "results.json").read_text())
    assert fields["complete"] is False
    assert [(e["task"], e["scene"]) for e in fields["episodes"]] == [("open_drawer", 3)]


def test_an_error_keeps_the_finished_episodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation, "as_completed", stop_after_one(TongsError("the action holds NaN")))
    with pytest.raises(TongsError, match="NaN"):
        evaluate(config(tmp_path, processes=1), QUIET)
    assert len(json.loads((tmp_path / "results.json").read_text())["episodes"]) == 1


def test_a_checkpoint_that_does_not_load_is_one_sentence(tmp_path: Path) -> None:
    checkpoint = tmp_path / "policy"
    checkpoint.mkdir()
    (checkpoint / "config.json").write_text('{"format_version": 1}')
    with pytest.raises(TongsError, match="config.json has no 'policy'"):
        evaluate(config(tmp_path, policy=str(checkpoint), processes=1), QUIET)
    assert not (tmp_path / "results.json").exists()


@pytest.mark.usefixtures("in_this_process")
def test_two_key_poses_an_episode(tmp_path: Path) -> None:
    """The oracle succeeds in ARNOLD's protocol, random key poses do not, and the results say which protocol it was."""
    for policy, rate in (("oracle", 1.0), ("random", 0.0)):
        results = evaluate(config(tmp_path / policy, policy=policy, protocol="keypose", processes=1), QUIET)
        fields = json.loads((tmp_path / policy / "results.json").read_text())
        assert results.overall.success_rate == fields["overall"]["success_rate"] == rate
        assert fields["protocol"]["protocol"] == "keypose" and "protocol=keypose" in fields["command"]
        assert fields["policy"]["spec"]["action_space"]["kind"] == "ee_pose"
        assert all(len(episode.latencies) <= 2 for episode in results.episodes)
        assert "for a grasp pose and a goal pose" in (tmp_path / policy / "report.html").read_text()


@pytest.mark.usefixtures("in_this_process")
def test_a_policy_of_another_protocol_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TongsError, match="expert gives ee_delta actions, and protocol=keypose takes ee_pose actions"):
        evaluate(config(tmp_path, protocol="keypose", processes=1), QUIET)


@pytest.mark.usefixtures("in_this_process")
def test_real_time_is_in_the_protocol_and_its_events_in_the_episodes(tmp_path: Path) -> None:
    slow = {"realtime": True, "latency_ms": 150.0, "jitter_ms": 40.0, "execution": "asynchronous"}
    results = evaluate(config(tmp_path, tasks=("open_drawer",), scenes=(3, 4), **slow), QUIET)
    (episode,) = json.loads((tmp_path / "results.json").read_text())["episodes"]
    assert episode["events"]["starved"] > 5  # the expert knows one action at a time
    protocol = json.loads((tmp_path / "results.json").read_text())["protocol"]
    assert {name: protocol[name] for name in slow} == slow
    again = evaluate(config(tmp_path, tasks=("open_drawer",), scenes=(3, 4), **slow), QUIET)
    assert again.episodes[0].events == results.episodes[0].events
    with pytest.raises(TongsError, match=r"another evaluation.*latency_ms was 150.0 and is 50.0"):
        evaluate(config(tmp_path, tasks=("open_drawer",), scenes=(3, 4), **slow | {"latency_ms": 50.0}), QUIET)
