"""The tasks as gymnasium environments: `gymnasium.make("tongs/OpenDrawer-v0")`."""

from __future__ import annotations

from typing import Any, ClassVar

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from robot.interface import EE_DELTA, Observation
from sim.engines import DEFAULT
from sim.world import CAMERA_SIZE, World

_LETTERS = "".join(chr(code) for code in range(32, 127)) + "°"


class ManipulationEnvironment(gymnasium.Env[dict[str, Any], NDArray[np.float32]]):
    """One task; the reward is 1 at the step that completes the two-second hold of the last goal.

    Observations are a dictionary of the camera pictures, `state` and `instruction`; actions are `ee_delta` in physical
    units. `reset(options={"index": n})` asks for a scene by number; without it the seeded generator draws numbers.
    `info` holds `is_success`, `value`, `goal` and `scene`; value and goal are those of the present sub-goal, of which
    `subgoals_reached` are behind it.

    Args:
        task: name of the task.
        split: which scenes.
        cameras: {name: (H, W)}; none for state only.
        engine: physics engine, "mujoco" or "bullet".
        tell_goal: append `sim.world.GOAL_NAMES` to the state, for policies that cannot read.
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["rgb_array"], "render_fps": round(EE_DELTA.rate)}

    def __init__(
        self,
        task: str,
        split: str = "train",
        cameras: dict[str, tuple[int, int]] | None = None,
        render_mode: str | None = None,
        engine: str = DEFAULT,
        tell_goal: bool = False,
    ) -> None:
        self.world = World(task, cameras, engine=engine, tell_goal=tell_goal)
        self.render_mode = render_mode
        self._split = split
        pictures = {name: spaces.Box(0, 255, (*size, 3), np.uint8) for name, size in self.world.spec.cameras.items()}
        self.observation_space = spaces.Dict(
            {
                **pictures,
                "state": spaces.Box(-10.0, 10.0, (len(self.world.spec.state_names),), np.float32),
                "instruction": spaces.Text(200, min_length=0, charset=_LETTERS),
            }
        )
        self.action_space = spaces.Box(np.array(EE_DELTA.low, np.float32), np.array(EE_DELTA.high, np.float32))

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        super().reset(seed=seed)
        options = options or {}
        self._scene = int(options["index"]) if "index" in options else int(self.np_random.integers(2**31))
        self.world.reset(
            options.get("split", self._split),
            self._scene,
            options.get("variant", "original"),
            options.get("wording", "seen"),
        )
        return self._observation(), self._info()

    def step(self, action: NDArray[np.float32]) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        self.world.execute(action)
        success = self.world.success
        return self._observation(), float(success), success, self.world.finished and not success, self._info()

    def render(self) -> NDArray[np.uint8] | None:  # type: ignore[override]
        return self.world.render("front", *CAMERA_SIZE) if self.render_mode == "rgb_array" else None

    def close(self) -> None:
        self.world.close()

    def contract_observation(self) -> Observation:
        """The same moment as an `Observation`, for policies of this project."""
        return self.world.observe()

    def _observation(self) -> dict[str, Any]:
        observation = self.world.observe()
        return {**observation.images, "state": observation.state, "instruction": observation.instruction}

    def _info(self) -> dict[str, Any]:
        return {
            "is_success": self.world.success,
            "value": self.world.value,
            "goal": self.world.goal,
            "subgoals_reached": self.world.reached,
            "scene": self._scene,
        }
