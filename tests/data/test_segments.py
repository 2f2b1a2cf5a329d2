"""Segments of one command each: where they begin and end, which of them are learned from, and what is sampled."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from data.cache import EpisodeCache, open_cache
from data.commands import CommandSamples
from data.events import LanguageEvent, motion, subtask
from data.features import IMAGES, STATE
from data.reader import Dataset
from data.sampling import EpochSampler
from data.segments import (
    Segment,
    SegmentRules,
    by_segments,
    dataset_segments,
    learned_segments,
    told_segments,
    with_margins,
)
from data.windows import Windows
from data.writer import DatasetWriter
from robot.errors import TongsError
from tests.data.episodes import CAMERAS, FPS, SIZE, STATE_NAMES, features, numbers

RULES = SegmentRules(skill=4.0, margin=2.0, shortest=0.4)


def said(time: float, text: str, role: str = "user") -> LanguageEvent:
    return LanguageEvent(time, text, "interjection", role)


NARRATED = [subtask(0.0, "open"), subtask(3.0, "grasp"), subtask(3.3, "lift"), said(6.0, "higher"), subtask(9.0, "put")]
"""A demonstration of 12 s with a segment that is too short, a mistake, and its correction."""
SESSION = [said(1.0, "close it"), motion(2.0, "move left"), said(7.0, "stop"), said(8.05, "open it"), said(9.0, "lift")]


def test_segments_of_a_demonstration() -> None:
    told = told_segments(NARRATED, 120, FPS, RULES)
    assert told == [
        Segment(0, 30, "open"),
        Segment(30, 33, "grasp"),
        Segment(33, 60, "lift"),
        Segment(60, 90, "higher", corrects=True),
        Segment(90, 120, "put"),
    ]
    kept = learned_segments(told, FPS, RULES)
    assert [segment.text for segment in kept] == ["open", "higher", "put"]  # 3 frames are too few; the lift was wrong
    widened = with_margins(kept, FPS, RULES)
    assert [(s.start, s.stop) for s in widened] == [(0, 30), (40, 90), (90, 120)]
    assert with_margins(kept, FPS, SegmentRules(margin=9.0))[1].start == 30  # not within what was right


def test_segments_of_a_session() -> None:
    """A correction holds for 4 s at most; what stops the arm, what a model says and motions are none."""
    told = told_segments([*SESSION, said(5.0, "pull", "assistant")], 120, FPS, RULES)
    assert told == [
        Segment(10, 50, "close it", corrects=True),
        Segment(81, 90, "open it", corrects=True),
        Segment(90, 120, "lift", corrects=True),
    ]
    kept = learned_segments(told, FPS, RULES)
    assert kept == told  # a correction is not wrong because another one follows
    assert [segment.start for segment in with_margins(kept, FPS, RULES)] == [0, 61, 90]
    assert told_segments(SESSION, 10, FPS, RULES) == []


@pytest.mark.parametrize(("name", "value"), [("skill", 0.0), ("margin", -1.0), ("shortest", float("nan"))])
def test_bad_rules(name: str, value: float) -> None:
    with pytest.raises(TongsError, match="must be (positive|at least 0)|holds must be positive"):
        SegmentRules(**{name: value})


def write(folder: Path, episodes: Sequence[tuple[int, list[LanguageEvent]]], task: str = "tidy up") -> Path:
    """Episodes whose pictures have the frame's number as their grey, and whose state its x."""
    with DatasetWriter(folder, FPS, features(), "test_arm", "png", language="episodes") as writer:
        for number, (length, events) in enumerate(episodes):
            frames = np.arange(length)
            columns = numbers(number, length)
            columns[STATE][:, 0] = frames + 1000 * number
            pictures = np.broadcast_to((frames + 1)[:, None, None, None], (length, *SIZE, 3)).astype(np.uint8)
            tasks = [task] * length
            for event in events:
                if event.style == "interjection" and event.text:
                    tasks[round(event.time * FPS) :] = [event.text] * (length - round(event.time * FPS))
            images = {IMAGES + name: pictures for name in CAMERAS}
            writer.add_episode(columns, tasks, images=images, events=events)
    return folder


def opened(folder: Path) -> tuple[EpisodeCache, list[list[Segment]]]:
    return open_cache(folder, dict.fromkeys(CAMERAS, SIZE)), dataset_segments(Dataset(folder), RULES)


