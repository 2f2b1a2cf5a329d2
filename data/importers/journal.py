"""What has been imported into a dataset, so that an interrupted import goes on: `meta/import.jsonl`.

The first line holds the settings, each further line an episode: its name in the source, its number in the dataset, and
what else is known of it. A line is on the disk before its episode is, and counts once the episode is there too. What
was left out has no line, so the next import tries it again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data import layout
from data.atomic import Staging
from data.reader import read_info
from robot.errors import TongsError

JOURNAL = "meta/import.jsonl"


class Journal:
    """The record of an import into a dataset folder, which may not exist yet.

    Raises TongsError if the folder holds a dataset that was not imported, or was imported with other settings.

    Attributes:
        done: names of the episodes that are in the dataset.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        self._path = folder / JOURNAL
        self._head = json.loads(json.dumps(dict(settings)))
        self._lines: list[dict[str, Any]] = []
        has_dataset = (folder / layout.INFO).is_file()
        if has_dataset and not self._path.is_file():
            raise TongsError(f"{folder} holds a dataset that was not made by an import; choose another output")
        if self._path.is_file():
            complete = int(read_info(folder)["total_episodes"]) if has_dataset else 0
            self._read(complete)
        self.done = {line["source"] for line in self._lines}
        self._open = False

    def record(self, source: str, episode: int, **facts: Any) -> None:
        """Note that an episode is about to be written as number `episode`.

        An earlier note of the same number is of an episode that could not be written, and is taken back.
        """
        if self._lines and self._lines[-1]["episode"] == episode:
            self.done.discard(self._lines.pop()["source"])
            self._open = False
        line = {"source": source, "episode": episode, **facts}
        if not self._open:
            self._rewrite()
        with self._path.open("a", encoding="utf-8") as file:
            file.write(_line(line))
            file.flush()
            os.fsync(file.fileno())
        self._lines.append(line)
        self.done.add(source)

    def _read(self, complete: int) -> None:
        lines = []
        for text in self._path.read_text(encoding="utf-8").splitlines():
            try:
                lines.append(json.loads(text))
            except json.JSONDecodeError:
                break  # the line that an interruption cut short; its episode was not written
        if not lines:
            return
        for key in dict.fromkeys([*lines[0], *self._head]):
            theirs, mine = lines[0].get(key), self._head.get(key)
            if theirs != mine:
                raise TongsError(
                    f"{self._path.parent.parent} was imported with {key} = {theirs!r}, this import has {mine!r}; "
                    "repeat the settings or choose another output"
                )
        self._lines = [line for line in lines[1:] if line["episode"] < complete]

    def _rewrite(self) -> None:
        """Begin with the lines whose episodes are in the dataset."""
        staging = Staging()
        text = "".join(_line(line) for line in (self._head, *self._lines))
        staging.path(self._path).write_text(text, encoding="utf-8")
        staging.commit()
        self._open = True


def _line(content: Mapping[str, Any]) -> str:
    return json.dumps(content, ensure_ascii=False) + "\n"
