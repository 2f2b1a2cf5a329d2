"""Which evaluations may be compared, and what is said when they may not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import tongs
from eval.comparison import Comparison
from eval.results import write_json
from robot.errors import TongsError
from tests.eval.episodes import episode, results

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes `results.json` of two tasks with two scenes each into a folder; `changes` edit its fields by path."""

    def write(name: str, successes: str = "1111", complete: bool = True, **changes: Any) -> Path:
        jobs = [(task, scene) for task in ("open_drawer", "pickup_object") for scene in (0, 1)]
        made = [
            episode(task=task, scene=scene, success=success == "1")
            for (task, scene), success in zip(jobs, successes, strict=False)
        ]
        fields = json.loads(json.dumps(results(*made, complete=complete).to_json() | _PROTOCOL))
        for path, value in changes.items():
            *parents, last = path.split("__")
            place = fields
            for parent in parents:
                place = place[int(parent) if isinstance(place, list) else parent]
            place[last] = value
        (tmp_path / name).mkdir()
        write_json(fields, tmp_path / name / "results.json")
        return tmp_path / name

    return write


_PROTOCOL = {
    "protocol": {
        "tasks": ["open_drawer", "pickup_object"],
        "split": "test",
        "scenes": [0, 2],
        "variant": "original",
        "wording": "seen",
        "protocol": "closed_loop",
        "execute": 4,
        "control_rate_hz": 10.0,
        "image_size": 128,
        "quality": "fast",
    }
}


def compare(first: Path, second: Path, common: bool = False) -> Comparison:
    return tongs.compare(first, second, common)


def test_pairs_are_found_by_task_and_scene(write: Write) -> None:
    a, b = write("a", "1101"), write("b", "0111", policy__name="other", policy__sampling={"steps": 9})
    comparison = compare(a, b / "results.json")
    assert list(comparison.tasks) == ["open_drawer", "pickup_object"]
    drawer, pickup = comparison.tasks.values()
    assert (drawer.only_first, drawer.only_second, drawer.difference) == (1, 0, -0.5)
    assert (pickup.only_first, pickup.only_second, pickup.difference) == (0, 1, 0.5)
    assert (comparison.overall.pairs, comparison.overall.difference) == (4, 0.0)
    assert comparison.overall.p_value == 1.0


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"protocol__split": "val"}, ["split: test in ", "val in "]),
        ({"protocol__variant": "other_goal"}, ["variant: original", "other_goal"]),
        ({"protocol__wording": "unseen", "protocol__execute": 8}, ["wording: seen", "unseen", "execute: 4", "8 in"]),
        ({"protocol__protocol": "keypose"}, ["protocol: closed_loop in ", "keypose in "]),
        ({"protocol__image_size": 64, "protocol__quality": "presentation"}, ["image_size: 128", "quality: fast"]),
        ({"protocol__control_rate_hz": 20.0}, ["control_rate_hz: 10.0", "20.0"]),
        ({"protocol__wind": "strong"}, ["wind: None", "strong"]),
        ({"protocol__scenes": [5, 7]}, ["scenes: [0, 2]", "[5, 7]"]),
        ({"protocol__tasks": ["open_drawer"]}, ["tasks: ['open_drawer', 'pickup_object']", "['open_drawer']"]),
        ({"tasks__open_drawer__tolerance": 0.2}, ["tolerance of open_drawer: 0.1", "0.2"]),
        ({"episodes__1__scene": 7}, ["episodes: 4 with open_drawer 1", "4 with open_drawer 7"]),
        ({"episodes__1__instruction": "close it"}, ["instruction of open_drawer 1: 'open the left drawer halfway'"]),
        ({"episodes__0__goal": 0.1, "episodes__1__goal": 0.2}, ["goal of open_drawer 0 and 1 more: 0.5", "0.1"]),
    ],
)
def test_other_protocols_are_refused_field_by_field(write: Write, changes: dict[str, Any], said: list[str]) -> None:
    a, b = write("a"), write("b", **changes)
    with pytest.raises(TongsError, match="cannot compare a, .*their protocols differ") as refused:
        compare(a, b)
    message = str(refused.value)
    assert all(words in message for words in said), message
    assert message.count("\n") == len([words for words in said if ": " in words])


