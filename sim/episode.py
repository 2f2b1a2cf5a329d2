"""One episode of a policy in a numbered scene, and its replay as pictures."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from robot.chunk_queue import ChunkQueue
from robot.interface import ActionChunk, Observation, Policy
from robot.skills import Skill
from sim.keypose import keypose_actions
from sim.language import Wording
from sim.outcome import Failure
from sim.protocols import Protocol, require_protocol
from sim.scenes import generator
from sim.worlds import SimulatedWorld


@dataclass(frozen=True)
class EpisodeResult:
    """What happened. `goal`, `start` and `reached` are in the task's unit; `length` counts control steps.

    Of a longer task `goal` and `reached` count the sub-goals, and `subgoals` names them in their order; it is empty
    for a single one.

    `failure` is one of `sim.outcome.FAILURES`, None after a success. `latencies` are seconds per call of the policy,
    `duration` the seconds that the whole episode took; `states` are the engine's state vectors before the first and
    after every control step, for `replay`.
    """

    task: str
    split: str
    scene: int
    variant: str
    wording: str
    instruction: str
    goal: float
    start: float
    reached: float
    success: bool
    failure: Failure | None
    length: int
    latencies: tuple[float, ...]
    duration: float
    states: NDArray[np.float64]
    subgoals: tuple[str, ...] = ()


class _Timed:
    """A policy whose calls are timed."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self.spec = policy.spec
        self.latencies: list[float] = []

    def reset(self, seed: int) -> None:
        self._policy.reset(seed)

    def act(self, observation: Observation) -> ActionChunk:
        start = time.perf_counter()
        chunk = self._policy.act(observation)
        self.latencies.append(time.perf_counter() - start)
        return chunk

    def act_batch(self, observations: Sequence[Observation]) -> list[ActionChunk]:
        return self._policy.act_batch(observations)


def run_episode(
    world: SimulatedWorld,
    policy: Policy,
    split: str,
    index: int,
    execute: int | None = None,
    variant: str = "original",
    wording: Wording = "seen",
    protocol: Protocol = "closed_loop",
) -> EpisodeResult:
    """Run the policy until the task is done or the time is up.

    In closed loop, `execute` actions of each chunk are followed before the policy is asked again (all of them by
    default); `sim.keypose` says what protocol "keypose" does. The result depends on nothing but the scene, the policy
    and the protocol: the policy's seed follows from (task, split, index).
    """
    began = time.perf_counter()
    require_protocol(policy.spec, world.spec, protocol)
    world.reset(split, index, variant, wording)
    timed = _Timed(policy)
    timed.reset(int(generator(world.task.name, split, index, "policy").integers(2**31)))
    actions = keypose_actions(world, timed) if protocol == "keypose" else _closed_loop(world, timed, execute)
    goal, start, outcome = world.goal, world.value, world.watch()
    states = [world.state()]
    while not world.finished:
        world.execute(next(actions))
        outcome.look()
        states.append(world.state())
    reached, subgoals = world.value, world.subgoals
    if subgoals:
        goal, start, reached = float(len(subgoals)), 0.0, float(world.reached)
    return EpisodeResult(
        world.task.name,
        split,
        index,
        variant,
        wording,
        world.instruction,
        goal,
        start,
        reached,
        world.success,
        outcome.failure(),
        world.steps,
        tuple(timed.latencies),
        time.perf_counter() - began,
        np.stack(states),
        subgoals,
    )


def _closed_loop(world: SimulatedWorld, policy: Policy, execute: int | None) -> Skill:
    """The actions of the policy's chunks; it sees pictures only where a chunk begins."""
    queue = ChunkQueue(policy, execute or policy.spec.horizon)
    while True:
        see = bool(policy.spec.cameras) and queue.wants_chunk(world.instruction)
        yield queue.action(world.observe(images=see))


def replay(
    world: SimulatedWorld,
    result: EpisodeResult,
    camera: str = "front",
    height: int = 256,
    width: int = 256,
    every: int = 1,
) -> Iterator[NDArray[np.uint8]]:
    """Pictures (height, width, 3) of a finished episode, one per `every` control steps and the last."""
    world.reset(result.split, result.scene, result.variant, result.wording)  # type: ignore[arg-type]
    last = len(result.states) - 1
    for step, state in enumerate(result.states):
        if step % every == 0 or step == last:
            world.set_state(state)
            yield world.render(camera, height, width)
