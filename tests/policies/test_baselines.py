"""The policies that BESO is compared with: every family's losses, and what each does with two right answers."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from policies.base import PolicyModule, load_policy
from policies.baselines.bet import BehaviourTransformer
from policies.baselines.ddpm import DdpmPolicy, Denoising
from policies.baselines.gmm import MixtureCloning
from robot.errors import TongsError
from tests.conformance import check_shared
from tests.policies import small_state

FAMILIES = ("bc", "gmm", "bet", "ddpm")
SHAPES = ((1, 1), (1, 4), (3, 1))


@pytest.fixture(autouse=True)
def _diffusers() -> None:
    pytest.importorskip("diffusers")


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("window", "horizon"), SHAPES)
def test_losses_reach_every_parameter_and_actions_stay_in_bounds(family: str, window: int, horizon: int) -> None:
    policy = small_state.policy(family, window, horizon).train()
    batch = small_state.batch(window=window, horizon=horizon)
    losses = policy.loss(batch, generator())
    terms = [value.item() for name, value in losses.items() if name != "loss"]
    assert losses["loss"].item() == pytest.approx(sum(terms), rel=1e-5)
    losses["loss"].backward()
    for name, parameter in policy.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name
        if not name.endswith("position"):
            assert parameter.grad.abs().sum() > 0, name
    if window > 1:
        batch["past_actions"] = batch["actions"][:, : window - 1]
    actions = policy.eval().predict(batch, generator())
    assert actions.shape == (6, horizon, 2)
    assert actions.abs().max() <= 0.02 + 1e-6
    assert torch.equal(actions, policy.predict(batch, generator()))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("window", "horizon"), [(1, 4), (3, 1)])
def test_episodes_side_by_side_are_what_each_is_alone(family: str, window: int, horizon: int) -> None:
    policy = small_state.policy(family, window, horizon).eval()
    policy.bind(small_state.ROBOT)
    check_shared(policy, small_state.observation)


@pytest.mark.parametrize("family", FAMILIES)
def test_padding_does_not_count(family: str) -> None:
    policy, batch = small_state.policy(family, window=3).eval(), small_state.batch(window=3)
    batch["action_is_pad"][:, 0] = True
    if family == "ddpm":  # its later actions see the first, so it is judged on the last alone
        batch["action_is_pad"][:, 1:] = True
        assert policy.loss(batch, generator())["loss"].item() == 0
        return
    spoiled = dict(batch, actions=batch["actions"].clone())
    spoiled["actions"][:, 0] = 7.0
    first, second = (policy.loss(given, generator())["loss"].item() for given in (batch, spoiled))
    assert first == pytest.approx(second, rel=1e-6)


@pytest.mark.parametrize("family", FAMILIES)
def test_checkpoints_keep_everything(family: str, tmp_path: Path) -> None:
    policy = small_state.policy(family).eval()
    policy.save(tmp_path / "checkpoint")
    again, batch = load_policy(tmp_path / "checkpoint"), small_state.batch()
    assert torch.equal(again.predict(batch, generator()), policy.predict(batch, generator()))


@pytest.mark.parametrize("family", FAMILIES)
def test_the_goal_matters_and_acting_works(family: str) -> None:
    policy, batch = small_state.policy(family, window=2).eval(), small_state.batch(window=2)
    batch["past_actions"] = batch["actions"][:, :1]
    other = dict(batch, goal_state=batch["goal_state"] + 1.0)
    outputs = [policy.predict(given, generator()) for given in (batch, other)]
    assert not torch.allclose(*outputs)
    policy.bind(small_state.ROBOT)
    policy.reset(0)
    for step in range(4):
        assert policy.act(small_state.observation(step, step / 10)).actions.shape == (1, 2)


def trained(family: str) -> PolicyModule:
    """On actions near +0.01 or -0.01, with nothing to tell which."""
    policy = small_state.policy(family, goal="none", **({"sampling": Denoising(20)} if family == "ddpm" else {}))
    side = torch.randint(0, 2, (512, 1, 1), generator=generator()) * 2.0 - 1
    actions = 0.01 * side * torch.ones(1, 1, 2) + 0.0005 * torch.randn(512, 1, 2, generator=generator(1))
    if isinstance(policy, BehaviourTransformer):
        policy.find_clusters(actions)
    optimizer = torch.optim.Adam(policy.parameters(), 3e-3)
    state = torch.zeros(512, 1, len(small_state.NAMES))
    batch = {"state": state, "actions": actions, "action_is_pad": torch.zeros(512, 1, dtype=torch.bool)}
    policy.train()
    for step in range(150):
        optimizer.zero_grad()
        policy.loss(batch, generator(step))["loss"].backward()
        optimizer.step()
    return policy.eval()


@pytest.mark.parametrize("family", FAMILIES)
def test_two_right_answers(family: str) -> None:
    """Least squares answers with the middle; every other family gives both sides, and both axes the same one."""
    drawn = trained(family).predict({"state": torch.zeros(400, 1, len(small_state.NAMES))}, generator())[:, 0]
    if family == "bc":
        assert drawn.abs().max() < 0.003
        return
    assert 0.35 < (drawn[:, 0] > 0).float().mean().item() < 0.65
    assert (drawn.abs() > 0.005).float().mean().item() > 0.9
    assert (drawn[:, 0] * drawn[:, 1] > 0).float().mean().item() > 0.95


def test_mixture_likelihood_against_torch() -> None:
    policy, batch = small_state.policy("gmm", window=1, horizon=4).eval(), small_state.batch(horizon=4)
    assert isinstance(policy, MixtureCloning)
    goals = policy.read_goals(batch)
    logits, means, stds = policy.mixture(policy.newest(batch, goals))
    inner = torch.distributions.Independent(torch.distributions.Normal(means, stds), 1)
    mixture = torch.distributions.MixtureSameFamily(torch.distributions.Categorical(logits=logits), inner)
    wanted = -mixture.log_prob((batch["actions"] / 0.02).flatten(1)).mean() / 8
    assert policy.loss(batch, generator())["likelihood"].item() == pytest.approx(wanted.item(), rel=1e-5)


def test_clusters_and_offsets() -> None:
    policy, batch = small_state.policy("bet").eval(), small_state.batch()
    assert isinstance(policy, BehaviourTransformer)
    corners = torch.tensor([[-1.0, -1.0], [-1.0, 1.0], [1.0, -1.0], [1.0, 1.0]])
    policy.find_clusters((corners.repeat(50, 1) * 0.01)[:, None])
    found = policy.centres[np.lexsort(policy.centres.T.numpy()[::-1])]
    torch.testing.assert_close(found, corners / 2)  # 0.01 m is half of the scaled range
    with torch.no_grad():  # a network that always takes the last cluster and moves it by (0.1, -0.2)
        policy.transformer.head.weight.zero_()
        bias = torch.zeros(4, 2) + torch.tensor([0.1, -0.2])
        policy.transformer.head.bias.copy_(torch.cat([torch.tensor([0.0, 0.0, 0.0, 50.0]), bias.flatten()]))
    wanted = (policy.centres[3] + torch.tensor([0.1, -0.2])) * 0.02
    torch.testing.assert_close(policy.predict(batch, generator())[0, 0], wanted)
    chance = 1 / 4
    with torch.no_grad():
        policy.transformer.head.bias.zero_()
    batch["actions"] = policy.centres[:1].expand(6, 1, 2) * 0.02
    losses = policy.loss(batch, generator())
    assert losses["choice"].item() == pytest.approx(-((1 - chance) ** 2) * math.log(chance), rel=1e-4)
    assert losses["offset"].item() == pytest.approx(0.0, abs=1e-6)
    with pytest.raises(TongsError, match="2 different actions cannot make 4 clusters"):
        policy.find_clusters(torch.tensor([0.0, 0.1]).view(2, 1, 1).expand(2, 1, 2))


def test_ddpm_asks_its_network_once_per_step() -> None:
    policy, batch = small_state.policy("ddpm").eval(), small_state.batch()
    assert isinstance(policy, DdpmPolicy)
    calls: list[float] = []
    forward = policy.score_transformer.forward
    policy.score_transformer.forward = lambda *given: calls.append(given[3][0].item()) or forward(*given)  # type: ignore
    policy.sampling = Denoising(10)
    policy.predict(batch, generator())
    assert len(calls) == 10 and calls == sorted(calls, reverse=True)
    with pytest.raises(TongsError, match="from 1 to levels = 50, got 60"):
        policy.sampling = Denoising(60)


def test_temperature() -> None:
    for family in ("gmm", "bet"):
        policy, batch = small_state.policy(family).eval(), small_state.batch(size=1)
        repeated = {key: value.expand(200, *value.shape[1:]) for key, value in batch.items() if hasattr(value, "shape")}
        spread = policy.predict(repeated, generator()).std(dim=0).mean()
        policy.sampling = replace(policy.sampling, temperature=0.0)  # type: ignore[assignment, type-var, arg-type]
        assert policy.predict(repeated, generator()).std(dim=0).mean() < spread
