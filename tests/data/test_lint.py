"""The linter finds each defect in the episodes that have it, and nothing in sound ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data.features import ACTION, IMAGES, SCENE, SCENE_NAMES, STATE, robot_features, vector
from data.lint import Finding, check
from data.reader import Dataset
from data.writer import DatasetWriter
from tests.data.episodes import pictures

FPS, LENGTH, SIZE = 10, 60, (32, 48)
STATE_NAMES, ACTION_NAMES = ("x", "y", "opening_gripper"), ("dx", "dy", "gripper")


class Episode:
    """A made-up grasp: the arm does what the action says in the same period, the fingers do two periods later."""

    def __init__(self, seed: int, length: int = LENGTH) -> None:
        random = np.random.default_rng(seed)
        steps = random.normal(scale=0.01, size=(length, 2)) + 0.005 * np.sin(np.arange(length) / 7)[:, None]
        command = (np.arange(length) < length // 2).astype(float)
        opening = np.concatenate([[1.0, 1.0], command[:-2]]) * 0.9
        self.action = np.column_stack([steps, command]).astype(np.float32)
        position = np.cumsum(np.vstack([random.normal(size=(1, 2)), steps[:-1]]), axis=0)
        self.state = np.column_stack([position, opening]).astype(np.float32)
        self.pictures = pictures(seed, length, SIZE)
        self.scene = (seed // 2, seed % 2)


def write(folder: Path, episodes: Sequence[Episode]) -> Dataset:
    features = robot_features({"front": SIZE}, STATE_NAMES, ACTION_NAMES)
    features[SCENE] = vector(SCENE_NAMES, "int64")
    with DatasetWriter(folder, FPS, features, "test_arm") as writer:
        for episode in episodes:
            length = len(episode.state)
            columns = {STATE: episode.state, ACTION: episode.action, SCENE: np.tile([episode.scene], (length, 1))}
            task = ("open it", "close it")[episode.scene[1]]
            writer.add_episode(columns, [task] * length, images={IMAGES + "front": episode.pictures})
    return Dataset(folder)


@pytest.fixture
def episodes() -> list[Episode]:
    return [Episode(seed) for seed in range(6)]


def only(findings: list[Finding]) -> Finding:
    assert len(findings) == 1, findings
    return findings[0]


def test_sound_episodes_pass(tmp_path: Path, episodes: list[Episode]) -> None:
    seen: list[None] = []
    assert check(write(tmp_path / "set", episodes), advance=lambda: seen.append(None)) == []
    assert len(seen) == 6


def far_away(episode: Episode) -> None:
    episode.action[9, 0] = 3.0


def frozen_camera(episode: Episode) -> None:
    episode.pictures[20:30] = episode.pictures[20]


def black_camera(episode: Episode) -> None:
    episode.pictures[40] = 0


def idle(part: slice) -> Callable[[Episode], None]:
    def stop(episode: Episode) -> None:
        episode.state[part] = episode.state[part.start]
        episode.action[part] = [0, 0, episode.action[part.start, 2]]

    return stop


def reversed_gripper(episode: Episode) -> None:
    episode.state[:, 2] = 0.9 - episode.state[:, 2]


DEFECTS: dict[str, tuple[Callable[[Episode], None], str, str]] = {
    "far away": (far_away, "values", "action dx is 3 where 98 %"),
    "frozen camera": (frozen_camera, "frozen", "camera front repeats one picture for up to 0.9 s"),
    "black camera": (black_camera, "dark", "camera front has black pictures"),
    "waits first": (idle(slice(0, 32)), "idle", "nothing moves at the beginning for up to 3.1 s"),
    "waits last": (idle(slice(25, 60)), "idle", "nothing moves at the end for up to 3.5 s"),
    "gripper": (reversed_gripper, "gripper", "opposite polarity of the other episodes"),
}


@pytest.mark.parametrize("name", DEFECTS)
def test_a_defect_is_found_where_it_is(tmp_path: Path, episodes: list[Episode], name: str) -> None:
    spoil, kind, words = DEFECTS[name]
    spoil(episodes[1])
    spoil(episodes[4])
    finding = only([finding for finding in check(write(tmp_path / "set", episodes)) if finding.check == kind])
    assert finding.episodes == (1, 4) and words in finding.message


def test_a_hold_at_the_end_is_no_idleness(tmp_path: Path, episodes: list[Episode]) -> None:
    for episode in episodes:
        idle(slice(38, 60))(episode)
    assert check(write(tmp_path / "set", episodes), images=False) == []


def test_constant_entries_are_named(tmp_path: Path, episodes: list[Episode]) -> None:
    for episode in episodes:
        episode.state[:, 1] = 0.25
    finding = only(check(write(tmp_path / "set", episodes), images=False))
    assert finding.check == "constant" and "never changes in y;" in finding.message and not finding.episodes


def test_a_short_episode_and_a_copy_are_named(tmp_path: Path, episodes: list[Episode]) -> None:
    findings = check(write(tmp_path / "set", [*episodes, Episode(6, 5), episodes[2]]), images=False)
    assert {finding.check: finding.episodes for finding in findings} == {"length": (6,), "copies": (2, 7)}


def test_actions_recorded_after_the_fact(tmp_path: Path, episodes: list[Episode]) -> None:
    for episode in episodes:
        episode.action[:, :2] = np.roll(episode.action[:, :2], 3, axis=0)
    findings = check(write(tmp_path / "set", episodes), images=False)
    assert [finding.check for finding in findings] == ["lag", "lag"] and all(finding.serious for finding in findings)
    assert "action dx comes 0.3 s after what the change of x does" in findings[0].message


def test_an_arm_that_answers_late(tmp_path: Path, episodes: list[Episode]) -> None:
    for episode in episodes:
        episode.action[:, :2] = np.roll(episode.action[:, :2], -8, axis=0)
    findings = check(write(tmp_path / "set", episodes), images=False)
    assert [finding.serious for finding in findings] == [False, False]
    assert findings[1].message == "the change of y answers action dy after 0.8 s"


def test_polarity_of_the_whole_dataset(tmp_path: Path, episodes: list[Episode]) -> None:
    for episode in episodes:
        reversed_gripper(episode)
    finding = only(check(write(tmp_path / "set", episodes), images=False))
    assert finding.serious and "run against each other" in finding.message and not finding.episodes


def test_one_instruction_per_scene(tmp_path: Path, episodes: list[Episode]) -> None:
    for number, episode in enumerate(episodes):
        episode.scene = (number, 0)
    finding = only(check(write(tmp_path / "set", episodes), images=False))
    assert finding.check == "instructions" and "no scene in the data has two instructions" in finding.message


def test_a_clock_that_jumps(tmp_path: Path, episodes: list[Episode]) -> None:
    dataset = write(tmp_path / "set", episodes)
    time = dataset.columns["timestamp"][180:240, 0].copy()
    time[30:] += 0.25
    replace_column(dataset, 3, "timestamp", pa.array(time))
    finding = only(check(Dataset(tmp_path / "set"), images=False))
    assert finding.check == "clock" and finding.episodes == (3,) and "0.25 s off the grid of 10" in finding.message


def test_numbers_that_are_none(tmp_path: Path, episodes: list[Episode]) -> None:
    """Our writer refuses them, others do not."""
    dataset = write(tmp_path / "set", episodes)
    values = episodes[3].state.copy()
    values[7, 1] = np.nan
    replace_column(dataset, 3, STATE, pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), 3))
    finding = only(check(Dataset(tmp_path / "set"), images=False))
    assert finding.serious and finding.message == "NaN or infinity in 1 frame of the state" and finding.episodes == (3,)


def replace_column(dataset: Dataset, episode: int, name: str, values: pa.Array) -> None:
    path = dataset.episodes[episode].data_file
    table = pq.read_table(path)
    pq.write_table(table.set_column(table.schema.get_field_index(name), table.schema.field(name), values), path)
