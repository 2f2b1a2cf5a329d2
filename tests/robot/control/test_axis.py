"""An axis keeps its limits in the differences of its positions, whatever it is asked, and it moves well."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robot.control.axis import Axis
from robot.limits import Rates

PERIODS = st.sampled_from([0.1, 0.02, 0.01])
WISHES = st.lists(
    st.one_of(st.none(), st.floats(-3, 3), st.sampled_from([-1.0, 1.0, 0.0, 1e300, -1e300])), min_size=1, max_size=60
)


@st.composite
def rates(draw):
    speed = draw(st.floats(0.05, 5))
    acceleration = speed * draw(st.floats(1, 100))
    return Rates(speed, acceleration, acceleration * draw(st.floats(1, 1000)))


def played(axis: Axis, wishes) -> np.ndarray:
    """Positions, with the standstill before them; None brakes, a number is a share of the largest speed."""
    positions = [axis.position] * 3
    for wish in wishes:
        axis.commit(axis.brake() if wish is None else axis.towards(wish * axis.speed))
        positions.append(axis.position)
    return np.array(positions)


@settings(max_examples=300, deadline=None)
@given(rates(), PERIODS, st.floats(0, 1), st.floats(0, 1), WISHES)
def test_no_wish_breaks_a_limit(rates, period, below, above, wishes):
    axis = Axis(rates, period, -below, above)
    positions = played(axis, [wish for wish in wishes for _ in range(3)] + [None] * 5)
    assert positions.min() >= -below - 1e-9 and positions.max() <= above + 1e-9
    for order, limit in ((1, rates.speed), (2, rates.acceleration), (3, rates.jerk)):
        differences = np.diff(positions, order) / period**order
        assert np.abs(differences).max() <= limit * (1 + 1e-6) + 1e-14 / period**order


@settings(max_examples=200, deadline=None)
@given(rates(), PERIODS, WISHES)
def test_a_stop_ends_at_rest_where_the_step_said(rates, period, wishes):
    axis = Axis(rates, period)
    played(axis, wishes)
    motion = axis.brake()
    positions = []
    for _ in range(20_000):
        axis.commit(axis.brake())
        positions.append(axis.position)
        if axis.resting:
            break
    assert axis.resting
    assert motion.low == pytest.approx(min(positions), abs=1e-9)
    assert motion.high == pytest.approx(max(positions), abs=1e-9)


def test_a_stop_takes_the_time_and_way_of_a_trapezoid():
    speed, acceleration, period = 1.0, 4.0, 0.001
    axis = Axis(Rates(speed, acceleration), period)
    played(axis, [1.0] * 400)
    before, stop = axis.position, 0
    assert axis.velocity == pytest.approx(speed * period)
    while not axis.resting:
        axis.commit(axis.brake())
        stop += 1
    assert stop * period == pytest.approx(speed / acceleration, abs=3 * period)
    assert axis.position - before == pytest.approx(speed**2 / (2 * acceleration), abs=2 * speed * period)


def test_what_is_within_the_limits_passes_unchanged():
    period = 0.01
    time = np.arange(400) * period
    path = 0.2 * (time - np.sin(2 * time) / 2) - 0.5
    axis = Axis(Rates(1.0, 2.0, 50.0), period, -1, 1)
    axis.reset(path[0])
    reached = []
    for before, after in zip(path[:-1], path[1:], strict=True):
        axis.commit(axis.towards(axis.pursuit(after - before, before - axis.position)))
        reached.append(axis.position)
    assert np.abs(np.array(reached) - path[1:]).max() < 1e-12


def test_a_target_is_reached_without_overshoot():
    axis = Axis(Rates(0.5, 2.0, 40.0), 0.01)
    positions = []
    for _ in range(300):
        axis.commit(axis.towards(axis.pursuit(0.0, 0.3 - axis.position)))
        positions.append(axis.position)
    assert positions[-1] == pytest.approx(0.3, abs=1e-6)
    assert max(positions) < 0.3 + 1e-9
    fastest = 0.3 / 0.5 + 0.5 / 2.0 + 2.0 / 40.0  # s, of a trapezoid with rounded corners
    assert next(i for i, position in enumerate(positions) if position > 0.299) * 0.01 < 1.1 * fastest


def test_an_axis_that_begins_outside_comes_back_and_never_goes_further():
    axis = Axis(Rates(1.0, 5.0), 0.01, 0.0, 1.0)
    axis.reset(1.5)
    positions = played(axis, [1.0] * 20 + [-1.0] * 200)
    assert positions.max() <= 1.5 + 1e-9
    assert positions[-1] < 0.2
    positions = played(axis, [1.0] * 300)
    assert positions.max() <= 1.0 + 1e-9
