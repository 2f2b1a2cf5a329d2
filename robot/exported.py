"""Runs an exported policy beside the robot: NumPy and ONNX Runtime or OpenVINO, no torch."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot.errors import ContractError, TongsError, unknown
from robot.images import scale_down
from robot.interface import ActionChunk, Observation, PolicySpec, RobotSpec, episode_seed, require_compatible
from robot.torch_noise import TorchNormal
from robot.words import Words

CONFIG, STATISTICS, TOKENIZER = "config.json", "statistics.json", "tokenizer.json"
EXPORT_VERSION = 1
BACKENDS = {"onnx": ("onnxruntime", "onnx"), "openvino": ("openvino", "xml")}
"""What runs graphs: its package, and the ending of its files."""
LANGUAGE, ACTIONS = "language", "actions"
"""The two graphs: token ids (1, L) to what the policy keeps of an instruction; and everything else to actions."""

Arrays = Mapping[str, NDArray]
Graph = Callable[[Arrays], NDArray]


def require_backend(backend: str) -> Any:
    """The package of a backend.

    Raises:
        TongsError: there is no such backend, or it is not installed.
    """
    if backend not in BACKENDS:
        raise unknown("backend", backend, list(BACKENDS))
    package = BACKENDS[backend][0]
    try:
        return import_module(package)
    except ImportError as error:
        raise TongsError(f"backend {backend} needs {package}, which is not installed; pip install {package}") from error


def open_graph(folder: Path, name: str, told: Mapping[str, Any], threads: int = 1) -> Graph:
    """A graph as a function from named arrays to its one result; `told` is what config.json says of the export.

    Raises:
        TongsError: the backend is not installed, or the file is missing or damaged.
    """
    backend = told["backend"]
    package = require_backend(backend)
    file = folder / f"{name}.{BACKENDS[backend][1]}"
    if not file.is_file():
        raise TongsError(f"{folder} is no whole export: it has no {file.name}")
    try:
        return (_onnx if backend == "onnx" else _openvino)(package, file, told, threads)
    except Exception as error:  # each library has errors of its own
        raise TongsError(f"{file} cannot be run by {backend}: {str(error).splitlines()[0]}") from error


def _onnx(onnxruntime: Any, file: Path, told: Mapping[str, Any], threads: int) -> Graph:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    if not told.get("activations"):  # weights alone are in eight bits: make them floats once, not at every call
        options.add_session_config_entry("session.disable_quant_qdq", "1")
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    wanted = {entry.name for entry in session.get_inputs()}

    def run(arrays: Arrays) -> NDArray:
        return session.run(None, {name: value for name, value in arrays.items() if name in wanted})[0]

    return run


def _openvino(openvino: Any, file: Path, told: Mapping[str, Any], threads: int) -> Graph:
    precision = "bf16" if told["precision"] == "bf16" else "f32"
    settings = {
        "INFERENCE_NUM_THREADS": str(threads),
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": precision,
    }
    model = openvino.Core().compile_model(str(file), "CPU", settings)
    wanted = {name for entry in model.inputs for name in entry.get_names()}  # an input may have several
    request = model.create_infer_request()

    def run(arrays: Arrays) -> NDArray:
        request.infer({name: value for name, value in arrays.items() if name in wanted})
        return request.get_output_tensor(0).data.copy()

    return run


def is_export(folder: Path | str) -> bool:
    """Whether a checkpoint folder holds graphs rather than weights of a network of ours."""
    file = Path(folder) / CONFIG
    try:
        content = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None
        return isinstance(content, dict) and "exported" in content
    except (json.JSONDecodeError, UnicodeDecodeError):
        return False


class ExportedPolicy:
    """A policy in an export folder, behind `robot.interface.SharedPolicy`; a seed gives the noise of torch.

    Args:
        folder: what `tongs quantize` wrote.
        threads: of the backend.

    Raises:
        TongsError: the folder is none, is damaged, or its backend is not installed.
    """

    def __init__(self, folder: Path | str, threads: int = 1) -> None:
        folder = Path(folder)
        header, self.statistics = _read(folder, CONFIG), _read(folder, STATISTICS)
        told = header.get("exported")
        if not isinstance(told, dict) or told.get("version") != EXPORT_VERSION:
            raise TongsError(f"{folder} is no export of version {EXPORT_VERSION}")
        self.family, self.backend, self.precision = header["policy"], told["backend"], told["precision"]
        self.trained_on = tuple(header.get("trained_on", ()))
        self._spec = PolicySpec.from_json(header["spec"])
        if not (folder / TOKENIZER).is_file():
            raise TongsError(f"{folder} is no whole export: it has no {TOKENIZER}")
        self._words = Words((folder / TOKENIZER).read_text(encoding="utf-8"), **told["words"])
        self.noisy = bool(told["noise"])
        self._language = open_graph(folder, LANGUAGE, told, threads)
        self._actions = open_graph(folder, ACTIONS, told, threads)
        self._known: dict[str, NDArray] = {}
        self._columns: NDArray[np.intp] | None = None
        self._state_size = 0
        self._seed: int | None = None
        self._episodes: list[TorchNormal] = []

    @property
    def spec(self) -> PolicySpec:
        return self._spec

    def bind(self, robot: RobotSpec) -> None:
        """From now on `Observation.state` is read by this robot's names. Raises ContractError if they do not fit."""
        require_compatible(self.spec, robot, self.family)
        self._columns = np.array([robot.state_names.index(name) for name in self.spec.state_names], dtype=np.intp)
        self._state_size = len(robot.state_names)

    def reset(self, seed: int) -> None:
        self._seed, self._episodes = seed, []

    def begin(self, seed: int) -> TorchNormal:
        """A new episode, as after `reset(seed)`: of it nothing is kept but its noise."""
        return TorchNormal(seed)

    def act(self, observation: Observation) -> ActionChunk:
        return self.act_batch([observation])[0]

    def act_batch(self, observations: Sequence[Observation]) -> list[ActionChunk]:
        """One chunk per observation, of independent episodes that were all reset together.

        Raises:
            ContractError: not bound, not reset, an observation that does not fit, or NaN.
        """
        if self._seed is None:
            raise ContractError(f"{self.family}: call reset(seed) before the first act of an episode")
        for row in range(len(self._episodes), len(observations)):
            self._episodes.append(self.begin(episode_seed(self._seed, row)))
        return self.act_episodes(self._episodes[: len(observations)], observations)

    def act_episodes(self, episodes: Sequence[TorchNormal], observations: Sequence[Observation]) -> list[ActionChunk]:
        """One chunk per episode of `begin`, one after another. If it raises, all episodes are as they were.

        Raises:
            ContractError: as for `act_batch`.
        """
        if not observations:
            raise ContractError(f"{self.family}: act_batch needs at least one observation")
        before = [episode.state for episode in episodes]
        try:
            return [self._chunk(*pair) for pair in zip(episodes, observations, strict=True)]
        except BaseException:
            for episode, state in zip(episodes, before, strict=True):
                episode.state = state
            raise

    def _chunk(self, noise: TorchNormal, observation: Observation) -> ActionChunk:
        space, horizon, arrays = self.spec.action_space, self.spec.horizon, self.inputs(observation)
        if self.noisy:
            arrays["noise"] = noise(1, horizon, space.dimension)
        times = observation.time + np.arange(horizon) / space.rate
        return ActionChunk(space.clip(self._actions(arrays)[0]), times)

    def inputs(self, observation: Observation) -> dict[str, NDArray]:
        """What the graph of the actions takes, without noise."""
        if self._columns is None:
            raise ContractError(f"{self.family}: call bind(robot_spec) once before it acts")
        if len(observation.state) != self._state_size:
            raise ContractError(
                f"{self.family}: the robot declares {self._state_size} state entries "
                f"and the observation has {len(observation.state)}"
            )
        arrays: dict[str, NDArray] = {
            "state": observation.state[None, self._columns],
            "language": self.language(observation.instruction),
        }
        for camera, size in self.spec.cameras.items():
            if camera not in observation.images:
                has = ", ".join(sorted(observation.images)) or "none"
                raise ContractError(f"{self.family} needs camera {camera!r}; the observation has: {has}")
            arrays[f"image_{camera}"] = np.ascontiguousarray(scale_down(observation.images[camera], size)[None])
        return arrays

    def language(self, instruction: str) -> NDArray:
        """What the policy keeps of an instruction; computed once."""
        if instruction not in self._known:
            self._known[instruction] = self._language({"ids": np.array([self._words.ids(instruction)])})
        return self._known[instruction]


def _read(folder: Path, name: str) -> dict[str, Any]:
    try:
        content = json.loads((folder / name).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise TongsError(f"{folder} is no whole export: it has no {name}") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise TongsError(f"{folder / name} is damaged: {error}") from error
    if not isinstance(content, dict):
        raise TongsError(f"{folder / name} is damaged: it holds {type(content).__name__} instead of named fields")
    return content
