"""Datasets that say at every moment which motion the arm makes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from data.console import COMMANDS
from data.events import LanguageEvent, motion, subtask
from data.features import ACTION, IMAGES, STATE, Feature, robot_features
from data.motions import label, motion_track, read_table, table_from_file
from data.reader import Dataset
from data.recorder import INTERVENTION
from data.writer import DatasetWriter
from robot.errors import TongsError
from robot.interface import EE_DELTA
from robot.motions import TABLE
from tests.robot.test_motions import NAMES, line, states

FPS, SIZE = 10, (16, 16)
FORWARD, LEFT = "move arm forward", "move arm left"


def write(folder: Path, events: list[LanguageEvent] | None = None, driven: bool = False) -> Dataset:
    """Two episodes of 12 frames: forward and then left; and left alone."""
    features = robot_features({"front": SIZE}, NAMES, EE_DELTA.names)
    if driven:
        features[INTERVENTION] = Feature("bool", (1,))
    way = np.concatenate([line(0.2, 0, 0, length=6), [[0.1, 0, 0]] + line(0, 0.2, 0, length=6)])
    with DatasetWriter(folder, FPS, features, "arm", language="episodes") as writer:
        for position in (way, line(0, 0.2, 0, length=12)):
            columns = {STATE: states(position), ACTION: np.zeros((12, EE_DELTA.dimension), np.float32)}
            if driven:
                columns[INTERVENTION] = (np.arange(12) >= 9)[:, None]
            pictures = np.full((12, *SIZE, 3), 90, np.uint8)
            writer.add_episode(columns, ["go"] * 12, images={IMAGES + "front": pictures}, events=events or [])
    return Dataset(folder)


def test_labels_are_in_the_language_columns_and_the_rest_is_as_it_was(tmp_path: Path) -> None:
    dataset = write(tmp_path / "plain", [subtask(0.0, "reach")])
    report = label(dataset, tmp_path / "labelled", TABLE)
    labelled = Dataset(tmp_path / "labelled")
    assert [event for event in labelled.events(0) if event.style == "subtask"] == dataset.events(0)
    first = [(event.time, event.text, event.role) for event in labelled.events(0) if event.style == "motion"]
    assert first[0] == (0.0, FORWARD, "assistant") and first[-1] == (1.1, TABLE.idle, "assistant")
    assert report.total == 24 and report.counts[LEFT] > report.counts[FORWARD]
    track = motion_track(labelled)
    assert track.table == TABLE == read_table(tmp_path / "labelled") and not track.corrected.any()
    assert track.motions[:2] == [FORWARD] * 2 and track.motions[12:20] == [LEFT] * 8
    assert set(track.motions) == set(report.counts)
    for key, values in dataset.columns.items():
        np.testing.assert_array_equal(values, labelled.columns[key])
    np.testing.assert_array_equal(dataset.images(1, IMAGES + "front"), labelled.images(1, IMAGES + "front"))


def test_labelling_again_replaces_labels_and_keeps_what_a_person_said(tmp_path: Path) -> None:
    said = LanguageEvent(0.35, "move arm up", "motion", "user")
    dataset = write(tmp_path / "plain", [motion(0.0, "tilt arm left"), said])
    label(dataset, tmp_path / "labelled", TABLE)
    events = Dataset(tmp_path / "labelled").events(0)
    assert said in events and "tilt arm left" not in [event.text for event in events]


def test_frames_of_a_person(tmp_path: Path) -> None:
    """From the first frame at which it could be heard, until the policy's next motion; or while a person drives."""
    said = [motion(0.0, FORWARD), LanguageEvent(0.35, LEFT, "motion", "user"), motion(0.6, FORWARD)]
    track = motion_track(write(tmp_path / "said", said))
    assert track.motions[:12] == [FORWARD] * 4 + [LEFT] * 2 + [FORWARD] * 6 and track.table is None
    assert np.flatnonzero(track.corrected[:12]).tolist() == [4, 5]
    driven = motion_track(write(tmp_path / "driven", driven=True))
    assert np.flatnonzero(driven.corrected).tolist() == [9, 10, 11, 21, 22, 23] and set(driven.motions) == {""}


def test_the_command_labels_several_by_a_table_of_ones_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a", "b"):
        write(tmp_path / name)
    words = tmp_path / "words.json"
    words.write_text(json.dumps(TABLE.to_json() | {"axes": [TABLE.to_json()["axes"][1]]}))
    settings = {
        "output": str(tmp_path / "out"),
        "horizon": 0.2,
        "most": None,
        "thresholds": {"y": 0.02},
        "table": str(words),
    }
    COMMANDS["label"].run([str(tmp_path / "a"), str(tmp_path / "b")], settings)
    assert "2 motions at 24 moments" in capsys.readouterr().out
    table = read_table(tmp_path / "out" / "b")
    assert table is not None and (table.horizon, table.axes[0].threshold, len(table.axes)) == (0.2, 0.02, 1)
    with pytest.raises(TongsError, match="unknown motion axis 'yaw'; known are: y"):
        COMMANDS["label"].run([str(tmp_path / "a")], settings | {"thresholds": {"yaw": 1.0}})
    words.write_text("{")
    with pytest.raises(TongsError, match="is no JSON"):
        table_from_file(words)


def test_what_cannot_be_labelled(tmp_path: Path) -> None:
    from data.export import export_language_columns

    export_language_columns(write(tmp_path / "plain"), tmp_path / "columns")
    with pytest.raises(TongsError, match="its events in the data files"):
        label(Dataset(tmp_path / "columns"), tmp_path / "out", TABLE)
    with pytest.raises(TongsError, match="is not there yet"):
        label(Dataset(tmp_path / "plain"), tmp_path / "columns", TABLE)
