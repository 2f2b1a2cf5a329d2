"""The pushing world as a robot: a round pusher in the plane, two blocks, two squares, three hundred steps."""

from __future__ import annotations

from collections.abc import Mapping

import mujoco
import numpy as np
from numpy.typing import NDArray

from robot.errors import TongsError
from robot.interface import PLANAR_DELTA, Observation, RobotSpec
from sim.block_push.scene import (
    BLOCKS,
    PERIOD,
    SQUARES,
    SUBSTEPS,
    PushScene,
    draw_scene,
    model_xml,
    square_of,
)
from sim.rendering import Renderer

STATE_NAMES = (
    *(f"{block}_{entry}" for block in BLOCKS for entry in ("x", "y", "angle")),
    "pusher_x",
    "pusher_y",
    "commanded_x",
    "commanded_y",
)
"""BESO's ten numbers: positions (m) and angles (rad) of the blocks, where the pusher is and where it is told to be."""
GOAL_NAMES = tuple(f"{block}_{axis}" for block in BLOCKS for axis in "xy")
"""The entries that make a goal: where the blocks end."""
MAX_STEPS = 300
CAMERAS = ("top",)


def instruction(wanted: tuple[int, int]) -> str:
    """What is asked, in words: the square of each block."""
    sides = ("left", "right")
    told = [f"the {block} block into the {sides[square]} square" for block, square in zip(BLOCKS, wanted, strict=True)]
    return f"push {' and '.join(told)}"


class PushWorld:
    """Block pushing by BESO's protocol.

    A block is delivered to the square that it is in first; a square that has one block takes no other. The reward is
    the share of blocks that are delivered anywhere, the result the share that is delivered where the goal says.

    Args:
        cameras: {"top": (height, width)}; none for states only, which needs no OpenGL.
        quality: of rendering.

    Raises:
        TongsError: an unknown camera.
    """

    def __init__(self, cameras: Mapping[str, tuple[int, int]] | None = None, quality: str = "fast") -> None:
        self.cameras = dict(cameras or {})
        if unknown := [name for name in self.cameras if name not in CAMERAS]:
            raise TongsError(f"the pushing world has no camera {unknown[0]!r}; it has: {', '.join(CAMERAS)}")
        self.spec = RobotSpec(self.cameras, STATE_NAMES, PLANAR_DELTA)
        self._model = mujoco.MjModel.from_xml_string(model_xml())
        self._data = mujoco.MjData(self._model)
        self._renderer = Renderer(self._model, quality) if self.cameras else None
        self.reset("train", 0)

    def reset(self, split: str, index: int, wanted: tuple[int, int] | None = None) -> None:
        """Put up a numbered scene; `wanted` asks for other squares than the scene does."""
        scene = draw_scene(split, index)
        self.scene = scene if wanted is None else PushScene(scene.blocks, scene.pusher, wanted)
        self.steps = 0
        self.delivered: dict[int, int] = {}
        """{block: square} in the order of delivery."""
        mujoco.mj_resetData(self._model, self._data)
        self._data.qpos[:] = [*scene.blocks[0], *scene.blocks[1], *scene.pusher]
        self._data.ctrl[:] = scene.pusher
        mujoco.mj_forward(self._model, self._data)
        self._look()

    @property
    def reward(self) -> float:
        """The share of blocks that are delivered to some square."""
        return len(self.delivered) / len(BLOCKS)

    @property
    def result(self) -> float:
        """The share of blocks that are delivered to the square that the goal says."""
        return sum(self.scene.wanted[block] == square for block, square in self.delivered.items()) / len(BLOCKS)

    @property
    def finished(self) -> bool:
        return self.steps >= MAX_STEPS or len(self.delivered) == len(BLOCKS)

    @property
    def state(self) -> NDArray[np.float32]:
        """(10,), named by `STATE_NAMES`."""
        return np.concatenate([self._data.qpos, self._data.ctrl]).astype(np.float32)

    def blocks(self) -> NDArray[np.float64]:
        """x and y (m) of the blocks, (2, 2)."""
        return self._data.qpos[:6].reshape(2, 3)[:, :2].copy()

    def pusher(self) -> NDArray[np.float64]:
        """x and y (m)."""
        return self._data.qpos[6:].copy()

    def goal_state(self) -> NDArray[np.float32]:
        """A state with both blocks in the middle of the squares that are wanted; entries outside the goal are zero."""
        goal = np.zeros(len(STATE_NAMES), np.float32)
        for block, square in enumerate(self.scene.wanted):
            goal[3 * block : 3 * block + 2] = SQUARES[square]
        return goal

    def goal_image(self) -> NDArray[np.uint8]:
        """A picture of that state, with the pusher where it begins; needs the camera."""
        goal = mujoco.MjData(self._model)
        goal.qpos[:] = [*self.goal_state()[:6], *self.scene.pusher]
        mujoco.mj_forward(self._model, goal)
        return self._picture(goal)

    def observe(self, goal_image: NDArray[np.uint8] | None = None) -> Observation:
        """What is seen now, with the goal in words and as a state, and as a picture if one is given."""
        images = {"top": self._picture(self._data)} if self.cameras else {}
        told = instruction(self.scene.wanted)
        return Observation(images, self.state, told, self.steps * PERIOD, goal_image, self.goal_state())

    def execute(self, action: NDArray[np.float32]) -> None:
        """Move the commanded position by `action` (dx, dy in m), within its bounds and the table; lasts 0.1 s."""
        change = PLANAR_DELTA.clip(action)
        limit = self._model.actuator_ctrlrange[:, 1]
        self._data.ctrl[:] = np.clip(self._data.ctrl + change, -limit, limit)
        mujoco.mj_step(self._model, self._data, SUBSTEPS)
        self.steps += 1
        self._look()

    def stop(self) -> None:
        self._data.ctrl[:] = self._data.qpos[6:]

    def close(self) -> None:
        if self._renderer is not None:
            self._renderer.close()

    def _look(self) -> None:
        for block, position in enumerate(self.blocks()):
            square = square_of(position)
            if block not in self.delivered and square is not None and square not in self.delivered.values():
                self.delivered[block] = square

    def _picture(self, data: mujoco.MjData) -> NDArray[np.uint8]:
        if self._renderer is None:
            raise TongsError("the pushing world was made without its camera, so it has no pictures")
        return self._renderer.render(self._model, data, "top", *self.cameras["top"])
