"""Importing robomimic's and LIBERO's HDF5 files, made here with h5py in their layouts."""

from __future__ import annotations

import errno
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

h5py = pytest.importorskip("h5py")

import tongs  # noqa: E402
from data.features import ACTION, IMAGES, STATE  # noqa: E402
from data.importers import hdf5  # noqa: E402
from data.importers import run as importing  # noqa: E402
from data.importers.libero import moving  # noqa: E402
from data.importers.run import ImportConfig, run_import  # noqa: E402
from data.reader import Dataset  # noqa: E402
from robot.errors import TongsError  # noqa: E402
from robot.interface import EE_DELTA  # noqa: E402
from tests.data.episodes import pictures  # noqa: E402

LENGTHS = (9, 7, 8)
SIZE = (32, 48)
CONTROLLER = {
    "type": "OSC_POSE",
    "input_max": 1,
    "input_min": -1,
    "output_max": [0.05, 0.05, 0.05, 0.5, 0.5, 0.5],
    "output_min": [-0.05, -0.05, -0.05, -0.5, -0.5, -0.5],
    "control_delta": True,
}


def environment(controller: dict[str, Any] | None = CONTROLLER) -> str:
    arguments = {"robots": ["Panda"], "control_freq": 20, "controller_configs": controller}
    return json.dumps({"env_name": "Lift", "type": 1, "env_kwargs": arguments})


def actions(seed: int, length: int) -> NDArray[np.float64]:
    random = np.random.default_rng(seed)
    moves = random.uniform(-1.2, 1.2, (length, 6))
    return np.concatenate([moves, np.where(np.arange(length) < 4, -1.0, 1.0)[:, None]], axis=1)


def numbers(seed: int, length: int, width: int) -> NDArray[np.float64]:
    return np.random.default_rng(seed).normal(size=(length, width))


