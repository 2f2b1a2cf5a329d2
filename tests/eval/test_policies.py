"""Policies by name, and the random one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from eval.policies import PolicyChoice, RandomPolicy, choose_policy, shipped_checkpoints
from robot.errors import TongsError
from robot.interface import EE_DELTA, KEYPOSE, Observation
from tests.conformance import check_batches, check_policy


def observation(number: int) -> Observation:
    return Observation({}, np.zeros(1, np.float32), "anything", float(number))


def test_random_motion_keeps_the_contract() -> None:
    check_policy(RandomPolicy(EE_DELTA), observation)
    check_batches(RandomPolicy(EE_DELTA), observation)


def test_random_motion_is_smooth_and_unbiased() -> None:
    """For smoothing s the stationary variance is Var(u) s / (2 - s) and neighbours correlate with 1 - s."""
    policy = RandomPolicy(EE_DELTA, horizon=20_000, smoothing=0.3)
    policy.reset(3)
    motion = policy.act(observation(0)).actions[100:, 0].astype(np.float64)
    width = EE_DELTA.high[0] - EE_DELTA.low[0]
    assert motion.var() == pytest.approx(width**2 / 12 * 0.3 / 1.7, rel=0.1)
    assert np.corrcoef(motion[1:], motion[:-1])[0, 1] == pytest.approx(0.7, abs=0.03)
    assert abs(motion.mean()) < 0.05 * width


def test_random_key_poses_are_anywhere_in_the_workspace() -> None:
    policy = RandomPolicy(KEYPOSE, horizon=1, smoothing=1.0)
    check_policy(policy, observation)
    policy.reset(0)
    poses = np.concatenate([policy.act(observation(0)).actions for _ in range(2000)])
    low, high = np.array(KEYPOSE.low), np.array(KEYPOSE.high)
    np.testing.assert_allclose(poses.mean(axis=0), (low + high) / 2, atol=0.06)
    np.testing.assert_allclose(poses.std(axis=0), (high - low) / np.sqrt(12), rtol=0.06)


def test_names_and_folders(tmp_path: Path) -> None:
    assert choose_policy("expert") == PolicyChoice("expert") and choose_policy("oracle") == PolicyChoice("oracle")
    (tmp_path / "config.json").write_text("{}")
    assert choose_policy(str(tmp_path)).folder == tmp_path
    for name, folder in shipped_checkpoints().items():
        assert choose_policy(name) == PolicyChoice(name, folder)


def test_unknown_policies_are_named_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(TongsError, match="unknown policy 'gpt'.*expert.*random.*checkpoint folder"):
        choose_policy("gpt")
    with pytest.raises(TongsError, match="no config.json"):
        choose_policy(str(tmp_path))
