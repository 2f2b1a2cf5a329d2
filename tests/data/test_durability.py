"""Recording that is killed, or loses power, at any moment: at most the current episode is missing."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data import atomic
from data.features import IMAGES
from data.reader import Dataset
from data.repair import repair
from data.timing import MEASURED
from robot.errors import TongsError
from tests.data.recorder import episode, open_writer

KILLS = 200
KILLS_PER_FOLDER = 20
CAMERA = IMAGES + "front"


def check(dataset: Dataset, numbers: range) -> None:
    """Every value of these episodes is what was recorded."""
    for number in numbers:
        wanted = episode(number)
        span = dataset.episodes[number]
        assert span.length == len(wanted["tasks"])
        for key, values in wanted["columns"].items():
            if key == MEASURED:
                np.testing.assert_allclose(dataset.measured_times(number), values, rtol=0, atol=1e-9)
            else:
                np.testing.assert_array_equal(dataset.columns[key][span.start : span.stop], values)
        assert dataset.frame_tasks(number) == wanted["tasks"]
        assert dataset.events(number) == wanted["events"]
        frames = wanted["images"][CAMERA].astype(int)
        assert np.abs(dataset.images(number, CAMERA) - frames).max() <= 3


def opened(folder: Path) -> Dataset | None:
    return Dataset(folder) if (folder / "meta/info.json").exists() else None


@pytest.mark.slow
def test_two_hundred_kills(tmp_path: Path) -> None:
    random = np.random.default_rng(int.from_bytes(os.urandom(4), "little"))
    root = Path(__file__).parents[2]
    recorder = subprocess.Popen(
        [sys.executable, "-m", "tests.data.recorder"],
        cwd=root,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert recorder.stdin is not None and recorder.stdout is not None
    torn = recorded = 0
    assert float(recorder.stdout.readline()) > 0
    try:
        for kill in range(KILLS):
            number = kill // KILLS_PER_FOLDER
            folder, progress = tmp_path / str(number), tmp_path / f"{number}.progress"
            if kill % KILLS_PER_FOLDER == 0:
                known = 0
                progress.write_text("0")
            life = random.uniform(0.0, 2.5)
            recorder.stdin.write(f"{folder}\t{('video', 'png')[number % 2]}\t{progress}\t{life}\n")
            recorder.stdin.flush()
            assert recorder.stdout.readline() == "done\n", "the recorder ended by itself"
            torn += any(folder.rglob("*.partial*"))
            dataset = opened(folder)
            count = 0 if dataset is None else len(dataset.episodes)
            promised = int(progress.read_text() or 0)
            assert count >= max(promised, known), f"{count} episodes, {promised} were promised"
            if dataset is not None:
                check(dataset, range(known, count))
            known = count
            if kill % KILLS_PER_FOLDER == KILLS_PER_FOLDER - 1:
                recorded += finish(folder, ("video", "png")[number % 2], count)
    finally:
        recorder.kill()
        recorder.wait()
    assert torn >= KILLS // 10, f"only {torn} of {KILLS} kills hit a write; they prove little"
    assert recorded >= KILLS // 10, f"only {recorded} episodes were recorded between {KILLS} kills"


def finish(folder: Path, storage: Any, count: int) -> int:
    """Continue a folder in peace and look at all of it; the number of its episodes."""
    with open_writer(folder, storage) as writer:
        assert writer.episodes == count
        writer.add_episode(**episode(count))
    check(Dataset(folder), range(count + 1))
    assert not list(folder.rglob("*.partial*"))
    assert repair(folder).was_whole
    return count + 1


class Journal:
    """What a recorder asked of the file system, in order: (`write`, file), (`rename`, from, to), (`folder`, folder).

    A `write` is the moment at which a file's content was waited for; a `folder`, that at which its names were.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.steps: list[tuple] = []
        self.contents: dict[Path, bytes] = {}
        real_flush, real_replace = atomic.flush, os.replace

        def flush(path: Path) -> None:
            if path.is_dir():
                self.steps.append(("folder", path))
            else:
                self.steps.append(("write", path))
                self.contents[path] = path.read_bytes()
            real_flush(path)

        def replace(source: Path, target: Path) -> None:
            if source in self.contents:  # not what the encoder does among its own files
                self.steps.append(("rename", source, target))
            real_replace(source, target)

        monkeypatch.setattr(atomic, "flush", flush)
        monkeypatch.setattr(atomic.os, "replace", replace)

    def after_loss_of_power(
        self, before: Path, after: Path, folder: Path, step: int, random: np.random.Generator
    ) -> None:
        """Make in `after` what a disk may hold when the power fails at a step: what was waited for, and of the rest
        anything, in part."""
        shutil.copytree(before, after)
        steps = self.steps[:step]
        safe = {path for kind, path, *_ in steps if kind == "write"}
        for path, content in self.contents.items():
            there = after / path.relative_to(folder)
            if random.random() < 0.7:
                there.parent.mkdir(parents=True, exist_ok=True)
                there.write_bytes(content if path in safe else content[: random.integers(len(content) + 1)])
        for number, (kind, source, *target) in enumerate(steps):
            if kind != "rename":
                continue
            waited = any(later == ("folder", target[0].parent) for later in steps[number:])
            if waited or random.random() < 0.5:
                (after / source.relative_to(folder)).unlink(missing_ok=True)
                final = after / target[0].relative_to(folder)
                final.parent.mkdir(parents=True, exist_ok=True)
                final.write_bytes(self.contents[source])


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path, Journal]:
    """A dataset of two episodes, the same with a third, and how that came."""
    folder = tmp_path / "set"
    with open_writer(folder, "video") as writer:
        writer.add_episode(**episode(0))
        writer.add_episode(**episode(1))
        shutil.copytree(folder, tmp_path / "before")
        with monkeypatch.context() as patch:
            journal = Journal(patch)
            writer.add_episode(**episode(2))
    return tmp_path / "before", folder, journal


