"""A trained policy that goes on with other settings or more state: what it knew it still knows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from policies.base import TrainingData
from policies.beso.model import Beso
from robot.errors import TongsError
from tests.policies import small, small_state

WIDER = ("z", "turned", "x", "y")
"""The state of the small policy in another order, with one more entry."""


def data(names: tuple[str, ...] = WIDER) -> TrainingData:
    numbers = {key: [float(at) for at in range(len(names))] for key in ("mean", "std", "min", "q01", "q99", "max")}
    statistics = small.statistics() | {"observation.state": numbers}
    return TrainingData(
        statistics, small.INSTRUCTIONS, small.ENVIRONMENT_NAMES, lambda count: np.zeros((count, 4, 7), np.float32)
    )


def grown(policy: Beso, names: tuple[str, ...] = WIDER, **settings: Any) -> Beso:
    return policy.continued(settings, replace(policy.spec, state_names=names), data(names)).eval()


def actions(policy: Beso, state: torch.Tensor) -> torch.Tensor:
    batch = small.batch() | {"state": state}
    with torch.no_grad():
        return policy.predict(batch, torch.Generator().manual_seed(0))


def test_a_new_entry_of_the_state_is_silent_and_the_others_keep_their_meaning() -> None:
    policy = small.policy().eval()
    wider = grown(policy)
    state = small.batch()["state"]
    x, y, z = state.split(1, dim=2)
    for turned in (torch.zeros_like(x), torch.randn_like(x)):
        told = actions(wider, torch.cat([z, turned, x, y], dim=2))
        torch.testing.assert_close(told, actions(policy, state), rtol=1e-4, atol=1e-6)
    assert wider.statistics["observation.state"]["mean"] == [0.1, 1.0, 0.1, 0.1]
    (weight,) = (value for name, value in wider.named_parameters() if name == "observation_encoder.fusion.0.weight")
    assert (weight == 0).all(dim=0).sum() == 1  # and it can be learned
    wider.train().loss(small.batch() | {"state": torch.randn(4, 1, 4)})["loss"].backward()
    assert weight.grad is not None and (weight.grad != 0).any(dim=0).all()


def test_keypoints_that_the_words_move_are_added_silently() -> None:
    policy = small.policy(instructed_keypoints=0).eval()
    more = grown(policy, small.STATE_NAMES, instructed_keypoints=2, repaint=0.5)
    assert more.config.instructed_keypoints == 2 and more.config.repaint == 0.5
    state = small.batch()["state"]
    torch.testing.assert_close(actions(more, state), actions(policy, state), rtol=1e-4, atol=1e-6)


def test_a_sentence_that_is_added_is_whitened_by_the_data() -> None:
    more = grown(small.policy(reader_directions=0), small.STATE_NAMES, reader_directions=3)
    features, mask = more.text_encoder.encode(list(small.INSTRUCTIONS))
    told = features * mask[..., None]
    white = (told.sum(dim=1) / mask.sum(dim=1, keepdim=True) - more.text_reader.middle) @ more.text_reader.whitening
    torch.testing.assert_close(white.T @ white / len(white), torch.eye(3), atol=1e-3, rtol=0)


def test_heads_that_only_training_needs_are_grown_again() -> None:
    shipped = small.policy(environment_names=()).eval()
    more = grown(shipped, small.STATE_NAMES)
    assert more.config.environment_names == small.ENVIRONMENT_NAMES
    state = small.batch()["state"]
    torch.testing.assert_close(actions(more, state), actions(shipped, state), rtol=1e-4, atol=1e-6)
    assert {"state_head", "goal_head"} <= set(more.loss(small.batch(), torch.Generator().manual_seed(0)))


def test_what_has_another_shape_is_refused_by_name() -> None:
    with pytest.raises(TongsError, match=r"text_reader.position of shape \(64, 32\).* it would be \(32, 32\)"):
        grown(small.policy(), small.STATE_NAMES, max_tokens=32)


def test_nothing_changed_is_the_same_policy() -> None:
    policy = small.policy()
    assert policy.continued({"width": 32, "repaint": 0.0}, policy.spec, data(small.STATE_NAMES)) is policy


def test_a_policy_of_states_alone_keeps_its_state() -> None:
    policy = small_state.policy("beso")
    wider = replace(policy.spec, state_names=(*small_state.NAMES, "spare"))
    with pytest.raises(TongsError, match=r"give state=\[block_x,block_y,pusher_x,pusher_y\]"):
        policy.continued({}, wider, data())
