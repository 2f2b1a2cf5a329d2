"""Where a result comes from: versions, machine, commit, and the hash of the weights."""

from __future__ import annotations

import hashlib
import platform
import subprocess
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

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
LEROBOT_PACKAGES = ("lerobot", "diffusers")
"""Packages that can change a result of LeRobot's policies."""
OPTIONAL = ("pybullet", "robosuite", *LEROBOT_PACKAGES)
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


def file_hash(path: Path) -> str | None:
    """The SHA-256 of a file; None if there is none."""
    if not path.is_file():
        return None
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
