"""A simulated table that stays up: one robot for a control loop, whose scene is changed while nothing is sent to it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import cast

import numpy as np
from numpy.typing import NDArray

from robot.errors import TongsError, unknown
from robot.interface import Images, Observation, RobotSpec
from sim.engines import DEFAULT
from sim.world import World
from sim.worlds import SimulatedWorld, make_world, require_scenes, require_simulator, splits_of, tasks_of

_OTHERS = ("original", "other_target", "other_goal")


class LiveWorld:
    """A `Robot`, and the `robot.session.stage.Stage` of a session with it.

    The clock goes on from scene to scene, as that of a real arm does. Drawing belongs to one thread, so this has one,
    and whatever touches the world is done there, one thing after another.

    Args:
        task, split, index: the first scene.
        image_size: side in pixels of what the policy sees.
        view_size: side in pixels of what a person sees, twice as often as a policy; 0 draws nothing for them.
        engine: see `sim.worlds`.
        quality: `fast` or `presentation` pictures.
    """

    def __init__(
        self,
        task: str,
        split: str = "test",
        index: int = 0,
        image_size: int = 128,
        view_size: int = 320,
        engine: str = DEFAULT,
        quality: str = "fast",
    ) -> None:
        require_simulator(engine)
        self._engine, self._quality, self._image_size, self._view_size = engine, quality, image_size, view_size
        self._thread = ThreadPoolExecutor(1, "simulation")
        self._began = self._time = 0.0
        self._pictures: Images = {}
        self._halfway: tuple[float, Images] | None = None
        self._executed = 0.0
        self._suggestions: tuple[str, ...] = ()
        self._check(task, split, index)
        self._world = self._thread.submit(self._make, task).result()
        self._scene: Mapping[str, str | int] = {}
        self._thread.submit(self._put_up, task, split, index).result()
        self._spec = self._world.spec

    def _make(self, task: str) -> SimulatedWorld:
        sizes: dict[str, tuple[int, int]] = dict.fromkeys(("front", "wrist"), (self._image_size, self._image_size))
        world = make_world(task, sizes, self._quality, self._engine)
        if isinstance(world, World) and self._view_size and self._engine == DEFAULT:  # the others draw too slowly
            world.halfway = self._draw_halfway
        return world

    def _check(self, task: str, split: str, index: int) -> None:
        if task not in tasks_of(self._engine):
            raise unknown("task", task, tuple(tasks_of(self._engine)))
        require_scenes(self._engine, split, "original")
        if isinstance(index, bool) or not isinstance(index, int) or index < 0:
            raise TongsError(f"a scene's number is a whole number from 0 on, got {index!r}")

    # --- the robot

    @property
    def spec(self) -> RobotSpec:
        return self._spec

    def observe(self) -> Observation:
        return self._thread.submit(self._observe).result()

    def execute(self, action: NDArray[np.float32]) -> None:
        self._thread.submit(self._execute, action).result()

    def stop(self) -> None:
        """At once, or when what is being computed is done; nobody waits for that."""
        self._thread.submit(self._world.stop)

    def close(self) -> None:
        """To be called when no control loop looks any more."""
        self._thread.submit(self._world.close).result()
        self._thread.shutdown()

    # --- in its thread

    def _observe(self) -> Observation:
        seen = self._world.observe()
        self._time = self._began + seen.time
        self._pictures, self._halfway = self._draw(), None
        return replace(seen, time=self._time)

    def _execute(self, action: NDArray[np.float32]) -> None:
        self._executed = time.monotonic()
        self._world.execute(action)

    def _draw(self) -> Images:
        size = self._view_size
        return cast(Images, {name: self._world.render(name, size, size) for name in self._spec.cameras} if size else {})

    def _draw_halfway(self) -> None:
        """A period is computed at its beginning; what is so in the middle of it is drawn then, and shown later."""
        self._halfway = self._executed + 0.5 / self._spec.action_space.rate, self._draw()

    # --- the stage

    @property
    def tasks(self) -> Sequence[str]:
        return tuple(tasks_of(self._engine))

    @property
    def scene(self) -> Mapping[str, str | int]:
        return self._scene

    def put(self, task: str, split: str, index: int) -> None:
        self._check(task, split, index)
        self._thread.submit(self._put_up, task, split, index).result()

    def _put_up(self, task: str, split: str, index: int) -> None:
        self._began = self._time + 1.0 / self._spec.action_space.rate if self._time else 0.0
        if task != self._world.task.name:
            other = self._make(task)
            self._world.close()
            self._world = other
        self._suggestions = self._told(split, index)
        self._world.reset(split, index)
        self._scene = {"task": task, "split": split, "index": index}

    def _told(self, split: str, index: int) -> tuple[str, ...]:
        """What is said in this scene's variants."""
        told: dict[str, None] = {}
        for variant in _OTHERS:
            try:
                require_scenes(self._engine, split, variant)
                self._world.reset(split, index, variant)
            except TongsError:
                continue  # robosuite's tasks ask for one thing
            told[self._world.instruction] = None
        return tuple(told)

    @property
    def splits(self) -> Sequence[str]:
        return splits_of(self._engine)

    def suggestions(self) -> Sequence[str]:
        return self._suggestions

    def success(self) -> bool | None:
        return self._world.success

    def pictures(self) -> Images:
        halfway = self._halfway
        return halfway[1] if halfway is not None and time.monotonic() >= halfway[0] else self._pictures
