"""How a LeRobot policy fits a robot: which camera and which state entries it reads, and what its actions mean."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from policies.lerobot.folder import DATASET, dataset_info, entry_names
from robot.errors import TongsError, unknown
from robot.interface import EE_DELTA, ActionSpace
from robot.so_arm import LEROBOT_UNITS, POSITION, so_arm_space

STATE, ENVIRONMENT_STATE, ACTION = "observation.state", "observation.environment_state", "action"
IMAGES = "observation.images."
SO_ARM = "so_arm"
"""The positions of an SO-100 or SO-101 in degrees and percents; its rate is that of the dataset."""
_SO_ARM_RATE = 30.0
"""Hz: of LeRobot's recordings, where the dataset does not say."""
ACTION_SPACES: Mapping[str, ActionSpace] = {EE_DELTA.kind: EE_DELTA, SO_ARM: so_arm_space(_SO_ARM_RATE)}


@dataclass(frozen=True)
class LeRobotSettings:
    """What can be said about a LeRobot checkpoint that it does not say itself.

    Attributes:
        action_space: what its actions mean, one of ACTION_SPACES; by default what the names in its dataset say.
        state, environment_state: names of the entries of these features, in order; by default its dataset's.
        rename: {our camera: the policy's image feature}, such as {"front": "observation.image"}; "camera1" is short
            for "observation.images.camera1".
        device: where it runs, such as "cpu" or "cuda".
    """

    action_space: str | None = None
    state: tuple[str, ...] | str | None = None
    environment_state: tuple[str, ...] | str | None = None
    rename: Mapping[str, str] = field(default_factory=dict)
    device: str = "cpu"

    def names(self, feature: str) -> tuple[str, ...] | None:
        given = self.state if feature == STATE else self.environment_state
        return (given,) if isinstance(given, str) else given


@dataclass(frozen=True)
class Fit:
    """Where each input of the policy comes from.

    Attributes:
        cameras: {input: camera}.
        sizes: {camera: (H, W)} in pixels, as the policy was trained.
        vectors: {input: names of its entries in order}.
        action_space: what the actions mean.
        units: {name: what the policy counts for one of ours}, of the entries for which that is not 1.
    """

    cameras: Mapping[str, str]
    sizes: Mapping[str, tuple[int, int]]
    vectors: Mapping[str, tuple[str, ...]]
    action_space: ActionSpace
    units: Mapping[str, float] = field(default_factory=dict)

    def scale(self, names: tuple[str, ...]) -> NDArray[np.float32]:
        """What the policy counts for one of ours (D,), of entries by name."""
        return np.array([self.units.get(name, 1.0) for name in names], np.float32)

    @property
    def state_names(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(name for names in self.vectors.values() for name in names))


def fit(
    folder: Path,
    inputs: Mapping[str, tuple[int, ...]],
    action_size: int,
    renamed: Mapping[str, str],
    settings: LeRobotSettings,
) -> Fit:
    """Bring a checkpoint, the description of its dataset and the user's settings together.

    Args:
        folder: the checkpoint.
        inputs: {feature: shape} that the policy reads; images (3, H, W), vectors (D,).
        action_size: entries of one action.
        renamed: {key given: feature} of the renaming that the checkpoint's own preprocessor does.
        settings: what the user says.

    Raises:
        TongsError: something is missing, or of another size than it should be.
    """
    info = dataset_info(folder)
    given = {feature: key for key, feature in renamed.items()}
    cameras, sizes, vectors = {}, {}, {}
    wanted = {_full(feature): camera for camera, feature in settings.rename.items()}
    for feature, shape in inputs.items():
        key = given.get(feature, feature)
        if len(shape) == 3:
            camera = wanted.pop(feature, None) or wanted.pop(key, None) or _camera(key)
            if camera is None:
                raise TongsError(
                    f"{folder} reads the image {feature!r}, which names no camera; "
                    f"say which one it is: lerobot.rename.front={feature}"
                )
            if camera in sizes:
                raise TongsError(f"{folder}: two images of the policy would come from camera {camera!r}")
            if shape[0] != 3:
                raise TongsError(f"{folder} reads the image {feature!r} of shape {shape}, and a camera gives (3, H, W)")
            cameras[key], sizes[camera] = camera, (shape[1], shape[2])
        elif feature in (STATE, ENVIRONMENT_STATE):
            vectors[key] = _names(folder, info, feature, shape[0], settings)
        else:
            raise TongsError(f"{folder} reads {feature!r}, which a robot does not give: it gives images and state")
    if wanted:
        raise unknown("image feature in lerobot.rename", next(iter(wanted)), [key for key in inputs if "image" in key])
    space = _action_space(folder, info, action_size, settings)
    if settings.action_space != SO_ARM:
        return Fit(cameras, sizes, vectors, space)
    ours = {key: tuple(name.removesuffix(POSITION) for name in names) for key, names in vectors.items()}
    return Fit(cameras, sizes, ours, space, dict(zip(space.names, LEROBOT_UNITS, strict=True)))


