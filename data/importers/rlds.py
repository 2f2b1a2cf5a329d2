"""RLDS episodes, as in Open X-Embodiment: TFRecord files with TensorFlow Datasets' description, without TensorFlow."""

from __future__ import annotations

import logging
import struct
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from data.features import ACTION, STATE
from data.importers.episode import Columns, Episode, Recorded
from robot.errors import TongsError, unknown

if TYPE_CHECKING:
    from data.importers.run import ImportConfig

Features = Any
"""A connector of tensorflow_datasets.features."""

_STATE = ("state", "proprio", "robot_state")
_LANGUAGE = ("language_instruction", "observation/natural_language_instruction", "observation/language_instruction")
_MASK = 0xA282EAD8
"""What TFRecord adds to a rotated checksum."""


class RldsImporter:
    """One version folder of a dataset (`features.json`, `dataset_info.json`, `*.tfrecord-*`), or several alike.

    Keys are paths within a step, such as `observation/image`; a key without a slash may leave `observation/` out.
    Neither the rate nor the meaning of the numbers is in the files; the settings `fps`, `action_names` and
    `action_units` tell them.
    """

    def __init__(self, paths: Sequence[Path], config: ImportConfig) -> None:
        self._config = config
        if config.fps is None:
            raise TongsError("RLDS files do not say how fast they were recorded; give fps=...")
        self._builders = {folder: _builder(folder) for path in paths for folder in _version_folders(path)}
        first = next(iter(self._builders.values()))
        self._leaves = dict(sorted(_leaves(_step_features(first))))  # read from protobuf maps, which have no order
        self._cameras = self._find_cameras()
        self._state = [self._key(key) for key in config.state or self._default_state()]
        self._action = [self._key(key) for key in config.action or self._default_action()]
        self._language = self._find_language()
        self.fps = config.fps
        self.robot_type = config.robot_type or str(first.name)
        unknown_units = config.action_units is None
        names = self._names(self._action, config.action_names, "action_names")
        units = ("unknown",) * len(names) if unknown_units else tuple(config.action_units or ())
        if len(units) != len(names):
            raise TongsError(f"action_units must be {len(names)} units, one per entry, got {len(units)}")
        state_names = self._names(self._state, config.state_names, "state_names")
        self.columns = Columns(
            {STATE: state_names, ACTION: names}, {STATE: ("unknown",) * len(state_names), ACTION: units}
        )
        self.description: Mapping[str, Any] = {
            "action_space": {"kind": "unknown", "keys": self._action, "rate": self.fps},
            "state_keys": self._state,
        }
        self._split = config.split or "train"
        for folder, builder in self._builders.items():
            if self._split not in builder.info.splits:
                raise TongsError(f"{folder}: {unknown('split', self._split, list(builder.info.splits))}")
        self.total: int | None = sum(
            int(builder.info.splits[self._split].num_examples) for builder in self._builders.values()
        )

    def episodes(self) -> Iterator[Recorded]:
        for builder in self._builders.values():
            features = builder.info.features
            for place in builder.info.splits[self._split].filepaths:
                file = Path(place)
                number = 0
                try:
                    for record in records(file):
                        yield Recorded(f"{file.resolve()}: episode {number}", partial(self._load, features, record))
                        number += 1
                except TongsError as error:  # nothing after the damage can be found
                    yield Recorded(f"{file.resolve()}: episode {number}", partial(_fail, error))

    def _load(self, features: Features, record: bytes) -> Episode:
        example = _decoding(partial(features.deserialize_example_np, record))
        images: dict[str, list[NDArray[np.uint8]]] = {name: [] for name in self._cameras}
        state, action, tasks = [], [], []
        for step in _decoding(partial(list, example["steps"])):
            for name, key in self._cameras.items():
                images[name].append(_at(step, key))
            state.append(np.concatenate([np.ravel(_at(step, key)) for key in self._state]))
            action.append(np.concatenate([np.ravel(_at(step, key)) for key in self._action]))
            tasks.append(self._config.instruction or (_text(_at(step, self._language)) if self._language else ""))
        if not action:
            raise TongsError("the episode has no steps")
        return Episode(
            {STATE: np.stack(state).astype(np.float32), ACTION: np.stack(action).astype(np.float32)},
            {name: _stack(name, frames) for name, frames in images.items()},
            tasks,
            notes=_metadata(example),
        )

    def _key(self, key: str) -> str:
        """The full path of a key that may leave `observation/` out."""
        for candidate in (key, f"observation/{key}"):
            if candidate in self._leaves:
                return candidate
        inner = [leaf for leaf in self._leaves if leaf.startswith(f"{key}/")]
        if inner:
            raise TongsError(f"{key} is no single array; join those of its parts that you want: {', '.join(inner)}")
        raise unknown("key", key, list(self._leaves))

    def _find_cameras(self) -> dict[str, str]:
        pictures = [key for key, leaf in self._leaves.items() if _is_picture(leaf)]
        if not self._config.cameras:
            return {key.removeprefix("observation/").replace("/", "_"): key for key in pictures}
        cameras = {name: self._key(key) for name, key in self._config.cameras.items()}
        for key in cameras.values():
            if key not in pictures:
                raise TongsError(f"{key} is no colour picture; those are: {', '.join(pictures) or 'none'}")
        return cameras

    def _default_state(self) -> Sequence[str]:
        found = [key for key in _STATE if f"observation/{key}" in self._leaves]
        if not found:
            vectors = [key for key, leaf in self._leaves.items() if _is_vector(leaf) and key.startswith("observation/")]
            raise TongsError(f"which observations are the state? give state=... of: {', '.join(vectors) or 'none'}")
        return found[:1]

    def _default_action(self) -> Sequence[str]:
        if "action" not in self._leaves:
            parts = [key for key, leaf in self._leaves.items() if key.startswith("action") and _is_vector(leaf)]
            raise TongsError(f"which parts are the action? give action=... of: {', '.join(parts) or 'none'}")
        return ["action"]

    def _find_language(self) -> str | None:
        if self._config.language is not None:
            return self._key(self._config.language)
        return next((key for key in _LANGUAGE if key in self._leaves), None)

    def _names(self, keys: Sequence[str], given: Sequence[str] | None, setting: str) -> tuple[str, ...]:
        """A name for each number of some vectors."""
        names: list[str] = []
        for key in keys:
            leaf = self._leaves[key]
            if not _is_vector(leaf):
                raise TongsError(f"{key} is no vector of numbers of a fixed length, but {leaf}")
            base, width = key.removeprefix("observation/").replace("/", "_"), int(np.prod(leaf.shape))
            names += [f"{base}_{number}" for number in range(width)] if width > 1 else [base]
        if given is None:
            return tuple(names)
        if len(given) != len(names) or len(set(given)) != len(given):
            raise TongsError(f"{setting} must be {len(names)} different names, got {', '.join(given)}")
        return tuple(given)


