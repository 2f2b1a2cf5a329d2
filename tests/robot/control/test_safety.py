"""Whatever is sent into the safety filter, what leaves it is within every limit, and never a jump."""

from __future__ import annotations

import os
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robot import panda
from robot.control import quaternions
from robot.control.collision import panda_model
from robot.control.safety import SafetyFilter
from robot.errors import ContractError
from robot.interface import EE_DELTA, RobotSpec
from robot.limits import Box, JointLimit, Limits, Rates
from robot.skills import POSE_STATE
from tests.robot.control.arms import DOWN, JOINT_SPACE, START, columns, tool_state

TOOL = RobotSpec({}, (*POSE_STATE, "gripper_opening"), EE_DELTA)
JOINTS = RobotSpec({}, (*panda.JOINTS, "gripper_opening"), JOINT_SPACE)
LIMITS = replace(
    panda.LIMITS,
    translation=Rates(0.6, 4.0, 200.0),
    rotation=Rates(1.5, 10.0, 400.0),
    keep_out=(Box((0.55, 0.05, 0.0), (0.65, 0.2, 0.3)), Box((0.3, -0.3, 0.0), (0.4, -0.2, 0.4))),
    gripper_speed=2.0,
)
NONSENSE = (
    None,
    np.full(7, np.nan),
    np.full(7, np.inf),
    np.zeros(6),
    np.zeros((1, 7)),
    "fly",
    [1e308] * 7,
    np.array([None] * 7),
    np.full(7, -1e300),
    3,
)


class Follower:
    """Plays commands through a filter for an arm that lags behind, and keeps what left the filter."""

    def __init__(self, period: float, limits: Limits = LIMITS, follows: float = 0.5, position=START) -> None:
        self.filter = SafetyFilter(TOOL, limits, period)
        self.period, self.limits, self.follows = period, limits, follows
        self.state = tool_state(position)
        self.turn = quaternions.from_columns(DOWN[:, 0], DOWN[:, 1])
        self.filter.start(self.state)
        self.told = np.array(self.filter.command.position)
        self.sent: list[np.ndarray] = []
        self.positions: list[np.ndarray] = [self.told]
        self.measured: list[np.ndarray] = []

    def play(self, actions: Iterable) -> None:
        for action in actions:
            self.filter.measure(self.state)
            sent = self.filter.apply(action).action
            self.sent.append(sent)
            self.told = self.told + sent[:3]
            self.positions.append(self.told)
            here = self.state[:3]
            self.measured.append(here)
            self.turn = quaternions.product(
                quaternions.from_vector([self.follows * part for part in sent[3:6].tolist()]), self.turn
            )
            self.state = np.empty(10, np.float32)
            self.state[:3] = here + self.follows * (self.told - here)
            self.state[3:9] = columns(self.turn)
            self.state[9] = sent[6]

    def check(self) -> None:
        """Every limit, from nothing but what was sent."""
        sent = np.array(self.sent, dtype=np.float64)
        positions, limits = np.array(self.positions), self.limits
        assert np.isfinite(sent).all()
        low, high = np.array(limits.workspace.low), np.array(limits.workspace.high)
        assert (positions >= low - 1e-6).all() and (positions <= high + 1e-6).all()
        for box in limits.keep_out:
            assert not _crosses(positions, box)
        for part, rates in ((slice(0, 3), limits.translation), (slice(3, 6), limits.rotation)):
            steps = np.concatenate([np.zeros((2, 3)), sent[:, part]])
            for order, limit in ((0, rates.speed), (1, rates.acceleration), (2, rates.jerk)):
                norms = np.linalg.norm(np.diff(steps, order, axis=0), axis=1) / self.period ** (order + 1)
                assert norms.max() <= limit * (1 + 1e-5) + 1e-8 / self.period ** (order + 1)  # float32
        distances = np.linalg.norm(positions[1:] - np.array(self.measured), axis=1)
        assert distances.max() <= limits.step + 1e-5
        openings = np.concatenate([[1.0], sent[:, 6]])
        assert (openings >= 0).all() and (openings <= 1).all()
        assert np.abs(np.diff(openings)).max() <= limits.gripper_speed * self.period + 1e-6