def _full(feature: str) -> str:
    return feature if feature.startswith("observation.") else IMAGES + feature


def _camera(key: str) -> str | None:
    return key.removeprefix(IMAGES) if key.startswith(IMAGES) else None


def _names(
    folder: Path, info: Mapping[str, Any] | None, feature: str, size: int, settings: LeRobotSettings
) -> tuple[str, ...]:
    names = settings.names(feature) or entry_names(info, feature)
    setting = f"lerobot.{feature.removeprefix('observation.')}=<name>,<name>,..."
    if names is None:
        raise TongsError(
            f"{folder} does not say what the {size} entries of its {feature} are, and the dataset that it was trained "
            f"on is not here; put that dataset's meta/info.json beside the weights as {DATASET}, or give {setting}"
        )
    if len(names) != size:
        raise TongsError(f"{folder} reads {size} entries of {feature} and got {len(names)} names: {', '.join(names)}")
    return names


def _action_space(folder: Path, info: Mapping[str, Any] | None, size: int, settings: LeRobotSettings) -> ActionSpace:
    """The action space that the user names, or the one of our own datasets if the policy was trained on such a one."""
    if settings.action_space is not None:
        if settings.action_space not in ACTION_SPACES:
            raise unknown("action space", settings.action_space, list(ACTION_SPACES))
        space = ACTION_SPACES[settings.action_space]
        if settings.action_space == SO_ARM:
            space = _recorded_so_arm(folder, info, space)
    else:
        space = _recorded_action_space(folder, info)
    if size != space.dimension:
        raise TongsError(
            f"{folder} gives actions of {size} entries, and {space.kind} has {space.dimension}: "
            f"{', '.join(space.names)}"
        )
    if info is not None and float(info.get("fps", space.rate)) != space.rate:
        raise TongsError(
            f"{folder} was trained on data at {info['fps']} Hz, and actions of {space.kind} are at {space.rate:g} Hz"
        )
    return space


def _recorded_so_arm(folder: Path, info: Mapping[str, Any] | None, space: ActionSpace) -> ActionSpace:
    """At the rate of the dataset, whose entries have to be those of the arm where it names them."""
    names = entry_names(info, ACTION)
    wanted = tuple(f"{name}{POSITION}" for name in space.names)
    if names is not None and names != wanted:
        raise TongsError(f"{folder} was trained on actions {', '.join(names)}, and {SO_ARM} has {', '.join(wanted)}")
    return replace(space, rate=float((info or {}).get("fps", space.rate)))


def _recorded_action_space(folder: Path, info: Mapping[str, Any] | None) -> ActionSpace:
    known = ", ".join(ACTION_SPACES)
    if info is None:
        raise TongsError(
            f"{folder} does not say what its actions mean, and the dataset that it was trained on is not here; put "
            f"that dataset's meta/info.json beside the weights as {DATASET}, or give lerobot.action_space=({known})"
        )
    names, robot = entry_names(info, ACTION), str(info.get("robot_type"))
    for space in ACTION_SPACES.values():
        if names == space.names and robot.startswith("panda_"):
            return space
    raise TongsError(
        f"{folder} was trained on a robot {robot!r} with actions {', '.join(names or ('without names',))}, whose frame "
        f"and units are not known; if they are those of one of ours, say which: lerobot.action_space=({known})"
    )
