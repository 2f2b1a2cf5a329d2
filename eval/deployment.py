"""Policies for the device: made smaller, and let through only if they still are the same policy (`tongs quantize`)."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from data.features import ACTION
from data.reader import Dataset
from eval.check import recorded_observations, recorded_robot
from eval.policies import LEROBOT, choose_policy
from policies.base import PRECISIONS as TORCH_PRECISIONS
from policies.base import PolicyModule
from policies.exporting import graphs
from robot.errors import TongsError, unknown
from robot.exported import BACKENDS, ExportedPolicy
from robot.interface import ActionChunk, Observation, RobotSpec
from robot.torch_noise import TorchNormal

TORCH = "torch"
COSINE = 0.999
"""Between the actions of a valid export and those of the policy, all numbers together."""

OTHER_SEED = 1


@dataclass(frozen=True)
class QuantizeConfig:
    """What to make.

    Attributes:
        policy: name or folder of a checkpoint of ours.
        data: a dataset of the kind that it was trained on, for calibration and parity.
        output: folder of the result.
        precision, backend: see `precisions`.
        activations: with int8 by onnx or openvino, put activations into eight bits too.
        frames: recorded observations that are compared.
        sampling: sampling settings that replace the checkpoint's and are fixed in an export.
        seed: of the noise.
    """

    policy: str
    data: str
    output: str
    precision: str = "int8"
    backend: str = "onnx"
    activations: bool = False
    frames: int = 64
    sampling: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0

    def __post_init__(self) -> None:
        if self.precision not in precisions(self.backend):
            raise unknown(f"precision of backend {self.backend}", self.precision, precisions(self.backend))
        if self.frames < 2:
            raise TongsError(f"frames must be at least 2, got {self.frames}")


@dataclass(frozen=True)
class Parity:
    """How alike two policies are on recorded observations, in actions divided by the spread of each entry in the data.

    Attributes:
        cosine: of all numbers together.
        error: mean absolute difference.
        noise: what the policy itself is uncertain of: the mean absolute difference between two seeds; for one without
            randomness that between its first actions and the recorded ones.
        frames: observations.
    """

    cosine: float
    error: float
    noise: float
    frames: int

    @property
    def valid(self) -> bool:
        return self.cosine >= COSINE and self.error < self.noise

    def __str__(self) -> str:
        return (
            f"cosine {self.cosine:.5f} (at least {COSINE} is wanted), action error {self.error:.4f} of the spread "
            f"(below the noise of {self.noise:.4f}), {self.frames} recorded observations"
        )


@dataclass(frozen=True)
class Made:
    """A policy made for a device: its folder, parity, size on disk in MB, and modules left in full precision."""

    folder: Path
    parity: Parity
    megabytes: float
    kept: tuple[str, ...] = ()


class Acting(Protocol):
    def bind(self, robot: RobotSpec) -> None: ...
    def reset(self, seed: int) -> None: ...
    def act(self, observation: Observation) -> ActionChunk: ...


def precisions(backend: str) -> tuple[str, ...]:
    """What a backend can be asked for. Raises TongsError if there is no such backend."""
    known = {TORCH: TORCH_PRECISIONS, **graphs.PRECISIONS}
    if backend not in known:
        raise unknown("backend", backend, list(known))
    return known[backend]


def quantize(config: QuantizeConfig) -> Made:
    """Make the policy in a lower precision, compare it with itself on recorded observations, and write it if it passes.

    Raises:
        TongsError: it does not pass (with the numbers), or something that it needs is missing.
    """
    if config.backend in BACKENDS:
        graphs.require_precision(config.backend, config.precision)
    policy = _network(config)
    recorded = Recorded(config.data, policy, config.frames, config.seed)
    folder = Path(config.output)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as scratch:
        make = _lowered if config.backend == TORCH else _exported
        return make(config, policy, recorded, Path(scratch), folder)


class Recorded:
    """Recorded observations and what the policy in full precision does at each."""

    def __init__(self, data: str, policy: PolicyModule, frames: int, seed: int) -> None:
        dataset = Dataset(data)
        self.robot = recorded_robot(dataset, policy.spec)
        self.seed = seed
        self.observations, wanted = _spread(dataset, policy, frames)
        spread = np.asarray(policy.statistics[ACTION]["std"], dtype=np.float64)
        self._spread = np.where(spread > 1e-6, spread, 1.0)
        policy.bind(self.robot)
        self.actions = self.act(policy, seed)
        again = self.act(policy, seed + OTHER_SEED)
        random = float(np.abs(self.actions - again).mean())
        self.noise = random or float(np.abs(self.actions[:, 0] - wanted / self._spread).mean())

    def act(self, policy: Acting, seed: int) -> NDArray[np.float64]:
        """Chunks (N, H, A) in units of the data's spread, one observation after another."""
        policy.bind(self.robot)
        policy.reset(seed)
        chunks = np.stack([policy.act(observation).actions for observation in self.observations])
        return chunks.astype(np.float64) / self._spread

    def parity(self, policy: Acting) -> Parity:
        """Of another policy with this one, with the same noise."""
        given = self.act(policy, self.seed)
        product = float((given * self.actions).sum())
        norms = float(np.linalg.norm(given) * np.linalg.norm(self.actions))
        error = float(np.abs(given - self.actions).mean())
        return Parity(product / max(norms, 1e-12), error, self.noise, len(given))

    def inputs(self, policy: ExportedPolicy) -> list[dict[str, NDArray]]:
        """What the graph of an export takes for these observations."""
        policy.bind(self.robot)
        normal, spec = TorchNormal(self.seed), policy.spec
        shape = (1, spec.horizon, spec.action_space.dimension)
        noise = [{"noise": normal(*shape)} if policy.noisy else {} for _ in self.observations]
        return [policy.inputs(seen) | drawn for seen, drawn in zip(self.observations, noise, strict=True)]


