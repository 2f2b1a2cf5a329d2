"""Files that appear whole or not at all: written under a temporary name, flushed to disk, then renamed."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

SUFFIX = ".partial"


def flush(path: Path) -> None:
    """Wait until the file's or folder's content is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class Staging:
    """Several files that become visible together, in the order in which they were asked for.

    All the space is taken and flushed before the first rename, so that a full disk is met while nothing has changed.
    The last file decides: whoever reads it first sees everything that it speaks of.
    """

    def __init__(self) -> None:
        self._files: list[tuple[Path, Path]] = []

    def path(self, final: Path) -> Path:
        """Where to write what is to become `final`."""
        final.parent.mkdir(parents=True, exist_ok=True)
        temporary = final.with_name(final.name + SUFFIX)
        self._files.append((temporary, final))
        return temporary

    @property
    def latest(self) -> Path:
        """Where the file that was asked for last is at present."""
        return self._files[-1][0]

    def json(self, final: Path, content: Any) -> None:
        self.path(final).write_text(json.dumps(content, indent=4, ensure_ascii=False), encoding="utf-8")

    def move(self, source: Path, final: Path) -> None:
        """Take over a finished file, from another file system if need be."""
        shutil.move(source, self.path(final))

    def commit(self) -> None:
        for temporary, _ in self._files:
            flush(temporary)
        for temporary, final in self._files:
            os.replace(temporary, final)
        for folder in {final.parent for _, final in self._files}:
            flush(folder)
        self._files.clear()

    def discard(self) -> None:
        for temporary, _ in self._files:
            temporary.unlink(missing_ok=True)
        self._files.clear()
