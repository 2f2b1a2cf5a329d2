"""What the HDF5 files of robomimic and LIBERO have in common: demonstrations recorded in robosuite."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.features import ACTION, STATE
from data.importers.episode import Columns
from robot.errors import TongsError, unknown
from robot.interface import EE_DELTA

Group = Any
"""An h5py.Group; h5py declares what its subscripts return too loosely to be checked."""

RAW_NAMES = ("osc_dx", "osc_dy", "osc_dz", "osc_rx", "osc_ry", "osc_rz", "gripper_close")
"""An action as robosuite's OSC_POSE takes it: shares of the largest step, -1 to 1; fingers -1 open, 1 closed."""

_ENTRIES: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "eef_pos": (("x", "y", "z"), ("m",) * 3),
    "eef_quat": (("qx", "qy", "qz", "qw"), ("1",) * 4),
    "gripper_qpos": (("finger_left", "finger_right"), ("m",) * 2),
    "joint_pos": (tuple(f"joint_{number}" for number in range(1, 8)), ("rad",) * 7),
    "ee_pos": (("x", "y", "z"), ("m",) * 3),
    "ee_ori": (("rx", "ry", "rz"), ("rad",) * 3),
    "ee_states": (("x", "y", "z", "rx", "ry", "rz"), (*("m",) * 3, *("rad",) * 3)),
    "gripper_states": (("finger_left", "finger_right"), ("m",) * 2),
    "joint_states": (tuple(f"joint_{number}" for number in range(1, 8)), ("rad",) * 7),
}
"""Names and units of known observations; robomimic puts the robot before, `robot0_eef_pos`."""

FLIPS = ("none", "vertical", "rotate")
UNITS = ("physical", "raw")


def hdf5_files(paths: Sequence[Path]) -> list[Path]:
    """The files among the paths and in the folders among them, folders in the order of names."""
    found: list[Path] = []
    for path in paths:
        inner = sorted(file for file in path.rglob("*") if file.suffix in (".hdf5", ".h5")) if path.is_dir() else [path]
        if not inner:
            raise TongsError(f"{path} holds no HDF5 file")
        found += inner
    return found


@contextmanager
def opened(path: Path) -> Iterator[Group]:
    """The group `data` of a file. Raises TongsError if the file is damaged, cut short, or no such file."""
    try:
        import h5py
    except ImportError as error:
        raise TongsError("reading HDF5 needs the extra `import`: pip install 'tongs[import]'") from error
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise TongsError(f"{path} is no HDF5 file, or is damaged or cut short ({error})") from error
    with file:
        if "data" not in file:
            raise TongsError(f"{path} has no group `data`, which robomimic's and LIBERO's files have")
        yield file["data"]


def is_libero(path: Path) -> bool:
    """Whether a file says what LIBERO's say; otherwise it is taken for robomimic's."""
    with opened(path) as data:
        return "problem_info" in data.attrs or "bddl_file_name" in data.attrs


def demonstrations(data: Group) -> list[str]:
    """demo_0, demo_1, ... in the order of their numbers."""
    numbered = {int(match[1]): name for name in data if (match := re.fullmatch(r"demo_(\d+)", name))}
    return [numbered[number] for number in sorted(numbered)]


def attribute(group: Group, name: str) -> Any:
    """What an attribute with JSON says; None if it is not there or no JSON."""
    value = group.attrs.get(name)
    try:
        return None if value is None else json.loads(value)
    except (TypeError, ValueError):
        return None


def text(value: Any) -> str:
    """A string of HDF5, which gives some as bytes."""
    return value.decode() if isinstance(value, bytes) else str(value)


def array(group: Group, key: str) -> NDArray[Any]:
    """A whole data set. Raises TongsError that names it and what there is instead."""
    if key not in group or not hasattr(group[key], "shape"):
        known = [name for name in group if hasattr(group[name], "shape")]
        raise TongsError(f"there is no {key!r}; there are: {', '.join(known) or 'no arrays'}")
    try:
        return group[key][()]
    except (OSError, RuntimeError, KeyError) as error:
        raise TongsError(f"{key} cannot be read ({error}); the file is damaged") from error


def upright(images: NDArray[np.uint8], flip: str) -> NDArray[np.uint8]:
    """Images (N, H, W, 3) turned upright; `vertical` swaps top and bottom, `rotate` also left and right."""
    turned = {"none": images, "vertical": images[:, ::-1], "rotate": images[:, ::-1, ::-1]}
    return np.ascontiguousarray(turned[flip])


def require_choices(flip: str | None, units: str | None) -> None:
    """Raise unless the settings of that name have a known value, or none."""
    if flip not in (None, *FLIPS):
        raise unknown("flip", flip, FLIPS)
    if units not in (None, *UNITS):
        raise unknown("units", units, UNITS)


def camera_keys(observations: Group) -> list[str]:
    """The observations that are colour images."""
    return [
        key
        for key, value in observations.items()
        if getattr(value, "dtype", None) == np.uint8 and len(value.shape) == 4 and value.shape[3] == 3
    ]


def images_of(observations: Group, cameras: Mapping[str, str], flip: str, length: int) -> dict[str, NDArray[np.uint8]]:
    """{camera: uint8 (N, H, W, 3)}, upright, for each of the N actions."""
    images = {}
    for name, key in cameras.items():
        frames = array(observations, key)
        if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[3] != 3:
            raise TongsError(f"{key} is no colour images uint8 (N, H, W, 3), but {frames.dtype} {frames.shape}")
        _require_length(key, frames, length)
        images[name] = upright(frames, flip)
    return images


