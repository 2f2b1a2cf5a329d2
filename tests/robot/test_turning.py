"""The memory of how the tool has turned: against closed forms of a first-order average."""

from __future__ import annotations

from math import exp, radians

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from robot.turning import MEMORY, Turning

AXIS = np.array([0.6, 0.0, 0.8])


@pytest.mark.parametrize("period", [0.1, 0.02])
def test_a_tool_that_turns_steadily_is_ahead_of_its_average_by_speed_times_memory(period: float) -> None:
    speed, start = 0.3, Rotation.from_euler("xyz", [0.4, -1.0, 2.0])
    turning = Turning(start)
    for tick in range(1, round(8 * MEMORY / period)):
        here = Rotation.from_rotvec(speed * tick * period * AXIS) * start
        turning = turning.after(period, here)
    lag = MEMORY - period / 2  # of a zero-order hold, to first order in the period
    np.testing.assert_allclose(turning.state(here), speed * lag * AXIS, atol=3e-3 * speed * lag)


def test_a_tool_at_rest_forgets_that_it_has_turned() -> None:
    begun = Rotation.from_rotvec(radians(60) * AXIS)
    turning = Turning(Rotation.identity())
    np.testing.assert_allclose(turning.state(begun), radians(60) * AXIS)
    for _ in range(30):
        turning = turning.after(0.1, begun)
    np.testing.assert_allclose(turning.state(begun), exp(-3.0 / MEMORY) * radians(60) * AXIS, rtol=1e-9, atol=1e-12)


def test_forward_and_back_differ_at_the_same_orientation() -> None:
    turning, seen = Turning(Rotation.identity()), []
    for angle in (*range(0, 90, 5), *range(90, -1, -5)):
        here = Rotation.from_rotvec([radians(angle), 0, 0])
        turning = turning.after(0.1, here)
        seen.append((angle, turning.state(here)[0]))
    forward, back = (value for angle, value in seen if angle == 30)
    assert forward > 0.2 and back < -0.2
