"""Policies in the pushing world: many episodes at once, BESO's reward and result, and which ways a policy takes."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console

from eval.policies import choose_policy
from eval.results import write_json
from eval.statistics import wilson_interval
from robot.errors import TongsError
from sim.block_push.expert import MODES, PushExpert
from sim.block_push.scene import NAME
from sim.block_push.world import PushWorld
from sim.scenes import generator

if TYPE_CHECKING:
    from policies.base import PolicyModule

EXPERT = "expert"


@dataclass(frozen=True)
class PushEpisode:
    """How one episode went.

    Attributes:
        scene: its number.
        reward: share of blocks delivered to some square.
        result: share of blocks delivered to the square that the goal says.
        first: the block that was delivered first, or None.
        square: the square that it was delivered to, or None.
        steps: control steps.
    """

    scene: int
    reward: float
    result: float
    first: int | None
    square: int | None
    steps: int


@dataclass(frozen=True)
class Mean:
    """A mean of numbers in [0, 1] with its 95 % interval, and how many episodes are behind it."""

    mean: float
    low: float
    high: float
    episodes: int


def mean_interval(values: Sequence[float]) -> Mean:
    """Wilson's interval, as if the numbers were only 0 and 1: others vary less, so it is never too narrow."""
    low, high = wilson_interval(sum(values), len(values))
    return Mean(sum(values) / len(values), low, high, len(values))


def coverage(episodes: Sequence[PushEpisode]) -> float:
    """How evenly the four ways (block first, its square) are taken: entropy in units of ln 4, 1 for all alike."""
    ways = Counter((episode.first, episode.square) for episode in episodes if episode.first is not None)
    total = sum(ways.values())
    return max(0.0, -sum(n / total * math.log(n / total) for n in ways.values()) / math.log(4)) if total else 0.0


def roll_out(
    policy: PolicyModule, scenes: Sequence[int], split: str = "test", seed: int = 0, execute: int = 1
) -> list[PushEpisode]:
    """One episode per entry of `scenes`, all at once; those that are over wait for the others.

    Args:
        policy: with cameras only if it needs them; is bound and reset here.
        scenes: numbers; a repeated one begins alike and meets other noise.
        split: of the scenes.
        seed: of the policy's randomness.
        execute: actions of a chunk that are executed before the policy is asked again.

    Raises:
        TongsError: the policy does not fit the world, or more actions than a chunk has are asked for.
    """
    if not 1 <= execute <= policy.spec.horizon:
        raise TongsError(f"execute must be from 1 to the {policy.spec.horizon} actions of a chunk, got {execute}")
    worlds = [PushWorld(policy.spec.cameras) for _ in scenes]
    try:
        for world, scene in zip(worlds, scenes, strict=True):
            world.reset(split, scene)
        policy.bind(worlds[0].spec)
        policy.reset(seed)
        goals = [world.goal_image() if "image" in policy.spec.goals else None for world in worlds]
        while not all(world.finished for world in worlds):
            seen = [world.observe(goal) for world, goal in zip(worlds, goals, strict=True)]
            for world, chunk in zip(worlds, policy.act_batch(seen), strict=True):
                for action in chunk.actions[:execute]:
                    if not world.finished:
                        world.execute(action)
        return [_outcome(world, scene) for world, scene in zip(worlds, scenes, strict=True)]
    finally:
        for world in worlds:
            world.close()


def roll_out_expert(scenes: Sequence[int], split: str = "test") -> list[PushEpisode]:
    """The scripted pusher, in one of its ways to what each scene asks for."""
    world, episodes = PushWorld(), []
    for scene in scenes:
        world.reset(split, scene)
        rng = generator(NAME, split, scene, "policy")
        fitting = [mode for mode in MODES if mode.wanted == world.scene.wanted]
        expert = PushExpert(world, fitting[int(rng.integers(len(fitting)))])
        expert.reset(int(rng.integers(2**31)))
        while not world.finished:
            world.execute(expert.act(world.observe()).actions[0])
        episodes.append(_outcome(world, scene))
    return episodes


def seconds_per_action(policy: PolicyModule, calls: int = 30) -> float:
    """Median wall-clock time of one `act` for one episode (s), after as many observations as its window holds."""
    world = PushWorld(policy.spec.cameras)
    try:
        policy.bind(world.spec)
        policy.reset(0)
        goal = world.goal_image() if "image" in policy.spec.goals else None
        times = []
        for _ in range(policy.window + calls):
            observation, begin = world.observe(goal), time.perf_counter()
            action = policy.act(observation).actions[0]
            times.append(time.perf_counter() - begin)
            world.execute(action)
        return float(np.median(times[policy.window :]))
    finally:
        world.close()


def evaluate_pushing(
    policy: str,
    scenes: tuple[int, int],
    output: str | Path,
    split: str = "test",
    execute: int = 1,
    sampling: Mapping[str, Any] | None = None,
    console: Console | None = None,
) -> dict[str, Any]:
    """Run a policy, or "expert", in the scenes start .. stop; write `output`/results.json and print the means."""
    numbers = range(*scenes)
    if policy == EXPERT:
        episodes = roll_out_expert(numbers, split)
    else:
        learned = choose_policy(policy).load(sampling)
        episodes = roll_out(learned, numbers, split, execute=execute)  # type: ignore[arg-type]
    results = summary(episodes)
    written = {"policy": policy, "task": NAME, "split": split, "sampling": dict(sampling or {}), **results}
    folder = Path(output)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(written, folder / "results.json")
    for name in ("reward", "result"):
        mean = results[name]
        shown = f"{name}: {mean['mean']:.3f} [{mean['low']:.3f}, {mean['high']:.3f}] over {mean['episodes']} episodes"
        (console or Console()).print(shown, highlight=False)
    return written


def summary(episodes: Sequence[PushEpisode]) -> dict[str, Any]:
    """Means, coverage and every episode, ready for JSON."""
    return {
        "reward": asdict(mean_interval([episode.reward for episode in episodes])),
        "result": asdict(mean_interval([episode.result for episode in episodes])),
        "coverage": coverage(episodes),
        "episodes": [asdict(episode) for episode in episodes],
    }


def _outcome(world: PushWorld, scene: int) -> PushEpisode:
    first, square = next(iter(world.delivered.items()), (None, None))
    return PushEpisode(scene, world.reward, world.result, first, square, world.steps)
