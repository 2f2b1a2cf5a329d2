"""Importing RLDS datasets: written here by TensorFlow Datasets itself, without TensorFlow."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

tfds = pytest.importorskip("tensorflow_datasets")
writing = pytest.importorskip("tfrecord.writer")

from tensorflow_datasets.core import dataset_info, naming  # noqa: E402
from tensorflow_datasets.proto import tf_example_pb2  # noqa: E402

import tongs  # noqa: E402
from data.features import ACTION, IMAGES, STATE  # noqa: E402
from data.importers.rlds import records  # noqa: E402
from data.importers.run import ImportConfig, run_import  # noqa: E402
from data.reader import Dataset  # noqa: E402
from robot.errors import TongsError  # noqa: E402
from tests.data.episodes import pictures  # noqa: E402

LENGTHS = (6, 9, 7)
SIZE = (32, 48)


def step_features(parts: bool, points: bool) -> Any:
    """The features of a step; `points` are ragged, a number of points per step that differs."""
    make = tfds.features
    action: Any = make.Tensor(shape=(7,), dtype=np.float32)
    if parts:
        action = make.FeaturesDict(
            {
                "world_vector": make.Tensor(shape=(3,), dtype=np.float32),
                "open_gripper": make.Tensor(shape=(), dtype=np.bool_),
            }
        )
    observation = {
        "image": make.Image(shape=(*SIZE, 3), dtype=np.uint8, encoding_format="png"),
        "wrist_image": make.Image(shape=(*SIZE, 3), dtype=np.uint8, encoding_format="jpeg"),
        "depth": make.Image(shape=(*SIZE, 1), dtype=np.uint8, encoding_format="png"),
        "state": make.Tensor(shape=(8,), dtype=np.float32),
    }
    if points:
        observation["points"] = make.Sequence(make.Tensor(shape=(2,), dtype=np.float32))
    return {
        "observation": make.FeaturesDict(observation),
        "action": action,
        "language_instruction": make.Text(),
        "reward": make.Scalar(dtype=np.float32),
        "is_first": make.Scalar(dtype=np.bool_),
        "is_last": make.Scalar(dtype=np.bool_),
        "is_terminal": make.Scalar(dtype=np.bool_),
    }


def encoded(pixels: NDArray[np.uint8], kind: str) -> io.BytesIO:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format=kind, **({"quality": 95} if kind == "JPEG" else {}))
    buffer.seek(0)
    return buffer


def numbers(seed: int, length: int, width: int) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=(length, width)).astype(np.float32)


def episode(seed: int, length: int, parts: bool) -> dict[str, Any]:
    steps = []
    front, wrist = pictures(seed, length, SIZE), pictures(seed + 50, length, SIZE)
    for frame in range(length):
        action: Any = numbers(seed, length, 7)[frame]
        if parts:
            action = {"world_vector": action[:3], "open_gripper": frame % 2 == 0}
        observation = {
            "image": encoded(front[frame], "PNG"),
            "wrist_image": encoded(wrist[frame], "JPEG"),
            "depth": encoded(front[frame][..., 0], "PNG"),
            "state": numbers(seed + 1, length, 8)[frame],
        }
        steps.append(
            {
                "observation": observation,
                "action": action,
                "language_instruction": f"do {seed}" if frame < 4 else f"do {seed} more",
                "reward": float(frame == length - 1),
                "is_first": frame == 0,
                "is_last": frame == length - 1,
                "is_terminal": frame == length - 1,
            }
        )
    return {"steps": steps, "episode_metadata": {"file_path": f"/raw/{seed}.npy"}}


def all_features(parts: bool, points: bool) -> Any:
    steps = tfds.features.Dataset(step_features(parts, points))
    metadata = tfds.features.FeaturesDict({"file_path": tfds.features.Text()})
    return tfds.features.FeaturesDict({"steps": steps, "episode_metadata": metadata})


def write_dataset(folder: Path, parts: bool = False, shards: tuple[int, ...] = (2, 1)) -> Path:
    """A version folder as `tfds build` leaves it: serialised by TensorFlow Datasets, framed by tfrecord's writer."""
    folder.mkdir(parents=True)
    # TensorFlow Datasets writes everything but ragged features without TensorFlow; those are added in its layout.
    plain, features = all_features(parts, points=False), all_features(parts, points=True)
    seed = 0
    for shard, count in enumerate(shards):
        writer = writing.TFRecordWriter(str(folder / f"toy-train.tfrecord-{shard:05d}-of-{len(shards):05d}"))
        for _ in range(count):
            length = LENGTHS[seed]
            example = tf_example_pb2.Example.FromString(plain.serialize_example(episode(seed, length, parts)))
            datum = {key: values(feature) for key, feature in example.features.feature.items()}
            points = np.arange(length * (length - 1)).astype(float).tolist()
            datum["steps/observation/points/ragged_flat_values"] = (points, "float")
            datum["steps/observation/points/ragged_row_lengths_0"] = (list(range(length)), "int")
            writer.write(datum)
            seed += 1
        writer.close()
    identity = dataset_info.DatasetIdentity(
        name="toy", version=tfds.core.Version("1.0.0"), data_dir=str(folder), module_name="toy"
    )
    info = dataset_info.DatasetInfo(builder=identity, features=features)
    info.set_file_format("tfrecord")
    template = naming.ShardedFileTemplate(dataset_name="toy", data_dir=folder, filetype_suffix="tfrecord")
    split = tfds.core.SplitInfo(name="train", shard_lengths=list(shards), num_bytes=1, filename_template=template)
    info.set_splits(tfds.core.splits.SplitDict([split]))
    info.write_to_directory(folder)
    return folder