def _crosses(positions: np.ndarray, box: Box) -> bool:
    """Whether the path, a straight line between positions, enters the box (slab method)."""
    start, way = positions[:-1], np.diff(positions, axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        a, b = (np.array(box.low) + 1e-6 - start) / way, (np.array(box.high) - 1e-6 - start) / way
    still, inside = way == 0, (start > box.low) & (start < box.high)
    enter = np.where(still, np.where(inside, -np.inf, np.inf), np.minimum(a, b)).max(axis=1)
    leave = np.where(still, np.inf, np.maximum(a, b)).min(axis=1)
    return bool(((enter < leave) & (leave > 0) & (enter < 1)).any())


def test_the_check_of_boxes_finds_a_thin_one_between_two_positions():
    positions = np.array([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0]])
    assert _crosses(positions, Box((0.5, -0.1, -0.1), (0.51, 0.1, 0.1)))
    assert not _crosses(positions, Box((0.5, 0.1, -0.1), (0.51, 0.2, 0.1)))


def adversary(period: float, seed: int, count: int) -> Iterable:
    """Random and hostile commands: drives into walls, reversals, far jumps, noise, nonsense, silence."""
    rng = np.random.default_rng(seed)
    scale = np.array([*[0.6 * period] * 3, *[1.5 * period] * 3, 1.0])
    left, action = 0, None
    for _ in range(count):
        if left == 0:
            kind, left = rng.integers(8), int(rng.integers(1, 40))
            direction = rng.normal(size=7)
            direction[:3] /= np.linalg.norm(direction[:3])
            action = direction * scale * (0.2, 1.0, 1.4, 3.0, 30.0, 1.0, 1.0, 1.0)[kind]
            action[6] = rng.uniform(-0.5, 1.5)
        left -= 1
        if kind == 5:
            action = -action  # full speed there and back again
        elif kind == 6:
            action = rng.normal(size=7) * scale
        elif kind == 7:
            yield NONSENSE[rng.integers(len(NONSENSE))]
            continue
        yield action


@pytest.mark.parametrize("period", [0.1, 0.01])
@pytest.mark.parametrize("follows", [1.0, 0.5, 0.05, 0.0])
def test_hostile_commands_leave_within_every_limit(period, follows):
    follower = Follower(period, follows=follows)
    follower.play(adversary(period, seed=1, count=4000))
    follower.check()
    if follows:
        met = set(follower.filter.counts)
        assert {"translation speed", "rotation speed", "NaN or infinity", "shape or type of the action"} <= met
        assert follows < 0.5 or any(name.startswith("workspace") for name in met)


def hundred_thousand(seed: int) -> set[str]:
    """Play them, check what leaves, and tell the limits that were met."""
    follower = Follower(0.01, follows=(0.8, 0.3)[seed % 2])
    follower.play(adversary(0.01, seed, count=100_000))
    follower.check()
    return set(follower.filter.counts)


@pytest.mark.slow
def test_a_million_hostile_commands_leave_within_every_limit():
    with ProcessPoolExecutor(len(os.sched_getaffinity(0)), get_context("spawn")) as pool:
        met = set().union(*pool.map(hundred_thousand, range(100, 110)))
    assert {"keep_out[0]", "keep_out[1]", "workspace x", "step from the measured pose"} <= met


COMMANDS = st.one_of(
    st.sampled_from(NONSENSE),
    st.lists(st.floats(-0.05, 0.05), min_size=7, max_size=7),
    st.lists(st.floats(allow_nan=True, allow_infinity=True), min_size=7, max_size=7),
    st.sampled_from([[0.006, 0, 0, 0, 0, 0, 0.0], [-0.006, 0, 0, 0, 0, 0.015, 1.0], [0, 0, -0.006, 0.01, 0, 0, 1]]),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(COMMANDS, st.integers(1, 25)), min_size=1, max_size=12), st.sampled_from([0.1, 0.01]))
