"""The pictures by which a policy is told its goal in an evaluation: `goal=image:...`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from robot.errors import TongsError

if TYPE_CHECKING:
    from eval.protocol import EvaluationConfig
    from robot.interface import PolicySpec
    from sim.worlds import SimulatedWorld

LANGUAGE, IMAGE, EXPERT = "language", "image:", "expert"


def require_goal(goal: str) -> None:
    """Raise a TongsError unless `goal` is one that an evaluation knows."""
    if goal == LANGUAGE:
        return
    what = goal.removeprefix(IMAGE)
    if not goal.startswith(IMAGE) or not what:
        raise TongsError(
            f"goal must be {LANGUAGE}, {IMAGE}{EXPERT}, {IMAGE}<scene number> or {IMAGE}<picture file>, got {goal!r}"
        )
    if (file := goal_file(goal)) is not None and not file.is_file():
        raise TongsError(f"there is no goal picture {what}; or give {IMAGE}{EXPERT} or {IMAGE}<scene number>")


def goal_file(goal: str) -> Path | None:
    """The picture file that a goal names, if it names one."""
    what = goal.removeprefix(IMAGE)
    return None if goal == LANGUAGE or what == EXPERT or what.isdecimal() else Path(what).expanduser()


def require_goal_fits(goal: str, spec: PolicySpec, name: str) -> None:
    """Raise a TongsError if a policy cannot be told a goal of this kind."""
    if goal != LANGUAGE and "image" not in spec.goals:
        raise TongsError(f"{name} cannot be told its goal by a picture (it takes {', '.join(spec.goals) or 'none'})")
    if goal == LANGUAGE and "image" in spec.goals and LANGUAGE not in spec.goals:
        raise TongsError(f"{name} is told its goal by a picture; give goal={IMAGE}{EXPERT}")


class GoalPictures:
    """Makes or reads the goal picture of each episode.

    Args:
        config: the protocol.
        spec: of the policy; its first camera is the one that goal pictures are of.
        content: of the picture file, for a machine that does not have it.
    """

    def __init__(self, config: EvaluationConfig, spec: PolicySpec, content: bytes | None = None) -> None:
        self._config = config
        self._camera = next(iter(spec.cameras), "")
        self._what = config.goal.removeprefix(IMAGE)
        self._file = None if (file := goal_file(config.goal)) is None else _read(file, content)
        self._made: dict[str, NDArray[np.uint8]] = {}

    def picture(self, world: SimulatedWorld, scene: int) -> NDArray[np.uint8] | None:
        """Of the episode in a scene, uint8 (H, W, 3); None where the policy is told in words. The world is reset."""
        from sim.goal_pictures import expert_picture

        config, task = self._config, world.task.name
        if config.goal == LANGUAGE or self._file is not None:
            return self._file
        size = (config.image_size, config.image_size)
        if self._what == EXPERT:
            return expert_picture(world, config.split, scene, self._camera, size, config.variant, config.wording)
        if task not in self._made:
            self._made[task] = expert_picture(world, config.split, int(self._what), self._camera, size)
        return self._made[task]


def _read(file: Path, content: bytes | None) -> NDArray[np.uint8]:
    import io

    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(file.read_bytes() if content is None else content)) as picture:
            return np.asarray(picture.convert("RGB"))
    except (OSError, UnidentifiedImageError) as error:
        raise TongsError(f"the goal picture {file} cannot be read: {error}") from error
