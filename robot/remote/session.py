"""What a policy server does with the messages of one client."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from robot.errors import ContractError, TongsError
from robot.interface import Observation, PolicySpec, RobotSpec, require_compatible
from robot.remote.batching import Answer, Batcher
from robot.remote.messages import (
    VERSION,
    Act,
    Chunk,
    Done,
    Hello,
    Refusal,
    Remember,
    Reply,
    Request,
    Reset,
    Seen,
    Welcome,
    pack,
    pack_array,
    read_request,
    read_version,
    unpack_array,
)
from robot.remote.metrics import Metrics
from robot.remote.pictures import unpack

logger = logging.getLogger(__name__)
SMALL = 4096
"""Messages of at most so many bytes hold no pictures worth a thread of their own."""
SENTENCE = 1000
"""The longest refusal, in characters."""


def canonical_robot(spec: PolicySpec) -> RobotSpec:
    """The robot that every session pretends to be: a policy that is served is bound to it once."""
    return RobotSpec(spec.cameras, spec.state_names, spec.action_space)


@dataclass
class Service:
    """What all sessions share."""

    welcome: Welcome
    batcher: Batcher
    metrics: Metrics
    openpi: Mapping[str, Any] = field(default_factory=dict)

    @property
    def spec(self) -> PolicySpec:
        return self.welcome.spec


class Session(Protocol):
    """One client, in one wire format: its name in the metrics, and what is answered."""

    format: str

    async def answer(self, data: bytes) -> bytes:
        """Raises TongsError if the message cannot be answered, which says why."""
        ...

    def refusal(self, sentence: str) -> bytes | str:
        """The message that says why."""
        ...

    def close(self) -> None:
        """The client is gone."""


async def reply(session: Session, data: bytes, metrics: Metrics) -> bytes | str:
    """The answer to a message, whatever it holds."""
    try:
        answer = await session.answer(data)
        metrics.requests.labels(session.format, "answered").inc()
        return answer
    except TongsError as error:
        sentence = str(error)
    except Exception as error:
        sentence = failed(error)
    metrics.requests.labels(session.format, "refused").inc()
    return session.refusal(sentence if len(sentence) <= SENTENCE else f"{sentence[: SENTENCE - 3]}...")


def failed(error: Exception) -> str:
    """What a client is told of an error that is none of its own; the log has its traceback."""
    logger.error("a message could not be answered", exc_info=error)
    return f"the server failed ({type(error).__name__}); its log has the details"


async def in_thread(data: bytes, function: Any, *arguments: Any) -> Any:
    """`function(*arguments)`, in a thread where `data` is so large that others would have to wait."""
    if len(data) <= SMALL:
        return function(*arguments)
    return await asyncio.get_running_loop().run_in_executor(None, function, *arguments)


class TongsSession:
    """A client that speaks the messages of `robot.remote.messages`."""

    format = "tongs"

    def __init__(self, service: Service) -> None:
        self._service = service
        self._robot: RobotSpec | None = None
        self._columns: NDArray[np.intp] = np.empty(0, np.intp)
        self._episode: Any = None

    async def answer(self, data: bytes) -> bytes:
        return pack(await self._answer(await in_thread(data, self._read, data)))

    def refusal(self, sentence: str) -> bytes:
        return pack(Refusal(sentence))

    def close(self) -> None:
        if self._episode is not None:
            self._service.batcher.end(self._episode)
            self._episode = None

    def _read(self, data: bytes) -> tuple[Request, Observation | None]:
        """The message and, decoded and checked, its observation."""
        if self._robot is None and (version := read_version(data)) not in (VERSION, None):
            raise TongsError(
                f"the client speaks version {version} of the protocol and this server ({self._service.welcome.server}) "
                f"version {VERSION}; use the same version of Tongs on both sides"
            )
        message = read_request(data)
        return message, self._observation(message.observation) if isinstance(message, (Act, Remember)) else None

    async def _answer(self, read: tuple[Request, Observation | None]) -> Reply:
        message, observation = read
        if isinstance(message, Hello):
            self._meet(message.robot.spec)
        elif isinstance(message, Reset):
            self.close()
            self._episode = await self._service.batcher.begin(message.seed)
        elif self._episode is None:
            raise ContractError("reset comes before the first observation of an episode")
        elif isinstance(message, Act):
            assert observation is not None
            return _chunk(await ask(self._service, self._episode, observation))
        elif self._service.spec.history > 1:
            assert observation is not None
            await self._service.batcher.remember(self._episode, observation)
        return Done()

    def _meet(self, robot: RobotSpec) -> None:
        spec, policy = self._service.spec, self._service.welcome.policy
        require_compatible(spec, robot, f"the policy {policy}")
        names = {name: column for column, name in enumerate(robot.state_names)}
        self._columns = np.array([names[name] for name in spec.state_names], np.intp)
        self._robot = robot

    def _observation(self, seen: Seen) -> Observation:
        """What the policy is shown: its own cameras, and the state in its own order."""
        if self._robot is None:
            raise ContractError("hello, which says what the robot is, comes before the first observation")
        spec, robot = self._service.spec, self._robot
        images = {}
        for camera in spec.cameras:
            if camera not in seen.images:
                raise ContractError(
                    f"camera {camera!r} is needed; the observation has: {', '.join(sorted(seen.images)) or 'none'}"
                )
            picture, declared = seen.images[camera], tuple(robot.cameras[camera])
            if (picture.height, picture.width) != declared:
                raise ContractError(
                    f"camera {camera!r} was declared {declared[0]}x{declared[1]} "
                    f"and gives {picture.height}x{picture.width}"
                )
            images[camera] = unpack(picture, f"camera {camera!r}")
        state = unpack_array(seen.state, "state")
        if state.shape != (len(robot.state_names),):
            raise ContractError(
                f"the robot declares {len(robot.state_names)} state entries and the observation has {state.shape}"
            )
        goals: dict[str, NDArray[Any]] = {}
        if seen.goal_images is not None:
            if len({(picture.height, picture.width) for picture in seen.goal_images}) > 1:
                raise ContractError("the goal's pictures must have one size")
            goals["goal_image"] = np.stack([unpack(picture, "the goal's picture") for picture in seen.goal_images])
        if seen.goal_state is not None:
            goal = unpack_array(seen.goal_state, "the goal's state").astype(np.float32)
            if goal.ndim == 0 or goal.shape[-1] != len(robot.state_names):
                raise ContractError(
                    f"the robot declares {len(robot.state_names)} state entries and the goal's state has {goal.shape}"
                )
            goals["goal_state"] = goal[..., self._columns]
        return observation(images, state[self._columns], seen.instruction, seen.time, **goals, motion=seen.motion)


def observation(
    images: Mapping[str, NDArray[np.uint8]],
    state: NDArray[Any],
    instruction: str,
    time: float,
    goal_image: NDArray[np.uint8] | None = None,
    goal_state: NDArray[np.float32] | None = None,
    motion: str = "",
) -> Observation:
    """An observation of numbers that came from outside. Raises ContractError if some are not finite."""
    if not math.isfinite(time):
        raise ContractError(f"time must be a number of seconds, got {time}")
    state = state.astype(np.float32)
    return Observation(images, state, instruction, time, goal_image, goal_state, motion=motion)


async def ask(service: Service, episode: Any, seen: Observation) -> Answer:
    """A chunk of an episode, or of one that begins and ends with it, where that is None."""
    batcher = service.batcher
    answer = await (batcher.act_once(0, seen) if episode is None else batcher.act(episode, seen))
    service.metrics.waiting.observe(answer.waited)
    return answer


def _chunk(answer: Answer) -> Chunk:
    chunk = answer.chunk
    actions, times = pack_array(chunk.actions), pack_array(chunk.times)
    said = (chunk.motion, chunk.motion_source, chunk.command)
    return Chunk(actions, times, answer.waited, answer.computed, *said)