def values(feature: Any) -> tuple[list[Any], str]:
    kind = feature.WhichOneof("kind")
    return list(getattr(feature, kind).value), {"bytes_list": "byte", "float_list": "float", "int64_list": "int"}[kind]


def settings(tmp_path: Path, **changes: Any) -> ImportConfig:
    fields = {"source": [str(tmp_path / "toy")], "output": str(tmp_path / "out"), "storage": "png", "fps": 5}
    return ImportConfig(**{**fields, **changes})


def test_every_value_of_a_dataset(tmp_path: Path) -> None:
    folder = write_dataset(tmp_path / "toy/1.0.0")
    run_import(settings(tmp_path))
    assert "tensorflow" not in sys.modules
    dataset = Dataset(tmp_path / "out")
    assert (dataset.robot_type, dataset.fps) == ("toy", 5)
    assert [episode.length for episode in dataset.episodes] == list(LENGTHS)
    assert set(dataset.camera_keys) == {IMAGES + "image", IMAGES + "wrist_image"}
    assert dataset.features[ACTION].names == tuple(f"action_{number}" for number in range(7))
    for number, span in enumerate(dataset.episodes):
        rows = slice(span.start, span.stop)
        np.testing.assert_array_equal(dataset.columns[ACTION][rows], numbers(number, span.length, 7))
        np.testing.assert_array_equal(dataset.columns[STATE][rows], numbers(number + 1, span.length, 8))
        np.testing.assert_array_equal(dataset.images(number, IMAGES + "image"), pictures(number, span.length, SIZE))
        wrist = dataset.images(number, IMAGES + "wrist_image").astype(int)
        assert np.abs(wrist - pictures(number + 50, span.length, SIZE)).mean() < 3
        assert dataset.frame_tasks(number) == [f"do {number}"] * 4 + [f"do {number} more"] * (span.length - 4)
    lines = [json.loads(line) for line in (tmp_path / "out/meta/import.jsonl").read_text().splitlines()]
    assert [line["metadata"]["file_path"] for line in lines[1:]] == [f"/raw/{seed}.npy" for seed in range(3)]
    assert lines[1]["source"] == f"{folder / 'toy-train.tfrecord-00000-of-00002'}: episode 0"
    assert lines[3]["source"] == f"{folder / 'toy-train.tfrecord-00001-of-00002'}: episode 0"