def test_loss_of_power_costs_at_most_the_current_episode(tmp_path: Path, written: tuple[Path, Path, Journal]) -> None:
    before, folder, journal = written
    random = np.random.default_rng(0)
    assert {kind for kind, *_ in journal.steps} == {"write", "rename", "folder"}
    found = []
    for number in range(3 * (len(journal.steps) + 1)):
        step, after = number // 3, tmp_path / f"after-{number}"
        journal.after_loss_of_power(before, after, folder, step, random)
        dataset = Dataset(after)
        found.append(len(dataset.episodes))
        check(dataset, range(len(dataset.episodes)))
        assert found[-1] == 3 or step < len(journal.steps)
        if number % 7 == 0:
            finish(after, "video", found[-1])
        elif number % 7 == 3:
            assert repair(after).episodes >= found[-1], "repair may find the third to be complete"
            check(Dataset(after), range(2))
        shutil.rmtree(after)
    assert set(found) == {2, 3}


def test_the_order_of_writes_is_what_makes_it_safe(tmp_path: Path, written: tuple[Path, Path, Journal]) -> None:
    """Without waiting for the other names before the last, there are losses of power that damage the dataset."""
    before, folder, journal = written
    journal.steps = [step for step in journal.steps if step[0] != "folder"]
    random, damaged = np.random.default_rng(0), 0
    for number in range(20):
        after = tmp_path / f"after-{number}"
        journal.after_loss_of_power(before, after, folder, len(journal.steps), random)
        try:
            Dataset(after)
        except TongsError:
            damaged += 1
            repaired = repair(after)
            assert repaired.episodes >= 2
            check(Dataset(after), range(2))
    assert damaged > 3


def test_the_first_episode_is_durable_with_its_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file is not on the disk before the names of all the folders that were made for it are."""
    with monkeypatch.context() as patch, open_writer(tmp_path / "set", "video") as writer:
        journal = Journal(patch)
        writer.add_episode(**episode(0))
    last = next(n for n, step in enumerate(journal.steps) if step[0] == "rename" and step[2].name == "info.json")
    waited = {step[1] for step in journal.steps[:last] if step[0] == "folder"}
    for path in (tmp_path / "set").rglob("file-*"):
        for parent in path.relative_to(tmp_path / "set").parents:
            assert tmp_path / "set" / parent in waited, parent
