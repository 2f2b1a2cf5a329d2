"""What was told during parts of an episode: segments of one command each, and which of them to learn from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from data.cache import EpisodeCache
from data.events import LanguageEvent
from data.reader import Dataset
from robot.errors import TongsError
from robot.motions import STOP_WORDS


@dataclass(frozen=True)
class SegmentRules:
    """How language events become segments (YAY Robot, arXiv 2403.12910; its released code counts at 50 Hz).

    Attributes:
        skill: s for which a correction holds, unless something else is told before.
        margin: s before a correction from which on it would have been right already (`hl_margin`).
        shortest: s below which a segment is not learned from.
    """

    skill: float = 4.0
    margin: float = 2.0
    shortest: float = 0.4

    def __post_init__(self) -> None:
        if not self.skill > 0:
            raise TongsError(f"the time that a correction holds must be positive, got {self.skill} s")
        for name in ("margin", "shortest"):
            if not getattr(self, name) >= 0:
                raise TongsError(f"segments: {name} must be at least 0 s, got {getattr(self, name)}")


@dataclass(frozen=True)
class Segment:
    """Frames `start` to `stop` (excluded) of an episode, in which `text` was to be done; `corrects` if somebody said it
    because what was being done was wrong."""

    start: int
    stop: int
    text: str
    corrects: bool = False

    def __len__(self) -> int:
        return self.stop - self.start


def told_segments(events: Sequence[LanguageEvent], length: int, fps: int, rules: SegmentRules) -> list[Segment]:
    """All segments of an episode of so many frames, in their order; what lies between them was told nothing.

    A sub-task lasts until something else is told, a correction for `rules.skill` s at most. What merely stops the arm
    is no correction.
    """
    marks = [
        (math.ceil(event.time * fps - 1e-6), event.text, event.style == "interjection")
        for event in events
        if event.text and (event.style == "subtask" or (event.style == "interjection" and _tells(event)))
    ]
    marks = sorted((mark for mark in marks if mark[0] < length), key=lambda mark: mark[0])
    segments = []
    for number, (start, text, corrects) in enumerate(marks):
        stop = marks[number + 1][0] if number + 1 < len(marks) else length
        if corrects:
            stop = min(stop, start + round(rules.skill * fps))
        segments.append(Segment(start, stop, text, corrects))
    return segments


def _tells(event: LanguageEvent) -> bool:
    """Whether an interjection is a person's command."""
    return event.role == "user" and (event.text or "").lower().strip(" .!") not in STOP_WORDS


def learned_segments(segments: Sequence[Segment], fps: int, rules: SegmentRules) -> list[Segment]:
    """Those worth learning: long enough, and not ended by a correction, before which what was done was wrong. A
    correction that another one follows is right all the same: what was asked for may be done."""
    kept = []
    for number, segment in enumerate(segments):
        after = segments[number + 1] if number + 1 < len(segments) else None
        mistaken = after is not None and after.corrects and not segment.corrects
        if not mistaken and len(segment) >= rules.shortest * fps:
            kept.append(segment)
    return kept


def with_margins(segments: Sequence[Segment], fps: int, rules: SegmentRules) -> list[Segment]:
    """The same with every correction beginning `rules.margin` s earlier, where it would have been right already, though
    not within another one of these."""
    widened: list[Segment] = []
    for segment in segments:
        if segment.corrects:
            earliest = widened[-1].stop if widened else 0
            segment = replace(segment, start=max(segment.start - round(rules.margin * fps), earliest))
        widened.append(segment)
    return widened


def dataset_segments(dataset: Dataset, rules: SegmentRules) -> list[list[Segment]]:
    """`told_segments` of every episode.

    Raises:
        TongsError: nothing was told in any of them.
    """
    told = [
        told_segments(dataset.events(episode.index), episode.length, dataset.fps, rules) for episode in dataset.episodes
    ]
    if not any(told):
        raise TongsError(
            f"{dataset.folder} says nothing of sub-tasks or corrections; `tongs collect task=compose` records "
            "sub-tasks, and a session (`tongs gui`) records corrections"
        )
    return told


def by_segments(cache: EpisodeCache, told: Sequence[Sequence[Segment]], rules: SegmentRules) -> EpisodeCache:
    """The cache with segments in the place of episodes: each begins, ends and is instructed for itself. Frames without
    a segment to learn from are there, and are not `sampled`."""
    tasks: dict[str, int] = {"": 0}
    task_index = np.zeros(len(cache), dtype=np.int64)
    sampled = np.zeros(len(cache), dtype=bool)
    starts: list[int] = []
    together: list[int] = []
    for episode, (start, end) in enumerate(zip(cache.starts.tolist(), cache.ends.tolist(), strict=True)):
        segments = told[episode]
        edges = {start, *(start + edge for segment in segments for edge in (segment.start, segment.stop))} - {end}
        starts += sorted(edges)
        together += [episode if cache.scenes is None else int(cache.scenes[episode])] * len(edges)
        for segment in learned_segments(segments, cache.fps, rules):
            frames = slice(start + segment.start, start + segment.stop)
            task_index[frames] = tasks.setdefault(segment.text, len(tasks))
            sampled[frames] = True
    return replace(
        cache,
        tasks=tuple(tasks),
        task_index=task_index,
        starts=np.array(starts, dtype=np.int64),
        ends=np.array([*starts[1:], len(cache)], dtype=np.int64),
        together=np.array(together, dtype=np.int64),
        sampled=sampled,
    )