def test_actions_in_parts_by_choice(tmp_path: Path) -> None:
    write_dataset(tmp_path / "toy", parts=True)
    with pytest.raises(TongsError, match="which parts are the action.*action/open_gripper, action/world_vector"):
        run_import(settings(tmp_path))
    words = [f"source={tmp_path / 'toy'}", f"output={tmp_path / 'out'}", "fps=3", "storage=png", "robot_type=arm"]
    words += ["action=action/world_vector,action/open_gripper", "action_names=dx,dy,dz,gripper"]
    words += ["action_units=m,m,m,1", "cameras.front=image", "state=state", "instruction=push it"]
    assert tongs.main(["import", *words]) == 0
    dataset = Dataset(tmp_path / "out")
    assert (dataset.robot_type, dataset.fps, dataset.tasks) == ("arm", 3, ["push it"])
    assert dataset.camera_keys == [IMAGES + "front"]
    assert dataset.features[ACTION].names == ("dx", "dy", "dz", "gripper")
    np.testing.assert_array_equal(dataset.columns[ACTION][:6, :3], numbers(0, 6, 7)[:, :3])
    np.testing.assert_array_equal(dataset.columns[ACTION][:6, 3], [1, 0, 1, 0, 1, 0])


def test_records_and_their_checksums(tmp_path: Path) -> None:
    folder = write_dataset(tmp_path / "toy", shards=(3,))
    path = next(folder.glob("*.tfrecord-*"))
    whole = path.read_bytes()
    steps = [
        len(tf_example_pb2.Example.FromString(r).features.feature["steps/is_first"].int64_list.value)
        for r in records(path)
    ]
    assert steps == list(LENGTHS)
    path.write_bytes(whole[:-40])
    with pytest.raises(TongsError, match=r"of-00001: episode 2: the file is cut short in episode 2"):
        run_import(settings(tmp_path))
    assert len(Dataset(tmp_path / "out").episodes) == 2
    path.write_bytes(whole[:-5] + bytes([whole[-5] ^ 1]) + whole[-4:])
    with pytest.raises(TongsError, match="episode 2: the file is damaged in episode 2: the checksum does not fit"):
        run_import(settings(tmp_path))
    report = run_import(settings(tmp_path, bad="skip"))
    assert (report.known, report.episodes, len(report.skipped)) == (2, 0, 1)


def test_going_on_after_an_interruption(tmp_path: Path) -> None:
    folder = write_dataset(tmp_path / "toy", shards=(3,))
    path = next(folder.glob("*.tfrecord-*"))
    whole = path.read_bytes()
    path.write_bytes(whole[:-40])
    with pytest.raises(TongsError):
        run_import(settings(tmp_path))
    path.write_bytes(whole)
    report = run_import(settings(tmp_path))
    assert (report.known, report.episodes) == (2, 1)
    assert [episode.length for episode in Dataset(tmp_path / "out").episodes] == list(LENGTHS)


def test_what_is_missing_or_wrong_is_said(tmp_path: Path) -> None:
    write_dataset(tmp_path / "toy")
    for changes, said in (
        ({"fps": None}, "do not say how fast they were recorded; give fps"),
        ({"state": ["pose"]}, "unknown key 'pose'; known are: action, is_first.*observation/state"),
        (
            {"cameras": {"front": "depth"}},
            "depth is no colour picture; those are: observation/image, observation/wrist",
        ),
        ({"state": ["points"]}, "observation/points is no vector of numbers of a fixed length"),
        ({"action_names": ["a", "b"]}, "action_names must be 7 different names, got a, b"),
        ({"action_units": ["m"]}, "action_units must be 7 units"),
        ({"split": "test"}, "unknown split 'test'; known are: train"),
        ({"flip": "rotate"}, "flip is not a setting of the format rlds"),
    ):
        with pytest.raises(TongsError, match=said):
            run_import(settings(tmp_path, **changes))
    (tmp_path / "toy/dataset_info.json").write_text("{")
    with pytest.raises(TongsError, match="toy is no readable RLDS dataset"):
        run_import(settings(tmp_path))
