"""As-of samples of messages: which one is taken, how old it may be, and actions from commanded poses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import yaml
from scipy.spatial.transform import Rotation

from robot.errors import TongsError
from robot.resample import NoSampleError, Resampler, StaleError, ee_delta, measure
from robot.topic_map import TopicMap
from tests.robot import bag_messages as bag
from tests.robot.test_topic_map import MAP

MS = 10**6
T0 = 1_700_000_000 * 10**9


def resampler(**changes: Any) -> Resampler:
    content = {
        "robot_type": "test_arm",
        "rate": 10,
        "state": [{"topic": "/x", "joints": ["j"], "unit": "rad"}],
        **changes,
    }
    return Resampler(TopicMap.parse(content))


def push(target: Resampler, value: float, stamp: int, arrived: int | None = None) -> None:
    target.push("/x", bag.joint_state(T0 + stamp * MS, {"j": value}), T0 + (stamp if arrived is None else arrived) * MS)


def value_at(target: Resampler, time: int) -> float:
    return float(target.sample_at(T0 + time * MS).state[0])


def test_the_newest_that_is_not_newer_is_taken() -> None:
    target = resampler()
    for stamp, value in ((30, 3.0), (10, 1.0), (20, 2.0)):  # in any order
        push(target, value, stamp)
    assert [value_at(target, time) for time in (10, 19, 20, 29, 30, 200)] == [1, 1, 2, 2, 3, 3]
    sample = target.sample_at(T0 + 29 * MS)
    assert sample.stamps == {"/x": T0 + 20 * MS}
    with pytest.raises(NoSampleError, match="/x has said nothing yet"):
        value_at(target, 9)


def test_what_has_not_arrived_is_not_seen() -> None:
    target = resampler()
    push(target, 1.0, 0, arrived=5)
    push(target, 2.0, 90, arrived=120)  # a slow message
    push(target, 3.0, 95, arrived=98)
    assert [value_at(target, time) for time in (5, 94, 97, 98, 130)] == [1, 1, 1, 3, 3]
    waiting = resampler(delay=0.03)
    push(waiting, 1.0, 0, arrived=5)
    push(waiting, 2.0, 90, arrived=120)
    assert [value_at(waiting, time) for time in (0, 89, 90)] == [1, 1, 2]
    patient = resampler(delay=None)
    push(patient, 2.0, 90, arrived=10**9)  # clocks that have nothing to do with each other
    assert value_at(patient, 90) == 2


def test_old_messages_are_stale_unless_they_hold() -> None:
    target = resampler(max_age=0.1)
    push(target, 1.0, 0)
    assert value_at(target, 100) == 1
    with pytest.raises(StaleError, match="/x is 0.101 s old, 0.1 s are allowed"):
        value_at(target, 101)
    holding = resampler(state=[{"topic": "/x", "joints": ["j"], "unit": "rad", "max_age": None}])
    push(holding, 1.0, 0)
    assert value_at(holding, 10**7) == 1


def test_reception_time_by_choice() -> None:
    target = resampler(time="reception")
    push(target, 1.0, 0, arrived=50)
    with pytest.raises(NoSampleError):
        value_at(target, 49)
    assert target.sample_at(T0 + 50 * MS).stamps == {"/x": T0 + 50 * MS}


def test_stamps_that_cannot_be_are_refused() -> None:
    target = resampler()
    with pytest.raises(TongsError, match=r"/x is stamped 0\.500 s after it arrived"):
        push(target, 1.0, 500, arrived=0)
    with pytest.raises(TongsError, match="header without a time stamp; give it `time: reception`"):
        target.push("/x", bag.joint_state(0, {"j": 1.0}), T0)
    with pytest.raises(TongsError, match="std_msgs/msg/String.* has no header; give it `time: reception`"):
        target.push("/x", bag.text("hello"), T0)


def test_forgetting_changes_nothing_that_follows() -> None:
    """The same messages, one resampler that forgets after every sample and one that keeps everything."""
    random = np.random.default_rng(0)
    forgetful, keeping = resampler(delay=0.02, max_age=1.0), resampler(delay=0.02, max_age=1.0)
    for number in range(200):
        stamp = int(number * 10 + random.integers(0, 9))
        arrived = stamp + int(random.integers(0, 60))
        for target in (forgetful, keeping):
            push(target, float(number), stamp, arrived)
    for time in range(100, 2000, 37):
        assert value_at(forgetful, time) == value_at(keeping, time)
        forgetful.forget_before(T0 + time * MS)
    assert len(forgetful._messages["/x"]) < 15 < len(keeping._messages["/x"])


def test_live_and_from_the_bag_are_the_same() -> None:
    """Pushed as they arrive and sampled at once, or all pushed before: same samples."""
    random = np.random.default_rng(1)
    stamps = np.arange(0, 3000, 7)
    messages = [(int(s), int(s + random.integers(0, 80)), float(n)) for n, s in enumerate(stamps)]
    late, live = resampler(), resampler()
    for stamp, arrived, value in messages:
        push(late, value, stamp, arrived)
    seen, pending = [], sorted(messages, key=lambda message: message[1])
    for time in range(100, 2900, 100):
        while pending and pending[0][1] <= time:
            stamp, arrived, value = pending.pop(0)
            push(live, value, stamp, arrived)
        seen.append(value_at(live, time))
    assert seen == [value_at(late, time) for time in range(100, 2900, 100)]


def test_an_action_leads_from_one_commanded_pose_to_the_next() -> None:
    random = np.random.default_rng(2)
    rotations = Rotation.random(2, rng=random)
    before = np.concatenate([[0.1, 0.2, 0.3], rotations[0].as_quat(scalar_first=True), [1.0]])
    after = np.concatenate([[0.11, 0.18, 0.33], rotations[1].as_quat(scalar_first=True), [0.0]])
    action = ee_delta(before, after)
    assert action.dtype == np.float32
    np.testing.assert_allclose(before[:3] + action[:3], after[:3], atol=1e-7)
    reached = Rotation.from_rotvec(action[3:6]) * rotations[0]  # in the base frame, applied on the left
    assert (reached.inv() * rotations[1]).magnitude() < 1e-6
    assert action[6] == 0.0


def test_actions_are_commands_at_the_end_of_the_step() -> None:
    content = yaml.safe_load(MAP) | {"cameras": {}}
    target = Resampler(TopicMap.parse(content))
    turn = Rotation.from_rotvec([0, 0, 0.1])
    target.push("/target", bag.pose(T0, [0, 0, 0], [0, 0, 0, 1]), T0)
    target.push("/gripper", bag.float_array(0.0), T0)
    target.push("/target", bag.pose(T0 + 60 * MS, [0.01, 0, 0], turn.as_quat()), T0 + 60 * MS)
    target.push("/gripper", bag.float_array(0.08), T0 + 70 * MS)
    np.testing.assert_allclose(target.action_at(T0), [0.01, 0, 0, 0, 0, 0.1, 0.0], atol=1e-7)
    np.testing.assert_allclose(target.action_at(T0 + 100 * MS), [0, 0, 0, 0, 0, 0, 0], atol=1e-7)
    plain = {
        "kind": "joint_velocity",
        "commands": [{"topic": "/v", "fields": ["data"], "names": ["v"], "unit": "rad/s"}],
    }
    for at, wanted in (("start", 1.0), ("end", 2.0)):
        commands = [{**plain["commands"][0], "time": "reception"}]  # type: ignore[dict-item]
        target = resampler(action={**plain, "commands": commands, "at": at})
        target.push("/v", bag.float_array(1.0), T0)
        target.push("/v", bag.float_array(2.0), T0 + 50 * MS)
        assert target.action_at(T0).tolist() == [wanted]


def test_timing_of_a_sensor() -> None:
    times = np.arange(20, dtype=np.int64) * 100 * MS
    steady = measure(times - 30 * MS, times)
    assert (steady.rate, steady.jitter, steady.age) == (pytest.approx(10), 0.0, pytest.approx(0.03))
    slow = measure(times // (200 * MS) * (200 * MS), times)  # every message is used twice
    assert slow.rate == pytest.approx(9 / 1.9)
    assert slow.jitter == pytest.approx(0.1, rel=0.01)
