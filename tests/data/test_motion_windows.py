"""Which motion a training window is told and which it has to predict, and how much corrections count."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from data.cache import EpisodeCache, open_cache
from data.motions import CorrectionWeights, MotionTrack
from data.sampling import EpochSampler
from data.windows import Windows
from robot.errors import TongsError
from robot.motions import TABLE, MotionTable
from tests.data.episodes import write_dataset

STATE_ORDER = ("gripper", "y")


@pytest.fixture(scope="module")
def caches(tmp_path_factory: pytest.TempPathFactory) -> list[EpisodeCache]:
    root = tmp_path_factory.mktemp("motions")
    write_dataset(root / "a", (6, 4), storage="png")
    write_dataset(root / "b", (10,), storage="png")
    return [open_cache(root / name, {}) for name in ("a", "b")]


def tracks(table: MotionTable | None = TABLE) -> list[MotionTrack]:
    """A motion of its own for each frame; in the second dataset a person chose those of frames 4 to 6."""
    corrected = np.zeros(10, bool)
    corrected[4:7] = True
    return [
        MotionTrack([f"a{frame}" for frame in range(10)], np.zeros(10, bool), TABLE),
        MotionTrack([f"b{frame}" for frame in range(10)], corrected, table),
    ]


@pytest.mark.parametrize("ahead", [0, 1, 3])
def test_the_motion_to_be_predicted_is_shifted_and_stays_in_its_episode(caches: list[EpisodeCache], ahead: int) -> None:
    windows = Windows(caches, [], STATE_ORDER, motions=tracks(), motion_ahead=ahead)
    batch = windows.batch(np.arange(20))
    assert batch["motion"] == [f"a{frame}" for frame in range(10)] + [f"b{frame}" for frame in range(10)]
    ends = [5] * 6 + [9] * 4
    expected = [f"a{min(frame + ahead, end)}" for frame, end in enumerate(ends)]
    assert batch["motion_ahead"] == expected + [f"b{min(frame + ahead, 9)}" for frame in range(10)]
    marked = np.flatnonzero(batch["corrected"]) - 10
    assert marked.tolist() == [frame for frame in range(10) if 4 <= min(frame + ahead, 9) <= 6]
    assert set(windows.motions) == set(batch["motion"]) and windows.motion_table == TABLE


def test_corrections_are_drawn_as_often_as_they_weigh(caches: list[EpisodeCache]) -> None:
    """50 to 1, nothing else of their dataset; observed in what a sampler draws."""
    windows = Windows(caches, [], STATE_ORDER, motions=tracks(), corrections=CorrectionWeights())
    weights = windows.weights
    assert weights[:10].tolist() == [1.0] * 10
    assert weights[10:].tolist() == [0.0] * 4 + [50.0] * 3 + [0.0] * 3
    sampler = EpochSampler(weights, 20, np.random.default_rng(0))
    drawn = np.concatenate([sampler.next_batch() for _ in range(200)])
    assert abs(np.isin(drawn, [14, 15, 16]).mean() - 150 / 160) < 0.01
    shared = Windows(
        caches, [], STATE_ORDER, motions=tracks(), corrections=CorrectionWeights(1.0, 1.0, share=0.5)
    ).weights
    assert shared[14:17].sum() / shared.sum() == pytest.approx(0.5) and (shared > 0).all()


def test_bad_settings(caches: list[EpisodeCache]) -> None:
    with pytest.raises(TongsError, match="labelled by different tables of motions"):
        Windows(caches, [], STATE_ORDER, motions=tracks(MotionTable(TABLE.axes, most=1)))
    with pytest.raises(TongsError, match="there are 10 motions for 20 frames"):
        Windows(caches, [], STATE_ORDER, motions=tracks()[:1])
    with pytest.raises(TongsError, match="corrections must be at least 0, got -1"):
        CorrectionWeights(-1.0)
    with pytest.raises(TongsError, match="share must lie in 0..1, got 2"):
        CorrectionWeights(share=2.0)
    none = Windows(caches, [], STATE_ORDER)
    assert none.motions == () and "motion" not in none.batch([0])


def test_a_dataset_of_a_session_has_no_table(caches: list[EpisodeCache], tmp_path: Path) -> None:
    only = Windows(caches[1:], [], STATE_ORDER, motions=tracks(None)[1:])
    assert only.motion_table is None and len(only.motions) == 10
