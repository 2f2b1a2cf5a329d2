"""Files that appear whole or not at all: written under a temporary name, flushed to disk, then renamed."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from robot.errors import TongsError

SUFFIX = ".partial"


def flush(path: Path) -> None:
    """Wait until the file's or folder's content is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_json(content: Any, target: Path) -> None:
    """The JSON files of a dataset, in LeRobot's form."""
    target.write_text(json.dumps(content, indent=4, ensure_ascii=False), encoding="utf-8")


def link(source: Path, target: Path) -> None:
    """The same file under a second name, or a copy where the file system has no such thing; folders are made.

    For files that are only ever replaced, never changed in place.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


class Staging:
    """Several files that become visible together, in the order in which they were asked for.

    All the space is taken and flushed before the first rename, so that a full disk is met while nothing has changed.
    The last file decides: it is renamed when all others are on the disk under their names, so that whoever reads it
    sees everything that it speaks of, also after a loss of power.
    """

    def __init__(self) -> None:
        self._files: list[tuple[Path, Path]] = []
        self._grown: set[Path] = set()

    def path(self, final: Path) -> Path:
        """Where to write what is to become `final`."""
        missing = [folder for folder in final.parents if not folder.exists()]
        final.parent.mkdir(parents=True, exist_ok=True)
        self._grown |= {folder.parent for folder in missing}
        temporary = final.with_name(final.name + SUFFIX)
        self._files.append((temporary, final))
        return temporary

    @property
    def latest(self) -> Path:
        """Where the file that was asked for last is at present."""
        return self._files[-1][0]

    def json(self, final: Path, content: Any) -> None:
        write_json(content, self.path(final))

    def move(self, source: Path, final: Path) -> None:
        """Take over a finished file, from another file system if need be."""
        shutil.move(source, self.path(final))

    def commit(self) -> None:
        for temporary, _ in self._files:
            flush(temporary)
        *others, decisive = self._files
        for temporary, final in others:
            os.replace(temporary, final)
        for folder in sorted(self._grown | {final.parent for _, final in others}):
            flush(folder)
        temporary, final = decisive
        os.replace(temporary, final)
        flush(final.parent)
        self._files.clear()
        self._grown.clear()

    def discard(self) -> None:
        for temporary, _ in self._files:
            temporary.unlink(missing_ok=True)
        self._files.clear()


@contextmanager
def appearing(folder: Path) -> Iterator[Path]:
    """A folder to fill, which gets its name when it is complete."""
    if folder.exists():
        raise TongsError(f"{folder} exists; give a folder that is not there yet")
    building = folder.with_name(folder.name + SUFFIX)
    shutil.rmtree(building, ignore_errors=True)
    try:
        building.mkdir(parents=True)
        yield building
        for path in sorted(building.rglob("*"), reverse=True):
            flush(path)
        flush(building)
        os.rename(building, folder)
        flush(folder.parent)
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        reason = "the disk is full" if full else f"writing failed ({error})"
        raise TongsError(f"{reason}: {folder} was not written") from error
    finally:
        shutil.rmtree(building, ignore_errors=True)
