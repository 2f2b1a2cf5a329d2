"""From a name to a policy: the scripted expert, the key pose oracle, random actions, programs that a language model
writes, a checkpoint of ours or theirs, a server."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, is_dataclass, replace
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from eval.provenance import file_hash
from robot.errors import TongsError, unknown
from robot.exported import ExportedPolicy, is_export
from robot.interface import ActionChunk, ActionSpace, Observation, PolicySpec, RobotSpec

if TYPE_CHECKING:
    from typing import TypeAlias

    from policies.base import PolicyModule
    from policies.lerobot.policy import LeRobotPolicy
    from robot.remote.client import RemotePolicy

    LearnedPolicy: TypeAlias = PolicyModule | ExportedPolicy | LeRobotPolicy | RemotePolicy

EXPERT, ORACLE, RANDOM, LMP = "expert", "oracle", "random", "lmp"
_WITHOUT_CHECKPOINT = (EXPERT, ORACLE, RANDOM, LMP)
LEROBOT = "lerobot:"
"""What the names of LeRobot's policies begin with."""
REMOTE = "remote:"
"""What the names of policies that a server has begin with."""
CHECKPOINT_FILES = ("config.json", "model.safetensors", "statistics.json")
"""The files of a checkpoint of ours that decide what its policy does."""


@dataclass(frozen=True)
class PolicyChoice:
    """A policy by name; `folder` is its checkpoint if it is a learned one."""

    name: str
    folder: Path | None = None

    @property
    def learned(self) -> bool:
        """Whether `load` gives it, here or from a server."""
        return self.folder is not None or self.name.startswith(REMOTE)

    @property
    def files(self) -> dict[str, Path]:
        """The files that decide what a learned policy does, by the names that they have in its folder."""
        if self.folder is None:
            return {}
        if self.name.startswith(LEROBOT):
            from policies.lerobot.folder import deciding_files

            return deciding_files(self.folder)
        if is_export(self.folder):
            return {file.name: file for file in sorted(self.folder.iterdir()) if file.is_file()}
        return {name: self.folder / name for name in CHECKPOINT_FILES}

    @property
    def hashes(self) -> dict[str, str | None]:
        """The SHA-256 of its files, by name; None for one that is missing."""
        return {name: file_hash(path) for name, path in self.files.items()}

    @property
    def trained_on(self) -> list[str]:
        """The robots whose data a learned policy was trained on, where that is known."""
        if self.folder is None:
            return []
        if self.name.startswith(LEROBOT):
            from policies.lerobot.folder import dataset_info

            info = dataset_info(self.folder)
            return [str(info["robot_type"])] if info and info.get("robot_type") else []
        return json.loads((self.folder / "config.json").read_text(encoding="utf-8")).get("trained_on", [])

    def load(
        self,
        sampling: Mapping[str, Any] | None = None,
        lerobot: Mapping[str, Any] | None = None,
        device: str = "cpu",
    ) -> LearnedPolicy:
        """The learned policy, with some of its sampling settings replaced.

        Args:
            sampling: sampling settings by name.
            lerobot: fields of `policies.lerobot.fit.LeRobotSettings`, for a policy of LeRobot's.
            device: where a policy of ours is to run, such as "cuda"; LeRobot's have `lerobot.device`.

        Raises:
            TongsError: it is no learned policy, its checkpoint is damaged, its server cannot be reached, or there is no
                such setting or device.
        """
        if self.name.startswith(REMOTE):
            return _connect(self.name.removeprefix(REMOTE), sampling or lerobot)
        if self.folder is None:
            known = ", ".join(shipped_checkpoints()) or "none shipped"
            raise TongsError(f"{self.name!r} is no learned policy; known are: {known}, and any checkpoint folder")
        if self.name.startswith(LEROBOT):
            from policies.configuration import configuration
            from policies.lerobot.fit import LeRobotSettings
            from policies.lerobot.policy import LeRobotPolicy

            return LeRobotPolicy(self.folder, configuration(LeRobotSettings, lerobot or {}), sampling)
        if lerobot:
            raise TongsError(f"settings lerobot.* are for policies of LeRobot's ({LEROBOT}<folder>), not {self.name!r}")
        if is_export(self.folder):
            if sampling:
                raise TongsError(f"{self.name} is an export: how it draws actions was fixed when it was made")
            if device != "cpu":
                raise TongsError(f"{self.name} is an export, which runs on the CPU, not on {device!r}")
            return ExportedPolicy(self.folder)
        return _on_device(_load_ours(self.folder, sampling or {}), device)


def shipped_checkpoints() -> dict[str, Path]:
    """The checkpoints that come with Tongs, by name."""
    root = Path(str(resources.files("checkpoints")))
    return {
        folder.name: folder
        for folder in sorted(root.iterdir())
        if all((folder / name).is_file() for name in CHECKPOINT_FILES)
    }