def state_of(observations: Group, keys: Sequence[str], length: int) -> NDArray[np.float32]:
    """The observations joined, (N, D), for each of the N actions."""
    parts = []
    for key in keys:
        part = array(observations, key)
        if part.dtype.kind not in "biuf" or part.ndim < 1:
            raise TongsError(f"{key} is no numbers, but {part.dtype} {part.shape}")
        _require_length(key, part, length)
        parts.append(part.reshape(length, -1))
    return np.concatenate(parts, axis=1).astype(np.float32)


def actions_of(demonstration: Group, width: int | None = None) -> NDArray[np.float64]:
    """The actions (N, A), N >= 1, with as many entries as wanted."""
    actions = array(demonstration, "actions")
    if actions.dtype.kind != "f" or actions.ndim != 2 or len(actions) == 0:
        raise TongsError(f"actions are no numbers (N, A), but {actions.dtype} {actions.shape}")
    if width is not None and actions.shape[1] != width:
        raise TongsError(f"actions have {actions.shape[1]} entries, expected {width}")
    return actions.astype(np.float64)


def _require_length(key: str, values: NDArray[Any], length: int) -> None:
    if len(values) != length:
        raise TongsError(f"there are {length} actions, but {len(values)} frames of {key}")


def state_entries(key: str, width: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names and units of an observation's entries."""
    short = re.sub(r"^robot\d+_", "", key)
    names, units = _ENTRIES.get(short, ((), ()))
    if len(names) != width:
        return tuple(f"{key}_{number}" for number in range(width)), ("unknown",) * width
    return names, units


def columns(
    observations: Group, keys: Sequence[str], action_names: Sequence[str], action_units: Sequence[str]
) -> Columns:
    """Names and units of state and action, from the observations of one demonstration."""
    entries = []
    for key in keys:
        values = array(observations, key)
        entries.append(state_entries(key, int(np.prod(values.shape[1:]))))
    names = [name for part, _ in entries for name in part]
    if len(set(names)) != len(names):  # two arms
        names = [f"{key}_{name}" for key, (part, _) in zip(keys, entries, strict=True) for name in part]
    units = tuple(unit for _, part in entries for unit in part)
    return Columns({STATE: tuple(names), ACTION: tuple(action_names)}, {STATE: units, ACTION: tuple(action_units)})


@dataclass(frozen=True)
class ActionScale:
    """What an OSC_POSE controller makes of its input (6,): limited to low..high, then to m and rad."""

    low: NDArray[np.float64]
    high: NDArray[np.float64]
    output_low: NDArray[np.float64]
    output_high: NDArray[np.float64]

    def physical(self, actions: NDArray[np.float64]) -> NDArray[np.float64]:
        """Actions (N, 7) in m, rad and opening of the fingers (1 open, 0 closed)."""
        shares = (np.clip(actions[:, :6], self.low, self.high) - self.low) / (self.high - self.low)
        moves = self.output_low + shares * (self.output_high - self.output_low)
        return np.concatenate([moves, (1.0 - actions[:, 6:]) / 2.0], axis=1)


def action_scale(environment: Any) -> ActionScale | None:
    """The scale in a file's `env_args`; None if they describe no OSC_POSE controller of steps.

    robosuite until 1.4 keeps one controller, from 1.5 on one per part of the body.
    """
    try:
        controller = environment["env_kwargs"]["controller_configs"]
        controller = controller.get("body_parts", {}).get("right", controller)
        steps = controller.get("control_delta", controller.get("input_type", "delta") == "delta")
        if controller["type"] != "OSC_POSE" or not steps:
            return None
        limits = [controller[key] for key in ("input_min", "input_max", "output_min", "output_max")]
        return ActionScale(*(np.broadcast_to(np.asarray(limit, np.float64), (6,)) for limit in limits))
    except (KeyError, TypeError, AttributeError, ValueError):
        return None


def control_rate(environment: Any, asked: int | None, default: int | None = None) -> int:
    """Control steps per second in a file's `env_args`."""
    try:
        rate = environment["env_kwargs"]["control_freq"]
    except (KeyError, TypeError):
        rate = default
    if asked is not None:
        rate = asked
    if rate is None:
        raise TongsError("env_args tells no control_freq")
    if int(rate) != rate:
        raise TongsError(f"the control rate must be a whole number of Hz, got {rate}")
    return int(rate)


def action_names(width: int, physical: bool) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names and units of an action's entries."""
    if physical:
        return EE_DELTA.names, EE_DELTA.units
    if width == len(RAW_NAMES):
        return RAW_NAMES, ("1",) * width
    return tuple(f"action_{number}" for number in range(width)), ("unknown",) * width


def described(physical: bool, rate: int) -> dict[str, Any]:
    """What such actions mean."""
    meaning = "change of the measured (not the commanded) end-effector pose, base frame"
    space = {"kind": EE_DELTA.kind if physical else "osc_pose", "meaning": meaning, "rate": rate}
    if physical:
        return space | {"gripper_open": 1.0}
    return space | {"range": [-1.0, 1.0], "gripper_open": -1.0}
