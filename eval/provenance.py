"""Where a result comes from: versions, machine, commit, and the hash of the weights."""

from __future__ import annotations

import hashlib
import json
import platform
import subprocess
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = (
    "tongs",
    "numpy",
    "scipy",
    "mujoco",
    "mink",
    "daqp",
    "torch",
    "torchvision",
    "timm",
    "transformers",
    "safetensors",
    "gymnasium",
    "hydra-core",
    "pyarrow",
    "av",
)
CHECKPOINT_FILES = ("config.json", "model.safetensors", "statistics.json")
"""The files of a checkpoint that decide what its policy does."""
OPTIONAL = ("pybullet", "robosuite")
"""Packages that change a result only where their part of the program is used."""


def package_versions(names: Sequence[str] = PACKAGES) -> dict[str, str | None]:
    """Versions of the packages that can change a result; None for one that is not installed."""
    versions: dict[str, str | None] = {}
    for name in names:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = None
    return versions


def machine() -> dict[str, str]:
    return {"python": platform.python_version(), "platform": platform.platform(), "processor": platform.machine()}


def git_commit(folder: Path) -> str | None:
    """The commit that `folder` is checked out at, with "+changes" if files differ; None outside a repository."""
    if not (folder / ".git").exists():
        return None
    try:
        commit = _git(folder, "rev-parse", "HEAD")
        return f"{commit}+changes" if _git(folder, "status", "--porcelain") else commit
    except (OSError, subprocess.CalledProcessError):
        return None


def _git(folder: Path, *arguments: str) -> str:
    run = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True)
    return run.stdout.strip()


def checkpoint_record(folder: Path) -> dict[str, Any]:
    """The path of a checkpoint, the SHA-256 of its weights, and the robots whose data it was trained on."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    weights = file_hash(folder / "model.safetensors")
    return {"path": str(folder), "sha256": weights, "trained_on": config.get("trained_on", [])}


def file_hash(path: Path) -> str | None:
    """The SHA-256 of a file; None if there is none."""
    if not path.is_file():
        return None
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