def write_robomimic(path: Path, env_args: str | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        data.attrs["env_args"] = environment() if env_args is None else env_args
        data.attrs["total"] = sum(LENGTHS)
        for number, length in zip((0, 2, 10), LENGTHS, strict=True):  # numbers with a gap, and not in the order of text
            demo = data.create_group(f"demo_{number}")
            demo.attrs["num_samples"] = length
            demo["actions"] = actions(number, length)
            demo["states"] = numbers(number, length, 32)
            demo["obs/agentview_image"] = pictures(number, length, SIZE)
            demo["obs/robot0_eye_in_hand_image"] = pictures(number + 50, length, SIZE)
            demo["obs/robot0_eef_pos"] = numbers(number + 1, length, 3)
            demo["obs/robot0_eef_quat"] = numbers(number + 2, length, 4)
            demo["obs/robot0_gripper_qpos"] = numbers(number + 3, length, 2)
            demo["obs/object"] = numbers(number + 4, length, 10)
            demo["obs/agentview_depth"] = np.zeros((length, *SIZE, 1), np.float32)
        file["mask/train"] = np.array([b"demo_0", b"demo_10"])
        file["mask/valid"] = np.array([b"demo_2"])
    return path


def write_libero(path: Path, instruction: Any = "put the bowl on the plate", **attributes: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        problem = {"problem_name": "libero_tabletop_manipulation", "language_instruction": instruction}
        data.attrs["problem_info"] = json.dumps(problem)
        data.attrs["bddl_file_name"] = "put_the_bowl_on_the_plate.bddl"
        data.attrs["env_args"] = environment()
        data.attrs["macros_image_convention"] = "opengl"
        data.attrs["num_demos"] = len(LENGTHS)
        for key, value in attributes.items():
            data.attrs[key] = value
        for number, length in enumerate(LENGTHS):
            demo = data.create_group(f"demo_{number}")
            demo["actions"] = actions(number, length)
            demo["obs/agentview_rgb"] = pictures(number, length, SIZE)
            demo["obs/eye_in_hand_rgb"] = pictures(number + 50, length, SIZE)
            demo["obs/ee_states"] = numbers(number + 1, length, 6)
            demo["obs/gripper_states"] = numbers(number + 2, length, 2)
            demo["obs/joint_states"] = numbers(number + 3, length, 7)
            demo["dones"] = np.eye(1, length, length - 1, dtype=np.uint8)[0]
    return path


def settings(tmp_path: Path, source: Path, **changes: Any) -> ImportConfig:
    return ImportConfig(**{"source": [str(source)], "output": str(tmp_path / "out"), "storage": "png", **changes})


def head(tmp_path: Path) -> dict[str, Any]:
    return json.loads((tmp_path / "out/meta/import.jsonl").read_text().splitlines()[0])


def test_every_value_of_a_robomimic_file(tmp_path: Path) -> None:
    source = write_robomimic(tmp_path / "lift.hdf5")
    run_import(settings(tmp_path, source, instruction="lift the cube"))
    dataset = Dataset(tmp_path / "out")
    assert (dataset.robot_type, dataset.fps) == ("panda_robosuite", 20)
    assert [episode.length for episode in dataset.episodes] == list(LENGTHS)
    assert dataset.tasks == ["lift the cube"]
    assert dataset.features[ACTION].names == EE_DELTA.names
    names = ("x", "y", "z", "qx", "qy", "qz", "qw", "finger_left", "finger_right")
    assert dataset.features[STATE].names == names
    for episode, number in zip(dataset.episodes, (0, 2, 10), strict=True):
        state = np.concatenate(
            [numbers(number + 1 + part, episode.length, (3, 4, 2)[part]) for part in range(3)], axis=1
        )
        rows = slice(episode.start, episode.stop)
        np.testing.assert_allclose(dataset.columns[STATE][rows], state, atol=1e-6)
        action, raw = dataset.columns[ACTION][rows], actions(number, episode.length)
        np.testing.assert_allclose(action[:, :3], np.clip(raw[:, :3], -1, 1) * 0.05, atol=1e-7)
        np.testing.assert_allclose(action[:, 3:6], np.clip(raw[:, 3:6], -1, 1) * 0.5, atol=1e-7)
        np.testing.assert_array_equal(action[:, 6], raw[:, 6] < 0)  # robosuite opens with -1
        image = dataset.images(episode.index, IMAGES + "agentview")
        np.testing.assert_array_equal(image, pictures(number, episode.length, SIZE))
    assert set(dataset.camera_keys) == {IMAGES + "agentview", IMAGES + "robot0_eye_in_hand"}
    assert head(tmp_path)["action_space"]["kind"] == "ee_delta" and head(tmp_path)["column_units"][ACTION][3] == "rad"


def test_robomimic_by_choice(tmp_path: Path) -> None:
    source = write_robomimic(tmp_path / "lift.hdf5")
    words = [f"source={source}", f"output={tmp_path / 'out'}", "instruction=lift it", "units=raw", "flip=vertical"]
    words += ["cameras.front=agentview_image", "state=robot0_eef_pos,object", "split=valid", "storage=png"]
    assert tongs.main(["import", *words]) == 0
    dataset = Dataset(tmp_path / "out")
    assert [episode.length for episode in dataset.episodes] == [7]
    assert dataset.camera_keys == [IMAGES + "front"]
    np.testing.assert_array_equal(dataset.images(0, IMAGES + "front"), pictures(2, 7, SIZE)[:, ::-1])
    assert dataset.features[ACTION].names == hdf5.RAW_NAMES
    np.testing.assert_allclose(dataset.columns[ACTION], actions(2, 7), atol=1e-6)
    assert dataset.features[STATE].names == ("x", "y", "z", *(f"object_{number}" for number in range(10)))
    lines = (tmp_path / "out/meta/import.jsonl").read_text().splitlines()
    assert json.loads(lines[1])["filter_keys"] == ["valid"]


def test_actions_without_a_scale_stay_raw(tmp_path: Path) -> None:
    source = write_robomimic(tmp_path / "lift.hdf5", environment({**CONTROLLER, "control_delta": False}))
    run_import(settings(tmp_path, source, instruction="lift it"))
    dataset = Dataset(tmp_path / "out")
    assert dataset.features[ACTION].names == hdf5.RAW_NAMES
    np.testing.assert_allclose(dataset.columns[ACTION][:9], actions(0, 9), atol=1e-6)
    with pytest.raises(TongsError, match="no OSC_POSE controller that tells the scale"):
        run_import(settings(tmp_path, source, instruction="lift it", units="physical", output=str(tmp_path / "b")))


def test_the_scale_is_robosuites_own() -> None:
    """Against the function of robosuite 1.5 with its own default configuration, one controller per part."""
    pytest.importorskip("robosuite")
    from robosuite.controllers import load_composite_controller_config
    from robosuite.controllers.parts.controller import Controller

    configuration = load_composite_controller_config(controller="BASIC")
    assert configuration is not None
    scale = hdf5.action_scale({"env_kwargs": {"controller_configs": configuration}})
    assert scale is not None
    part = configuration["body_parts"]["right"]
    limits = {key: np.asarray(part[key]) for key in ("input_min", "input_max", "output_min", "output_max")}
    raw = actions(5, 20)
    theirs = [Controller.scale_action(SimpleNamespace(**limits, action_scale=None), row[:6]) for row in raw]
    np.testing.assert_allclose(scale.physical(raw)[:, :6], np.stack(theirs), atol=1e-12)


def test_every_value_of_a_libero_suite(tmp_path: Path) -> None:
    write_libero(tmp_path / "suite/a_demo.hdf5")
    write_libero(tmp_path / "suite/b_demo.hdf5", ['"open the ', 'drawer"'])
    run_import(settings(tmp_path, tmp_path / "suite"))
    dataset = Dataset(tmp_path / "out")
    assert (dataset.robot_type, dataset.fps, len(dataset.episodes)) == ("panda_libero", 20, 6)
    assert dataset.tasks == ["put the bowl on the plate", "open the drawer"]
    assert dataset.features[STATE].names == ("x", "y", "z", "rx", "ry", "rz", "finger_left", "finger_right")
    assert dataset.features[ACTION].names == hdf5.RAW_NAMES
    for episode in dataset.episodes:
        number = episode.index % 3
        length = LENGTHS[number]
        rows = slice(episode.start, episode.stop)
        # A row's observation was made after its action, so it goes with the next row's.
        np.testing.assert_allclose(dataset.columns[ACTION][rows], actions(number, length)[1:], atol=1e-6)
        state = np.concatenate([numbers(number + 1, length, 6), numbers(number + 2, length, 2)], axis=1)
        np.testing.assert_allclose(dataset.columns[STATE][rows], state[:-1], atol=1e-6)
        for name, seed in (("image", number), ("image2", number + 50)):
            turned = np.rot90(pictures(seed, length, SIZE)[:-1], 2, axes=(1, 2))
            np.testing.assert_array_equal(dataset.images(episode.index, IMAGES + name), turned)


def test_libero_as_the_rows_are(tmp_path: Path) -> None:
    source = write_libero(tmp_path / "a_demo.hdf5")
    words = [f"source={source}", f"output={tmp_path / 'out'}", "shift=false", "flip=none", "units=physical"]
    assert tongs.main(["import", *words, "storage=png"]) == 0
    dataset = Dataset(tmp_path / "out")
    assert dataset.features[ACTION].names == EE_DELTA.names
    np.testing.assert_allclose(dataset.columns[ACTION][:9, :3], np.clip(actions(0, 9)[:, :3], -1, 1) / 20, atol=1e-7)
    np.testing.assert_array_equal(dataset.images(0, IMAGES + "image"), pictures(0, 9, SIZE))


def test_no_ops_are_dropped_by_openvlas_rule(tmp_path: Path) -> None:
    still, move = np.zeros(7), np.full(7, 0.5)
    rows = np.stack([still, move, still, still, move, still, still])
    rows[:, 6] = [-1, -1, -1, 1, 1, -1, -1]  # the gripper turns at rows 3 and 5
    rows[6, 0] = 9e-5
    assert moving(rows).tolist() == [False, True, False, True, True, True, False]
    source = write_libero(tmp_path / "a_demo.hdf5")
    with h5py.File(source, "a") as file:
        file["data/demo_0/actions"][5:8, :6] = 0.0
    run_import(settings(tmp_path, source, drop_no_ops=True))
    dataset = Dataset(tmp_path / "out")
    assert [episode.length for episode in dataset.episodes] == [5, 6, 7]
    kept = np.rot90(pictures(0, 9, SIZE)[[0, 1, 2, 3, 7]], 2, axes=(1, 2))
    np.testing.assert_array_equal(dataset.images(0, IMAGES + "image"), kept)


def test_bad_files_are_named(tmp_path: Path) -> None:
    whole = write_robomimic(tmp_path / "whole.hdf5")
    cut = tmp_path / "cut.hdf5"
    cut.write_bytes(whole.read_bytes()[:5000])
    with pytest.raises(TongsError, match="cut.hdf5 is no HDF5 file, or is damaged"):
        run_import(settings(tmp_path, cut))
    with pytest.raises(TongsError, match="whole.hdf5: demo_0: robomimic's files hold no instruction"):
        run_import(settings(tmp_path, whole))
    told = {"instruction": "lift it"}
    with pytest.raises(TongsError, match="unknown filter key 'tset'; known are: train, valid"):
        run_import(settings(tmp_path, whole, **told, split="tset"))
    with pytest.raises(TongsError, match="there is no 'top_image'; there are: agentview_depth, agentview_image"):
        run_import(settings(tmp_path, whole, **told, cameras={"front": "top_image"}))
    with pytest.raises(TongsError, match="agentview_depth is no colour images"):
        run_import(settings(tmp_path, whole, **told, cameras={"front": "agentview_depth"}))
    with pytest.raises(TongsError, match="unknown flip 'up'"):
        run_import(settings(tmp_path, whole, **told, flip="up"))
    with pytest.raises(TongsError, match="a_demo.hdf5 was recorded with robosuite's images the right way up"):
        run_import(settings(tmp_path, write_libero(tmp_path / "a_demo.hdf5", macros_image_convention="opencv")))
    with pytest.raises(TongsError, match="map is not a setting of the format robomimic, only of rosbag"):
        run_import(settings(tmp_path, whole, map="map.yaml"))
    assert not (tmp_path / "out").exists()


def test_a_bad_demonstration_stops_or_is_skipped(tmp_path: Path) -> None:
    source = write_robomimic(tmp_path / "lift.hdf5")
    with h5py.File(source, "a") as file:
        del file["data/demo_2/obs/robot0_eef_pos"]
        file["data/demo_2/obs/robot0_eef_pos"] = numbers(0, 3, 3)
    with pytest.raises(TongsError, match="lift.hdf5: demo_2: there are 7 actions, but 3 frames of robot0_eef_pos"):
        run_import(settings(tmp_path, source, instruction="lift it"))
    assert len(Dataset(tmp_path / "out").episodes) == 1
    report = run_import(settings(tmp_path, source, instruction="lift it", bad="skip"))
    assert (report.known, report.episodes, len(report.skipped)) == (1, 1, 1)
    assert [episode.length for episode in Dataset(tmp_path / "out").episodes] == [9, 8]


def test_a_full_disk_is_not_a_bad_episode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    source = write_robomimic(tmp_path / "lift.hdf5")
    given = settings(tmp_path, source, instruction="lift it", bad="skip")
    with monkeypatch.context() as patch:
        patch.setattr(importing.DatasetWriter, "_stage", lambda *_: full(tmp_path))
        with pytest.raises(TongsError, match="the disk is full: 0 episodes are safe"):
            run_import(given)
    assert run_import(given).episodes == 3


def test_another_file_adds_to_the_dataset(tmp_path: Path) -> None:
    for name in ("first", "second"):
        source = write_robomimic(tmp_path / f"{name}.hdf5")
        report = run_import(settings(tmp_path, source, instruction="lift it"))
        assert (report.known, report.episodes) == (0, 3)
    assert [episode.length for episode in Dataset(tmp_path / "out").episodes] == [*LENGTHS, *LENGTHS]


def test_a_dataset_that_was_not_imported_is_left_alone(tmp_path: Path) -> None:
    from tests.data.episodes import write_dataset

    write_dataset(tmp_path / "out")
    with pytest.raises(TongsError, match="holds a dataset that was not made by an import"):
        run_import(settings(tmp_path, write_robomimic(tmp_path / "lift.hdf5"), instruction="lift it"))


@pytest.mark.slow
def test_lerobot_loads_what_was_imported(tmp_path: Path) -> None:
    lerobot_dataset = pytest.importorskip("lerobot.datasets.lerobot_dataset")
    run_import(settings(tmp_path, write_libero(tmp_path / "a_demo.hdf5")))
    theirs = lerobot_dataset.LeRobotDataset("tests/imported", root=tmp_path / "out", video_backend="pyav")
    assert (theirs.num_episodes, theirs.fps) == (3, 20)
    item = theirs[3]
    np.testing.assert_allclose(item[ACTION].numpy(), actions(0, 9)[4], atol=1e-6)
    assert item["task"] == "put the bowl on the plate"
