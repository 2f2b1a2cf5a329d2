"""Checks of the contract in `robot.interface` that anybody can run on their own policy or robot.

    from tests.conformance import check_policy, check_robot, check_streamed_robot

All return nothing if all is well and otherwise raise an AssertionError, or a ContractError of the contract itself,
that says what is wrong.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from robot.control.inference import continues
from robot.errors import ContractError
from robot.interface import (
    ActionChunk,
    Continuation,
    ContinuingPolicy,
    Observation,
    Policy,
    PolicySpec,
    RememberingPolicy,
    Robot,
    RobotSpec,
    SharedPolicy,
    StreamedRobot,
)


def check_policy(policy: Policy, make_observation: Callable[[int], Observation]) -> None:
    """Check that a policy keeps the contract; a learned one must be bound to its robot before.

    Args:
        policy: reset and asked several times.
        make_observation: from a number, an observation such as the policy's robot would give; different numbers give
            different observations.
    """
    assert isinstance(policy, Policy), f"{type(policy).__name__} lacks one of: spec, reset, act, act_batch"
    spec = policy.spec
    assert isinstance(spec, PolicySpec), f"spec must be a PolicySpec, got {type(spec).__name__}"
    assert spec.horizon >= 1, f"horizon must be at least 1, got {spec.horizon}"
    if spec.history > 1:
        assert isinstance(policy, RememberingPolicy), (
            f"history is {spec.history} and {type(policy).__name__} has no remember"
        )
    assert PolicySpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec, "spec changes on its way through JSON"

    observation = make_observation(0)
    _check_sufficient(observation, spec)
    before = _copied(observation)
    chunk = _act(policy, observation, seed=0)
    _check_chunk(chunk, spec, observation.time)
    assert _equal(before, observation), "act changed the observation that it was given"

    again = _act(policy, observation, seed=0)
    assert np.array_equal(chunk.actions, again.actions), "the same seed and observation gave different actions"
    later = _act(policy, replace(observation, time=observation.time + 100.0), seed=0)
    _check_chunk(later, spec, observation.time + 100.0)

    policy.reset(0)
    alone = policy.act_batch([observation])
    assert len(alone) == 1, f"act_batch of one observation gave {len(alone)} chunks"
    assert np.array_equal(chunk.actions, alone[0].actions), "act and act_batch of one observation differ"
    if isinstance(policy, ContinuingPolicy) and continues(policy):
        _check_continuation(policy, observation, chunk)


def _check_continuation(policy: ContinuingPolicy, observation: Observation, chunk: ActionChunk) -> None:
    """A chunk that goes on from another one is that one where it is frozen."""
    rest = chunk.actions[len(chunk) // 2 :]
    frozen = (len(rest) + 1) // 2
    policy.reset(1)
    going_on = policy.continue_chunk(observation, Continuation(rest, frozen))
    _check_chunk(going_on, policy.spec, observation.time)
    space = policy.spec.action_space
    tolerance = 1e-3 * (np.array(space.high) - np.array(space.low))
    assert (np.abs(going_on.actions[:frozen] - rest[:frozen]) <= tolerance).all(), (
        "continue_chunk changed frozen actions"
    )


def check_batches(policy: Policy, make_observation: Callable[[int], Observation], size: int = 3) -> None:
    """Check that a policy acts for several episodes at once; not for policies that are tied to one robot."""
    observations = [make_observation(number) for number in range(size)]
    policy.reset(0)
    chunks = policy.act_batch(observations)
    assert len(chunks) == size, f"act_batch of {size} observations gave {len(chunks)} chunks"
    for chunk, observation in zip(chunks, observations, strict=True):
        _check_chunk(chunk, policy.spec, observation.time)


def check_shared(policy: SharedPolicy, make_observation: Callable[[int], Observation], atol: float = 1e-5) -> None:
    """Check that episodes side by side are what each is alone, to the rounding of batched arithmetic.

    Three episodes begin one after another and take part in some batches and not in others. A batch that fails, for one
    observation without state, leaves no trace.

    Args:
        policy, make_observation: as for `check_policy`; the policy must read some state.
        atol: how far actions may be apart.
    """
    assert isinstance(policy, SharedPolicy), f"{type(policy).__name__} lacks one of: begin, act_episodes"
    batches = [(0,), (0, 1), (1,), (0, 1, 2), (2, 1), (0, 2)]
    seen = {(row, number): make_observation(10 * row + number) for row in range(3) for number in range(len(batches))}
    alone: dict[int, list[ActionChunk]] = {}
    for row in range(3):
        policy.reset(row + 5)
        alone[row] = [policy.act(seen[row, number]) for number, rows in enumerate(batches) if row in rows]
    policy.reset(99)
    untouched = policy.act(seen[0, 0])
    policy.reset(99)
    episodes, together = {}, {row: [] for row in range(3)}
    for number, rows in enumerate(batches):
        episodes |= {row: policy.begin(row + 5) for row in rows if row not in episodes}
        observations = [seen[row, number] for row in rows]
        broken = [*observations[:-1], replace(observations[-1], state=observations[-1].state[:0], goal_state=None)]
        try:
            policy.act_episodes([episodes[row] for row in rows], broken)
        except ContractError:
            pass
        else:
            raise AssertionError("an observation without state must raise a ContractError and was accepted")
        for row, chunk in zip(rows, policy.act_episodes([episodes[r] for r in rows], observations), strict=True):
            together[row].append(chunk)
    for row in range(3):
        for one, other in zip(alone[row], together[row], strict=True):
            assert np.allclose(one.actions, other.actions, rtol=0, atol=atol), (
                f"an episode gets other actions beside others than alone: up to "
                f"{np.abs(one.actions - other.actions).max():g} apart"
            )
            assert np.array_equal(one.times, other.times), "an episode gets other times beside others than alone"
    again = policy.act(seen[0, 0])
    assert np.array_equal(untouched.actions, again.actions), "begin and act_episodes changed the episode of reset"


def check_robot(robot: Robot, action: NDArray[np.float32] | None = None) -> None:
    """Check that a robot keeps the contract. It carries out a few actions and is told to stop.

    Args:
        robot: ready to move.
        action: (A,) a harmless action; may be left out for `ee_delta`, where "no motion" is one.
    """
    assert isinstance(robot, Robot), f"{type(robot).__name__} lacks one of: spec, observe, execute, stop"
    spec = robot.spec
    assert isinstance(spec, RobotSpec), f"spec must be a RobotSpec, got {type(spec).__name__}"
    if action is None:
        assert spec.action_space.kind == "ee_delta", f"give check_robot an action for {spec.action_space.kind}"
        action = spec.action_space.clip(np.zeros(spec.action_space.dimension))

    first = robot.observe()
    _check_observation(first, spec)
    kept = _copied(first)
    for _ in range(3):
        before = robot.observe().time
        robot.execute(action)
        observation = robot.observe()
        _check_observation(observation, spec)
        passed, period = observation.time - before, 1.0 / spec.action_space.rate
        assert 0.5 * period <= passed <= 1.5 * period, (
            f"execute must return when its control period of {period:g} s is over; {passed:g} s passed on its clock"
        )
    assert _equal(kept, first), "an observation changed after it was given out"

    for wrong, what in (
        (np.full_like(action, np.nan), "an action of NaN"),
        (np.append(action, action[:1]), f"an action with {len(action) + 1} entries instead of {len(action)}"),
    ):
        try:
            robot.execute(wrong)
        except ContractError:
            continue
        raise AssertionError(f"{what} must raise a ContractError and was accepted")
    robot.stop()
    _check_observation(robot.observe(), spec)


def check_streamed_robot(robot: StreamedRobot, command: NDArray[np.float32]) -> None:
    """Check that a robot which a control loop streams commands to keeps the contract. It is sent a harmless command
    many times, for a third of a second.

    Args:
        robot: ready to move.
        command: (A,) for one period, such as no motion.
    """
    assert isinstance(robot, StreamedRobot), (
        f"{type(robot).__name__} lacks one of: spec, command_rate, observe, command"
    )
    spec, period = robot.spec, 1.0 / robot.command_rate
    _check_observation(robot.observe(), spec)
    first = robot.observe()
    kept = _copied(first)
    slowest = 0.0
    for _ in range(max(3, round(0.3 / period))):
        began = time.perf_counter()
        robot.observe()
        robot.command(command)
        slowest = max(slowest, time.perf_counter() - began)
        time.sleep(period)
    limit = max(period, 0.05)  # a busy machine is no fault of the robot's
    assert slowest < limit, f"observe and command must return at once; they took {1000 * slowest:.1f} ms"
    newest = robot.observe()
    _check_observation(newest, spec)
    assert newest.time > first.time, f"the time of observations stands still at {first.time:g} s"
    assert _equal(kept, first), "an observation changed after it was given out"
    for wrong in (np.full_like(command, np.nan), np.append(command, command[:1])):
        try:
            robot.command(wrong)
        except ContractError:
            continue
        raise AssertionError(f"a command such as {wrong.tolist()} must raise a ContractError and was accepted")
    robot.stop()
    _check_observation(robot.observe(), spec)


def _act(policy: Policy, observation: Observation, seed: int) -> ActionChunk:
    policy.reset(seed)
    return policy.act(observation)


def _check_sufficient(observation: Observation, spec: PolicySpec) -> None:
    for camera, (height, width) in spec.cameras.items():
        assert camera in observation.images, f"make_observation gives no camera {camera!r}, which the policy needs"
        shape = observation.images[camera].shape
        assert shape[0] >= height and shape[1] >= width, (
            f"make_observation gives camera {camera!r} at {shape[0]}x{shape[1]}; the policy works at {height}x{width}"
        )


def _check_chunk(chunk: ActionChunk, spec: PolicySpec, start: float) -> None:
    space = spec.action_space
    assert isinstance(chunk, ActionChunk), f"expected an ActionChunk, got {type(chunk).__name__}"
    wanted = (spec.horizon, space.dimension)
    assert chunk.actions.shape == wanted, f"expected actions {wanted}, as the spec says, got {chunk.actions.shape}"
    assert chunk.actions.dtype == np.float32, f"actions must be float32, got {chunk.actions.dtype}"
    for name, low, high, column in zip(space.names, space.low, space.high, chunk.actions.T, strict=True):
        # Bounds are declared in double precision and kept in single precision.
        assert np.float32(low) <= column.min() and column.max() <= np.float32(high), (
            f"action entry {name} leaves {low}..{high}: {column.min():g} to {column.max():g}"
        )
    times = start + np.arange(spec.horizon) / space.rate
    assert np.allclose(chunk.times, times, rtol=0, atol=1e-6), (
        f"times must start at the observation's ({start:g} s) and follow every {1 / space.rate:g} s, "
        f"got {chunk.times[:3].tolist()}"
    )


def _check_observation(observation: Observation, spec: RobotSpec) -> None:
    assert isinstance(observation, Observation), f"expected an Observation, got {type(observation).__name__}"
    assert set(observation.images) == set(spec.cameras), (
        f"the spec declares cameras {sorted(spec.cameras)} and the observation has {sorted(observation.images)}"
    )
    for camera, image in observation.images.items():
        assert image.shape[:2] == tuple(spec.cameras[camera]), (
            f"camera {camera!r} is declared {tuple(spec.cameras[camera])} and gives {image.shape[:2]}"
        )
    assert observation.state.shape == (len(spec.state_names),), (
        f"the spec names {len(spec.state_names)} state entries and the observation has {observation.state.shape}"
    )
    assert np.isfinite(observation.time), f"time must be a number of seconds, got {observation.time}"


def _copied(observation: Observation) -> Observation:
    images = {camera: image.copy() for camera, image in observation.images.items()}
    return replace(observation, images=images, state=observation.state.copy())


def _equal(one: Observation, other: Observation) -> bool:
    return np.array_equal(one.state, other.state) and all(
        np.array_equal(image, other.images[camera]) for camera, image in one.images.items()
    )
