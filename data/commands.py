"""What the high level of a policy of two levels learns from: a history of pictures, and the command a moment later."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy

import numpy as np
from numpy.typing import NDArray

from data.cache import EpisodeCache
from data.frames import FrameReader
from data.segments import Segment, SegmentRules, learned_segments, with_margins
from data.windows import Batch, number_scenes
from robot.errors import TongsError


class CommandSamples:
    """Moments of episodes with the command that is in force a little later (YAY Robot, arXiv 2403.12910, section IV).

    A moment t is sampled if the command at t + `offset` is part of a segment to learn from; at the end of an episode
    its last frame counts. Corrections count from their margin on, see `data.segments`. Pictures before an episode's
    start are black.

    Args:
        caches: episodes; every cache must have the cameras asked for, in one size, and one fps.
        told: of each cache the segments of its episodes (`dataset_segments`).
        cameras: names of the cameras, in the order of the tokens.
        history: pictures of each camera before the present one.
        spacing: s between them.
        offset: s by which the command is ahead of the pictures.
        rules: see `SegmentRules`.
        newest_share: exactly so much of every batch, rounded down, comes from the last cache; None: by its size.

    Attributes:
        commands: the distinct ones, in the order in which they first occur.
        frames: the moments, as frames of all caches together.
        newest: as in `EpochSampler`.
    """

    in_order = 0.0

    def __init__(
        self,
        caches: Sequence[EpisodeCache],
        told: Sequence[Sequence[Sequence[Segment]]],
        cameras: Sequence[str],
        history: int = 3,
        spacing: float = 1.0,
        offset: float = 0.4,
        rules: SegmentRules | None = None,
        newest_share: float | None = None,
    ) -> None:
        _check_caches(caches, cameras, newest_share)
        if history < 0 or spacing <= 0 or offset < 0:
            raise TongsError(
                "a history of pictures needs history >= 0, spacing > 0 s and offset >= 0 s, "
                f"got {history}, {spacing} s and {offset} s"
            )
        self.cameras, self.fps = tuple(cameras), caches[0].fps
        rules = rules or SegmentRules()
        self._back = np.arange(-history, 1) * max(round(spacing * self.fps), 1)
        self._images = {name: [FrameReader(cache.images[name]) for cache in caches] for name in cameras}
        self._offsets = np.cumsum([0, *(len(cache) for cache in caches)])
        joined = list(zip(caches, self._offsets[:-1].tolist(), strict=True))
        self.starts = np.concatenate([cache.starts + first for cache, first in joined])
        ends = np.concatenate([cache.ends + first for cache, first in joined])
        self._episode = np.repeat(np.arange(len(self.starts)), ends - self.starts)
        self._scene = number_scenes(caches)
        numbers: dict[str, int] = {}
        command = np.full(len(self._episode), -1, dtype=np.int64)
        spans = (segments for of_cache in told for segments in of_cache)
        for start, segments in zip(self.starts.tolist(), spans, strict=True):
            for segment in with_margins(learned_segments(segments, self.fps, rules), self.fps, rules):
                number = numbers.setdefault(segment.text, len(numbers))
                command[start + segment.start : start + segment.stop] = number
        self.commands = tuple(numbers)
        ahead = np.arange(len(command)) + round(offset * self.fps)
        self._command = command[np.minimum(ahead, ends[self._episode] - 1)]
        self._tasks, self._task_index = _tasks(caches, told, self._offsets)
        self._newest_share = newest_share
        self.frames = np.flatnonzero(self._command >= 0)
        if not len(self.frames):
            raise TongsError(
                "no segment of the data is worth learning from: all are too short or ended by a correction"
            )

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def weights(self) -> NDArray[np.float32]:
        """All moments are equally likely, (len(self),)."""
        return np.ones(len(self), np.float32)

    @property
    def newest(self) -> tuple[int, float] | None:
        if self._newest_share is None:
            return None
        return int(np.searchsorted(self.frames, self._offsets[-2])), self._newest_share

    @property
    def instructions(self) -> tuple[str, ...]:
        """The distinct longer instructions that can occur in these samples, sorted."""
        return tuple(sorted({self._tasks[number] for number in np.unique(self._task_index[self.frames])}))

    def batch(self, indices: NDArray[np.integer] | Sequence[int], chances: NDArray[np.float64] | None = None) -> Batch:
        """Samples as arrays; B = len(indices), T = history + 1, oldest first. Nothing here is drawn, so `chances` does
        not matter.

        Returns:
            images {camera: uint8 (B, T, h, w, 3)}, instruction: B longer instructions, command: B commands, dataset
            int64 (B,).
        """
        now = self.frames[np.asarray(indices)]  # (B,)
        start = self.starts[self._episode[now]]
        seen = now[:, None] + self._back  # (B, T)
        absent = seen < start[:, None]
        seen = np.maximum(seen, start[:, None])
        source = np.searchsorted(self._offsets, now, side="right") - 1
        images = {}
        for name, parts in self._images.items():
            pictures = np.zeros((*seen.shape, *parts[0].shape), dtype=np.uint8)
            for number, part in enumerate(parts):
                here = (source == number)[:, None] & ~absent
                pictures[here] = part.read(seen[here] - self._offsets[number])
            images[name] = pictures
        return {
            "images": images,
            "instruction": [self._tasks[number] for number in self._task_index[now]],
            "command": [self.commands[number] for number in self._command[now]],
            "dataset": source,
        }

    def split(self, fraction: float, generator: np.random.Generator) -> tuple[CommandSamples, CommandSamples]:
        """Training and held-out samples; about `fraction` of the scenes (at least one, not all) is held out, none of
        them of the newest data if that has a share of its own: corrections are few."""
        scene = self._scene[self._episode[self.frames]]
        older = scene if self.newest is None else scene[: self.newest[0]]
        scenes = generator.permutation(np.unique(older))
        if not 0 < fraction < 1 or len(scenes) < 2:
            raise TongsError(f"cannot hold out a fraction {fraction} of episodes in {len(scenes)} scenes")
        out = np.isin(scene, scenes[: min(max(round(fraction * len(scenes)), 1), len(scenes) - 1)])
        return self._with_frames(self.frames[~out]), self._with_frames(self.frames[out])

    def _with_frames(self, frames: NDArray[np.int64]) -> CommandSamples:
        part = copy(self)
        part.frames = frames
        return part


def _tasks(
    caches: Sequence[EpisodeCache], told: Sequence[Sequence[Sequence[Segment]]], offsets: NDArray[np.integer]
) -> tuple[list[str], NDArray[np.int64]]:
    """The longer instructions, and which of them each frame belongs to: what was said at the frame, or at the episode's
    first one where corrections took its place later."""
    tasks: list[str] = []
    numbers = np.empty(int(offsets[-1]), dtype=np.int64)
    for cache, episodes, first in zip(caches, told, offsets[:-1].tolist(), strict=True):
        numbers[first : first + len(cache)] = cache.task_index + len(tasks)
        for start, end, segments in zip(cache.starts.tolist(), cache.ends.tolist(), episodes, strict=True):
            if any(segment.corrects for segment in segments):
                numbers[first + start : first + end] = cache.task_index[start] + len(tasks)
        tasks += cache.tasks
    return tasks, numbers


def _check_caches(caches: Sequence[EpisodeCache], cameras: Sequence[str], newest_share: float | None) -> None:
    if not caches or not cameras:
        raise TongsError("commands are learned from at least one dataset and one camera")
    for cache in caches:
        if absent := [name for name in cameras if name not in cache.images]:
            raise TongsError(f"dataset has no camera {', '.join(absent)}; it has: {', '.join(cache.images)}")
        if cache.fps != caches[0].fps:
            raise TongsError(f"datasets differ in frame rate: {caches[0].fps} and {cache.fps} frames/s")
    if newest_share is not None and len(caches) < 2:
        raise TongsError(
            "corrections are learned beside demonstrations: give both, data=<demonstrations>,<corrections>"
        )