@pytest.fixture(scope="module")
def demonstrations(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("segments") / "demonstrations"
    return write(folder, [(120, NARRATED), (60, [subtask(0.0, "open"), subtask(3.0, "put")])])


@pytest.fixture(scope="module")
def corrections(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("segments") / "corrections"
    return write(folder, [(100, [said(5.0, "turn it")])])


def test_windows_of_segments(demonstrations: Path) -> None:
    """What is not learned from is never sampled, and no chunk goes beyond its segment."""
    cache, told = opened(demonstrations)
    windows = Windows([by_segments(cache, told, RULES)], ["front"], STATE_NAMES[:1], 2, 12)
    batch = windows.batch(np.arange(len(windows)))
    now = batch["state"][:, -1, 0].astype(int)
    wanted = [*range(0, 30), *range(60, 120), *range(1000, 1060)]
    assert now.tolist() == wanted
    spans = ((0, 30), (60, 90), (90, 120), (1000, 1030), (1030, 1060))
    ends = {frame: end for start, end in spans for frame in range(start, end)}
    starts = {frame: start for start, end in spans for frame in range(start, end)}
    texts = {0: "open", 60: "higher", 90: "put", 1000: "open", 1030: "put"}
    for row, frame in enumerate(wanted):
        assert batch["instruction"][row] == texts[starts[frame]]
        beyond = [not starts[frame] <= frame + step < ends[frame] for step in range(-1, 12)]
        assert batch["action_is_pad"][row].tolist() == beyond
        assert batch["state"][row, 0, 0] == max(frame - 1, starts[frame])
    training, heldout = windows.split(0.5, np.random.default_rng(0))
    for part in (training, heldout):  # all segments of an episode are on one side
        frames = part.batch(np.arange(len(part)))["state"][:, -1, 0]
        assert len({int(frame) // 1000 for frame in frames}) == 1


def test_samples_of_commands(demonstrations: Path, corrections: Path) -> None:
    (cache, told), (more, said_then) = opened(demonstrations), opened(corrections)
    samples = CommandSamples([cache, more], [told, said_then], CAMERAS, rules=RULES)
    assert samples.commands == ("open", "higher", "put", "turn it")
    batch = samples.batch(np.arange(len(samples)))
    assert batch["images"]["front"].shape == (len(samples), 4, *SIZE, 3)
    greys = batch["images"]["front"][:, :, 0, 0, 0].astype(int)  # frame + 1, 0 before the episode
    newest = zip(batch["dataset"], greys[:, -1] - 1, batch["command"], strict=True)
    found = {int(frame): command for dataset, frame, command in newest if dataset}
    assert found == {frame: "turn it" for frame in range(30 - 4, 90 - 4)}  # 2 s before it, for 4 s, 0.4 s ahead
    first = batch["dataset"] == 0
    moments = samples.frames[first]
    ahead = {25: "open", 36: "higher", 85: "higher", 86: "put", 119: "put", 120 + 25: "open", 120 + 26: "put"}
    assert {moment: batch["command"][list(moments).index(moment)] for moment in ahead} == ahead
    assert not set(range(26, 36)) & set(moments.tolist())  # 0.4 s before what is not learned from
    for row, (moment, grey) in enumerate(zip(moments.tolist(), greys[first], strict=True)):
        frame = moment if moment < 120 else moment - 120
        assert grey.tolist() == [max(frame - back + 1, 0) if frame >= back else 0 for back in (30, 20, 10, 0)], row
    assert set(batch["instruction"]) == {"tidy up"}  # also where a correction took its place


def test_the_newest_data_gives_its_share_of_every_batch(demonstrations: Path, corrections: Path) -> None:
    """Six of 64 at a DAgger ratio of 0.1, and all others from before."""
    (cache, told), (more, said_then) = opened(demonstrations), opened(corrections)
    samples = CommandSamples([cache, more], [told, said_then], CAMERAS, rules=RULES, newest_share=0.1)
    training, heldout = samples.split(0.5, np.random.default_rng(0))
    assert set(heldout.batch(np.arange(len(heldout)))["dataset"]) == {0}  # corrections are all learned from
    sampler = EpochSampler(training.weights, 64, np.random.default_rng(0), training.in_order, training.newest)
    state = sampler.state_dict()
    batches = [sampler.next_batch() for _ in range(20)]
    for indices in batches:
        assert training.batch(indices)["dataset"].tolist().count(1) == 6
    others = np.concatenate([indices[:58] for indices in batches])
    older = int((training.batch(np.arange(len(training)))["dataset"] == 0).sum())
    assert sorted(others[:older]) == list(range(older))  # an epoch is one of the others
    again = EpochSampler(training.weights, 64, np.random.default_rng(5), 0.0, training.newest)
    again.load_state_dict(state)
    assert all((again.next_batch() == indices).all() for indices in batches)
    with pytest.raises(TongsError, match="which is 0 samples; it has to be from 1 to 3"):
        EpochSampler(training.weights, 4, np.random.default_rng(0), 0.0, training.newest)
    with pytest.raises(TongsError, match="needs older data beside it"):
        EpochSampler(training.weights, 64, np.random.default_rng(0), 0.0, (0, 0.1))


def test_data_that_tells_nothing(tmp_path: Path, demonstrations: Path) -> None:
    silent = write(tmp_path / "silent", [(10, [])])
    with pytest.raises(TongsError, match="says nothing of sub-tasks or corrections"):
        dataset_segments(Dataset(silent), RULES)
    cache, told = opened(demonstrations)
    with pytest.raises(TongsError, match="no segment of the data is worth learning from"):
        CommandSamples([cache], [told], CAMERAS, rules=SegmentRules(shortest=60.0))
    with pytest.raises(TongsError, match="give both"):
        CommandSamples([cache], [told], CAMERAS, newest_share=0.1)
    with pytest.raises(TongsError, match="no camera left"):
        CommandSamples([cache], [told], ["left"])
