"""`tongs check` passes what fits and finds each way in which a recording may not."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

import tongs
from data.features import ACTION, STATE, robot_features
from data.statistics import column_statistics
from data.writer import DatasetWriter
from eval import check as checking
from eval.check import CheckConfig, check, print_result
from robot.errors import TongsError
from robot.interface import EE_DELTA, ActionChunk, Observation, PolicySpec, RobotSpec, require_compatible

STATE_NAMES = tuple(f"next_{name}" for name in EE_DELTA.names)
LENGTH = 60
Columns = dict[str, NDArray[np.float32]]


class Knowing:
    """A policy that reads the right action (m, rad, 1 = open) from the state, with a little noise."""

    spec = PolicySpec({"front": (16, 24)}, STATE_NAMES, EE_DELTA, horizon=1)

    def __init__(self, statistics: dict[str, Any]) -> None:
        self.statistics = statistics

    def bind(self, robot: RobotSpec) -> None:
        require_compatible(self.spec, robot)

    def reset(self, seed: int) -> None:
        self._random = np.random.default_rng(seed)

    def act(self, observation: Observation) -> ActionChunk:
        assert observation.images["front"].shape == (32, 48, 3)
        action = observation.state * self._random.normal(1, 0.05, 7).astype(np.float32)
        return ActionChunk(action[None].astype(np.float32), np.array([observation.time]))


def motion(seed: int) -> Columns:
    random, time = np.random.default_rng(seed), np.arange(LENGTH)[:, None]
    action = 0.02 * np.sin(time / random.uniform(4, 9, 7) + random.uniform(0, 6, 7)) + random.normal(
        0, 0.002, (LENGTH, 7)
    )
    action[:, 6] = time[:, 0] < LENGTH // 2
    return {ACTION: action.astype(np.float32), STATE: action.astype(np.float32)}


def write(
    folder: Path, spoil: Callable[[Columns], None], fps: int = 10, names: tuple[str, ...] = EE_DELTA.names
) -> str:
    features = robot_features({"front": (32, 48)}, STATE_NAMES, names)
    with DatasetWriter(folder, fps, features, "arm") as writer:
        for seed in range(4):
            columns = motion(seed)
            spoil(columns)
            frames = np.full((LENGTH, 32, 48, 3), 100, np.uint8)
            writer.add_episode(columns, ["move"] * LENGTH, images={"observation.images.front": frames})
    return str(folder)


@pytest.fixture(autouse=True)
def knowing(monkeypatch: pytest.MonkeyPatch) -> None:
    columns = [motion(seed) for seed in range(10, 20)]
    kept = {key: column_statistics(np.concatenate([episode[key] for episode in columns])) for key in (STATE, ACTION)}
    policy = Knowing(kept)
    monkeypatch.setattr(checking, "choose_policy", lambda name: SimpleNamespace(load=lambda sampling, lerobot: policy))


def test_what_fits_passes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    replayed: list[None] = []
    folder = write(tmp_path / "set", lambda columns: None)
    result = check(CheckConfig("knowing", folder, episodes=3), lambda: replayed.append(None))
    assert result.mismatches == [] and result.frames == 3 * LENGTH == 60 * len(replayed)
    for entry in result.agreements:
        assert entry.correlation > 0.98 and entry.error < 0.1 * entry.spread
    print_result(result)
    printed = capsys.readouterr().out
    assert "names, units, rate, polarity and frame fit" in printed and "180 frames, open loop" in printed


def millimetres(columns: Columns) -> None:
    columns[ACTION][:, :3] *= 1000


def degrees(columns: Columns) -> None:
    columns[ACTION][:, 3:6] *= 180 / np.pi


def closed_is_one(columns: Columns) -> None:
    columns[ACTION][:, 6] = 1 - columns[ACTION][:, 6]


def other_frame(columns: Columns) -> None:
    turned = Rotation.from_euler("z", -90, degrees=True).apply(columns[ACTION][:, :3])
    columns[ACTION][:, :3] = turned


def shifted_state(columns: Columns) -> None:
    columns[STATE][:, 0] += 0.5


def state_in_millimetres(columns: Columns) -> None:
    columns[STATE][:, 1] *= 1000


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (millimetres, "the recorded dx, dy, dz are .* times the size .* in m: metres and millimetres"),
        (degrees, "the recorded rx, ry, rz are .* times the size .* in rad: radians and degrees"),
        (closed_is_one, "gripper runs the other way: for the policy 1 is open"),
        (other_frame, r"turned by 90 degrees about \(-?0.00, -?0.00, 1.00\): the frame of the recording is not 'base'"),
        (shifted_state, "state next_dx was .* in training and is .* here: another unit, frame or robot"),
        (state_in_millimetres, "state next_dy was .* here: metres and millimetres"),
    ],
)
def test_each_mismatch_is_one_sentence(tmp_path: Path, spoil: Callable[[Columns], None], sentence: str) -> None:
    result = check(CheckConfig("knowing", write(tmp_path / "set", spoil)))
    (found,) = result.mismatches
    assert re.search(sentence, found)


def test_names_and_rate_are_compared_before_anything_is_replayed(tmp_path: Path) -> None:
    others = ("x", "y", "z", "rx", "ry", "rz", "gripper")
    result = check(CheckConfig("knowing", write(tmp_path / "set", lambda columns: None, 20, others)))
    names, rate = result.mismatches
    assert "the policy gives dx, dy, dz" in names and "the recorded actions are x, y, z" in names
    assert rate == "the policy acts at 10 Hz, and the recording has 20 frames per second"
    assert result.agreements == [] and result.frames == 0


def test_the_command_says_whether_it_fits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["check", "policy=knowing", "episodes=2"]
    assert tongs.main([*words, f"data={write(tmp_path / 'good', lambda columns: None)}"]) == 0
    assert tongs.main([*words, f"data={write(tmp_path / 'bad', closed_is_one)}"]) == 1
    assert "MISMATCH gripper runs the other way" in capsys.readouterr().out
    assert tongs.main([*words, "data=nowhere"]) == 2
    assert tongs.main([*words, f"data={tmp_path / 'good'}", "execute=0"]) == 2
    assert "must be at least 1" in capsys.readouterr().err


def test_a_policy_is_compared_with_a_topic_map(tmp_path: Path) -> None:
    pytest.importorskip("rosbags")
    shipped = Path(checking.__file__).resolve().parents[1] / "configs" / "topic_map"
    (found,) = check(CheckConfig("knowing", map=str(shipped / "simulated.yaml"))).mismatches
    assert "it reads state next_dx, " in found and "kind" not in found
    limits = str(shipped.parent / "limits" / "so101.yaml")
    (found,) = check(CheckConfig("knowing", map=str(shipped / "so101.yaml"), limits=limits)).mismatches
    assert "kind is ee_delta here and joint_position there" in found and "camera" not in found
    broken = tmp_path / "map.yaml"
    broken.write_text((shipped / "simulated.yaml").read_text().replace("CompressedImage", "Picture"))
    with pytest.raises(TongsError, match="unknown message type 'sensor_msgs/msg/Picture'"):
        check(CheckConfig("knowing", map=str(broken)))
    both = CheckConfig("knowing", write(tmp_path / "set", lambda columns: None), str(shipped / "simulated.yaml"))
    result = check(both)
    assert len(result.mismatches) == 1 and result.frames == 0  # the map is a reason not to replay
    with pytest.raises(TongsError, match="against what\\? give data="):
        CheckConfig("knowing")
    with pytest.raises(TongsError, match="limits and urdf are of a topic map's arm"):
        CheckConfig("knowing", "x", limits=limits)