def choose_policy(name: str) -> PolicyChoice:
    """Find a policy by name or folder; after "lerobot:" a folder, or a repository of the Hugging Face hub; after
    "remote:" the address of a policy server.

    Raises:
        TongsError: nothing has that name, the folder is no checkpoint, or the address is none.
    """
    if name.startswith(REMOTE):
        from robot.remote.address import parse

        parse(name.removeprefix(REMOTE))
        return PolicyChoice(name)
    if name.startswith(LEROBOT):
        from policies.lerobot.folder import find_folder

        return PolicyChoice(name, find_folder(name.removeprefix(LEROBOT)))
    shipped = shipped_checkpoints()
    if name in _WITHOUT_CHECKPOINT:
        return PolicyChoice(name)
    if name in shipped:
        return PolicyChoice(name, shipped[name])
    folder = Path(name).expanduser()
    if not folder.is_dir():
        known = ", ".join([*_WITHOUT_CHECKPOINT, *shipped])
        raise TongsError(
            f"unknown policy {name!r}; known are: {known}, any checkpoint folder, {LEROBOT}<folder or hub id>, "
            f"and {REMOTE}<address of a policy server>"
        )
    if not (folder / "config.json").is_file():
        raise TongsError(f"{name} is no checkpoint: it has no config.json (a checkpoint folder holds one)")
    return PolicyChoice(name, folder)


def bound_policy(
    name: str, sampling: Mapping[str, Any], lerobot: Mapping[str, Any], device: str, robot: RobotSpec
) -> LearnedPolicy:
    """A learned policy by name, bound to a robot, for a control loop. It has given a chunk that nobody follows: the
    first one takes long, and an arm would wait for it.

    Raises:
        TongsError: see `choose_policy` and `PolicyChoice.load`; ContractError, it does not fit the robot.
    """
    policy = choose_policy(name).load(sampling, lerobot, device)
    policy.bind(robot)
    images = {camera: np.zeros((*size, 3), np.uint8) for camera, size in robot.cameras.items()}
    policy.reset(0)
    policy.act(Observation(images, np.zeros(len(robot.state_names), np.float32), "open the drawer", 0.0))
    return policy


def language_model_files(settings: Mapping[str, Any]) -> dict[str, Path]:
    """The files of the language model that writes programs, if it is a folder of ours (`tongs teach`).

    Args:
        settings: fields of `policies.lmp.policy.LmpSettings`.

    Raises:
        TongsError: there is no such folder, or no such setting.
    """
    from policies.configuration import configuration
    from policies.lmp.language_models.embedded import FILES, embedded_folder
    from policies.lmp.policy import LmpSettings

    model = configuration(LmpSettings, settings).model
    return {name: embedded_folder(model.model) / name for name in FILES} if model.backend == "embedded" else {}


def sampling_settings(policy: object) -> dict[str, Any]:
    """The sampling settings that are in force; empty for a policy without any."""
    settings = getattr(policy, "sampling", None) or {}
    return asdict(settings) if is_dataclass(settings) else dict(settings)  # type: ignore[arg-type]


def _connect(url: str, settings: Mapping[str, Any] | None) -> RemotePolicy:
    if settings:
        raise TongsError(f"sampling.* and lerobot.* are set where the policy is served, by tongs serve; got {settings}")
    try:
        from robot.remote.client import RemotePolicy
    except ModuleNotFoundError as error:
        raise TongsError(f"{REMOTE}{url} needs {error.name}: pip install 'tongs[serve]'") from error
    return RemotePolicy(url)


def _load_ours(folder: Path, sampling: Mapping[str, Any]) -> PolicyModule:
    from policies.base import load_policy

    policy = load_policy(folder)
    if not sampling:
        return policy
    settings = getattr(policy, "sampling", None)
    known = [field.name for field in fields(settings)] if is_dataclass(settings) else []
    for key in sampling:
        if key not in known:
            raise unknown("sampling setting", key, known)
    policy.sampling = replace(settings, **sampling)  # type: ignore[assignment]
    return policy


def _on_device(policy: PolicyModule, device: str) -> PolicyModule:
    try:
        return policy.to(device)
    except (RuntimeError, AssertionError) as error:  # torch has no error of its own for a device that is not there
        raise TongsError(f"device {device!r} cannot be used: {str(error).splitlines()[0]}") from error


class RandomPolicy:
    """Smooth random motion: the exponential average of uniform actions, the floor that every policy must beat. With
    smoothing 1 it is uniform actions.

    a_t = a_{t-1} + smoothing * (u_t - a_{t-1}), u_t uniform within the bounds of the action space.
    """

    def __init__(self, action_space: ActionSpace, horizon: int = 8, smoothing: float = 0.3) -> None:
        self._spec = PolicySpec(cameras={}, state_names=(), action_space=action_space, horizon=horizon)
        self._smoothing = smoothing
        self.reset(0)

    @property
    def spec(self) -> PolicySpec:
        return self._spec

    def reset(self, seed: int) -> None:
        space = self._spec.action_space
        self._generator = np.random.default_rng(seed)
        self._action = self._generator.uniform(space.low, space.high)

    def act(self, observation: Observation) -> ActionChunk:
        space, actions = self._spec.action_space, []
        for _ in range(self._spec.horizon):
            self._action = self._action + self._smoothing * (
                self._generator.uniform(space.low, space.high) - self._action
            )
            actions.append(self._action)
        times = observation.time + np.arange(self._spec.horizon) / space.rate
        return ActionChunk(np.asarray(actions, dtype=np.float32), times)

    def act_batch(self, observations: Sequence[Observation]) -> list[ActionChunk]:
        return [self.act(observation) for observation in observations]
