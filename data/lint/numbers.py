"""Checks of single columns: values, clocks, lengths, copies."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator

import numpy as np

from data.lint.recording import Finding, Recording, listed, runs
from data.timing import MEASURED

IDLE_SECONDS = 3.0
"""Longer than the two seconds that a reached goal is held."""
STILL = 0.05
"""Motion below this share of an entry's usual change counts as none."""
FAR = 5.0
"""Values this many spans (1 % to 99 %) outside the span are out of range."""
CLOCK_TOLERANCE = 1e-3
"""Seconds by which a frame may be off its place on the grid."""


def not_finite(recording: Recording) -> Iterator[Finding]:
    for kind, bad in recording.unusable.items():
        if episodes := tuple(episode for episode, span in recording.spans if bad[span].any()):
            frames = f"{bad.sum()} frame" + "s" * (bad.sum() > 1).item()
            yield Finding("values", f"NaN or infinity in {frames} of the {kind}", episodes, serious=True)


def out_of_range(recording: Recording) -> Iterator[Finding]:
    for kind, values, names in recording.numbers():
        low, high = np.quantile(values, [0.01, 0.99], axis=0)
        span = np.maximum(high - low, np.std(values, axis=0))
        far = (values < low - FAR * span) | (values > high + FAR * span)
        for number in np.flatnonzero(far.any(axis=0)):
            episodes = tuple(episode for episode, frames in recording.spans if far[frames, number].any())
            worst = values[far[:, number], number]
            worst = worst[np.abs(worst - low[number]).argmax()]
            yield Finding(
                "values",
                f"{kind} {names[number]} is {worst:.4g} where 98 % of it lie from {low[number]:.4g} to "
                f"{high[number]:.4g}; one such value stretches a normalisation by minimum and maximum",
                episodes,
            )


def constant(recording: Recording) -> Iterator[Finding]:
    for kind, values, names in recording.numbers():
        still = [name for name, column in zip(names, values.T, strict=True) if column.min() == column.max()]
        if still and len(recording.dataset.episodes) > 1:
            yield Finding("constant", f"the {kind} never changes in {listed(still)}; a policy learns nothing from it")


def idle(recording: Recording) -> Iterator[Finding]:
    found: dict[str, list[tuple[int, float]]] = defaultdict(list)
    wanted = round(IDLE_SECONDS * recording.fps)
    for episode, span in recording.spans:
        length = span.stop - span.start
        for first, count in runs(recording.motion[span] < STILL, wanted):
            place = "at the beginning" if first == 0 else "at the end" if first + count == length else "in the middle"
            found[place].append((episode, recording.seconds(count)))
    for place, stretches in found.items():
        longest = max(seconds for _, seconds in stretches)
        episodes = tuple(dict.fromkeys(episode for episode, _ in stretches))
        yield Finding("idle", f"nothing moves {place} for up to {longest:.1f} s; a policy learns to wait", episodes)


def clock(recording: Recording) -> Iterator[Finding]:
    time = recording.dataset.columns["timestamp"][:, 0].astype(np.float64)
    worst, episodes = 0.0, []
    for episode, span in recording.spans:
        off = float(np.abs(time[span] - np.arange(span.stop - span.start) / recording.fps).max())
        if off > CLOCK_TOLERANCE:
            episodes.append(episode)
            worst = max(worst, off)
    if episodes:
        yield Finding(
            "clock",
            f"time stamps are up to {worst:.3g} s off the grid of {recording.fps} frames/s; videos and numbers no "
            "longer belong together",
            tuple(episodes),
            serious=True,
        )
    yield from _sensor_clocks(recording)


def _sensor_clocks(recording: Recording) -> Iterator[Finding]:
    """Real time stamps, where they were recorded: none may run backwards or stand still for long."""
    if MEASURED not in recording.dataset.features:
        return
    times = recording.dataset.columns[MEASURED].astype(np.float64)
    names = recording.dataset.features[MEASURED].names or ()
    for number, name in enumerate(names):
        backwards, stale = [], []
        for episode, span in recording.spans:
            step = np.diff(times[span, number])
            if (step < 0).any():
                backwards.append(episode)
            if runs(step == 0, max(2, round(0.5 * recording.fps))) or (step > 0.5 + 2 / recording.fps).any():
                stale.append(episode)
        if backwards:
            yield Finding("clock", f"the clock of {name} runs backwards", tuple(backwards), serious=True)
        if stale:
            yield Finding("clock", f"{name} gave nothing new for half a second or more", tuple(stale))


def lengths(recording: Recording) -> Iterator[Finding]:
    counts = np.array([span.stop - span.start for _, span in recording.spans])
    short = np.flatnonzero(counts < 0.1 * np.median(counts))
    if len(short):
        median = recording.seconds(int(np.median(counts)))
        yield Finding("length", f"shorter than a tenth of the usual {median:.1f} s", tuple(map(int, short)))


def copies(recording: Recording) -> Iterator[Finding]:
    same: dict[bytes, list[int]] = defaultdict(list)
    for episode, span in recording.spans:
        same[hashlib.sha256(recording.state[span].tobytes() + recording.action[span].tobytes()).digest()].append(
            episode
        )
    for episodes in same.values():
        if len(episodes) > 1:
            yield Finding("copies", "the same episode more than once; held-out losses look too good", tuple(episodes))
