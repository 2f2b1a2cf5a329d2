"""From what an arm does to words, and from words to what it shall do: one table for both."""

from __future__ import annotations

import json

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from robot.errors import TongsError
from robot.motions import (
    TABLE,
    Axis,
    MotionTable,
    clauses,
    describe,
    label_motions,
    parse_motion,
    require_motion,
    vocabulary,
)
from robot.skills import POSE_STATE

NAMES = (*POSE_STATE, "gripper_opening")
RATE = 10.0


def states(
    position: NDArray[np.floating],
    turn: NDArray[np.floating] | None = None,
    opening: NDArray[np.floating] | None = None,
) -> NDArray[np.float32]:
    """Proprioception (N, 10) of positions (N, 3), rotation vectors (N, 3) and openings (N,)."""
    length = len(position)
    matrices = Rotation.from_rotvec(np.zeros((length, 3)) if turn is None else turn).as_matrix()
    fingers = np.ones(length) if opening is None else opening
    columns = [position, matrices[:, :, 0], matrices[:, :, 1], fingers[:, None]]
    return np.concatenate(columns, axis=1).astype(np.float32)


def line(*speed: float, length: int = 10) -> NDArray[np.float64]:
    """Positions at a constant speed in m/s."""
    return np.arange(length)[:, None] / RATE * np.array(speed)


def labels(given: NDArray[np.float32], table: MotionTable = TABLE) -> list[str]:
    return label_motions(given, NAMES, RATE, table)


@pytest.mark.parametrize(
    ("speed", "words"),
    [
        ((0.1, 0, 0), "move arm forward"),
        ((-0.1, 0, 0), "move arm backward"),
        ((0, 0.1, 0), "move arm left"),
        ((0, -0.1, 0), "move arm right"),
        ((0, 0, 0.1), "move arm up"),
        ((0, 0, -0.1), "move arm down"),
    ],
)
def test_a_pure_motion_has_one_phrase_and_its_sign_the_other_word(speed: tuple[float, ...], words: str) -> None:
    assert labels(states(line(*speed)))[0] == words


@pytest.mark.parametrize("axis", range(3))
def test_turns_are_about_the_axes_of_the_base(axis: int) -> None:
    """Wherever the hand points: a turn about a base axis has the same words."""
    expected = [("tilt arm right", "tilt arm left"), ("tilt arm forward", "tilt arm backward")]
    expected.append(("rotate arm left", "rotate arm right"))
    for sign, words in zip((1.0, -1.0), expected[axis], strict=True):
        spin = np.zeros((10, 3))
        spin[:, axis] = sign * 0.5 * np.arange(10) / RATE
        start = Rotation.from_rotvec([np.pi, 0, 0]) * Rotation.from_rotvec([0, 0, 0.8])
        turned = (Rotation.from_rotvec(spin) * start).as_rotvec()
        assert labels(states(np.zeros((10, 3)), turned))[0] == words


def test_two_phrases_in_the_order_of_their_size() -> None:
    closing = np.linspace(1.0, 0.0, 10)
    fast, slow = line(0.2, 0, 0), line(0.04, 0, 0)
    assert labels(states(fast, opening=closing))[0] == "move arm forward and close gripper"
    assert labels(states(slow, opening=closing))[0] == "close gripper and move arm forward"


def test_below_the_threshold_nothing_is_named_and_the_idle_phrase_said() -> None:
    assert labels(states(line(0.02, 0.02, 0.02)))[0] == TABLE.idle  # 8 mm in 0.4 s
    moving = labels(states(line(0.1, 0, 0)))
    assert moving[-1] == TABLE.idle and moving[-3] == "move arm forward"  # the last moment has no later one


