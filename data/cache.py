"""A dataset decoded once into memory-mapped arrays, so that training reads frames at the speed of memory."""

from __future__ import annotations

import fcntl
import hashlib
import json
import multiprocessing
import os
import shutil
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data import layout
from data.atomic import flush
from data.content_hash import content_hash
from data.features import IMAGES, SCENE
from data.reader import Dataset, read_info
from robot.errors import TongsError
from robot.images import scale_down

FORMAT = 2
"""Raise when the layout of the cache changes; older caches are then built anew."""
EPISODES_PER_JOB = 8


@dataclass(frozen=True)
class EpisodeCache:
    """All frames of a dataset, decoded and scaled down.

    Attributes:
        folder: where the arrays are.
        images: {camera: uint8 (N, h, w, 3)}, memory-mapped.
        columns: {key: float32 (N, D)} of every numeric feature.
        names: {key: D names} for the columns that declare names.
        tasks: the distinct instructions.
        task_index: int64 (N,), which instruction holds at each frame.
        starts, ends: int64 (E,), first frame and end (excluded) of each episode.
        fps: frames per second.
        together: int64 (E,), episodes with the same number are parts of one recording or scene; None: see `scenes`.
        sampled: bool (N,), frames that may be learned from; None for all. See `data.segments.by_segments`.
    """

    folder: Path
    images: Mapping[str, np.memmap]
    columns: Mapping[str, NDArray[np.float32]]
    names: Mapping[str, tuple[str, ...]]
    tasks: tuple[str, ...]
    task_index: NDArray[np.int64]
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    fps: int
    together: NDArray[np.int64] | None = None
    sampled: NDArray[np.bool_] | None = None

    def __len__(self) -> int:
        """Number of frames."""
        return len(self.task_index)

    @cached_property
    def frame_episode(self) -> NDArray[np.int64]:
        """The episode of each frame, int64 (N,)."""
        return np.repeat(np.arange(len(self.starts)), self.ends - self.starts)

    @cached_property
    def scenes(self) -> NDArray[np.int64] | None:
        """The number of the scene that each episode begins in, int64 (E,); None if the dataset does not say."""
        return self.columns[SCENE][self.starts, 0].astype(np.int64) if SCENE in self.columns else None

    def select(self, key: str, wanted: tuple[str, ...]) -> NDArray[np.float32]:
        """The named entries of a column, in the order asked for, float32 (N, len(wanted))."""
        if key not in self.columns:
            raise TongsError(f"dataset has no column {key!r}; it has: {', '.join(self.columns)}")
        if key not in self.names:
            raise TongsError(f"column {key} has no names, so entries cannot be chosen by name")
        names = self.names[key]
        if absent := [name for name in wanted if name not in names]:
            raise TongsError(f"column {key} has no entry {', '.join(absent)}; it has: {', '.join(names)}")
        return np.ascontiguousarray(self.columns[key][:, [names.index(name) for name in wanted]])


