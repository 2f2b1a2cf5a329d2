"""LeRobot's environment type "tongs": our tasks with the observation keys that LeRobot expects."""

# pyright: reportMissingImports=false

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import gymnasium
import numpy as np
from gymnasium import spaces
from lerobot.configs.types import FeatureType, PolicyFeature
from lerobot.envs.configs import EnvConfig
from numpy.typing import NDArray

from robot.interface import EE_DELTA
from sim.engines import DEFAULT
from sim.environment import ManipulationEnvironment
from sim.registration import IDS
from sim.world import GOAL_NAMES, STATE_NAMES

PACKAGE = "lerobot_policy_tongs"
FILM_SIZE = 256


@EnvConfig.register_subclass("tongs")
@dataclass
class TongsEnv(EnvConfig):
    """One of our tasks. An episode that is reset with seed n is scene n, so `--seed=0` begins with scene 0.

    Attributes:
        task: its name, such as "open_drawer".
        split: which scenes.
        cameras: what is seen; `observation.images.<camera>`.
        image_size: side in pixels of the pictures. LeRobot does not scale them: give the size of the policy's training.
        engine: physics engine, "mujoco" or "bullet".
        tell_goal: give what is asked for in numbers too (`sim.world.GOAL_NAMES`), as `observation.environment_state`.
    """

    task: str | None = "open_drawer"
    fps: int = round(EE_DELTA.rate)
    split: str = "test"
    cameras: list[str] = field(default_factory=lambda: ["front", "wrist"])
    image_size: int = 128
    engine: str = DEFAULT
    tell_goal: bool = False

    def __post_init__(self) -> None:
        self.features = {
            "action": PolicyFeature(FeatureType.ACTION, (EE_DELTA.dimension,)),
            "agent_pos": PolicyFeature(FeatureType.STATE, (len(STATE_NAMES),)),
        }
        self.features_map = {"action": "action", "agent_pos": "observation.state"}
        for camera in self.cameras:
            shape = (self.image_size, self.image_size, 3)
            self.features[f"pixels/{camera}"] = PolicyFeature(FeatureType.VISUAL, shape)
            self.features_map[f"pixels/{camera}"] = f"observation.images.{camera}"
        if self.tell_goal:
            self.features["environment_state"] = PolicyFeature(FeatureType.ENV, (len(GOAL_NAMES),))
            self.features_map["environment_state"] = "observation.environment_state"

    @property
    def package_name(self) -> str:
        return PACKAGE

    @property
    def gym_kwargs(self) -> dict[str, Any]:
        names = ("split", "image_size", "engine", "tell_goal")
        return {"cameras": tuple(self.cameras)} | {name: getattr(self, name) for name in names}


class LeRobotEnvironment(gymnasium.Env[dict[str, Any], NDArray[np.float32]]):
    """A task as LeRobot's rollout takes it: `pixels` by camera, `agent_pos`, `environment_state` if the goal is told;
    `task_description` is the instruction, and `info` holds `is_success`."""

    metadata: ClassVar[dict[str, Any]] = ManipulationEnvironment.metadata

    def __init__(
        self,
        task: str,
        split: str = "test",
        cameras: tuple[str, ...] = ("front", "wrist"),
        image_size: int = 128,
        engine: str = DEFAULT,
        tell_goal: bool = False,
    ) -> None:
        sizes = dict.fromkeys(cameras, (image_size, image_size))
        self._inner = ManipulationEnvironment(task, split, sizes, engine=engine, tell_goal=tell_goal)
        self.task = task
        self.action_space = self._inner.action_space
        known: Any = self._inner.observation_space
        parts: dict[str, spaces.Space] = {
            "pixels": spaces.Dict({camera: known[camera] for camera in cameras}),
            "agent_pos": spaces.Box(-10.0, 10.0, (len(STATE_NAMES),), np.float32),
        }
        if tell_goal:
            parts["environment_state"] = spaces.Box(-10.0, 10.0, (len(GOAL_NAMES),), np.float32)
        self.observation_space = spaces.Dict(parts)

    @property
    def task_description(self) -> str:
        return self._inner.world.instruction

    @property
    def _max_episode_steps(self) -> int:
        return self._inner.world.horizon

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        super().reset(seed=seed)
        scene = {} if seed is None else {"index": seed}
        observation, info = self._inner.reset(seed=seed, options=scene | (options or {}))
        return self._renamed(observation), info

    def step(self, action: NDArray[np.float32]) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = self._inner.step(action)
        return self._renamed(observation), reward, terminated, truncated, info

    def render(self) -> NDArray[np.uint8]:  # type: ignore[override]
        return self._inner.world.render("front", FILM_SIZE, FILM_SIZE)

    def close(self) -> None:
        self._inner.close()

    def _renamed(self, observation: dict[str, Any]) -> dict[str, Any]:
        count = len(STATE_NAMES)
        state = observation.pop("state")
        del observation["instruction"]
        told = {} if len(state) == count else {"environment_state": state[count:]}
        return {"pixels": observation, "agent_pos": state[:count], **told}


def _register() -> None:
    for task in IDS:
        name = f"{PACKAGE}/{task}"
        if name not in gymnasium.registry:
            # LeRobot looks for `task_description` on what gymnasium.make returns, and a wrapper would hide it.
            gymnasium.register(
                name,
                f"{PACKAGE}.environment:LeRobotEnvironment",
                kwargs={"task": task},
                order_enforce=False,
                disable_env_checker=True,
            )


_register()
