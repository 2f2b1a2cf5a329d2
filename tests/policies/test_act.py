"""A learned policy behind the robot contract."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from policies.beso.model import Beso
from robot.errors import ContractError, TongsError
from robot.interface import EE_DELTA, Observation, Policy, episode_seed
from tests.conformance import check_shared
from tests.policies import small


def ready(seed: int = 7, **changes: object) -> Beso:
    policy = small.policy(**changes).eval()  # type: ignore[arg-type]
    policy.bind(small.ROBOT)
    policy.reset(seed)
    return policy


def test_it_is_a_policy_and_gives_a_chunk() -> None:
    policy = ready()
    assert isinstance(policy, Policy)
    chunk = policy.act(small.observation(time=2.0))
    assert chunk.actions.shape == (4, 7) and chunk.actions.dtype == np.float32
    assert chunk.times.tolist() == pytest.approx([2.0, 2.1, 2.2, 2.3])
    assert (chunk.actions >= EE_DELTA.low).all() and (chunk.actions <= EE_DELTA.high).all()


def test_the_seed_decides() -> None:
    first, again, other = ready(7), ready(7), ready(8)
    chunks = [[policy.act(small.observation(seed)).actions for seed in range(2)] for policy in (first, again, other)]
    assert np.array_equal(chunks[0], chunks[1])
    assert not np.allclose(chunks[0], chunks[2])
    first.reset(7)
    assert np.array_equal(first.act(small.observation(0)).actions, chunks[0][0])


def test_act_is_act_batch_of_one_even_in_training_mode() -> None:
    one, many = ready(), ready(attention_dropout=0.5, residual_dropout=0.5)
    many.train()
    expected = one.act(small.observation()).actions
    assert np.array_equal(many.act_batch([small.observation()])[0].actions, expected)
    assert many.training


def test_a_batch_of_episodes() -> None:
    policy = ready()
    observations = [small.observation(seed, text) for seed, text in enumerate(small.INSTRUCTIONS)]
    chunks = policy.act_batch(observations)
    assert len(chunks) == 4 and len({chunk.actions.tobytes() for chunk in chunks}) == 4


@pytest.mark.parametrize(
    "changes", [{}, {"window": 3, "horizon": 1}, {"sampler": "euler_ancestral"}, {"sampler": "dpm_adaptive"}]
)
def test_episodes_side_by_side_are_what_each_is_alone(changes: dict) -> None:
    policy = ready(**{key: value for key, value in changes.items() if key != "sampler"})
    if "sampler" in changes:
        policy.sampling = replace(policy.sampling, sampler=changes["sampler"])
    check_shared(policy, small.observation)


def test_the_rows_of_a_batch_have_seeds_of_their_own() -> None:
    policy = ready(seed=7)
    observations = [small.observation(seed) for seed in range(3)]
    chunks = policy.act_batch(observations)
    assert len({episode_seed(7, row) for row in range(100)}) == 100 and episode_seed(7, 0) == 7
    for row, (observation, chunk) in enumerate(zip(observations, chunks, strict=True)):
        policy.reset(episode_seed(7, row))
        np.testing.assert_allclose(policy.act(observation).actions, chunk.actions, atol=1e-6)


def test_state_is_read_by_name_and_images_are_scaled_down(monkeypatch: pytest.MonkeyPatch) -> None:
    policy, seen = ready(), {}
    predict = policy.predict
    monkeypatch.setattr(policy, "predict", lambda batch, generator: seen.update(batch) or predict(batch, generator))
    given = small.observation()
    policy.act(given)
    z, y, x, _ = given.state  # the robot's order; the policy wants x, y, z
    assert seen["state"].tolist() == [[pytest.approx([x, y, z])]]
    expected = given.images["front"].reshape(16, 2, 16, 2, 3).mean(axis=(1, 3))
    assert np.abs(seen["images"]["front"][0, 0].numpy() - expected).max() <= 0.5
    assert seen["instruction"] == [given.instruction]


def test_the_window_holds_the_last_observations_and_executed_actions(monkeypatch: pytest.MonkeyPatch) -> None:
    policy = ready(horizon=1, window=3)
    seen: list[dict] = []
    predict = policy.predict
    monkeypatch.setattr(policy, "predict", lambda batch, generator: seen.append(batch) or predict(batch, generator))
    executed = [policy.act(small.observation(seed)).actions[0] for seed in range(5)]
    assert [batch["state"].shape[1] for batch in seen] == [1, 2, 3, 3, 3]
    assert [batch["past_actions"].shape[1] for batch in seen] == [0, 1, 2, 2, 2]
    np.testing.assert_array_equal(seen[-1]["past_actions"][0].numpy(), executed[2:4])
    x = [small.observation(seed).state[2] for seed in (2, 3, 4)]
    assert seen[-1]["state"][0, :, 0].tolist() == pytest.approx(x)
    policy.reset(7)
    assert np.array_equal(policy.act(small.observation(0)).actions[0], executed[0])
    assert seen[-1]["past_actions"].shape[1] == 0
    with pytest.raises(ContractError, match="2 observations after 1"):
        policy.act_batch([small.observation(0), small.observation(1)])


def test_what_is_said_when_it_cannot_act() -> None:
    policy = small.policy().eval()
    with pytest.raises(ContractError, match="reset"):
        policy.act(small.observation())
    policy.reset(0)
    with pytest.raises(ContractError, match="bind"):
        policy.act(small.observation())
    with pytest.raises(ContractError, match="camera wrist.*state x"):
        policy.bind(replace(small.ROBOT, cameras={"front": (32, 32)}, state_names=("y", "z")))
    policy.bind(small.ROBOT)
    given = small.observation()
    with pytest.raises(ContractError, match="needs camera 'wrist'; the observation has: front"):
        policy.act(Observation({"front": given.images["front"]}, given.state, given.instruction, 0.0))
    with pytest.raises(ContractError, match="declares 4 state entries and the observation has 3"):
        policy.act(Observation(given.images, given.state[:3], given.instruction, 0.0))
    with pytest.raises(TongsError, match="32x8 cannot be scaled up to the 16x16"):
        narrow = {camera: image[:, :8] for camera, image in given.images.items()}
        policy.act(Observation(narrow, given.state, given.instruction, 0.0))


def test_nan_is_an_error_of_the_contract() -> None:
    policy = ready()
    with torch.no_grad():
        policy.score_transformer.action_head.bias.fill_(float("nan"))
    with pytest.raises(ContractError, match="NaN"):
        policy.act(small.observation())