def _network(config: QuantizeConfig) -> PolicyModule:
    if config.policy.startswith(LEROBOT):
        raise TongsError(f"only checkpoints of ours can be quantised, and {config.policy} is LeRobot's")
    policy = choose_policy(config.policy).load(config.sampling)
    if not isinstance(policy, PolicyModule) or policy.precision != "fp32":
        raise TongsError(f"{config.policy} has been quantised already; take the checkpoint that it was made of")
    return policy


def _spread(dataset: Dataset, policy: PolicyModule, frames: int) -> tuple[list[Observation], NDArray[np.float64]]:
    """Observations from episodes all over a dataset, and the recorded action at each."""
    episodes = min(8, len(dataset.episodes), frames)
    each, seen, wanted = -(-frames // episodes), [], []
    for episode in np.linspace(0, len(dataset.episodes) - 1, episodes).round().astype(int).tolist():
        span = dataset.episodes[episode]
        chosen = set(np.linspace(0, span.stop - span.start - 1, each).round().astype(int).tolist())
        for frame, observation in enumerate(recorded_observations(dataset, episode, policy.spec)):
            if frame in chosen:
                seen.append(observation)
                wanted.append(dataset.columns[ACTION][span.start + frame])
    return seen[:frames], np.asarray(wanted[:frames], dtype=np.float64)


def _lowered(config: QuantizeConfig, policy: PolicyModule, recorded: Recorded, scratch: Path, folder: Path) -> Made:
    """A checkpoint of ours that computes in another precision; its weights are stored in bfloat16."""
    from policies.checkpoint import CONFIG

    saved = policy.precision
    policy.precision = "fp32" if config.precision == "fp32" else "bf16"
    policy.save(scratch / "made")
    policy.precision = saved
    header = json.loads((scratch / "made" / CONFIG).read_text(encoding="utf-8"))
    if config.precision != "fp32":
        header["precision"] = config.precision
    graphs.write_header(scratch / "made", header)
    parity = recorded.parity(choose_policy(str(scratch / "made")).load())
    _require(parity, config)
    if folder.exists() and any(folder.iterdir()) and not (folder / CONFIG).is_file():
        raise TongsError(f"{folder} exists and is not a checkpoint; choose another folder")
    shutil.rmtree(folder, ignore_errors=True)
    shutil.move(scratch / "made", folder)
    return Made(folder, parity, megabytes(folder))


def _exported(config: QuantizeConfig, policy: PolicyModule, recorded: Recorded, scratch: Path, folder: Path) -> Made:
    """Graphs; modules that do not stand the precision stay as they are, the most sensitive one first."""
    traced = scratch / "traced"
    traced.mkdir()
    graphs.trace(policy, traced)
    calibration: Sequence[Mapping[str, NDArray]] = ()
    if config.precision == "int8" and config.activations:
        calibration = recorded.inputs(ExportedPolicy(traced))

    def attempt(keep: tuple[str, ...]) -> tuple[Path, Parity]:
        made = Path(tempfile.mkdtemp(dir=scratch))
        graphs.convert(traced, graphs.Request(config.backend, config.precision, keep, calibration), made)
        return made, recorded.parity(ExportedPolicy(made))

    kept: tuple[str, ...] = ()
    made, first = attempt(kept)
    parity = first
    if not parity.valid and config.precision in ("int8", "int4"):
        names = graphs.modules(traced)
        alone = {name: attempt(tuple(other for other in names if other != name))[1].error for name in names}
        for name in sorted(alone, key=lambda name: -alone[name])[:-1]:
            kept = (*kept, name)
            made, parity = attempt(kept)
            if parity.valid:
                break
    if not parity.valid:
        _require(first, config)
    header = json.loads((made / graphs.CONFIG).read_text(encoding="utf-8"))
    header["exported"]["parity"] = asdict(parity)
    graphs.write_header(made, header)
    graphs.put_in_place(made, folder)
    return Made(folder, parity, megabytes(folder), kept)


def _require(parity: Parity, config: QuantizeConfig) -> None:
    if not parity.valid:
        raise TongsError(
            f"{config.policy} in {config.precision} by {config.backend} is not the same policy any more: {parity}; "
            "nothing was written"
        )


def megabytes(folder: Path) -> float:
    """The size of a folder's files."""
    return sum(file.stat().st_size for file in folder.iterdir() if file.is_file()) / 1e6