def test_no_sequence_of_commands_breaks_a_limit(runs, period):
    follower = Follower(period)
    follower.play(command for command, times in runs for _ in range(times))
    follower.play([None] * 30)
    follower.check()


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.tuples(st.lists(st.floats(-4, 4), min_size=8, max_size=8), st.integers(1, 30)), min_size=1, max_size=8)
)
def test_joint_targets_anywhere_leave_within_every_limit(runs):
    period = 0.01
    joints = {
        name: JointLimit(limit.low, limit.high, Rates(1.0, 5.0, 200.0)) for name, limit in panda.LIMITS.joints.items()
    }
    limits = replace(panda.LIMITS, joints=joints, workspace=Box((-2.0, -2.0, -2.0), (2.0, 2.0, 2.0)))
    guard = SafetyFilter(JOINTS, limits, period)
    guard.start(np.array([*panda.HOME, 1.0], dtype=np.float32))
    begin = np.array(guard.command.position)
    positions = [begin] * 3
    for target, times in runs:
        for _ in range(times):
            guard.measure(np.array([*positions[-1], 1.0], dtype=np.float32))
            guard.apply(np.array(target))
            positions.append(np.array(guard.command.position))
    path = np.array(positions)
    assert (path >= np.array(panda.JOINT_LOW) - 1e-9).all() and (path <= np.array(panda.JOINT_HIGH) + 1e-9).all()
    for order, limit in ((1, 1.0), (2, 5.0), (3, 200.0)):
        assert np.abs(np.diff(path, order, axis=0)).max() <= limit * period**order * (1 + 1e-6) + 1e-12


def test_a_small_excess_is_clamped_and_a_large_one_rejected():
    guard = Follower(0.1).filter
    clamped = guard.apply(np.array([0.07, 0, 0, 0, 0, 0, 1.0]))  # 0.7 m/s where 0.6 are allowed
    assert [(hit.limit, hit.rejected) for hit in clamped.hits][0] == ("translation speed", False)
    assert 0 < clamped.action[0] <= 0.06 + 1e-6
    guard = Follower(0.1).filter
    rejected = guard.apply(np.array([0.2, 0, 0, 0, 0, 0, 1.0]))
    assert rejected.rejected and rejected.hits[0].sentence.startswith("translation speed: rejected (0.2 asked, 0.06")
    assert not rejected.action[:6].any()


def test_what_is_within_the_limits_passes_unchanged():
    follower = Follower(0.1, panda.LIMITS, follows=1.0)
    rng = np.random.default_rng(0)
    actions = np.concatenate([rng.uniform(-0.02, 0.02, (50, 6)), rng.uniform(0, 1, (50, 1))], axis=1)
    follower.play(actions)
    assert np.allclose(np.array(follower.sent), actions, atol=1e-7)
    assert not follower.filter.counts


def test_commands_keep_near_an_arm_that_is_stuck():
    follower = Follower(0.01, follows=0.0)
    follower.play([[0.002, 0, 0, 0, 0, 0, 1.0]] * 200)
    follower.check()
    reach = float(np.linalg.norm(follower.told - follower.measured[0]))
    assert 0.8 * LIMITS.step < reach <= LIMITS.step + 1e-5
    assert follower.filter.astray == pytest.approx(reach / LIMITS.step, rel=0.01)


def test_an_arm_outside_its_workspace_can_only_come_back():
    follower = Follower(0.01, position=(0.45, 0.0, 0.9))
    follower.play([[0, 0, 0.004, 0, 0, 0, 1.0]] * 50)
    assert max(position[2] for position in follower.positions) <= 0.9 + 1e-6
    follower.play([[0, 0, -0.004, 0, 0, 0, 1.0]] * 100)
    assert follower.told[2] < 0.75


