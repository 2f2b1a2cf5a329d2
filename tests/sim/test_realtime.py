"""A world that does not wait for the policy: no difference without latency, and what latency costs."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from robot.errors import ContractError, TongsError
from robot.interface import ActionChunk
from sim.episode import EpisodeResult, run_episode
from sim.expert import ScriptedExpert
from sim.realtime import RealTime
from sim.world import World


class Ahead(ScriptedExpert):
    """The expert's next eight actions, by rehearsing them in the world and going back."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.spec = type(self.spec)({}, (), world.spec.action_space, horizon=8)

    def act(self, observation) -> ActionChunk:
        before, plan = self._world.snapshot(), self._world.demonstration(self._skills, np.random.default_rng(0))
        actions = []
        for _ in range(8):
            actions.append(next(plan))
            self._world.execute(actions[-1])
        self._world.restore(before)
        return ActionChunk(np.stack(actions), observation.time + np.arange(8) / 10)


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    world = World("pickup_object", cameras={})
    yield world
    world.close()


def played(world: World, real_time: RealTime | None, scene: int = 2) -> EpisodeResult:
    return run_episode(world, ScriptedExpert(world), "test", scene, real_time=real_time)


def test_without_latency_the_loop_changes_nothing(world: World) -> None:
    waited, loop = played(world, None), played(world, RealTime())
    assert waited.success and loop.success
    assert loop.length == waited.length
    assert np.abs(loop.states[:, :7] - waited.states[:, :7]).max() < 1e-3


def test_latency_costs_time_and_is_repeatable(world: World) -> None:
    slow = RealTime(latency=0.15, jitter=0.05)
    once, again, at_once = played(world, slow), played(world, slow), played(world, RealTime())
    assert once.length > 1.5 * at_once.length
    assert np.array_equal(once.states, again.states) and once.events == again.events


def test_asking_while_moving_costs_less_than_waiting(world: World) -> None:
    lengths = {}
    for mode in ("synchronous", "asynchronous"):
        result = run_episode(world, Ahead(world), "test", 2, execute=4, real_time=RealTime(0.2, execution=mode))
        lengths[mode] = result.length
        assert "starved" not in result.events
    assert lengths["asynchronous"] < 0.85 * lengths["synchronous"]


def test_a_policy_that_fails_ends_the_episode_with_its_own_error(world: World) -> None:
    class Broken(ScriptedExpert):
        def act(self, observation):
            raise ZeroDivisionError("a bug")

    with pytest.raises(ZeroDivisionError, match="a bug"):
        run_episode(world, Broken(world), "test", 0, real_time=RealTime(0.1))


def test_what_is_refused(world: World) -> None:
    with pytest.raises(ContractError, match="execution=rtc needs a policy whose chunks can go on"):
        played(world, RealTime(0.1, execution="rtc"))
    with pytest.raises(TongsError, match="latency_ms must be a number from 0 to 60000, got -100"):
        RealTime(latency=-0.1)
