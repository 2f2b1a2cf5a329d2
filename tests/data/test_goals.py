"""Goal relabelling against the distributions it promises."""

from __future__ import annotations

import numpy as np
import pytest

from data.goals import GoalRelabelling
from robot.errors import TongsError

DRAWS = 40_000


def distances(rule: GoalRelabelling, left: int) -> np.ndarray:
    """How often each distance 0 .. left was drawn, as a share."""
    newest = np.full(DRAWS, 100)
    goals = rule.frames(newest, newest + left, np.random.default_rng(0).random((DRAWS, 2)))
    return np.bincount(goals - newest, minlength=left + 1) / DRAWS


def test_last() -> None:
    assert distances(GoalRelabelling(last=1.0), 7).tolist() == [0] * 7 + [1]


def test_future_is_uniform_over_what_follows() -> None:
    np.testing.assert_allclose(distances(GoalRelabelling(future=1.0), 5), [0, 0.2, 0.2, 0.2, 0.2, 0.2], atol=0.01)


@pytest.mark.parametrize("left", [1, 4, 60])
def test_geometric_is_cut_off_at_the_end_of_the_episode(left: int) -> None:
    wanted = 0.8 ** np.arange(1, left + 1)
    seen = distances(GoalRelabelling(geometric=1.0, discount=0.8), left)
    assert seen[0] == 0
    np.testing.assert_allclose(seen[1:], wanted / wanted.sum(), atol=0.01)


def test_rules_mix() -> None:
    half = distances(GoalRelabelling(last=0.5, future=0.5), 4)
    np.testing.assert_allclose(half, [0, 0.125, 0.125, 0.125, 0.625], atol=0.01)


@pytest.mark.parametrize(
    "rule", [GoalRelabelling(last=1.0), GoalRelabelling(future=1.0), GoalRelabelling(geometric=1.0)]
)
def test_the_last_frame_is_its_own_goal_and_extremes_stay_inside(rule: GoalRelabelling) -> None:
    almost_one = np.nextafter(1.0, 0.0)
    newest, last = np.array([9, 9, 3, 3]), np.array([9, 9, 9, 9])
    goals = rule.frames(newest, last, np.array([[0, 0.0], [almost_one] * 2, [0, 0.0], [almost_one] * 2]))
    assert goals[:2].tolist() == [9, 9] and (goals[2:] > 3).all() and (goals[2:] <= 9).all()


def test_words_are_kept_with_the_last_frame_only() -> None:
    """GRIF's sampling with language_keep_proportion 0.7: a dropped label leaves any later frame as the goal."""
    rule = GoalRelabelling(last=0.5, future=0.5, language_keep=0.7)
    newest, labelled = np.full(DRAWS, 100), np.arange(DRAWS) % 2 == 0
    chance = np.random.default_rng(0).random((DRAWS, 2))
    goals, kept = rule.frames(newest, newest + 5, chance, labelled), rule.keeps_language(labelled, chance)
    assert (goals[kept] == 105).all() and not kept[~labelled].any()
    assert kept[labelled].mean() == pytest.approx(0.7, abs=0.01)
    np.testing.assert_allclose(np.bincount(goals[labelled & ~kept] - 100)[1:] / (0.3 * DRAWS / 2), 0.2, atol=0.02)
    assert (goals[~labelled] == 105).mean() == pytest.approx(0.6, abs=0.01)


def test_shares_and_discount_are_checked() -> None:
    with pytest.raises(TongsError, match="add up to 1"):
        GoalRelabelling(last=0.5)
    with pytest.raises(TongsError, match="between 0 and 1"):
        GoalRelabelling(geometric=1.0, discount=1.0)
    with pytest.raises(TongsError, match="language_keep of goals must lie in 0..1, got 2"):
        GoalRelabelling(last=1.0, language_keep=2.0)
