"""Chunks by time: sharing deltas over ticks, taking over, averaging, going on."""

from __future__ import annotations

from math import exp

import numpy as np
import pytest

from robot.control.timeline import Timeline
from robot.errors import ContractError
from robot.interface import EE_DELTA, KEYPOSE, ActionChunk
from tests.robot.control.arms import JOINT_SPACE


def chunk(values, start=0.0, space=EE_DELTA) -> ActionChunk:
    actions = np.zeros((len(values), space.dimension), np.float32)
    actions[:, 0] = values
    return ActionChunk(actions, start + np.arange(len(values)) / space.rate)


def test_a_period_of_its_own_gets_the_action_unchanged():
    timeline = Timeline(EE_DELTA)
    given = chunk([0.01, 0.02, 0.03], start=1.3)
    timeline.add(given)
    for k in range(3):
        start = 1.3 + k / 10
        assert np.array_equal(timeline.take(start, start + 0.1), given.actions[k].astype(np.float64))
    assert timeline.take(1.6, 1.7) is None and timeline.end == pytest.approx(1.6)


@pytest.mark.parametrize("rate", [10, 25, 30, 100])
def test_ticks_of_any_rate_add_up_to_the_deltas(rate):
    timeline = Timeline(EE_DELTA)
    timeline.add(chunk([0.01, -0.02, 0.03, 0.005]))
    moments = [*np.arange(0, 0.4, 1 / rate), 0.4]
    way = [timeline.take(a, b)[0] for a, b in zip(moments[:-1], moments[1:], strict=True)]
    assert sum(way) == pytest.approx(0.025, abs=1e-9)
    assert timeline.take(0.05, 0.06)[0] == pytest.approx(0.001)


def test_absolute_commands_are_joined_by_straight_lines():
    timeline = Timeline(JOINT_SPACE)
    timeline.add(chunk([0.0, 0.2, 0.1], space=JOINT_SPACE))
    got = [timeline.take(t, t + 0.01)[0] for t in (0.0, 0.05, 0.1, 0.175, 0.25)]
    assert got == pytest.approx([0.0, 0.1, 0.2, 0.125, 0.1])


def test_between_two_quaternions_of_opposite_sign_there_is_no_spin():
    actions = np.array([[0.5, 0, 0.3, 1, 0, 0, 0], [0.5, 0, 0.3, -1, 0, 0, 0]], np.float32)
    timeline = Timeline(KEYPOSE)
    timeline.add(ActionChunk(actions, np.array([0.0, 0.1])))
    assert np.abs(timeline.take(0.05, 0.06)[3:]) == pytest.approx([1, 0, 0, 0])


def test_the_newest_chunk_takes_over_by_time_not_by_index():
    timeline = Timeline(EE_DELTA)
    timeline.add(chunk([1, 2, 3, 4, 5, 6]))
    timeline.add(chunk([20, 30, 40, 50, 60, 70], start=0.1))
    assert timeline.take(0.3, 0.4)[0] == 40


def test_ensembling_is_the_weighted_mean_of_all_that_cover_a_moment():
    timeline = Timeline(EE_DELTA, decay=0.5)
    timeline.add(chunk([1, 1, 1, 1]))
    timeline.add(chunk([2, 2, 2, 2], start=0.1))
    timeline.add(chunk([4, 4, 4, 4], start=0.2))
    weights = [1, exp(-0.5), exp(-1.0)]
    assert timeline.take(0.3, 0.4)[0] == pytest.approx((weights[0] + 2 * weights[1] + 4 * weights[2]) / sum(weights))
    assert timeline.take(0.4, 0.5)[0] == pytest.approx((2 + 4 * exp(-0.5)) / (1 + exp(-0.5)))  # the first is over
    assert timeline.take(0.5, 0.6)[0] == pytest.approx(4)


def test_what_follows_for_a_new_chunk():
    timeline = Timeline(EE_DELTA)
    timeline.add(chunk([1, 2, 3, 4]))
    following = timeline.following([0.2 + k / 10 for k in range(4)])
    assert following[:, 0].tolist() == [3, 4]
    assert timeline.following([0.5]).shape == (0, 7)


@pytest.mark.parametrize(
    ("actions", "times", "sentence"),
    [
        (np.zeros((2, 6)), [0, 0.1], "actions of 6 numbers, the robot takes 7"),
        (np.zeros((2, 7)), [0, 0.2], "must be 0.1 s apart"),
        (np.zeros((2, 7)), [0, np.nan], "NaN"),
    ],
)
def test_a_chunk_that_does_not_fit(actions, times, sentence):
    with pytest.raises(ContractError, match=sentence):
        Timeline(EE_DELTA).add(ActionChunk(actions.astype(np.float32), np.array(times)))
