"""LIBERO's HDF5 files: one per task, with the instruction in the attribute `problem_info`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from data.features import ACTION, STATE
from data.importers import hdf5
from data.importers.episode import Episode, Recorded
from robot.errors import TongsError

if TYPE_CHECKING:
    from data.importers.run import ImportConfig

_CAMERAS = {"image": "agentview_rgb", "image2": "eye_in_hand_rgb"}
"""LeRobot's names of the cameras of its LIBERO environment."""
_STATE = ("ee_states", "gripper_states")
_RATE = 20
STILL = 1e-4
"""Length of the first six entries of an action below which OpenVLA takes it for no motion."""


class LiberoImporter:
    """The demonstrations of one or more tasks.

    LIBERO took the pictures and states of a row after it had carried out the row's action. So each observation is
    paired with the action of the next row, the one that was chosen when the observation was made, and the last
    observation is left out; `shift=false` keeps the rows as they are.

    Images are rotated by 180 degrees unless told otherwise, as OpenVLA, openpi and LeRobot have them. Actions stay as
    the simulator takes them, -1 to 1, unless `units=physical` is asked for.
    """

    def __init__(self, paths: Sequence[Path], config: ImportConfig) -> None:
        self._files = hdf5.hdf5_files(paths)
        self._config = config
        hdf5.require_choices(config.flip, config.units)
        self._flip = config.flip or "rotate"
        self._shift = config.shift is not False
        self._cameras = dict(config.cameras) or _CAMERAS
        self._state = tuple(config.state or _STATE)
        physical = config.units == "physical"
        self._demonstrations: list[tuple[Path, str]] = []
        for path in self._files:
            with hdf5.opened(path) as data:
                self._demonstrations += [(path, name) for name in hdf5.demonstrations(data)]
        if not self._demonstrations:
            raise TongsError(f"{self._files[0]} holds no demonstration demo_0, demo_1, ...")
        path, name = self._demonstrations[0]
        with hdf5.opened(path) as data:
            if config.flip is None and hdf5.text(data.attrs.get("macros_image_convention", "opengl")) != "opengl":
                raise TongsError(f"{path} was recorded with robosuite's images the right way up; give flip=none")
            environment = hdf5.attribute(data, "env_args") or {}
            self._scale = hdf5.action_scale(environment) if physical else None
            if physical and self._scale is None:
                raise TongsError(f"{path}: env_args has no OSC_POSE controller that tells the scale of the actions")
            try:
                self.fps = hdf5.control_rate(environment, None, _RATE)
                names, units = hdf5.action_names(len(hdf5.RAW_NAMES), physical)
                self.columns = hdf5.columns(_part(data[name], "obs"), self._state, names, units)
            except TongsError as error:
                raise TongsError(f"{path}: {name}: {error}") from error
        self.robot_type = config.robot_type or "panda_libero"
        self.description: Mapping[str, Any] = {"action_space": hdf5.described(physical, self.fps), "shift": self._shift}
        self.total: int | None = len(self._demonstrations)

    def episodes(self) -> Iterator[Recorded]:
        for path, name in self._demonstrations:
            yield Recorded(f"{path.resolve()}: {name}", partial(self._load, path, name))

    def _load(self, path: Path, name: str) -> Episode:
        with hdf5.opened(path) as data:
            instruction = self._config.instruction or _instruction(data)
            observations = _part(data[name], "obs")
            actions = hdf5.actions_of(data[name], len(hdf5.RAW_NAMES))
            state = hdf5.state_of(observations, self._state, len(actions))
            images = hdf5.images_of(observations, self._cameras, self._flip, len(actions))
        if self._shift:
            if len(actions) < 2:
                raise TongsError("there is one row only, and its observation was made after its action")
            actions, state = actions[1:], state[:-1]
            images = {camera: frames[:-1] for camera, frames in images.items()}
        kept = moving(actions) if self._config.drop_no_ops else np.ones(len(actions), bool)
        if not kept.any():
            raise TongsError("every action does nothing")
        if self._scale is not None:
            actions = self._scale.physical(actions)
        return Episode(
            {STATE: state[kept], ACTION: actions[kept]},
            {camera: frames[kept] for camera, frames in images.items()},
            [instruction] * int(kept.sum()),
            notes={"dropped": int((~kept).sum())} if self._config.drop_no_ops else {},
        )


def moving(actions: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Which of the actions (N, 7) do something: OpenVLA's rule, by which nothing moves and the gripper is told what it
    was told by the last action that was kept."""
    kept = np.linalg.norm(actions[:, :-1], axis=1) >= STILL
    gripper = None
    for frame, action in enumerate(actions):
        kept[frame] |= gripper is not None and action[-1] != gripper
        if kept[frame]:
            gripper = action[-1]
    return kept


def _instruction(data: hdf5.Group) -> str:
    told = (hdf5.attribute(data, "problem_info") or {}).get("language_instruction", "")
    return ("".join(told) if isinstance(told, list) else str(told)).strip().strip('"').strip()


def _part(group: hdf5.Group, key: str) -> hdf5.Group:
    if key not in group:
        raise TongsError(f"there is no group {key!r}; there are: {', '.join(group)}")
    return group[key]
