"""ARNOLD's success rules: strict tolerances, speed limits, and a two-second hold that one bad step resets."""

import numpy as np
import pytest

from robot.interface import EE_DELTA
from sim.objects import DRAWER_TRAVEL
from sim.tasks import TASKS
from sim.world import World

STILL = np.array([0, 0, 0, 0, 0, 0, 1.0], np.float32)


@pytest.mark.parametrize(
    ("task", "tolerance", "speed_limit"),
    [
        ("pickup_object", 0.05, 0.12),
        ("reorient_object", 20.0, 0.12),
        ("open_drawer", 0.10, 0.06),
        ("close_drawer", 0.10, 0.06),
    ],
)
def test_limits_are_strict(task, tolerance, speed_limit):
    rule = TASKS[task].met
    assert rule(0.5, 0.0, 0.5)
    assert rule(0.5 + 0.999 * tolerance, 0.0, 0.5)
    assert not rule(0.5 + 1.0001 * tolerance, 0.0, 0.5)
    assert not rule(tolerance, 0.0, 0.0)  # exactly on the border
    assert not rule(0.5, speed_limit, 0.5)
    assert not rule(0.5, -speed_limit, 0.5)
    assert rule(0.5, 0.99 * speed_limit, 0.5)


@pytest.fixture(scope="module")
def world():
    world = World("open_drawer", cameras={})
    yield world
    world.close()


def put_drawer(world, fraction):
    world.engine.set_joint(world.goal_spec.body, fraction * DRAWER_TRAVEL)


def test_hold_must_last_more_than_two_seconds(world):
    world.reset("test", 0)
    put_drawer(world, world.goal)
    for _ in range(round(2.0 * EE_DELTA.rate)):
        world.execute(STILL)
        assert not world.success
    world.execute(STILL)
    assert world.success


def test_one_bad_physics_step_resets_the_hold(world):
    world.reset("test", 1)
    put_drawer(world, world.goal)
    for _ in range(15):
        world.execute(STILL)
    away = world.goal - 0.15 if world.goal > 0.5 else world.goal + 0.15
    put_drawer(world, away)
    world.engine.step(world.engine.arm(), np.zeros(7), 0.04)
    world.execute(STILL)
    put_drawer(world, world.goal)
    for _ in range(20):
        world.execute(STILL)
        assert not world.success
    world.execute(STILL)
    assert world.success


def test_outside_the_tolerance_nothing_succeeds(world):
    world.reset("test", 2)
    put_drawer(world, world.goal - 0.11 if world.goal > 0.5 else world.goal + 0.11)
    for _ in range(30):
        world.execute(STILL)
    assert not world.success


def test_time_runs_out_after_twenty_seconds(world):
    world.reset("test", 3)
    while not world.finished:
        world.execute(STILL)
    assert world.steps == 200 and not world.success


def test_height_counts_from_where_the_object_stood():
    world = World("pickup_object", cameras={})
    world.reset("test", 0)
    assert world.value == pytest.approx(0.0, abs=1e-3)
    world.close()


def test_a_lying_bottle_starts_at_ninety_degrees():
    world = World("reorient_object", cameras={})
    for index in range(3):
        world.reset("test", index)
        assert world.value == pytest.approx(90.0, abs=1.0)
    world.close()
