"""One policy, many episodes: a thread that asks the policy for all that wait, together."""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, cast

from robot.errors import ContractError, TongsError
from robot.interface import (
    ActionChunk,
    Observation,
    Policy,
    RememberingPolicy,
    SharedPolicy,
    SharedRememberingPolicy,
)

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Answer:
    """A chunk, the seconds that the request waited for others, and those that its batch took to compute."""

    chunk: ActionChunk
    waited: float
    computed: float


@dataclass
class _Asked:
    """An observation that waits for its chunk: of an episode, or `once`, of one that begins with `seed` and ends."""

    observation: Observation
    episode: Any = None
    once: bool = False
    seed: int = 0
    since: float = field(default_factory=time.perf_counter)
    future: Future[Answer] = field(default_factory=Future)


@dataclass
class _Errand:
    """Anything else that the policy's thread is to do."""

    function: Callable[[], Any]
    future: Future[Any] = field(default_factory=Future)


class OneEpisode:
    """A policy that follows one episode at a time, as a shared policy that refuses a second one."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._episode: object | None = None

    @property
    def spec(self) -> Any:
        return self._policy.spec

    def begin(self, seed: int) -> object:
        if self._episode is not None:
            raise ContractError("this policy follows one episode at a time, and another client is in one; ask later")
        self._policy.reset(seed)
        self._episode = object()
        return self._episode

    def end(self, episode: object) -> None:
        if episode is self._episode:
            self._episode = None

    def act_episodes(self, episodes: Sequence[object], observations: Sequence[Observation]) -> list[ActionChunk]:
        return [self._policy.act(observation) for observation in observations]

    def remember_episodes(self, episodes: Sequence[object], observations: Sequence[Observation]) -> None:
        for observation in observations:
            cast(RememberingPolicy, self._policy).remember([observation])


class Batcher:
    """The only one who touches the policy, in a thread of its own.

    Whatever has come in while the policy was busy is answered in the next batch. Nothing waits for a batch to fill.

    Args:
        policy: bound to what the sessions give it, see `robot.remote.session`.
        size: the largest batch.
        observe: told of each batch: its size and the seconds that it took.
    """

    def __init__(self, policy: Policy, size: int, observe: Callable[[int, float], None] = lambda *_: None) -> None:
        self._policy = policy if isinstance(policy, SharedPolicy) else OneEpisode(policy)
        self._size = 1 if isinstance(self._policy, OneEpisode) else size
        self._observe = observe
        self._jobs: queue.SimpleQueue[_Asked | _Errand | None] = queue.SimpleQueue()
        self._busy: float | None = None
        self._thread = threading.Thread(target=self._run, name="policy", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    @property
    def busy(self) -> float:
        """Seconds since the policy began what it is doing; 0 if it is doing nothing."""
        since = self._busy
        return 0.0 if since is None else time.perf_counter() - since

    async def begin(self, seed: int) -> Any:
        """A new episode."""
        return await self._ask(_Errand(lambda: self._policy.begin(seed)))

    def end(self, episode: Any) -> None:
        """Forget an episode."""
        if isinstance(self._policy, OneEpisode):
            self._jobs.put(_Errand(lambda: cast(OneEpisode, self._policy).end(episode)))

    async def remember(self, episode: Any, observation: Observation) -> None:
        policy = cast(SharedRememberingPolicy, self._policy)
        await self._ask(_Errand(lambda: policy.remember_episodes([episode], [observation])))

    async def act(self, episode: Any, observation: Observation) -> Answer:
        """The chunk of an episode of `begin`. Raises TongsError if the policy cannot give one."""
        return await self._ask(_Asked(observation, episode))

    async def act_once(self, seed: int, observation: Observation) -> Answer:
        """The first chunk of an episode that ends with it."""
        return await self._ask(_Asked(observation, once=True, seed=seed))

    def close(self) -> None:
        """End when everything asked so far is done, or at once if the policy does not return."""
        self._jobs.put(None)
        self._thread.join(timeout=2.0)

    async def _ask(self, job: _Asked | _Errand) -> Any:
        self._jobs.put(job)
        return await asyncio.wrap_future(job.future)

    def _run(self) -> None:
        while True:
            jobs, last = self._waiting()
            self._busy = time.perf_counter()
            wanted = [job for job in jobs if job.future.set_running_or_notify_cancel()]
            for job in wanted:
                if isinstance(job, _Errand):
                    _settle(job.future, job.function)
            if asked := [job for job in wanted if isinstance(job, _Asked)]:
                self._act(asked)
            self._busy = None
            if last:
                return

    def _waiting(self) -> tuple[list[_Asked | _Errand], bool]:
        """At least one job, at most as many as fit a batch; and whether there will be no more."""
        jobs, job = [], self._jobs.get()
        while job is not None:
            jobs.append(job)
            try:
                if len(jobs) == self._size:
                    return jobs, False
                job = self._jobs.get_nowait()
            except queue.Empty:
                return jobs, False
        return jobs, True

    def _act(self, asked: list[_Asked]) -> None:
        """Together; if that fails each alone, so that only the one whose fault it was is told."""
        began = time.perf_counter()
        asked = [job for job in asked if self._has_episode(job)]
        if not asked:
            return
        try:
            chunks = self._policy.act_episodes([job.episode for job in asked], [job.observation for job in asked])
            if len(chunks) != len(asked):
                raise RuntimeError(f"the policy gave {len(chunks)} chunks for {len(asked)} observations")
        except Exception as error:
            if len(asked) > 1:
                for job in asked:
                    self._act([job])
                return
            asked[0].future.set_exception(_told(error))
        else:
            computed = time.perf_counter() - began
            self._observe(len(asked), computed)
            for job, chunk in zip(asked, chunks, strict=True):
                job.future.set_result(Answer(chunk, began - job.since, computed))
        for job in asked:
            if job.once and isinstance(self._policy, OneEpisode):
                self._policy.end(job.episode)

    def _has_episode(self, job: _Asked) -> bool:
        """Begin the episode of one who has none; False if that cannot be, and is told."""
        if job.episode is None:
            try:
                job.episode = self._policy.begin(job.seed)
            except Exception as error:
                job.future.set_exception(_told(error))
                return False
        return True


def _settle(future: Future[Any], function: Callable[[], Any]) -> None:
    try:
        future.set_result(function())
    except Exception as error:
        future.set_exception(_told(error))


def _told(error: Exception) -> TongsError:
    """What a client is told; what is no bad input of its own is in the server's log with its traceback."""
    if isinstance(error, TongsError):
        return error
    logger.error("the policy failed", exc_info=error)
    return TongsError(f"the policy failed ({type(error).__name__}); the server's log has the details")
