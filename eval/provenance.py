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
OPTIONAL = ("pybullet",)
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
    digest = hashlib.sha256()
    with (folder / "model.safetensors").open("rb") as weights:
        while block := weights.read(1 << 20):
            digest.update(block)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return {"path": str(folder), "sha256": digest.hexdigest(), "trained_on": config.get("trained_on", [])}
