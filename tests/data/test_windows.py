"""Training windows against a slow, frame-by-frame construction; sampling order and prefetching."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from data.cache import EpisodeCache, open_cache
from data.features import ACTION, ENVIRONMENT_STATE, STATE
from data.prefetch import Prefetcher
from data.sampling import EpochSampler
from data.windows import Windows
from robot.errors import TongsError
from tests.data.episodes import SIZE, TRUTH_NAMES, write_dataset

LENGTHS = (20, 15, 25)
STATE_ORDER = ("gripper", "y")


@pytest.fixture(scope="module")
def caches(tmp_path_factory: pytest.TempPathFactory) -> list[EpisodeCache]:
    root = tmp_path_factory.mktemp("windows")
    write_dataset(root / "a", LENGTHS, storage="png")
    write_dataset(root / "b", (10, 12), storage="png")
    return [open_cache(root / name, {"front": SIZE, "wrist": (16, 24)}) for name in ("a", "b")]


def slow_window(cache: EpisodeCache, frame: int, window: int, horizon: int, pad_hold: bool) -> dict:
    """One window by the definition, in a loop."""
    episode = int(cache.frame_episode[frame])
    start, end = int(cache.starts[episode]), int(cache.ends[episode])
    seen = [max(frame - back, start) for back in reversed(range(window))]
    actions, is_pad = [], []
    for time in range(frame - window + 1, frame + horizon):
        action = cache.columns[ACTION][min(max(time, start), end - 1)].copy()
        outside = not start <= time < end
        if time >= end and pad_hold:
            action[:2] = 0.0
            outside = False
        actions.append(action)
        is_pad.append(outside)
    return {
        "state": cache.columns[STATE][seen][:, [3, 1]],
        "front": cache.images["front"][seen],
        "actions": np.stack(actions),
        "action_is_pad": np.array(is_pad),
        "instruction": cache.tasks[cache.task_index[frame]],
        "environment_state": cache.columns[ENVIRONMENT_STATE][frame],
    }


@pytest.mark.parametrize("pad_hold", [False, True])
@pytest.mark.parametrize(("window", "horizon"), [(1, 1), (1, 12), (3, 1), (4, 8)])
def test_windows_equal_the_definition(caches: list[EpisodeCache], window: int, horizon: int, pad_hold: bool) -> None:
    windows = Windows(caches, ["front"], STATE_ORDER, window, horizon, TRUTH_NAMES, pad_hold)
    assert len(windows) == 82
    batch = windows.batch(np.arange(82)[::-1])
    assert batch["actions"].dtype == batch["state"].dtype == np.float32 and batch["action_is_pad"].dtype == np.bool_
    for row, frame in enumerate(range(81, -1, -1)):
        cache, local = (caches[0], frame) if frame < 60 else (caches[1], frame - 60)
        wanted = slow_window(cache, local, window, horizon, pad_hold)
        np.testing.assert_array_equal(batch["images"]["front"][row], wanted.pop("front"))
        assert batch["instruction"][row] == wanted.pop("instruction")
        for key, value in wanted.items():
            np.testing.assert_array_equal(batch[key][row], value, err_msg=f"{key} of frame {frame}")


def test_batches_do_not_touch_the_data(caches: list[EpisodeCache]) -> None:
    windows = Windows(caches, [], STATE_ORDER, 1, 8, pad_hold=True)
    before = windows.batch([19])["actions"].copy()
    windows.batch([19])["actions"][:] = 7.0
    np.testing.assert_array_equal(windows.batch([19])["actions"], before)


def test_only_final_holds_are_weighted_down(caches: list[EpisodeCache]) -> None:
    windows = Windows(caches[:1], [], STATE_ORDER, hold_weight=0.25)
    weights = windows.weights
    for start, end in zip(caches[0].starts, caches[0].ends, strict=True):
        assert (weights[end - 5 : end] == 0.25).all() and (weights[start : end - 5] == 1.0).all()


def test_split_is_by_episode_and_repeatable(caches: list[EpisodeCache]) -> None:
    windows = Windows(caches, [], STATE_ORDER)
    train, heldout = windows.split(0.4, np.random.default_rng(3))
    assert len(heldout.episodes) == 2 and len(train) + len(heldout) == 82
    assert not set(train.episodes) & set(heldout.episodes)
    again = windows.split(0.4, np.random.default_rng(3))[1]
    np.testing.assert_array_equal(again.frames, heldout.frames)
    state = np.concatenate([cache.columns[STATE][:, [3, 1]] for cache in caches])
    np.testing.assert_allclose(train.statistics()[STATE]["mean"], state[train.frames].mean(axis=0, dtype=np.float64))
    with pytest.raises(TongsError, match="cannot hold out"):
        windows.split(1.0, np.random.default_rng(0))


def test_wrong_requests_are_told(caches: list[EpisodeCache]) -> None:
    with pytest.raises(TongsError, match="no camera side; it has: front, wrist"):
        Windows(caches, ["side"], STATE_ORDER)
    with pytest.raises(TongsError, match="no entry wings"):
        Windows(caches, [], ("wings",))
    with pytest.raises(TongsError, match="at least 1, got 0 and 12"):
        Windows(caches, [], STATE_ORDER, window=0)
    with pytest.raises(TongsError, match="at least one dataset"):
        Windows([], [], STATE_ORDER)


def test_equal_weights_visit_everything_once_per_epoch() -> None:
    sampler = EpochSampler(np.ones(50), 20, np.random.default_rng(0))
    drawn = np.concatenate([sampler.next_batch() for _ in range(5)])  # two epochs
    first, second = drawn[:50], drawn[50:]
    assert sorted(first) == sorted(second) == list(range(50))
    assert first.tolist() != second.tolist() and first.tolist() != sorted(first)


def test_weights_set_the_rate() -> None:
    weights = np.where(np.arange(100) < 40, 0.25, 1.0)
    weights[99] = 0.0
    sampler = EpochSampler(weights, 100, np.random.default_rng(0))
    counts = np.bincount(np.concatenate([sampler.next_batch() for _ in range(400)]), minlength=100)
    np.testing.assert_allclose(counts / counts.sum(), weights / weights.sum(), atol=1.2e-3)
    assert counts[99] == 0


@pytest.mark.parametrize("batches", [0, 1, 3, 7])
def test_sampling_resumes_exactly(batches: int) -> None:
    weights = np.random.default_rng(1).random(33)
    sampler = EpochSampler(weights, 10, np.random.default_rng(5))
    for _ in range(batches):
        sampler.next_batch()
    state = json.loads(json.dumps(sampler.state_dict()))
    resumed = EpochSampler(weights, 10, np.random.default_rng(99))
    resumed.load_state_dict(state)
    for _ in range(12):
        np.testing.assert_array_equal(resumed.next_batch(), sampler.next_batch())


def test_bad_weights_are_refused() -> None:
    for weights in (np.zeros(3), np.array([1.0, -1.0]), np.array([np.nan]), np.zeros(0)):
        with pytest.raises(TongsError, match="weights"):
            EpochSampler(weights, 2, np.random.default_rng(0))


def test_prefetching_changes_nothing_and_counts_what_was_used(caches: list[EpisodeCache]) -> None:
    windows = Windows(caches, [], STATE_ORDER)
    plain = EpochSampler(windows.weights, 16, np.random.default_rng(0))
    with Prefetcher(windows, EpochSampler(windows.weights, 16, np.random.default_rng(0)), ahead=3) as prefetcher:
        for _ in range(8):
            np.testing.assert_array_equal(prefetcher.next_batch()["state"], windows.batch(plain.next_batch())["state"])
            assert prefetcher.state_dict() == plain.state_dict()


def test_what_goes_wrong_while_prefetching_is_raised(caches: list[EpisodeCache]) -> None:
    windows = Windows(caches, [], STATE_ORDER)
    beyond = EpochSampler(np.ones(10_000), 64, np.random.default_rng(0))
    with Prefetcher(windows, beyond) as prefetcher, pytest.raises(IndexError):
        for _ in range(10):
            prefetcher.next_batch()


def test_holding_needs_the_named_entry_to_keep_its_value(tmp_path: Path) -> None:
    """A gripper that still closes is no hold, even with a resting arm."""
    episodes = write_dataset(tmp_path / "set", (20,), storage="png")
    action = episodes[0]["columns"][ACTION]
    assert set(action[:, 2]) == {0.0, 1.0}
    cache = open_cache(tmp_path / "set", {})
    resting = cache.columns[ACTION].copy()
    resting[:, :2] = 0.0
    still = EpisodeCache(**{**cache.__dict__, "columns": {**cache.columns, ACTION: resting}})
    weights = Windows([still], [], STATE_ORDER, hold_weight=0.0).weights
    np.testing.assert_array_equal(weights, [1.0] * 10 + [0.0] * 10)
