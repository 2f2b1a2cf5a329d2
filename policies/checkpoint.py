"""A checkpoint folder on disk: config.json, model.safetensors, statistics.json and a model card, never a pickle."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from policies.adapters import find_base, with_adapter
from policies.normalisation import Statistics
from robot.errors import TongsError
from robot.interface import PolicySpec

FORMAT_VERSION = 1
CONFIG, WEIGHTS, STATISTICS, CARD = "config.json", "model.safetensors", "statistics.json", "README.md"


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint holds.

    Attributes:
        policy: name of the policy family, such as "beso".
        config: fields of the family's configuration.
        spec: what the policy needs and gives.
        statistics: of the training data, for normalisation.
        weights: the trained parameters by name.
        trained_on: the robots whose data it learned from, by the `robot_type` of the datasets such as "panda_mujoco";
            empty where that was not recorded.
        adapter: if `weights` are only those of an adapter: its base, r and alpha, see `policies.adapters.describe`.
        precision: in which the network computes, see `policies.base.PolicyModule.precision`.
    """

    policy: str
    config: dict[str, Any]
    spec: PolicySpec
    statistics: Statistics
    weights: Mapping[str, Tensor]
    trained_on: tuple[str, ...] = ()
    adapter: Mapping[str, Any] | None = None
    precision: str = "fp32"


def write_checkpoint(folder: Path, checkpoint: Checkpoint, card: str) -> None:
    """Write a folder whole or not at all; an earlier checkpoint in its place is replaced only when all is written.

    Raises:
        TongsError: the folder holds something that is not a checkpoint, or cannot be written.
    """
    from safetensors.torch import save_file

    if folder.exists() and not (folder / CONFIG).is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise TongsError(f"{folder} exists and is not a checkpoint; choose another folder")
    header = {
        "format_version": FORMAT_VERSION,
        "policy": checkpoint.policy,
        "trained_on": checkpoint.trained_on,
        "config": checkpoint.config,
        "spec": checkpoint.spec.to_json(),
    }
    if checkpoint.adapter is not None:
        header["adapter"] = dict(checkpoint.adapter)
    if checkpoint.precision != "fp32":
        header["precision"] = checkpoint.precision
    temporary: Path | None = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        temporary.chmod(0o755)
        weights = {name: value.detach().cpu().contiguous() for name, value in checkpoint.weights.items()}
        save_file(weights, temporary / WEIGHTS)
        (temporary / CONFIG).write_text(json.dumps(header, indent=2) + "\n")
        (temporary / STATISTICS).write_text(json.dumps(checkpoint.statistics, indent=1) + "\n")
        (temporary / CARD).write_text(card)
        for file in temporary.iterdir():
            _synchronise(file)
        _put_in_place(temporary, folder)
    except OSError as error:
        raise TongsError(f"cannot write the checkpoint {folder}: {error.strerror or error}") from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


def _synchronise(file: Path) -> None:
    with file.open("rb") as handle:
        os.fsync(handle.fileno())


def _put_in_place(written: Path, folder: Path) -> None:
    """Rename `written` to `folder`; the earlier one steps aside first and comes back if the rename fails."""
    if not folder.exists():
        written.rename(folder)
        return
    earlier = Path(tempfile.mkdtemp(prefix=f".{folder.name}-earlier-", dir=folder.parent))
    folder.rename(earlier)  # onto the empty folder just made
    try:
        written.rename(folder)
    except OSError:
        earlier.rename(folder)
        raise
    shutil.rmtree(earlier, ignore_errors=True)


def read_header(folder: Path) -> dict[str, Any]:
    """The fields of config.json.

    Raises:
        TongsError: there is no checkpoint, its config.json is damaged, or a newer program wrote it.
    """
    header = _read_json(folder, CONFIG)
    absent = [key for key in ("format_version", "policy", "config", "spec") if key not in header]
    if absent:
        raise TongsError(f"{folder / CONFIG} has no {absent[0]!r}: it is not a checkpoint of this program")
    if header["format_version"] != FORMAT_VERSION:
        raise TongsError(f"{folder} has format version {header['format_version']}; this program reads {FORMAT_VERSION}")
    return header


def read_checkpoint(folder: Path) -> Checkpoint:
    """Everything in a checkpoint folder, weights on the CPU; those of an adapter merged into its base.

    Raises TongsError for what is missing or damaged.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    header = read_header(folder)
    if not (folder / WEIGHTS).is_file():
        raise TongsError(f"{folder} has no {WEIGHTS}")
    try:
        weights = load_file(folder / WEIGHTS)
    except SafetensorError as error:
        raise TongsError(f"{folder / WEIGHTS} is damaged: {error}") from error
    try:
        spec = PolicySpec.from_json(header["spec"])
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        raise TongsError(f"the spec in {folder / CONFIG} is damaged: {error!r}") from error
    if adapter := header.get("adapter"):
        base = read_checkpoint(find_base(adapter, folder))
        weights = with_adapter(base.weights, weights, adapter["alpha"] / adapter["rank"], str(folder))
    trained_on = tuple(header.get("trained_on", ()))  # the first checkpoints do not say
    statistics, precision = _read_json(folder, STATISTICS), header.get("precision", "fp32")
    return Checkpoint(header["policy"], header["config"], spec, statistics, weights, trained_on, precision=precision)


def _read_json(folder: Path, name: str) -> dict[str, Any]:
    if not (folder / name).is_file():
        raise TongsError(f"{folder} is not a checkpoint: it has no {name}")
    try:
        content = json.loads((folder / name).read_text())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise TongsError(f"{folder / name} is damaged: {error}") from error
    if not isinstance(content, dict):
        raise TongsError(f"{folder / name} is damaged: it holds {type(content).__name__} instead of named fields")
    return content