def test_an_interrupted_evaluation_is_compared_only_on_demand(write: Write) -> None:
    a, b = write("a", "1101"), write("b", "011", complete=False)
    with pytest.raises(TongsError, match=r"b/results.json is of an interrupted evaluation \(3 episodes\).*common=true"):
        compare(a, b)
    comparison = compare(a, b, common=True)
    assert (comparison.overall.pairs, comparison.left_out) == (3, (1, 0))
    with pytest.raises(TongsError, match="split: test"):
        compare(a, write("c", "011", complete=False, protocol__split="val"), common=True)


def test_the_effect_of_a_setting_is_measured_on_demand(write: Write) -> None:
    a, b = write("a"), write("b", protocol__execute=8)
    assert tongs.compare(a, b, across=("execute",)).overall.pairs == compare(a, a).overall.pairs
    with pytest.raises(TongsError, match="unknown field of a protocol 'speed'.*execute"):
        tongs.compare(a, b, across=("speed",))


def test_other_scenes_are_compared_where_they_meet_on_demand(write: Write) -> None:
    a = write("a")
    b = write("b", "1101", protocol__scenes=[1, 3], episodes__0__scene=2, episodes__2__scene=2)
    assert compare(a, b, common=True).overall.pairs == 2
    nowhere = {f"episodes__{number}__scene": 10 + number for number in range(4)}
    with pytest.raises(TongsError, match="no scene in common"):
        compare(a, write("c", **nowhere), common=True)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "damaged"),
        ('{"format": 1, "prot', "damaged"),
        ("[1, 2]", "no results.json of tongs eval"),
        ('{"name": "tongs"}', "no results.json of tongs eval"),
        ('{"format": 7, "protocol": {}, "episodes": []}', "has format 7, this program reads 1"),
        ('{"format": 1, "protocol": {}, "episodes": []}', "damaged"),
        ('{"format": 1, "protocol": {}, "episodes": [{"task": "x"}]}', "damaged: KeyError 'scene'"),
        ('{"format": 1, "protocol": {}, "episodes": [{"task": "x", "scene": 1, "success": "yes"}]}', "lacks success"),
        ("\x00\xff", "damaged"),
    ],
)
def test_what_is_no_results_file_is_one_sentence(write: Write, tmp_path: Path, content: str, said: str) -> None:
    other = tmp_path / "other.json"
    other.write_text(content, encoding="latin-1")
    with pytest.raises(TongsError, match=said) as refused:
        compare(write("a"), other)
    assert "\n" not in str(refused.value) and str(other) in str(refused.value)


def test_the_command_prints_a_table_and_writes_the_numbers(
    write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    a, b = write("a", "1000"), write("b", "1111")
    output = tmp_path / "new" / "comparison.json"
    assert tongs.main(["compare", str(a), str(b / "results.json"), f"output={output}"]) == 0
    printed = capsys.readouterr().out
    assert "\N{HORIZONTAL ELLIPSIS}" not in printed
    assert all(words in printed for words in ("pickup_object", "4 pairs", "+75.0", "0, 3", "0.25", "none"))
    fields = json.loads(output.read_text())
    assert fields["overall"]["difference"] == 0.75 and fields["tasks"]["open_drawer"]["only_second"] == 1
    assert fields["second"]["path"] == str(b / "results.json")
    assert fields["protocol"]["split"] == "test"


def test_the_command_refuses_with_status_2(write: Write, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    a, b = write("a"), write("b", protocol__split="val")
    assert tongs.main(["compare", str(a), str(b)]) == 2
    out, err = capsys.readouterr()
    assert out == "" and "split: test in" in err
    assert tongs.main(["compare", str(a), str(a), f"output={tmp_path}"]) == 2
    assert "is a folder" in capsys.readouterr().err