def test_noise_below_half_the_threshold_changes_nothing_and_labels_repeat() -> None:
    """Two noisy moments differ by at most twice the noise."""
    random = np.random.default_rng(0)
    for speed, words in (((0, 0, 0), TABLE.idle), ((0.3, 0, 0), "move arm forward")):
        clean = line(*speed, length=40)
        noisy = states(clean + random.uniform(-0.0049, 0.0049, clean.shape))
        given = labels(noisy)
        assert set(given[:-4]) == {words}
        assert given == labels(noisy.copy())


def test_no_more_changes_are_named_than_asked_for() -> None:
    three = states(line(0.3, 0.2, -0.1))
    assert labels(three)[0] == "move arm forward and move arm left and move arm down"
    short = MotionTable(TABLE.axes, most=2)
    assert labels(three, short)[0] == "move arm forward and move arm left"


def test_a_longer_horizon_names_slower_motions() -> None:
    slow = states(line(0.02, 0, 0, length=30))
    assert labels(slow)[0] == TABLE.idle
    assert labels(slow, MotionTable(TABLE.axes, horizon=1.0))[0] == "move arm forward"


def test_an_axis_of_your_own_and_entries_that_are_missing() -> None:
    table = MotionTable((Axis("base_x", "drive base forward", "drive base backward", 0.05),))
    driving = np.linspace(0, -1, 10)[:, None].astype(np.float32)
    assert label_motions(driving, ("base_x",), RATE, table)[0] == "drive base backward"
    with pytest.raises(TongsError, match="motions need the state x, y, z, gripper_opening, r11"):
        label_motions(driving, ("base_x",), RATE)


def test_varied_motion_has_more_than_a_thousand_phrases() -> None:
    """A random walk of all axes: the depth of the combinations is what makes the vocabulary."""
    random = np.random.default_rng(1)
    steps = random.normal(size=(40_000, len(TABLE.axes))) * [axis.threshold for axis in TABLE.axes]
    report = vocabulary([describe(step) for step in steps])
    assert len(report.counts) > 1000 and report.total == 40_000
    assert sum(report.depth.values()) == 40_000 and {0, 1, 2, 3} == set(report.depth)
    first, second = list(report.counts.values())[:2]
    assert first >= second and f"{len(report.counts)} motions at 40000 moments" in report.sentences()[0]


def test_every_label_is_a_motion_that_can_be_said() -> None:
    random = np.random.default_rng(2)
    for _ in range(300):
        change = random.normal(size=len(TABLE.axes)) * [1.5 * axis.threshold for axis in TABLE.axes]
        label = describe(change)
        motion = parse_motion(label)
        assert motion is not None and motion.text == label
        entries = {"x": 0, "y": 1, "z": 2, "rx": 3, "ry": 4, "rz": 5}
        for axis, value in zip(TABLE.axes, change, strict=True):
            named = {axis.positive, axis.negative} & set(clauses(label))
            if axis.entry in entries:
                assert motion.velocity[entries[axis.entry]] == (np.sign(value) if named else 0.0)
            else:
                assert motion.opening == ((1.0 if value > 0 else 0.0) if named else None)


def test_a_motion_is_required() -> None:
    assert require_motion("Move forward, and left!") == "move arm forward and move arm left"
    assert require_motion("hold still") == TABLE.idle
    with pytest.raises(TongsError, match="unknown motion 'wiggle'; the nearest known are: "):
        require_motion("wiggle")
    with pytest.raises(TongsError, match="the motion is empty"):
        require_motion(" ")


def test_a_table_survives_json_and_refuses_nonsense() -> None:
    assert MotionTable.from_json(json.loads(json.dumps(TABLE.to_json()))) == TABLE
    with pytest.raises(TongsError, match="no table of motions"):
        MotionTable.from_json({"axes": [{"entry": "x"}]})
    with pytest.raises(TongsError, match="two motions of the table have the words 'move arm up'"):
        MotionTable((Axis("x", "move arm up", "move arm down", 1.0), Axis("y", "move up", "b", 1.0)))
    with pytest.raises(TongsError, match="above 0, got 0"):
        Axis("x", "a", "b", 0.0)
