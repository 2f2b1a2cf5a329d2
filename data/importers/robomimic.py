"""robomimic's HDF5 files: `data/demo_N` with `obs` and `actions`, the environment in the attribute `env_args`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data.features import ACTION, STATE
from data.importers import hdf5
from data.importers.episode import Episode, Recorded
from robot.errors import TongsError, unknown

if TYPE_CHECKING:
    from data.importers.run import ImportConfig

_STATE = ("robot0_eef_pos", "robot0_eef_quat", "robot0_gripper_qpos")
"""What robomimic's own policies read."""


class RobomimicImporter:
    """Demonstrations of one or more files, which must be alike.

    robomimic stores images upright: nothing is flipped unless asked for. Actions are converted to m, rad and opening
    where `env_args` has the controller's scale, unless `units=raw` is asked for.
    """

    def __init__(self, paths: Sequence[Path], config: ImportConfig) -> None:
        self._files = hdf5.hdf5_files(paths)
        self._config = config
        hdf5.require_choices(config.flip, config.units)
        self._flip = config.flip or "none"
        with hdf5.opened(self._files[0]) as data:
            environment = hdf5.attribute(data, "env_args") or {}
            self._scale = None if config.units == "raw" else hdf5.action_scale(environment)
            names = hdf5.demonstrations(data)
            if not names:
                raise TongsError(f"{self._files[0]} holds no demonstration demo_0, demo_1, ...")
            first = data[names[0]]
            try:
                self.fps = hdf5.control_rate(environment, None)
                width = hdf5.actions_of(first).shape[1]
                observations = _observations(first)
                self._cameras = dict(config.cameras) or {
                    key.removesuffix("_image"): key for key in hdf5.camera_keys(observations)
                }
                self._state = tuple(config.state or (key for key in _STATE if key in observations))
                physical = self._scale is not None and width == len(hdf5.RAW_NAMES)
                if config.units == "physical" and not physical:
                    raise TongsError("env_args has no OSC_POSE controller that tells the scale of the actions")
                self.columns = hdf5.columns(observations, self._state, *hdf5.action_names(width, physical))
            except TongsError as error:
                raise TongsError(f"{self._files[0]}: {error}") from error
        self._physical, self._width = physical, width
        robots = environment.get("env_kwargs", {}).get("robots", "unknown robot")
        robot = "_".join(robots) if isinstance(robots, list) else str(robots)
        self.robot_type = config.robot_type or f"{robot.lower()}_robosuite"
        self.description: Mapping[str, Any] = {
            "environment": environment.get("env_name"),
            "action_space": hdf5.described(physical, self.fps),
        }
        self._demonstrations = [(path, name) for path in self._files for name in self._chosen(path)]
        self.total: int | None = len(self._demonstrations)

    def episodes(self) -> Iterator[Recorded]:
        for path, name in self._demonstrations:
            yield Recorded(f"{path.resolve()}: {name}", partial(self._load, path, name))

    def _chosen(self, path: Path) -> list[str]:
        """The demonstrations of a file, or those of one of its filter keys."""
        with hdf5.opened(path) as data:
            names = hdf5.demonstrations(data)
            if self._config.split is None:
                return names
            masks = data.parent.get("mask", {})
            if self._config.split not in masks:
                raise TongsError(f"{path}: {unknown('filter key', self._config.split, list(masks) or ['none'])}")
            chosen = {hdf5.text(value) for value in masks[self._config.split][()]}
            return [name for name in names if name in chosen]

    def _load(self, path: Path, name: str) -> Episode:
        with hdf5.opened(path) as data:
            demonstration = data[name]
            observations = _observations(demonstration)
            actions = hdf5.actions_of(demonstration, self._width)
            state = hdf5.state_of(observations, self._state, len(actions))
            images = hdf5.images_of(observations, self._cameras, self._flip, len(actions))
            told = hdf5.attribute(demonstration, "ep_meta") or {}  # RoboCasa
            masks = data.parent.get("mask", {})
            keys = [key for key in masks if name in {hdf5.text(value) for value in masks[key][()]}]
        instruction = self._config.instruction or str(told.get("lang") or "")
        if not instruction:
            raise TongsError("robomimic's files hold no instruction; give one with instruction=...")
        if self._physical:
            assert self._scale is not None
            actions = self._scale.physical(actions)
        return Episode(
            {STATE: state, ACTION: actions}, images, [instruction] * len(actions), notes={"filter_keys": keys}
        )


def _observations(demonstration: hdf5.Group) -> hdf5.Group:
    if "obs" not in demonstration:
        raise TongsError("there are only states and no `obs`; robomimic's dataset_states_to_obs makes them")
    return demonstration["obs"]
