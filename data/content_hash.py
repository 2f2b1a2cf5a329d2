"""What a dataset holds, as one number: equal for copies, another one as soon as any byte of it changes."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from pathlib import Path

_PARTS = ("meta", "data", "videos")
"""The folders of a dataset that belong to its content."""
_PASSING = (".partial", ".lock")
"""Files of a writer at work."""


def content_hash(folder: Path, known: Path) -> str:
    """SHA-256 over the names and contents of all files of a dataset.

    Args:
        folder: the dataset.
        known: a file that keeps what each dataset file was hashed to, with its size and time of change, so that only
            new and changed files are read again. It may be missing or deleted at any time.
    """
    before = _read(known)
    files: dict[str, list[str | int]] = {}
    total = hashlib.sha256()
    for path in sorted(path for part in _PARTS for path in (folder / part).rglob("*")):
        if path.name.endswith(_PASSING) or not path.is_file():
            continue
        name, status = path.relative_to(folder).as_posix(), path.stat()
        signature = [status.st_size, status.st_mtime_ns]
        remembered = before.get(name)
        digest = remembered[2] if remembered and remembered[:2] == signature else _digest(path)
        files[name] = [*signature, digest]
        total.update(f"{name} {digest}\n".encode())
    if files != before:
        _write(known, files)
    return total.hexdigest()


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _read(known: Path) -> dict[str, list[str | int]]:
    try:
        return json.loads(known.read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError):
        return {}


def _write(known: Path, files: dict[str, list[str | int]]) -> None:
    """Replace the file whole: two programs may do so at once, and either result is right."""
    known.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=known.parent, suffix=".partial", delete=False) as file:
        json.dump(files, file)
    os.replace(file.name, known)
