"""Training windows against a slow, frame-by-frame construction; sampling order and prefetching."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data.cache import EpisodeCache, open_cache
from data.features import ACTION, ENVIRONMENT_STATE, STATE
from data.goals import GoalRelabelling
from data.prefetch import Prefetcher
from data.sampling import EpochSampler
from data.windows import CHANCES, Windows
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


def test_shares_set_what_each_dataset_gives(caches: list[EpisodeCache]) -> None:
    windows = Windows(caches, [], STATE_ORDER, hold_weight=0.25, shares=(1, 3))
    for part in (windows, *windows.split(0.4, np.random.default_rng(3))):
        weights, from_first = part.weights, part.frames < 60
        assert weights[from_first].sum() / weights.sum() == pytest.approx(0.25)
    first = windows.weights[:60]
    assert sorted(set(np.round(first / first.max(), 5))) == [0.25, 1.0]  # holds still count less
    with pytest.raises(TongsError, match="must be 2 numbers, one per dataset"):
        Windows(caches, [], STATE_ORDER, shares=(1,))


def test_goals_come_from_later_in_the_episode(caches: list[EpisodeCache]) -> None:
    windows = Windows(caches, ["front"], STATE_ORDER, goals=GoalRelabelling(last=0.5, future=0.5))
    indices = np.arange(82)
    batch = windows.batch(indices, np.random.default_rng(0).random((82, CHANCES)))
    goal = indices + batch["goal_distance"]
    end = windows.ends[np.searchsorted(windows.ends, indices, side="right")]
    assert (goal < end).all() and (goal > indices)[indices < end - 1].all()
    state = np.concatenate([cache.columns[STATE][:, [3, 1]] for cache in caches])
    front = np.concatenate([cache.images["front"] for cache in caches])
    np.testing.assert_array_equal(batch["goal_state"], state[goal][:, None])
    np.testing.assert_array_equal(batch["goal_images"]["front"], front[goal][:, None])
    with pytest.raises(TongsError, match="need random numbers"):
        windows.batch([0])


def test_goals_of_several_moments_end_with_the_goal_and_begin_after_now(caches: list[EpisodeCache]) -> None:
    windows = Windows(caches, ["front"], STATE_ORDER, goals=GoalRelabelling(future=1.0), goal_window=3)
    indices = np.arange(82)
    batch = windows.batch(indices, np.random.default_rng(0).random((82, CHANCES)))
    state = np.concatenate([cache.columns[STATE][:, [3, 1]] for cache in caches])
    assert batch["goal_images"]["front"].shape[:2] == (82, 3)
    for index, seen, distance in zip(indices, batch["goal_state"], batch["goal_distance"], strict=True):
        goal = index + distance
        moments = [max(goal - back, min(index + 1, goal)) for back in (2, 1, 0)]
        np.testing.assert_array_equal(seen, state[moments])


def test_paraphrases_are_drawn_beside_the_original(caches: list[EpisodeCache]) -> None:
    pool = {"open the drawer": ["open it", "the drawer, please"]}
    windows = Windows(caches, [], STATE_ORDER, paraphrases=pool)
    assert {"open it", "the drawer, please", "pull it open"} <= set(windows.instructions)
    original = Windows(caches, [], STATE_ORDER).batch(np.arange(82))["instruction"]
    chances = np.random.default_rng(0).random((50, 82, CHANCES))
    drawn = np.array([windows.batch(np.arange(82), chance)["instruction"] for chance in chances])  # (50, 82)
    for said, seen in zip(original, drawn.T, strict=True):
        assert set(seen) == {said, *pool.get(said, ())}


def grif_windows(caches: list[EpisodeCache], **options: Any) -> Windows:
    rule = GoalRelabelling(last=0.5, future=0.5, language_keep=1.0)
    return Windows(caches, ["front"], STATE_ORDER, goals=rule, **options)


def test_a_smaller_labelled_part_lies_inside_a_larger_one(caches: list[EpisodeCache]) -> None:
    windows = grif_windows(caches)

    def labelled(fraction: float, seed: int = 0) -> set[int]:
        batch = windows.with_labels(fraction, seed=seed).batch(np.arange(82), np.full((82, CHANCES), 0.5))
        assert [bool(words) for words in batch["instruction"]] == batch["labelled"].tolist()
        told = {int(episode) for episode in batch["episode"][batch["labelled"]]}
        assert batch["labelled"].tolist() == [episode in told for episode in batch["episode"]]  # whole episodes
        return told

    parts = [labelled(fraction) for fraction in (0.0, 0.1, 0.4, 0.8, 1.0)]
    assert [len(part) for part in parts] == [0, 1, 2, 4, len(windows.episodes)]
    assert all(smaller <= larger for smaller, larger in pairwise(parts))
    assert labelled(0.4) == parts[2]
    assert len({tuple(sorted(labelled(0.4, seed))) for seed in range(10)}) > 3
    used = windows.with_labels(0.4).instructions
    assert set(used) < set(windows.instructions) and used


def test_the_labelled_part_gives_its_share_of_the_samples(caches: list[EpisodeCache]) -> None:
    windows = grif_windows(caches, hold_weight=0.25).with_labels(0.4, share=0.75)
    told = windows.batch(np.arange(82), np.zeros((82, CHANCES)))["labelled"]
    weights = windows.weights
    assert weights[told].sum() / weights.sum() == pytest.approx(0.75)
    alone = grif_windows(caches).with_labels(0.4, share=1.0)
    assert (alone.weights[~told] == 0).all() and (alone.weights[told] > 0).all()
    wrong: dict[str, Any]
    for wrong in ({"fraction": 1.5}, {"fraction": 0.5, "share": -1.0}):
        with pytest.raises(TongsError, match=r"must lie in 0..1"):
            windows.with_labels(**wrong)
    with pytest.raises(TongsError, match="share=0.5 needs episodes with instructions"):
        windows.with_labels(0.0, share=0.5)


def test_words_go_with_the_last_frame_and_the_start_is_the_first(caches: list[EpisodeCache]) -> None:
    windows = grif_windows(caches).with_labels(0.4)
    indices = np.arange(82)
    episode = np.searchsorted(windows.ends, indices, side="right")
    front = np.concatenate([cache.images["front"] for cache in caches])
    last = 0
    for chances in np.random.default_rng(0).random((20, 82, CHANCES)):
        batch = windows.batch(indices, chances)
        to_end = windows.ends[episode] - 1 - indices
        told = batch["labelled"]
        np.testing.assert_array_equal(batch["goal_distance"][told], to_end[told])
        middle = ~told & (to_end > 3)
        last += (batch["goal_distance"] == to_end)[middle].mean() / 20
        np.testing.assert_array_equal(batch["initial_images"]["front"][:, 0], front[windows.starts[episode]])
    assert last == pytest.approx(0.5 + 0.5 * np.mean(1 / to_end[middle]), abs=0.05)
    np.testing.assert_array_equal(batch["dataset"], indices >= 60)


def test_trajectories_are_the_labelled_episodes_as_wholes(caches: list[EpisodeCache]) -> None:
    windows = grif_windows(caches).with_labels(0.4)
    whole = windows.trajectories(in_order=0.5)
    every = windows.batch(np.arange(82), np.zeros((82, CHANCES)))
    told = {int(episode) for episode in every["episode"][every["labelled"]]}
    assert len(whole) == 2 and whole.in_order == 0.5 and (whole.weights == 1).all()
    said: set[str] = set()
    for chances in np.random.default_rng(0).random((200, 2, CHANCES)):
        batch = whole.batch([0, 1], chances)
        assert batch["labelled"].all() and {int(episode) for episode in batch["episode"]} == told
        end = np.searchsorted(windows.ends, whole.frames, side="right")
        front = np.concatenate([cache.images["front"] for cache in caches])
        np.testing.assert_array_equal(batch["goal_images"]["front"][:, 0], front[windows.ends[end] - 1])
        said |= set(batch["instruction"])
    assert said == set(whole.instructions)  # the wordings of all its frames
    with pytest.raises(TongsError, match="no episode has an instruction"):
        grif_windows(caches).with_labels(0.0).trajectories()


def test_half_a_batch_in_order_brings_neighbours_together() -> None:
    """GRIF's loaders: 128 shuffled and 128 in file order, where episodes of one scene lie side by side."""
    scene = np.arange(3000) // 2
    sampler = EpochSampler(np.ones(3000), 256, np.random.default_rng(0), in_order=0.5)

    def shared(rows: np.ndarray) -> float:
        _, counts = np.unique(scene[rows], return_counts=True)
        return float(counts[counts > 1].sum() / len(rows))

    batches = [sampler.next_batch() for _ in range(40)]
    assert np.mean([shared(batch[128:]) for batch in batches]) > 0.95
    assert np.mean([shared(batch[:128]) for batch in batches]) < 0.2
    counts = np.bincount(np.concatenate([batch[:128] for batch in batches[:24]]), minlength=3000)
    assert counts.min() == 1 and counts.max() == 2  # one epoch
    state = json.loads(json.dumps(sampler.state_dict()))
    following = [sampler.next_batch() for _ in range(5)]
    again = EpochSampler(np.ones(3000), 256, np.random.default_rng(9), in_order=0.5)
    again.load_state_dict(state)
    np.testing.assert_array_equal(following, [again.next_batch() for _ in range(5)])
    few = EpochSampler(np.ones(3), 8, np.random.default_rng(0), in_order=0.5).next_batch()
    assert len(few) == 8 and set(few) == {0, 1, 2}


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


def test_chances_belong_to_their_batch() -> None:
    sampler = EpochSampler(np.ones(33), 10, np.random.default_rng(5))
    drawn = []
    for _ in range(6):
        sampler.next_batch()
        drawn.append(sampler.chances(3))
        np.testing.assert_array_equal(sampler.chances(3), drawn[-1])
    assert np.unique(np.concatenate(drawn)).size == 6 * 10 * 3 and 0.4 < np.mean(drawn) < 0.6
    resumed = EpochSampler(np.ones(33), 10, np.random.default_rng(99))
    for _ in range(4):
        resumed.next_batch()
    again = EpochSampler(np.ones(33), 10, np.random.default_rng(5))
    for _ in range(4):
        again.next_batch()
    resumed.load_state_dict(json.loads(json.dumps(again.state_dict())))
    resumed.next_batch()
    np.testing.assert_array_equal(resumed.chances(3), drawn[4])


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
