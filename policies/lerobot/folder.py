"""A LeRobot checkpoint folder before anything of it is loaded: where it is, which files decide, what its numbers are.

LeRobot keeps the shapes of observations and actions in a checkpoint, but neither the names of their entries nor their
frames and units. Those are in `meta/info.json` of the dataset that the policy was trained on, which `train_config.json`
names. A copy of that file in the checkpoint, called `dataset_info.json`, makes the checkpoint complete anywhere.
"""

# pyright: reportMissingImports=false

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from robot.errors import TongsError, unknown

FAMILIES = ("act", "diffusion", "smolvla")
CONFIG, WEIGHTS, TRAINING = "config.json", "model.safetensors", "train_config.json"
PREPROCESSOR, POSTPROCESSOR = "policy_preprocessor.json", "policy_postprocessor.json"
DATASET = "dataset_info.json"
INSTALL = "LeRobot's policies need the extra lerobot: pip install 'tongs[lerobot]'"


@cache
def find_folder(name: str) -> Path:
    """The folder of a checkpoint: a path, or the local copy of a repository on the Hugging Face hub.

    Raises:
        TongsError: there is neither, or it holds no LeRobot policy.
    """
    path = Path(name).expanduser()
    folder = path if path.is_dir() else _download(name)
    if not (folder / CONFIG).is_file():
        inner = folder / "pretrained_model"
        hint = f"; give {inner}" if (inner / CONFIG).is_file() else ""
        raise TongsError(f"{name} is no LeRobot policy: it has no {CONFIG}{hint}")
    family = read_json(folder / CONFIG).get("type")
    if family not in FAMILIES:
        raise unknown(f"type of LeRobot policy in {folder / CONFIG}", family, FAMILIES)
    return folder


def _download(name: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    try:
        return Path(snapshot_download(name, allow_patterns=["*.json", "*.safetensors"]))
    except HFValidationError:
        raise TongsError(f"there is no folder {name}, and it is no repository of the hub (user/policy)") from None
    except Exception as error:  # noqa: BLE001  offline, no such repository, no access: the hub has many errors
        reason = " ".join(str(error).split())[:300]
        raise TongsError(f"there is no folder {name}, and the hub gives no such policy: {reason}") from error


def read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise TongsError(f"{path.parent} is incomplete: it has no {path.name}") from None
    except ValueError as error:
        raise TongsError(f"{path} is damaged: {error}") from error
    if not isinstance(content, dict):
        raise TongsError(f"{path} is damaged: it holds {type(content).__name__} instead of named fields")
    return content


def deciding_files(folder: Path) -> dict[str, Path]:
    """The files that decide what the policy does, by the names that they have in a complete checkpoint."""
    names = [CONFIG, WEIGHTS, PREPROCESSOR, POSTPROCESSOR, *sorted(file.name for file in folder.glob("policy_*.*"))]
    files = {name: folder / name for name in names if (folder / name).is_file()}
    described = _dataset_info(folder)
    return files | ({DATASET: described} if described else {})


def dataset_info(folder: Path) -> dict[str, Any] | None:
    """The description of the dataset that the policy was trained on; None where it cannot be found."""
    path = _dataset_info(folder)
    return None if path is None else read_json(path)


def _dataset_info(folder: Path) -> Path | None:
    candidates = [folder / DATASET]
    if (folder / TRAINING).is_file():
        dataset = read_json(folder / TRAINING).get("dataset") or {}
        if dataset.get("root"):
            candidates.append(Path(dataset["root"]) / "meta" / "info.json")
        elif isinstance(dataset.get("repo_id"), str):
            candidates.append(_datasets_home() / dataset["repo_id"] / "meta" / "info.json")
    return next((path for path in candidates if path.is_file()), None)


def _datasets_home() -> Path:
    """Where LeRobot keeps datasets that have no `root`."""
    try:
        from lerobot.utils.constants import HF_LEROBOT_HOME
    except ImportError:
        raise TongsError(INSTALL) from None
    return HF_LEROBOT_HOME


def entry_names(info: Mapping[str, Any] | None, feature: str) -> tuple[str, ...] | None:
    """The names of the entries of a vector feature; None where the dataset does not give them."""
    names = ((info or {}).get("features", {}).get(feature) or {}).get("names")
    if isinstance(names, Mapping):
        names = [name for axis in names.values() for name in axis]
    return None if not names else tuple(map(str, names))
