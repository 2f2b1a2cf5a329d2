"""From a name to a policy: the scripted expert, the key pose oracle, random actions, a checkpoint by name or folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from robot.errors import TongsError, unknown
from robot.interface import ActionChunk, ActionSpace, Observation, PolicySpec

if TYPE_CHECKING:
    from policies.base import PolicyModule

EXPERT, ORACLE, RANDOM = "expert", "oracle", "random"


@dataclass(frozen=True)
class PolicyChoice:
    """A policy by name; `folder` is its checkpoint if it is a learned one."""

    name: str
    folder: Path | None = None


def shipped_checkpoints() -> dict[str, Path]:
    """The checkpoints that come with Tongs, by name."""
    root = Path(str(resources.files("checkpoints")))
    return {folder.name: folder for folder in sorted(root.iterdir()) if (folder / "config.json").is_file()}


def choose_policy(name: str) -> PolicyChoice:
    """Find a policy by name or folder.

    Raises:
        TongsError: nothing has that name, or the folder is no checkpoint.
    """
    shipped = shipped_checkpoints()
    if name in (EXPERT, ORACLE, RANDOM):
        return PolicyChoice(name)
    if name in shipped:
        return PolicyChoice(name, shipped[name])
    folder = Path(name).expanduser()
    if not folder.is_dir():
        known = ", ".join([EXPERT, ORACLE, RANDOM, *shipped])
        raise TongsError(f"unknown policy {name!r}; known are: {known}, and any checkpoint folder")
    if not (folder / "config.json").is_file():
        raise TongsError(f"{name} is no checkpoint: it has no config.json (a checkpoint folder holds one)")
    return PolicyChoice(name, folder)


def load_checkpoint(folder: Path, sampling: Mapping[str, Any]) -> PolicyModule:
    """The learned policy in a folder, with some of its sampling settings replaced.

    Raises:
        TongsError: the checkpoint is damaged, or the policy has no such sampling setting.
    """
    from policies.base import load_policy

    policy = load_policy(folder)
    if not sampling:
        return policy
    settings = getattr(policy, "sampling", None)
    known = [field.name for field in fields(settings)] if is_dataclass(settings) else []
    for key in sampling:
        if key not in known:
            raise unknown("sampling setting", key, known)
    policy.sampling = replace(settings, **sampling)  # type: ignore[assignment]
    return policy


class RandomPolicy:
    """Smooth random motion: the exponential average of uniform actions, the floor that every policy must beat. With
    smoothing 1 it is uniform actions.

    a_t = a_{t-1} + smoothing * (u_t - a_{t-1}), u_t uniform within the bounds of the action space.
    """

    def __init__(self, action_space: ActionSpace, horizon: int = 8, smoothing: float = 0.3) -> None:
        self._spec = PolicySpec(cameras={}, state_names=(), action_space=action_space, horizon=horizon)
        self._smoothing = smoothing
        self.reset(0)

    @property
    def spec(self) -> PolicySpec:
        return self._spec

    def reset(self, seed: int) -> None:
        space = self._spec.action_space
        self._generator = np.random.default_rng(seed)
        self._action = self._generator.uniform(space.low, space.high)

    def act(self, observation: Observation) -> ActionChunk:
        space, actions = self._spec.action_space, []
        for _ in range(self._spec.horizon):
            self._action = self._action + self._smoothing * (
                self._generator.uniform(space.low, space.high) - self._action
            )
            actions.append(self._action)
        times = observation.time + np.arange(self._spec.horizon) / space.rate
        return ActionChunk(np.asarray(actions, dtype=np.float32), times)

    def act_batch(self, observations: Sequence[Observation]) -> list[ActionChunk]:
        return [self.act(observation) for observation in observations]
