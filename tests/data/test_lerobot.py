"""Datasets that we write, as LeRobot reads them, and the other way round."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data import layout
from data.events import EVENTS, PERSISTENT
from data.export import export_language_columns, export_v21
from data.features import ACTION, ENVIRONMENT_STATE, IMAGES, STATE
from data.reader import Dataset, read_episode_rows
from data.repair import repair
from data.timing import MEASURED, measured_times
from data.writer import DatasetWriter
from tests.data.episodes import (
    ACTION_NAMES,
    CAMERAS,
    FPS,
    SIZE,
    STATE_NAMES,
    features,
    images,
    numbers,
    pictures,
    said,
    stamps,
    tasks,
    write_dataset,
)

lerobot_dataset = pytest.importorskip("lerobot.datasets.lerobot_dataset")
pytestmark = pytest.mark.slow
LENGTHS = (12, 9, 14, 11, 10)


def load(folder: Path, **arguments: Any) -> Any:
    return lerobot_dataset.LeRobotDataset(f"tests/{folder.name}", root=folder, video_backend="pyav", **arguments)


def write_all(folder: Path, storage: str = "video", lengths: Sequence[int] = LENGTHS) -> list[dict]:
    """A dataset with everything that a recorder may add: real time stamps, language events; what was put in."""
    timed, episodes = features() | {MEASURED: measured_times(features())}, []
    with DatasetWriter(folder, FPS, timed, "test_arm", storage, language="episodes") as writer:  # type: ignore[arg-type]
        for seed, length in enumerate(lengths):
            columns = numbers(seed, length) | {MEASURED: stamps(length, start=1.7e9 + 60 * seed)}
            content = {"columns": columns, "tasks": tasks(seed, length), "images": images(seed, length)}
            writer.add_episode(**content, events=[event for event in said(seed) if event.time < length / FPS])
            episodes.append(content)
    return episodes


def assert_equal(theirs: Any, episodes: Sequence[dict], tolerance: float) -> None:
    """Every frame and value that LeRobot gives out is what was put in."""
    assert (theirs.num_episodes, theirs.fps) == (len(episodes), FPS)
    index = 0
    for number, episode in enumerate(episodes):
        for frame, task in enumerate(episode["tasks"]):
            item = theirs[index]
            for key, values in episode["columns"].items():
                if key == MEASURED:  # LeRobot hands out float32; the column begins with the episode, so that is enough
                    wanted = values[frame] - values[0].min()
                    np.testing.assert_allclose(item[key].numpy(), wanted, atol=1e-6)
                else:
                    np.testing.assert_array_equal(item[key].numpy(), values[frame])
            assert item["task"] == task
            assert (int(item["episode_index"]), int(item["frame_index"]), int(item["index"])) == (number, frame, index)
            assert float(item["timestamp"]) == pytest.approx(frame / FPS)
            for name, frames in episode["images"].items():
                picture = item[name].numpy()  # float32 (3, H, W) in 0..1
                assert np.abs(picture - frames[frame].transpose(2, 0, 1) / 255).mean() < tolerance
            index += 1
    assert theirs.num_frames == len(theirs) == index


@pytest.mark.parametrize("storage", ["video", "png"])
def test_lerobot_loads_every_value(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, storage: str) -> None:
    """Over several chunks of files, with real time stamps and language events."""
    monkeypatch.setattr(layout, "CHUNK_SIZE", 2)
    episodes = write_all(tmp_path / "ours", storage)
    assert (tmp_path / "ours/data/chunk-002/file-000.parquet").exists()
    theirs = load(tmp_path / "ours")
    assert theirs.features[STATE]["names"] == list(STATE_NAMES)
    assert_equal(theirs, episodes, 0.02 if storage == "video" else 1e-6)
    row = theirs.meta.episodes[2]
    assert row["timing/rate"] == pytest.approx([FPS] * 4, rel=0.01)
    assert row["timing/start"] == episodes[2]["columns"][MEASURED][0].min()
    assert [event["content"] for event in row[EVENTS]] == ["more to the left"]
    ours = Dataset(tmp_path / "ours")
    for number, episode in enumerate(episodes):
        span = ours.episodes[number]
        np.testing.assert_array_equal(ours.columns[ACTION][span.start : span.stop], episode["columns"][ACTION])


def test_lerobot_takes_neither_stamps_nor_events_for_inputs(tmp_path: Path) -> None:
    utils = importlib.import_module("lerobot.datasets.utils")
    write_all(tmp_path / "ours", lengths=(10,))
    policy = utils.dataset_to_policy_features(load(tmp_path / "ours").features)
    assert set(policy) == {STATE, ENVIRONMENT_STATE, ACTION, *(IMAGES + name for name in CAMERAS)}


def test_lerobot_cuts_windows_from_ours(tmp_path: Path) -> None:
    episodes = write_all(tmp_path / "ours")
    steps = {STATE: [-2, -1, 0], ACTION: [0, 1, 2, 3], IMAGES + "wrist": [-1, 0], MEASURED: [-1, 0, 1]}
    theirs = load(tmp_path / "ours", delta_timestamps={key: [s / FPS for s in each] for key, each in steps.items()})
    index = 0
    for episode in episodes:
        length = len(episode["tasks"])
        for frame in range(length):
            item = theirs[index]
            for key, each in steps.items():
                wanted = [min(max(frame + step, 0), length - 1) for step in each]
                assert item[f"{key}_is_pad"].tolist() == [not 0 <= frame + step < length for step in each]
                if key.startswith(IMAGES):
                    frames = episode["images"][key][wanted].transpose(0, 3, 1, 2) / 255
                    assert np.abs(item[key].numpy() - frames).mean() < 0.02
                elif key == MEASURED:
                    values = episode["columns"][key]
                    np.testing.assert_allclose(item[key].numpy(), values[wanted] - values[0].min(), atol=1e-6)
                else:
                    np.testing.assert_array_equal(item[key].numpy(), episode["columns"][key][wanted])
            index += 1


def test_merged_statistics_are_lerobots(tmp_path: Path) -> None:
    from lerobot.datasets.compute_stats import aggregate_stats

    write_dataset(tmp_path / "ours")
    per_episode = []
    for row in read_episode_rows(tmp_path / "ours", with_statistics=True):
        entries: dict = {}
        for name, value in row.items():
            if name.startswith("stats/"):
                _, key, statistic = name.split("/")
                entries.setdefault(key, {})[statistic] = np.asarray(value)
        per_episode.append(entries)
    theirs, ours = aggregate_stats(per_episode), Dataset(tmp_path / "ours").statistics
    assert set(theirs) == set(ours)
    for key, entry in theirs.items():
        for name, value in entry.items():
            np.testing.assert_allclose(ours[key][name], value, rtol=1e-9, atol=1e-12, err_msg=f"{key} {name}")


def test_statistics_of_an_episode_are_lerobots(tmp_path: Path) -> None:
    """Exactly, but for quantiles, which LeRobot reads off a histogram of 5,000 bins."""
    compute = importlib.import_module("lerobot.datasets.compute_stats").get_feature_stats
    episode = write_all(tmp_path / "ours", lengths=(200,))[0]
    row = read_episode_rows(tmp_path / "ours", with_statistics=True)[0]
    for key in (STATE, ACTION):
        values = episode["columns"][key].astype(np.float64)
        theirs = compute(values, axis=0, keepdims=False)
        ours = layout.row_statistics(row)[key]
        assert list(ours) == list(theirs)
        for name, value in theirs.items():
            if name.startswith("q"):  # LeRobot takes the value of another rank, by at most one or two
                ranks = [
                    (values <= quantile + 1e-3 * np.ptp(values, axis=0)).mean(axis=0)
                    for quantile in (ours[name], value)
                ]
                np.testing.assert_allclose(*ranks, atol=2.5 / len(values), err_msg=f"{key} {name}")
            else:
                np.testing.assert_allclose(ours[name], value, rtol=1e-9, err_msg=f"{key} {name}")
    # As floats: LeRobot 0.4.4 squares the pixels as uint8, so that the standard deviation that it writes is wrong.
    pixels = episode["images"][IMAGES + "front"][::8].transpose(0, 3, 1, 2).astype(np.float64)
    theirs = compute(pixels, axis=(0, 2, 3), keepdims=True)
    ours = layout.row_statistics(row)[IMAGES + "front"]
    for name in ("min", "max", "mean", "std"):
        np.testing.assert_allclose(ours[name], theirs[name][0] / 255, rtol=1e-6, err_msg=name)


def create(folder: Path, storage: str) -> Any:
    table = {
        IMAGES + "front": {"dtype": storage, "shape": (*SIZE, 3), "names": ["height", "width", "channels"]},
        STATE: {"dtype": "float32", "shape": (4,), "names": list(STATE_NAMES)},
        ACTION: {"dtype": "float32", "shape": (3,), "names": list(ACTION_NAMES)},
    }
    return lerobot_dataset.LeRobotDataset.create(
        f"tests/{folder.name}", FPS, table, root=folder, robot_type="arm", use_videos=storage == "video"
    )


def record(theirs: Any, seeds: Sequence[int], lengths: Sequence[int]) -> None:
    for seed in seeds:
        length = lengths[seed]
        columns, frames = numbers(seed, length), pictures(seed, length)
        for frame in range(length):
            item = {key: columns[key][frame] for key in (STATE, ACTION)}
            theirs.add_frame({**item, IMAGES + "front": frames[frame], "task": tasks(seed, length)[frame]})
        theirs.save_episode()


def assert_recorded(folder: Path, seeds: Sequence[int], lengths: Sequence[int] = LENGTHS) -> None:
    """Ours reads the episodes of `record`."""
    ours = Dataset(folder)
    assert [episode.length for episode in ours.episodes] == [lengths[seed] for seed in seeds]
    for number, seed in enumerate(seeds):
        span = ours.episodes[number]
        for key in (STATE, ACTION):
            np.testing.assert_array_equal(ours.columns[key][span.start : span.stop], numbers(seed, span.length)[key])
        assert ours.frame_tasks(number) == tasks(seed, span.length)
        error = np.abs(ours.images(number, IMAGES + "front").astype(int) - pictures(seed, span.length))
        assert error.mean() < 6, f"episode {number} differs by {error.mean():.1f} levels"


@pytest.mark.parametrize("storage", ["video", "image"])
@pytest.mark.parametrize("rolls_over", [False, True])
def test_we_read_what_lerobot_writes(tmp_path: Path, storage: str, rolls_over: bool) -> None:
    theirs = create(tmp_path / "theirs", storage)
    if rolls_over:  # a new file whenever the present one has this many MB
        theirs.meta.update_chunk_settings(chunks_size=2, data_files_size_in_mb=0.02, video_files_size_in_mb=0.004)
    record(theirs, range(5), LENGTHS)
    theirs.finalize()
    assert_recorded(tmp_path / "theirs", range(5))
    files = {episode.data_file for episode in Dataset(tmp_path / "theirs").episodes}
    assert (len(files) > 1) == rolls_over or storage == "video"
    if rolls_over and storage == "video":
        spans = [episode.videos[IMAGES + "front"] for episode in Dataset(tmp_path / "theirs").episodes]
        assert len({span.path for span in spans}) > 1


def test_each_continues_what_the_other_began(tmp_path: Path) -> None:
    theirs = create(tmp_path / "set", "video")
    record(theirs, range(2), LENGTHS)
    theirs.finalize()
    table = {key: feature for key, feature in features().items() if key in (IMAGES + "front", STATE, ACTION)}
    with DatasetWriter(tmp_path / "set", FPS, table, "arm") as writer:
        assert writer.episodes == 2
        columns = {key: numbers(2, LENGTHS[2])[key] for key in (STATE, ACTION)}
        frames = {IMAGES + "front": pictures(2, LENGTHS[2])}
        writer.add_episode(columns, tasks(2, LENGTHS[2]), images=frames)
    assert_recorded(tmp_path / "set", range(3))
    theirs = load(tmp_path / "set")
    assert theirs.num_episodes == 3
    record(theirs, [3], LENGTHS)
    theirs.finalize()
    assert_recorded(tmp_path / "set", range(4))
    theirs, index = load(tmp_path / "set"), 0
    for seed in range(4):
        for frame in range(LENGTHS[seed]):
            picture = theirs[index][IMAGES + "front"].numpy().transpose(1, 2, 0)
            assert np.abs(255 * picture - pictures(seed, LENGTHS[seed])[frame]).mean() < 6
            index += 1


@pytest.mark.parametrize("storage", ["video", "image"])
def test_repair_of_what_lerobot_never_finalised(tmp_path: Path, storage: str) -> None:
    """A copy of the folder while LeRobot records is what a kill leaves: rows without footers, no episodes' metadata."""
    theirs = create(tmp_path / "theirs", storage)
    record(theirs, range(4), LENGTHS)
    shutil.copytree(tmp_path / "theirs", tmp_path / "killed")
    theirs.finalize()
    with pytest.raises(Exception):  # noqa: B017 what LeRobot raises depends on the libraries below it
        load(tmp_path / "killed")
    report = repair(tmp_path / "killed")
    assert report.dropped == () and report.episodes == 4
    assert_recorded(tmp_path / "killed", range(4))
    repaired, finalised = load(tmp_path / "killed"), load(tmp_path / "theirs")
    for index in range(sum(LENGTHS[:4])):
        mine, original = repaired[index], finalised[index]
        assert mine.keys() == original.keys()
        for key, value in original.items():
            np.testing.assert_array_equal(mine[key], value, err_msg=key)
    for key, entry in finalised.meta.stats.items():
        assert repaired.meta.stats[key].keys() == entry.keys()
        if not key.startswith(IMAGES):
            for name in ("mean", "std", "min", "max", "count"):
                np.testing.assert_allclose(repaired.meta.stats[key][name], entry[name], rtol=1e-4, atol=1e-6)


