"""Units of actions: quantiles, masks, datasets."""

from __future__ import annotations

import pytest
import torch

from policies.vla.bounds import Bounds, of_dataset
from robot.errors import TongsError

ACTION = {
    "min": [-1.0, -2.0, 0.0, 0.0],
    "max": [1.0, 2.0, 0.0, 1.0],
    "q01": [-0.5, -1.0, 0.0, 0.0],
    "q99": [0.5, 2.0, 0.0, 1.0],
    "mask": [True, True, True, False],
}
BOUNDS = Bounds({"action": ACTION}, "action", 4)


def test_masked_entries_are_not_touched_and_constant_ones_become_zero() -> None:
    values = torch.tensor([[0.25, 0.5, 0.0, 1.0], [0.25, 0.5, 0.7, 0.0]])
    scaled = BOUNDS.normalise(values)
    torch.testing.assert_close(scaled, torch.tensor([[0.5, 0.0, 0.0, 1.0], [0.5, 0.0, 0.0, 0.0]]), atol=1e-6, rtol=0)


def test_the_inverse_within_the_range() -> None:
    values = torch.rand(100, 4) * torch.tensor([1.0, 3.0, 0.0, 1.0]) - torch.tensor([0.5, 1.0, 0.0, 0.0])
    torch.testing.assert_close(BOUNDS.physical(BOUNDS.normalise(values)), values, atol=1e-6, rtol=0)


def test_outliers_are_limited() -> None:
    assert BOUNDS.normalise(torch.tensor([9.0, -9.0, 0.0, 3.0])).tolist() == pytest.approx([1, -1, 0, 3])


def test_proprioception_is_limited_everywhere_and_extremes_are_extremes() -> None:
    bounds = Bounds({"proprio": ACTION}, "proprio", 4, "extremes", limit_unmasked=True)
    assert bounds.normalise(torch.tensor([0.5, 1.0, 0.0, 3.0])).tolist() == pytest.approx([0.5, 0.5, 0, 1])


def test_datasets() -> None:
    both = {"bridge_orig": {"action": ACTION}, "fractal": {"action": {}}}
    assert of_dataset(both, "bridge_orig")["action"] is ACTION
    assert of_dataset({"one": {"action": ACTION}}, None)["action"] is ACTION
    with pytest.raises(TongsError, match="choose the unnorm_key, one of: bridge_orig, fractal"):
        of_dataset(both, None)
    with pytest.raises(
        TongsError, match="unknown unnorm_key 'libero'; this model was trained on: bridge_orig, fractal"
    ):
        of_dataset(both, "libero")
    with pytest.raises(TongsError, match="no dataset statistics, so its actions have no units"):
        of_dataset(None, None)


def test_statistics_that_do_not_fit() -> None:
    with pytest.raises(TongsError, match="statistics of 'proprio' are missing"):
        Bounds({"action": ACTION}, "proprio", 4)
    with pytest.raises(TongsError, match="has 4 entries, the policy needs 7"):
        Bounds({"action": ACTION}, "action", 7)
    with pytest.raises(TongsError, match="'mask' of 'action' has 2 entries"):
        Bounds({"action": ACTION | {"mask": [True, False]}}, "action", 4)


def test_it_is_not_among_the_weights() -> None:
    assert not BOUNDS.state_dict()
