"""Real time stamps: what rate and jitter they show, and episodes that are refused for them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from data.features import ACTION, IMAGES, STATE
from data.reader import Dataset
from data.timing import MEASURED, Timing, TimingLimits, check_times, measure, measured_times
from data.writer import DatasetWriter
from robot.errors import TongsError
from tests.data.episodes import FPS, features, images, numbers, stamps, tasks


def timed_features() -> dict:
    return features() | {MEASURED: measured_times(features())}


def test_rate_and_jitter_are_those_of_a_fitted_line() -> None:
    random = np.random.default_rng(0)
    frame = np.arange(400)
    noise = random.normal(scale=0.002, size=400)
    times = np.stack([1.7e9 + frame / 25.0, 1.7e9 + 0.02 + frame / 25.0 + noise], axis=1)
    timing = measure(times)
    slope, intercept = np.polyfit(frame, times[:, 1] - 1.7e9, 1)
    assert timing.start == 1.7e9
    np.testing.assert_allclose(timing.rates, [25.0, 1 / slope], rtol=1e-7)
    residual = times[:, 1] - 1.7e9 - (slope * frame + intercept)
    np.testing.assert_allclose(timing.jitters, [0.0, residual.std()], rtol=1e-3, atol=3e-7)


def test_one_frame_has_no_rate_and_is_accepted() -> None:
    timing = check_times(np.array([[5.0, 5.1]]), ("a", "b"), 10, TimingLimits())
    assert timing.start == 5.0 and np.isnan(timing.rates).all() and timing.jitters == (0.0, 0.0)


def test_a_recorder_at_25_hz_that_declares_30_is_refused(tmp_path: Path) -> None:
    """huggingface/lerobot pull request 2786: the motion would be replayed too fast."""
    with DatasetWriter(tmp_path, 30, timed_features(), "arm") as writer:
        columns = numbers(0, 40) | {MEASURED: stamps(40, rate=25.0)}
        message = r"was recorded at 25\.0\d Hz with a jitter of 0\.\d ms, but the dataset declares 30 Hz; at most 5 %"
        with pytest.raises(TongsError, match=message):
            writer.add_episode(columns, tasks(0, 40), images=images(0, 40))
        assert writer.episodes == 0 and not (tmp_path / "data").exists()


def test_jitter_and_clocks_that_run_backwards_are_refused() -> None:
    times = stamps(50, rate=10.0)
    late = times + np.where(np.arange(50) % 5 == 0, 0.35, 0.0)[:, None]
    with pytest.raises(TongsError, match=r"observation.images.front was recorded at .* jitter of 1\d\d\.\d ms"):
        check_times(np.maximum.accumulate(late, axis=0), measured_times(features()).names or (), 10, TimingLimits())
    times[20, 1] = times[18, 1]
    with pytest.raises(TongsError, match=r"observation.images.wrist run backwards at frame 20"):
        check_times(times, measured_times(features()).names or (), 10, TimingLimits())
    with pytest.raises(TongsError, match="action was recorded at 10.0"):
        check_times(stamps(50, rate=10.05)[:, -1:], ("action",), 10, TimingLimits(rate=0.001))


def test_stamps_come_back_on_the_robots_clock(tmp_path: Path) -> None:
    assert measured_times(features()).names == (IMAGES + "front", IMAGES + "wrist", STATE, ACTION)
    written = [stamps(20 + number, start=1.7e9 + 60 * number) for number in range(3)]
    with DatasetWriter(tmp_path, FPS, timed_features(), "arm") as writer:
        for seed, times in enumerate(written):
            length = len(times)
            writer.add_episode(
                numbers(seed, length) | {MEASURED: times}, tasks(seed, length), images=images(seed, length)
            )
    dataset = Dataset(tmp_path)
    assert dataset.features[MEASURED].dtype == "float64"
    for number, times in enumerate(written):
        timing = dataset.episodes[number].timing
        assert isinstance(timing, Timing) and timing.start == times[0].min()
        np.testing.assert_allclose(timing.rates, FPS, rtol=0.01)
        np.testing.assert_allclose(dataset.measured_times(number), times, rtol=0, atol=3e-7)  # float64 at 1.7e9 s
        span = dataset.episodes[number]
        deviation = (
            dataset.columns[MEASURED][span.start : span.stop] - dataset.columns["timestamp"][span.start : span.stop]
        )
        assert np.abs(deviation).max() < 0.1, "the column itself begins with the episode"
    row = pq.read_table(tmp_path / "meta/episodes/chunk-000/file-001.parquet").to_pylist()[0]
    assert len(row["timing/rate"]) == len(row["timing/jitter"]) == 4


def test_a_dataset_without_stamps_has_none(tmp_path: Path) -> None:
    with DatasetWriter(tmp_path, FPS, features(), "arm") as writer:
        writer.add_episode(numbers(0, 10), tasks(0, 10), images=images(0, 10))
    assert Dataset(tmp_path).measured_times(0) is None and Dataset(tmp_path).episodes[0].timing is None
