"""One episode of a policy in a numbered scene, and its replay as pictures."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import cast

import numpy as np
from numpy.typing import NDArray

from robot.chunk_queue import ChunkQueue
from robot.control.inference import continues
from robot.interface import ActionChunk, Continuation, ContinuingPolicy, Observation, Policy, RememberingPolicy
from robot.skills import Skill
from sim.keypose import keypose_actions
from sim.language import Wording
from sim.outcome import Failure
from sim.protocols import Protocol, require_protocol
from sim.realtime import RealTime, RealTimeDrive
from sim.scenes import generator
from sim.worlds import SimulatedWorld


@dataclass(frozen=True)
class EpisodeResult:
    """What happened. `goal`, `start` and `reached` are in the task's unit; `length` counts control steps.

    Of a longer task `goal` and `reached` count the sub-goals, and `subgoals` names them in their order; it is empty
    for a single one.

    `instruction` is what was said, with " / " before what was said later on.

    `failure` is one of `sim.outcome.FAILURES`, None after a success. `latencies` are seconds per call of the policy,
    `duration` the seconds that the whole episode took; `states` are the engine's state vectors before the first and
    after every control step, for `replay`. `events` counts what the control loop had to do, in real time only.
    `goal_image` is the picture by which the policy was told its goal, if it was. `corrections` counts how often
    somebody corrected the policy.
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
    events: Mapping[str, int] = field(default_factory=dict)
    goal_image: NDArray[np.uint8] | None = None
    corrections: int = 0


class Companion:
    """Somebody who is there while a policy acts in closed loop: chooses its language motions, takes the arm, or looks
    on. This one does nothing.

    Attributes:
        images: whether every observation is to have its pictures.
    """

    images = False

    def begin(self, world: SimulatedWorld) -> None:
        """The world is reset; before the first step."""

    def motion(self, chunk: ActionChunk | None) -> str:
        """The motion that the policy has to carry out now, while `chunk` is being followed; empty for its own
        choice."""
        return ""

    def action(self, observation: Observation) -> NDArray[np.float32] | None:
        """What is done (A,) instead of the policy's action; None to follow it."""
        return None

    def saw(self, observation: Observation, action: NDArray[np.float32], chunk: ActionChunk | None) -> None:
        """What is done at this step, and the chunk that it is part of; None if it is not the policy's."""


class _Timed:
    """A policy whose calls are timed."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self.spec = policy.spec
        self.continues = continues(policy)
        self.latencies: list[float] = []

    def reset(self, seed: int) -> None:
        self._policy.reset(seed)

    def act(self, observation: Observation) -> ActionChunk:
        start = time.perf_counter()
        chunk = self._policy.act(observation)
        self.latencies.append(time.perf_counter() - start)
        return chunk

    def continue_chunk(self, observation: Observation, previous: Continuation) -> ActionChunk:
        start = time.perf_counter()
        chunk = cast(ContinuingPolicy, self._policy).continue_chunk(observation, previous)
        self.latencies.append(time.perf_counter() - start)
        return chunk

    def act_batch(self, observations: Sequence[Observation]) -> list[ActionChunk]:
        return self._policy.act_batch(observations)

    def remember(self, observations: Sequence[Observation]) -> None:
        cast(RememberingPolicy, self._policy).remember(observations)


def run_episode(
    world: SimulatedWorld,
    policy: Policy,
    split: str,
    index: int,
    execute: int | None = None,
    variant: str = "original",
    wording: Wording = "seen",
    protocol: Protocol = "closed_loop",
    real_time: RealTime | None = None,
    goal_image: NDArray[np.uint8] | None = None,
    companion: Companion | None = None,
) -> EpisodeResult:
    """Run the policy until the task is done or the time is up.

    In closed loop, `execute` actions of each chunk are followed before the policy is asked again (all of them by
    default), and the world waits for the policy unless `real_time` is given; `sim.keypose` says what protocol
    "keypose" does. `goal_image` (H, W, 3) is part of every observation, where the world waits; there `companion` is
    asked at every step. The result depends on nothing but the scene, the policy, the goal image, the companion and the
    protocol: the policy's seed follows from (task, split, index).
    """
    require_protocol(policy.spec, world.spec, protocol)
    began = time.perf_counter()
    world.reset(split, index, variant, wording)
    timed = _Timed(policy)
    seed = policy_seed(world.task.name, split, index)
    timed.reset(seed)
    drive = None
    if protocol == "keypose":
        actions = keypose_actions(world, timed)
    elif real_time is None:
        actions = _closed_loop(world, timed, execute, goal_image, companion or Companion())
    else:
        drive = RealTimeDrive(world, timed, execute or policy.spec.horizon, real_time, seed)
        actions = drive.actions(seed)
    record = EpisodeRecord(world, split, index, variant, wording, began)
    while not world.finished:
        world.execute(next(actions))
        record.look()
    return record.result(timed.latencies, drive.counts if drive else {}, goal_image)


def policy_seed(task: str, split: str, index: int) -> int:
    """The seed of a policy in a scene."""
    return int(generator(task, split, index, "policy").integers(2**31))


class EpisodeRecord:
    """What is kept of an episode while it goes on, from a world that was just reset; `look` after every control step.

    Args:
        world: in which it happens.
        split, index, variant, wording: of the scene.
        began: `time.perf_counter()` when the episode was begun.
    """

    def __init__(
        self, world: SimulatedWorld, split: str, index: int, variant: str, wording: Wording, began: float
    ) -> None:
        self._world, self._scene, self._began = world, (split, index, variant, wording), began
        self._goal, self._start, self._outcome = world.goal, world.value, world.watch()
        self._states, self._told = [world.state()], [world.instruction]

    def look(self) -> None:
        if self._world.instruction != self._told[-1]:
            self._told.append(self._world.instruction)
        self._outcome.look()
        self._states.append(self._world.state())

    def result(
        self, latencies: Sequence[float], events: Mapping[str, int], goal_image: NDArray[np.uint8] | None = None
    ) -> EpisodeResult:
        """Of the episode, which has ended."""
        world, goal, start = self._world, self._goal, self._start
        reached, subgoals = world.value, world.subgoals
        if subgoals:
            goal, start, reached = float(len(subgoals)), 0.0, float(world.reached)
        return EpisodeResult(
            world.task.name,
            *self._scene,
            " / ".join(self._told),
            goal,
            start,
            reached,
            world.success,
            self._outcome.failure(),
            world.steps,
            tuple(latencies),
            time.perf_counter() - self._began,
            np.stack(self._states),
            subgoals,
            events,
            goal_image,
        )


def _closed_loop(
    world: SimulatedWorld,
    policy: Policy,
    execute: int | None,
    goal_image: NDArray[np.uint8] | None,
    companion: Companion,
) -> Skill:
    """The actions of the policy's chunks, or of its companion; pictures are taken only where they are needed."""
    queue = ChunkQueue(policy, execute or policy.spec.horizon)
    companion.begin(world)
    while True:
        motion = companion.motion(queue.chunk)
        images = companion.images or queue.wants_images(world.instruction, motion)
        observation = replace(world.observe(images=images), motion=motion, goal_image=goal_image)
        action = companion.action(observation)
        if action is None:
            action = queue.action(observation)
        else:
            queue.drop()
        companion.saw(observation, action, queue.chunk)
        yield action


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
