"""Language events: kept with their times in either place, and refused where they make no sense."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from data.events import EVENTS, PERSISTENT, LanguageEvent, active_at, correction, motion, subtask
from data.export import export_language_columns
from data.reader import Dataset
from data.writer import DatasetWriter
from robot.errors import TongsError
from robot.interface import Correction
from tests.data.episodes import FPS, features, images, numbers, said, tasks


def write(folder: Path, language: str | None, lengths: tuple[int, ...] = (20, 15, 25)) -> None:
    with DatasetWriter(folder, FPS, features(), "arm", language=language) as writer:  # type: ignore[arg-type]
        for seed, length in enumerate(lengths):
            events = [] if language is None else said(seed)
            writer.add_episode(numbers(seed, length), tasks(seed, length), images=images(seed, length), events=events)


def test_events_keep_their_times_in_the_metadata(tmp_path: Path) -> None:
    write(tmp_path, "episodes")
    dataset = Dataset(tmp_path)
    assert [dataset.events(episode) for episode in range(3)] == [said(0), said(1), said(2)]
    assert said(1) == [] and EVENTS not in dataset.info["features"]


def test_events_in_frames_are_on_the_first_frame_that_could_know_them(tmp_path: Path) -> None:
    write(tmp_path, "frames")
    dataset = Dataset(tmp_path)
    assert dataset.info["features"][EVENTS] == {"dtype": "language", "shape": [1], "names": None}
    assert list(dataset.info["features"])[-2:] == [PERSISTENT, EVENTS]
    table = dataset.table(0)
    heard = {frame: rows for frame, rows in enumerate(table[EVENTS].to_pylist()) if rows}
    assert list(heard) == [8], "0.72 s at 10 Hz"
    expected = {
        "role": "user",
        "content": "more to the left",
        "style": "interjection",
        "camera": None,
        "tool_calls": None,
    }
    assert heard[8] == [expected]
    persistent = table[PERSISTENT].to_pylist()
    assert all(rows == persistent[0] for rows in persistent), "LeRobot broadcasts them over the episode"
    assert [(row["style"], row["content"]) for row in persistent[0]] == [
        ("subtask", "grasp the handle"),
        ("motion", "move left"),
        ("subtask", "pull"),
    ]
    assert [event.text for event in dataset.events(0)] == [event.text for event in said(0)]
    for ours, theirs in zip(dataset.events(0), said(0), strict=True):
        assert 0 <= ours.time - theirs.time < 1 / FPS


def test_the_export_with_columns_equals_writing_them(tmp_path: Path) -> None:
    write(tmp_path / "episodes", "episodes")
    write(tmp_path / "frames", "frames")
    export_language_columns(Dataset(tmp_path / "episodes"), tmp_path / "copy")
    copy, frames = Dataset(tmp_path / "copy"), Dataset(tmp_path / "frames")
    assert copy.info == frames.info
    for episode in range(3):
        assert copy.table(episode).equals(frames.table(episode))
    with pytest.raises(TongsError, match="in columns already"):
        export_language_columns(copy, tmp_path / "again")
    with pytest.raises(TongsError, match="not there yet"):
        export_language_columns(Dataset(tmp_path / "episodes"), tmp_path / "copy")


def test_the_latest_event_of_a_style_holds() -> None:
    events = said(0)
    assert active_at(events, "subtask", 0.69) == events[0]
    assert active_at(events, "subtask", 1.5) == events[-1]
    assert active_at(events, "motion", 0.1) is None


def test_a_correction_is_an_event_of_its_episode() -> None:
    event = correction(Correction(103.5, "slower", "model"), start=100.0)
    assert event == LanguageEvent(3.5, "slower", "interjection", "assistant")
    assert not event.is_persistent and motion(1.0, "up").is_persistent and subtask(0.0, "lift").is_persistent


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((-1.0, "left", "interjection"), "at least 0 s into its episode, got -1"),
        ((float("nan"), "left", "interjection"), "got nan"),
        ((1.0, "left", "shout"), "unknown style of a language event 'shout'; known are: interjection"),
        ((1.0, "", "subtask"), "neither a text nor a tool call"),
        ((1.0, "left", None), "neither a style nor a tool call"),
        ((1.0, "what is it", "vqa"), "style 'vqa' came with camera None"),
        ((1.0, "left", "subtask", "user", "front"), "style 'subtask' came with camera 'front'"),
    ],
)
def test_events_without_sense_are_refused(arguments: tuple, message: str) -> None:
    with pytest.raises(TongsError, match=message):
        LanguageEvent(*arguments)


def test_a_tool_call_survives(tmp_path: Path) -> None:
    call = json.dumps({"type": "function", "function": {"name": "say", "arguments": {"text": "yes"}}})
    speech = LanguageEvent(0.5, None, None, "assistant", tool_calls=(call,))
    for language in ("episodes", "frames"):
        with DatasetWriter(tmp_path / language, FPS, features(), "arm", language=language) as writer:
            writer.add_episode(numbers(0, 10), tasks(0, 10), images=images(0, 10), events=[speech])
        assert Dataset(tmp_path / language).events(0) == [speech]


def test_events_that_do_not_fit_the_dataset_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "none", None, (10,))
    write(tmp_path / "some", "episodes", (20,))
    episode = {"columns": numbers(0, 10), "tasks": tasks(0, 10), "images": images(0, 10)}
    none = DatasetWriter(tmp_path / "none", FPS, features(), "arm")
    with none, pytest.raises(TongsError, match="keeps no language events"):
        none.add_episode(**episode, events=said(0))
    with DatasetWriter(tmp_path / "some", FPS, features(), "arm") as writer:
        assert writer.language == "episodes", "as the dataset has it"
        with pytest.raises(TongsError, match="at 1.3 s is beyond the end of its episode, 1 s"):
            writer.add_episode(**episode, events=[subtask(1.3, "lift")])
        with pytest.raises(TongsError, match="camera 'side', which the dataset does not have"):
            writer.add_episode(**episode, events=[LanguageEvent(0.1, "?", "vqa", "user", "side")])
    with pytest.raises(TongsError, match="keeps language events in episodes, asked for frames"):
        DatasetWriter(tmp_path / "some", FPS, features(), "arm", language="frames")
    with pytest.raises(TongsError, match="keeps language events in no place, asked for episodes"):
        DatasetWriter(tmp_path / "none", FPS, features(), "arm", language="episodes")