def open_cache(
    dataset_folder: Path | str,
    cameras: Mapping[str, tuple[int, int]],
    cache_root: Path | str | None = None,
    processes: int = 2,
) -> EpisodeCache:
    """The cache of a dataset, built if it is not there yet.

    Args:
        dataset_folder: a LeRobotDataset folder, v3.0 or v2.1.
        cameras: {camera: (h, w)} to scale down to, by area averaging.
        cache_root: folder for caches; `.cache` beside the dataset if None.
        processes: how many decode at once.

    The name of a cache is a hash of the dataset's content and of the sizes: a dataset that has grown or changed gets a
    new one, a copy or a moved one finds the old. Two programs that ask at once build it once.
    """
    folder = Path(dataset_folder).resolve()
    read_info(folder)
    root = Path(cache_root) if cache_root is not None else folder.parent / ".cache"
    root.mkdir(parents=True, exist_ok=True)
    target = root / _name(content_hash(folder, root / f"{folder.name}.hashes.json"), cameras)
    if not target.exists():
        with (root / f"{target.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not target.exists():
                _build(Dataset(folder), dict(cameras), target, processes)
    return _load(target)


def _name(content: str, cameras: Mapping[str, tuple[int, int]]) -> str:
    sizes = {name: [int(side) for side in size] for name, size in sorted(cameras.items())}
    return hashlib.sha256(json.dumps([FORMAT, content, sizes]).encode()).hexdigest()[:16]


def _image_file(folder: Path, camera: str) -> Path:
    return folder / f"images.{camera}.npy"


def _build(dataset: Dataset, cameras: dict[str, tuple[int, int]], target: Path, processes: int) -> None:
    """Write all arrays into a temporary folder and rename it; the caller holds the lock."""
    available = [key.removeprefix(IMAGES) for key in dataset.camera_keys]
    if absent := sorted(set(cameras) - set(available)):
        raise TongsError(f"dataset {dataset.folder} has no camera {', '.join(absent)}; it has: {', '.join(available)}")
    building = target.with_name(target.name + ".partial")
    shutil.rmtree(building, ignore_errors=True)
    building.mkdir()
    try:
        _write_columns(dataset, building)
        _write_images(dataset, cameras, building, processes)
        for path in building.iterdir():
            flush(path)
        os.rename(building, target)
    except OSError as error:
        raise TongsError(f"the cache {target} could not be written: {error}") from error
    finally:
        shutil.rmtree(building, ignore_errors=True)


def _write_columns(dataset: Dataset, folder: Path) -> None:
    columns = dataset.columns
    names = {}
    for key, feature in dataset.features.items():
        if feature.is_image:
            continue
        np.save(folder / f"column.{key}.npy", columns[key].astype(np.float32))
        if feature.names is not None:
            names[key] = feature.names
    task_index = columns["task_index"][:, 0]
    if task_index.min() < 0 or task_index.max() >= len(dataset.tasks):
        raise TongsError(f"{dataset.folder}: frames use a task_index that {layout.TASKS} does not have")
    np.save(folder / "task_index.npy", task_index)
    description = {
        "fps": dataset.fps,
        "names": names,
        "tasks": dataset.tasks,
        "starts": [episode.start for episode in dataset.episodes],
        "ends": [episode.stop for episode in dataset.episodes],
    }
    (folder / "cache.json").write_text(json.dumps(description, ensure_ascii=False), encoding="utf-8")


def _write_images(dataset: Dataset, cameras: dict[str, tuple[int, int]], folder: Path, processes: int) -> None:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    for camera, (height, width) in cameras.items():
        shape = (dataset.total_frames, height, width, 3)
        np.lib.format.open_memmap(_image_file(folder, camera), mode="w+", dtype=np.uint8, shape=shape).flush()
    count = len(dataset.episodes)
    jobs = [range(first, min(first + EPISODES_PER_JOB, count)) for first in range(0, count, EPISODES_PER_JOB)]
    columns = (TextColumn("decoding"), BarColumn(), MofNCompleteColumn(), TextColumn("episodes"), TimeRemainingColumn())
    with Progress(*columns) as progress:
        bar = progress.add_task("decoding", total=count)
        if processes < 2 or len(jobs) < 2 * processes:
            for job in jobs:
                progress.advance(bar, _decode(dataset, job, cameras, folder))
            return
        context = multiprocessing.get_context("spawn")  # the caller may hold threads of torch, which fork breaks
        with ProcessPoolExecutor(processes, context, initializer=_start_worker, initargs=(dataset,)) as pool:
            running = [pool.submit(_decode_in_worker, job, cameras, folder) for job in jobs]
            try:
                for done in as_completed(running):
                    progress.advance(bar, done.result())
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise


_worker_dataset: Dataset | None = None


def _start_worker(dataset: Dataset) -> None:
    global _worker_dataset
    _worker_dataset = dataset


def _decode_in_worker(job: range, cameras: dict[str, tuple[int, int]], folder: Path) -> int:
    assert _worker_dataset is not None
    return _decode(_worker_dataset, job, cameras, folder)


def _decode(dataset: Dataset, job: range, cameras: dict[str, tuple[int, int]], folder: Path) -> int:
    """Decode some episodes into their place in the image arrays; the number of episodes done."""
    for camera, size in cameras.items():
        images = np.load(_image_file(folder, camera), mmap_mode="r+")
        for number in job:
            episode = dataset.episodes[number]
            images[episode.start : episode.stop] = scale_down(dataset.images(number, IMAGES + camera), size)
    return len(job)


def _load(folder: Path) -> EpisodeCache:
    description: dict[str, Any] = json.loads((folder / "cache.json").read_text(encoding="utf-8"))
    images = {
        path.name.removeprefix("images.").removesuffix(".npy"): np.load(path, mmap_mode="r")
        for path in sorted(folder.glob("images.*.npy"))
    }
    columns = {
        path.name.removeprefix("column.").removesuffix(".npy"): np.load(path)
        for path in sorted(folder.glob("column.*.npy"))
    }
    return EpisodeCache(
        folder=folder,
        images=images,
        columns=columns,
        names={key: tuple(names) for key, names in description["names"].items()},
        tasks=tuple(description["tasks"]),
        task_index=np.load(folder / "task_index.npy"),
        starts=np.array(description["starts"], dtype=np.int64),
        ends=np.array(description["ends"], dtype=np.int64),
        fps=int(description["fps"]),
    )