def test_lerobot_loads_what_a_kill_leaves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped before each rename of the fourth episode."""
    from tests.data.test_writer import killed_after

    write_all(tmp_path / "whole", lengths=(6, 5, 7, 6))
    for renames in (0, 3, 6):
        folder = tmp_path / f"killed-{renames}"
        episodes = write_all(folder, lengths=(6, 5, 7))
        timed = features() | {MEASURED: measured_times(features())}
        with DatasetWriter(folder, FPS, timed, "test_arm") as writer, monkeypatch.context() as patch:
            content = {"tasks": tasks(3, 6), "images": images(3, 6), "columns": numbers(3, 6) | {MEASURED: stamps(6)}}
            patch.setattr("data.video.os.replace", os.rename)  # the encoder's own renames do not count
            patch.setattr("data.atomic.Staging.discard", lambda _: None)
            patch.setattr("data.atomic.os", _Os(killed_after(renames)))
            with pytest.raises(KeyboardInterrupt):
                writer.add_episode(**content)
        assert_equal(load(folder), episodes, 0.02)


class _Os:
    """The module `os` with another `replace`."""

    def __init__(self, replace: Any) -> None:
        self.replace = replace

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)


@pytest.mark.parametrize("made_by", ["us", "lerobot"])
def test_lerobots_converter_takes_our_v21(tmp_path: Path, made_by: str) -> None:
    """Exported to v2.1, converted to v3.0 by LeRobot, loaded by LeRobot: the values that were put in."""
    converter = importlib.import_module("lerobot.datasets.v30.convert_dataset_v21_to_v30")
    if made_by == "us":
        episodes = write_all(tmp_path / "source")
    else:
        theirs = create(tmp_path / "source", "video")
        record(theirs, range(5), LENGTHS)
        theirs.finalize()
        episodes = [
            {
                "columns": {key: numbers(seed, length)[key] for key in (STATE, ACTION)},
                "tasks": tasks(seed, length),
                "images": {IMAGES + "front": pictures(seed, length)},
            }
            for seed, length in enumerate(LENGTHS)
        ]
    assert export_v21(Dataset(tmp_path / "source"), tmp_path / "tests" / "v21") == 0, "all videos are copied"
    source, exported = Dataset(tmp_path / "source"), Dataset(tmp_path / "tests" / "v21")
    for number in range(5):
        for key in source.camera_keys:
            np.testing.assert_array_equal(exported.images(number, key), source.images(number, key))
    converter.convert_dataset("tests/v21", root=tmp_path, push_to_hub=False)
    converted = load(tmp_path / "tests" / "v21")
    assert_equal(converted, episodes, 0.025)
    ours = Dataset(tmp_path / "tests" / "v21")
    assert ours.version == "v3.0" and ours.columns[STATE].shape == source.columns[STATE].shape
    if made_by == "us":
        assert [ours.events(number) for number in range(5)] == [source.events(number) for number in range(5)]
        np.testing.assert_array_equal(ours.measured_times(3), source.measured_times(3))


def test_language_columns_have_the_types_of_newer_lerobot(tmp_path: Path) -> None:
    """As declared in lerobot/datasets/language.py of version 0.6.1, which LeRobot casts the data files to."""
    hugging_face = importlib.import_module("datasets")
    text = hugging_face.Value("string")
    call = hugging_face.List(hugging_face.Json() if hasattr(hugging_face, "Json") else text)
    event = {"role": text, "content": text, "style": text, "camera": text, "tool_calls": call}
    persistent = {**event, "timestamp": hugging_face.Value("float32")}
    write_all(tmp_path / "ours", "png")
    export_language_columns(Dataset(tmp_path / "ours"), tmp_path / "columns")
    info = json.loads((tmp_path / "columns/meta/info.json").read_text())
    assert (
        info["features"][PERSISTENT] == info["features"][EVENTS] == {"dtype": "language", "shape": [1], "names": None}
    )
    utils = importlib.import_module("lerobot.datasets.utils")
    plain = {key: {**value, "shape": tuple(value["shape"])} for key, value in info["features"].items()}
    declared = {key: plain.pop(key) for key in (PERSISTENT, EVENTS)}
    assert declared
    expected = utils.get_hf_features_from_features(plain)
    expected[PERSISTENT], expected[EVENTS] = hugging_face.List(persistent), hugging_face.List(event)
    table = utils.load_nested_dataset(tmp_path / "columns/data", features=expected)
    assert len(table) == sum(LENGTHS)
    heard = [(index, row[0]["content"]) for index, row in enumerate(table[EVENTS]) if row]
    assert heard == [
        (8, "more to the left"),
        (12 + 9 + 8, "more to the left"),
        (12 + 9 + 14 + 11 + 8, "more to the left"),
    ]
    assert [row["content"] for row in table[0][PERSISTENT]] == ["grasp the handle", "move left"]
    assert table[12][PERSISTENT] == []


def test_this_lerobot_has_no_language_columns(tmp_path: Path) -> None:
    """Why they are in the metadata by default. When this fails, LeRobot is newer and they can go to the data files."""
    write_all(tmp_path / "ours", "png", lengths=(10,))
    export_language_columns(Dataset(tmp_path / "ours"), tmp_path / "columns")
    with pytest.raises(ValueError, match="language"):
        load(tmp_path / "columns")


def test_features_survive_lerobots_description(tmp_path: Path) -> None:
    write_dataset(tmp_path / "ours")
    meta = lerobot_dataset.LeRobotDatasetMetadata("tests/ours", root=tmp_path / "ours")
    assert meta.camera_keys == [IMAGES + name for name in CAMERAS]
    assert meta.shapes[STATE] == features()[STATE].shape
    assert meta.total_tasks == len(Dataset(tmp_path / "ours").tasks)


def test_lerobot_train_trains_on_ours(tmp_path: Path) -> None:
    """The command itself, with a small ACT, for three steps."""
    write_all(tmp_path / "ours")
    command = [
        str(Path(sys.executable).with_name("lerobot-train")),
        "--dataset.repo_id=tests/ours",
        f"--dataset.root={tmp_path / 'ours'}",
        "--dataset.video_backend=pyav",
        "--policy.type=act",
        "--policy.device=cpu",
        "--policy.push_to_hub=false",
        "--policy.pretrained_backbone_weights=null",
        "--policy.chunk_size=8",
        "--policy.n_action_steps=8",
        "--policy.dim_model=32",
        "--policy.n_heads=2",
        "--policy.dim_feedforward=32",
        "--policy.n_encoder_layers=1",
        "--policy.use_vae=false",
        "--steps=3",
        "--batch_size=2",
        "--num_workers=0",
        "--log_freq=1",
        "--save_freq=3",
        "--eval_freq=0",
        "--wandb.enable=false",
        f"--output_dir={tmp_path / 'run'}",
    ]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "HF_HOME": str(tmp_path / "hub")}
    run = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=tmp_path)
    assert run.returncode == 0, run.stderr[-3000:]
    trained = tmp_path / "run/checkpoints/000003/pretrained_model"
    config = json.loads((trained / "config.json").read_text())
    assert set(config["input_features"]) == {STATE, ENVIRONMENT_STATE, *(IMAGES + name for name in CAMERAS)}
    assert (trained / "model.safetensors").stat().st_size > 0