def test_fingers_that_press_too_hard_are_not_closed_further():
    spec = RobotSpec({}, (*POSE_STATE, "gripper_opening", "gripper_force"), EE_DELTA)
    guard = SafetyFilter(spec, replace(panda.LIMITS, gripper_force=20.0), 0.1)
    state = np.append(tool_state(START, opening=0.5), np.float32(5.0))
    guard.start(state)
    guard.measure(state)
    assert guard.apply(np.array([0, 0, 0, 0, 0, 0, 0.4])).action[6] == pytest.approx(0.4)
    guard.measure(np.append(tool_state(START, opening=0.4), np.float32(25.0)))
    held = guard.apply(np.array([0, 0, 0, 0, 0, 0, 0.2]))
    assert held.action[6] == pytest.approx(0.4) and held.hits[0].limit == "gripper_force"
    assert guard.apply(np.array([0, 0, 0, 0, 0, 0, 0.8])).action[6] == pytest.approx(0.8)


def test_the_first_joint_target_is_approached_slowly_from_the_measured_posture():
    guard = SafetyFilter(JOINTS, replace(panda.LIMITS, workspace=Box((-2.0, -2.0, -2.0), (2.0, 2.0, 2.0))), 0.01)
    state = np.array([*panda.HOME, 1.0], dtype=np.float32)
    guard.start(state)
    target = np.array([*panda.HOME, 1.0])
    target[0] += 1.0
    angles = [panda.HOME[0]]
    for _ in range(300):
        guard.measure(np.array([*guard.command.position, 1.0], dtype=np.float32))
        angles.append(float(guard.apply(target).action[0]))
    speed = np.abs(np.diff(angles)) / 0.01
    assert speed[0] < 0.2  # no jump
    assert speed[:50].max() < 0.5 * panda.JOINT_VELOCITY[0] and speed.max() < panda.JOINT_VELOCITY[0]
    assert angles[-1] == pytest.approx(target[0], abs=1e-3)


def test_the_arm_does_not_drive_into_itself():
    arm = panda_model(panda.LIMITS)
    folded = np.array([0.0, -1.6, 0.0, -3.0, 0.0, 0.2, 0.0])
    assert arm.touching(folded) is not None, "the posture of this test must be one in which the arm touches itself"
    wide = replace(panda.LIMITS, workspace=Box((-2.0, -2.0, -2.0), (2.0, 2.0, 2.0)))
    guard = SafetyFilter(JOINTS, wide, 0.01, arm)
    guard.start(np.array([*panda.HOME, 1.0], dtype=np.float32))
    for _ in range(800):
        guard.measure(np.array([*guard.command.position, 1.0], dtype=np.float32))
        guard.apply(np.append(folded, 1.0))
        assert arm.touching(np.array(guard.command.position)) is None
    assert any(name.startswith("collision of") for name in guard.counts)
    assert guard.resting or guard.command.position != tuple(panda.HOME)


def test_a_joint_arm_keeps_its_tool_in_the_workspace():
    arm = panda_model(panda.LIMITS)
    guard = SafetyFilter(JOINTS, panda.LIMITS, 0.01, arm)
    guard.start(np.array([*panda.HOME, 1.0], dtype=np.float32))
    lower = np.array([*panda.HOME, 1.0])
    lower[1] += 1.2  # bows down through the table
    heights = []
    for _ in range(400):
        guard.measure(np.array([*guard.command.position, 1.0], dtype=np.float32))
        guard.apply(lower)
        heights.append(arm.tool(np.array(guard.command.position))[2])
    assert min(heights) >= panda.LIMITS.workspace.low[2] - 1e-6
    assert "workspace z" in guard.counts


def test_what_a_robot_has_to_tell():
    with pytest.raises(ContractError, match="needs the tool's pose; the robot's state lacks x, y"):
        SafetyFilter(RobotSpec({}, ("joint_1",), EE_DELTA), LIMITS, 0.1)
    with pytest.raises(ContractError, match="joint joint_1 of the action space is not in the state"):
        SafetyFilter(RobotSpec({}, ("x",), JOINT_SPACE), LIMITS, 0.1)
    guard = SafetyFilter(TOOL, LIMITS, 0.1)
    with pytest.raises(ContractError, match="has to be started"):
        guard.apply(np.zeros(7))
    with pytest.raises(ContractError, match="10 finite entries"):
        guard.start(np.full(10, np.nan, np.float32))