def _fail(error: TongsError) -> Episode:
    raise error


def records(path: Path) -> Iterator[bytes]:
    """The records of a TFRecord file: length, checksum of the length, data, checksum of the data (CRC-32C, masked).

    Raises TongsError if the file is cut short or a checksum does not fit.
    """
    from crc32c import crc32c

    def checked(file: Any, count: int, number: int) -> bytes:
        data, checksum = file.read(count), file.read(4)
        if len(data) < count or len(checksum) < 4:
            raise TongsError(f"the file is cut short in episode {number}")
        code = crc32c(data)
        if struct.unpack("<I", checksum)[0] != ((code >> 15 | code << 17) + _MASK) & 0xFFFFFFFF:
            raise TongsError(f"the file is damaged in episode {number}: the checksum does not fit")
        return data

    try:
        with path.open("rb") as file:
            number = 0
            while file.peek(1):
                (length,) = struct.unpack("<Q", checked(file, 8, number))
                yield checked(file, length, number)
                number += 1
    except OSError as error:
        raise TongsError(f"the file cannot be read ({error})") from error


def _version_folders(path: Path) -> list[Path]:
    found = (
        [path] if (path / "features.json").is_file() else sorted(file.parent for file in path.rglob("features.json"))
    )
    if not found:
        raise TongsError(f"{path} holds no RLDS dataset, which has a features.json; give the folder of a version")
    return found


def _builder(folder: Path) -> Any:
    try:
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise TongsError(
            "reading RLDS needs TensorFlow Datasets (not TensorFlow): pip install 'tongs[import]', Python 3.11 or newer"
        ) from error
    logging.getLogger("absl").setLevel(logging.ERROR)  # it advises to install OpenCV
    try:
        builder: Any = tfds.builder_from_directory(folder)
        kind = builder.info.file_format.value
    except Exception as error:  # whatever TensorFlow Datasets finds wrong
        raise TongsError(f"{folder} is no readable RLDS dataset: {_first_line(error)}") from error
    if kind != "tfrecord":
        raise TongsError(f"{folder} keeps its episodes as {kind}; only tfrecord can be read")
    return builder


def _step_features(builder: Any) -> Features:
    features = builder.info.features
    if "steps" not in features or not hasattr(features["steps"], "feature"):
        raise TongsError(f"{builder.name} has no `steps`: it holds no episodes, so it is no RLDS dataset")
    return features["steps"].feature


def _leaves(features: Features, place: str = "") -> Iterator[tuple[str, Features]]:
    for key, inner in features.items():
        if hasattr(inner, "items"):
            yield from _leaves(inner, f"{place}{key}/")
        else:
            yield place + key, inner


def _is_picture(leaf: Features) -> bool:
    return len(leaf.shape or ()) == 3 and leaf.shape[2] == 3 and leaf.np_dtype == np.uint8


def _is_vector(leaf: Features) -> bool:
    shape = leaf.shape
    if shape is None or len(shape) > 1 or None in shape:
        return False
    return np.issubdtype(leaf.np_dtype, np.number) or leaf.np_dtype == np.bool_


def _decoding(decode: Any) -> Any:
    """What `decode` gives; whatever it stumbles over becomes one sentence."""
    try:
        return decode()
    except Exception as error:  # protobuf, Pillow, OpenCV and TensorFlow Datasets each have their own
        raise TongsError(f"the episode cannot be decoded: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _at(step: Mapping[str, Any], key: str) -> Any:
    value: Any = step
    for part in key.split("/"):
        if not isinstance(value, Mapping) or part not in value:
            raise TongsError(f"its steps have no {key}")
        value = value[part]
    return value


def _stack(name: str, frames: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    if sizes := {frame.shape for frame in frames} - {frames[0].shape}:
        raise TongsError(f"camera {name} changes its size from {frames[0].shape} to {sizes.pop()}")
    return np.stack(frames)


def _text(value: Any) -> str:
    value = value.item() if isinstance(value, np.ndarray) else value
    return (value.decode() if isinstance(value, bytes) else str(value)).strip()


def _metadata(example: Mapping[str, Any]) -> dict[str, Any]:
    """The short texts and numbers of `episode_metadata`."""
    notes = {}
    for key, value in (example.get("episode_metadata") or {}).items():
        if isinstance(value, (bytes, str)):
            notes[key] = _text(value)
        elif np.ndim(value) == 0 and np.asarray(value).dtype.kind in "biuf":
            notes[key] = np.asarray(value).item()
    return {"metadata": notes} if notes else {}
