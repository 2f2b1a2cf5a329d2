"""What words on the command line make an evaluation of, and which are refused."""

from __future__ import annotations

import shlex
from typing import Any

import pytest

from configs.composition import compose
from eval.protocol import EvaluationConfig, expand_scenes, expand_tasks
from robot.errors import TongsError
from sim.tasks import PLANNING, TABLETOP, TASKS


def test_all_stands_for_every_single_task_once() -> None:
    assert set(expand_tasks("all")) == set(TASKS) - {"compose", *TABLETOP, *PLANNING}
    assert expand_tasks(["close_drawer", "all"])[0] == "close_drawer"
    assert sorted(expand_tasks(["close_drawer", "all"])) == sorted(expand_tasks("all"))
    assert expand_tasks(["all", "compose", "tabletop", "planning"]) == tuple(TASKS)


@pytest.mark.parametrize(
    ("scenes", "episodes", "expected"),
    [("200:300", None, (200, 300)), (7, None, (7, 8)), (None, 20, (0, 20)), (None, None, (0, 50))],
)
def test_scene_ranges(scenes: str | int | None, episodes: int | None, expected: tuple[int, int]) -> None:
    assert expand_scenes(scenes, episodes) == expected


@pytest.mark.parametrize(
    ("scenes", "episodes", "said"),
    [
        ("300:200", None, "empty range"),
        ("a:b", None, "'a:b'"),
        ("-1:5", None, "'-1:5'"),
        ("1:2:3", None, "'1:2:3'"),
        ("0:5", 5, "not both"),
        (None, 0, "at least 1, got 0"),
        (None, 2.5, "whole number"),
    ],
)
def test_refused_scenes(scenes: str | None, episodes: Any, said: str) -> None:
    with pytest.raises(TongsError, match=said):
        expand_scenes(scenes, episodes)


@pytest.mark.parametrize(
    ("setting", "value", "said"),
    [
        ("tasks", ("fly",), "unknown task 'fly'.*open_drawer"),
        ("split", "tset", "unknown split 'tset'.*test"),
        ("variant", "other", "other_target"),
        ("wording", "new", "unseen"),
        ("engine", "ode", "unknown engine 'ode'.*bullet, mujoco"),
        ("protocol", "keyframe", "unknown protocol 'keyframe'.*closed_loop, keypose"),
        ("quality", "best", "presentation"),
        ("processes", 0, "processes.*at least 1, got 0"),
        ("execute", "8", "execute.*'8'"),
        ("latency_ms", 100, "latency_ms=100 means nothing without realtime=true"),
        ("execution", "rtc", "execution=rtc means nothing without realtime=true"),
        ("realtime", "yes", "realtime must be true or false, got 'yes'"),
    ],
)
def test_refused_settings(setting: str, value: Any, said: str) -> None:
    fields = {"policy": "expert", "tasks": ("open_drawer",), "scenes": (0, 1), "output": "x"} | {setting: value}
    with pytest.raises(TongsError, match=said):
        EvaluationConfig(**fields)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"latency_ms": -1}, "latency_ms must be a number from 0 to 60000, got -1"),
        ({"jitter_ms": float("nan")}, "jitter_ms must be a number from 0 to 60000, got nan"),
        ({"latency_ms": "slow"}, "latency_ms must be a number, got 'slow'"),
        ({"execution": "lazy"}, "unknown execution 'lazy'.*asynchronous, ensemble, rtc, synchronous"),
        ({"protocol": "keypose"}, "realtime=true is for protocol=closed_loop"),
        ({"engine": "robosuite", "tasks": ("lift",)}, "engine mujoco or bullet, got closed_loop and robosuite"),
    ],
)
def test_refused_settings_of_real_time(settings: dict[str, Any], said: str) -> None:
    fields = {"policy": "expert", "tasks": ("open_drawer",), "scenes": (0, 1), "output": "x", "realtime": True}
    with pytest.raises(TongsError, match=said):
        EvaluationConfig(**fields | settings)


@pytest.mark.parametrize("real_time", [False, True])
def test_the_command_repeats_the_evaluation(real_time: bool) -> None:
    """The words that a report gives, read as a user's, make the same protocol."""
    protocol: dict[str, Any] = {"split": "val", "variant": "other_goal", "wording": "unseen", "execute": 6}
    protocol |= {"sampling": {"steps": 5}, "engine": "bullet"}
    protocol |= (
        {"realtime": True, "latency_ms": 120.0, "execution": "ensemble"} if real_time else {"protocol": "keypose"}
    )
    config = EvaluationConfig("a folder/best", ("open_drawer", "close_drawer"), (200, 300), "x", **protocol)
    settings = compose("eval", shlex.split(config.command)[2:])
    assert settings.pop("sensitivity") is False
    again = EvaluationConfig(
        tasks=expand_tasks(settings.pop("task")),
        scenes=expand_scenes(settings.pop("scenes"), settings.pop("episodes")),
        **settings | {"output": "x"},
    )
    assert again == config
