"""A policy whose chunks tell exactly what it has seen, and a server of it within the test's process."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from robot.errors import ContractError
from robot.interface import EE_DELTA, ActionChunk, Observation, Policy, PolicySpec, RobotSpec
from robot.remote.server import PolicyServer, ServerConfig

SIZE = (24, 32)
SPEC = PolicySpec({"front": SIZE, "wrist": SIZE}, ("x", "y"), EE_DELTA, horizon=3)
ROBOT = RobotSpec({"wrist": (48, 64), "front": (24, 32), "side": (8, 8)}, ("y", "w", "x"), EE_DELTA)


def observation(number: int, instruction: str = "open it", time: float = 1.5) -> Observation:
    random = np.random.default_rng(number)
    images = {name: random.integers(0, 256, (*size, 3), dtype=np.uint8) for name, size in ROBOT.cameras.items()}
    return Observation(images, random.normal(size=3).astype(np.float32), instruction, time)


@dataclass
class Episode:
    """Its randomness, and a digest of everything that it was shown."""

    generator: np.random.Generator
    digests: list[float] = field(default_factory=list)


class Toy:
    """Every action is a number drawn from the episode's generator, moved by a digest of all that the episode saw.

    Attributes:
        batches: the sizes of the batches that it was asked for.
        lock: held by a test, it keeps the policy computing.
    """

    def __init__(self, spec: PolicySpec = SPEC) -> None:
        self.spec = spec
        self.batches: list[int] = []
        self.lock = threading.Lock()
        self._robot: RobotSpec | None = None

    def bind(self, robot: RobotSpec) -> None:
        self._columns = [robot.state_names.index(name) for name in self.spec.state_names]
        self._robot = robot

    def reset(self, seed: int) -> None:
        self._episode = self.begin(seed)

    def begin(self, seed: int) -> Episode:
        return Episode(np.random.default_rng(seed))

    def act(self, observation: Observation) -> ActionChunk:
        return self.act_episodes([self._episode], [observation])[0]

    def act_batch(self, observations: Sequence[Observation]) -> list[ActionChunk]:
        return [self.act(observation) for observation in observations]

    def act_episodes(self, episodes: Sequence[Episode], observations: Sequence[Observation]) -> list[ActionChunk]:
        with self.lock:
            self.batches.append(len(episodes))
            digests = [self._digest(observation) for observation in observations]
            if "panic" in [observation.instruction for observation in observations]:
                raise RuntimeError("out of memory")
            return [self._chunk(*parts) for parts in zip(episodes, observations, digests, strict=True)]

    def remember(self, observations: Sequence[Observation]) -> None:
        self.remember_episodes([self._episode], observations)

    def remember_episodes(self, episodes: Sequence[Episode], observations: Sequence[Observation]) -> None:
        for episode, observation in zip(episodes, observations, strict=True):
            episode.digests.append(self._digest(observation))

    def _digest(self, observation: Observation) -> float:
        """A number in -1..1 that any change of the images, the policy's state entries or the words moves."""
        if self._robot is None or len(observation.state) != len(self._robot.state_names):
            raise ContractError(f"toy: the state has {len(observation.state)} entries")
        if observation.instruction == "refuse":
            raise ContractError("toy: no")
        total = sum(float((row + 2) * value) for row, value in enumerate(observation.state[self._columns]))
        for camera, (height, width) in self.spec.cameras.items():
            image = observation.images[camera]
            if image.shape[0] != height:  # a whole multiple in these tests
                factor = image.shape[0] // height
                image = np.floor(image.reshape(height, factor, width, factor, 3).mean(axis=(1, 3)) + 0.5)
            total += float(image.astype(np.float64).ravel() @ np.sin(np.arange(image.size) + len(camera)))
        if "image" in self.spec.goals:
            assert observation.goal_image is not None and observation.goal_state is not None
            total += float(
                observation.goal_image.astype(np.float64).ravel() @ np.cos(np.arange(observation.goal_image.size))
            )
            total += float(
                np.atleast_2d(observation.goal_state)[:, self._columns].astype(np.float64).sum(axis=0) @ [3, 5]
            )
        return float(np.sin(total + len(observation.instruction)))

    def _chunk(self, episode: Episode, observation: Observation, digest: float) -> ActionChunk:
        episode.digests.append(digest)
        shape = (self.spec.horizon, self.spec.action_space.dimension)
        moved = 0.01 * np.sin(sum((row + 1) * value for row, value in enumerate(episode.digests)))
        actions = self.spec.action_space.clip(episode.generator.normal(0, 0.01, shape) + moved)
        return ActionChunk(actions, observation.time + np.arange(self.spec.horizon) / self.spec.action_space.rate)


class Bare:
    """The same as a policy that follows one episode at a time."""

    def __init__(self, toy: Toy) -> None:
        self.spec, self.reset, self.act, self.act_batch = toy.spec, toy.reset, toy.act, toy.act_batch


def bound(spec: PolicySpec = SPEC, robot: RobotSpec = ROBOT) -> Toy:
    toy = Toy(spec)
    toy.bind(robot)
    return toy


def canonical(spec: PolicySpec = SPEC) -> Toy:
    return bound(spec, RobotSpec(spec.cameras, spec.state_names, spec.action_space))


@contextmanager
def served(policy: Policy | None = None, name: str = "toy", **config: Any) -> Iterator[PolicyServer]:
    """A server on a free port, in a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    server = PolicyServer(
        policy or canonical(), name, ServerConfig(**{"port": 0} | config), {"steps": 5}, {"model": "ab" * 32}
    )
    try:
        asyncio.run_coroutine_threadsafe(server.start(), loop).result(20)
        yield server
    finally:
        asyncio.run_coroutine_threadsafe(server.stop(), loop).result(20)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
