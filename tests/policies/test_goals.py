"""Goals that are seen: BESO on states as in the paper, on pictures, and without any goal."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from policies.base import Batch, load_policy
from policies.beso.config import BesoConfig, Sampling
from policies.beso.guidance import ValueGuidance
from policies.beso.model import Beso
from policies.goal_conditioned.config import GoalConditionedConfig
from robot.errors import ContractError, TongsError
from robot.interface import PolicySpec
from tests.policies import small, small_state
from tests.policies.small_state import NAMES


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_states_and_goals_are_the_scaled_states_themselves_and_share_an_embedding() -> None:
    policy = small_state.policy("beso", window=3, goal_tokens=2, goal_names=("block_x", "block_y")).eval()
    assert isinstance(policy, Beso)
    batch = small_state.batch(window=3, goal_tokens=2)
    goals = policy.read_goals(batch)
    torch.testing.assert_close(goals[..., :2], (batch["goal_state"][..., :2] - 0.1) / 0.2)
    assert (goals[..., 2:] == 0).all()  # the pusher is no part of a goal: zero, as in the paper's block pushing
    torch.testing.assert_close(policy.observe(batch, goals), (batch["state"] - 0.1) / 0.2)
    network = policy.score_transformer
    assert network.state_embedding.in_features == len(NAMES)
    tokens = network.tokens(torch.zeros(6, 3, 2), policy.observe(batch, goals), goals, torch.zeros(6))
    assert tokens.shape == (6, 1 + 2 + 2 * 3, 32)
    bias = network.noise_embedding.bias
    torch.testing.assert_close(tokens[:, 0], bias.expand(6, -1))
    torch.testing.assert_close(tokens[:, 1], network.state_embedding(goals[:, 0]) + network.position[0])
    assert not hasattr(policy, "text_reader") and not hasattr(policy, "observation_encoder")


def test_entries_outside_the_goal_do_not_matter() -> None:
    policy = small_state.policy("beso", goal_names=("block_x",)).eval()
    batch = small_state.batch()
    other = dict(batch, goal_state=batch["goal_state"] + torch.tensor([0.0, 1.0, 1.0, 1.0]))
    moved = dict(batch, goal_state=batch["goal_state"] + torch.tensor([1.0, 0.0, 0.0, 0.0]))
    first, second, third = (policy.predict(given, generator()) for given in (batch, other, moved))
    assert torch.equal(first, second) and not torch.allclose(first, third)


@pytest.mark.parametrize("per_element", [False, True])
def test_seen_goals_are_hidden_in_training(per_element: bool) -> None:
    policy = small_state.policy("beso", goal_mask=0.5, goal_mask_per_element=per_element)
    assert isinstance(policy, Beso)
    seen: list[Tensor] = []
    forward = policy.score_transformer.forward

    def spy(actions: Tensor, states: Tensor, goals: Tensor, noise: Tensor) -> Tensor:
        seen.append(goals)
        return forward(actions, states, goals, noise)

    policy.score_transformer.forward = spy  # type: ignore[method-assign]
    batch = small_state.batch(size=500)
    policy.train().loss(batch, generator())
    hidden = seen[0] == 0
    assert hidden.float().mean().item() == pytest.approx(0.5, abs=0.06)
    assert (hidden.flatten(1).float().std(dim=1) == 0).all().item() is not per_element
    policy.eval().loss(batch, generator())
    assert not (seen[1] == 0).any()


def test_guidance_zero_ignores_the_goal_and_one_follows_it() -> None:
    policy, batch = small_state.policy("beso").eval(), small_state.batch()
    other = dict(batch, goal_state=batch["goal_state"] + 1.0)

    def predict(strength: float, given: Batch) -> Tensor:
        policy.sampling = Sampling(guidance=strength)  # type: ignore[assignment]
        return policy.predict(given, generator())

    assert torch.equal(predict(0.0, batch), predict(0.0, other))
    assert not torch.allclose(predict(1.0, batch), predict(1.0, other))
    free = small_state.policy("beso", goal="none").eval()
    assert free.spec.goals == ()
    without = {key: value for key, value in batch.items() if key != "goal_state"}
    assert free.predict(without, generator()).shape == (6, 1, 2)


def test_an_external_value_tilts_the_distribution(monkeypatch: pytest.MonkeyPatch) -> None:
    """With p = N(0, 1) and V = ln E[exp(w a) | noisy], samples are N(w, 1)."""
    policy = small_state.policy("beso", sigma_max=20.0, sampling=Sampling("euler", "karras", 100)).eval()
    assert isinstance(policy, Beso)
    monkeypatch.setattr(policy, "denoiser", lambda batch, goals: lambda noisy, sigma: noisy / (1 + sigma**2))
    seen: list[Batch] = []

    def value(actions: Tensor, sigma: float, batch: Batch) -> Tensor:
        seen.append(batch)
        return (actions / 0.02).sum(dim=(1, 2)) / (1 + sigma**2)  # scaled actions are physical ones / 0.02

    batch = small_state.batch(size=4000)
    with torch.inference_mode():
        free = policy.sample(batch, policy.read_goals(batch), generator())
        policy.value_guidance = ValueGuidance(value, weight=0.8)
        steered = policy.sample(batch, policy.read_goals(batch), generator())
    assert seen[0] is batch
    assert free.mean().item() == pytest.approx(0.0, abs=0.05)
    assert steered.mean().item() == pytest.approx(0.8, abs=0.08)
    assert steered.std().item() == pytest.approx(1.0, rel=0.08)


def test_the_goal_of_an_observation_reaches_the_network() -> None:
    policy = small_state.policy("beso", window=2).eval()
    policy.bind(small_state.ROBOT)
    policy.reset(0)
    observation = small_state.observation()
    first = policy.act(observation).actions
    assert first.shape == (1, 2)
    policy.reset(0)
    assert observation.goal_state is not None
    other = replace(observation, goal_state=observation.goal_state + np.float32(1))
    assert not np.allclose(policy.act(other).actions, first)
    policy.reset(0)
    with pytest.raises(ContractError, match="beso is told its goal as a state; an observation has no goal_state"):
        policy.act(small_state.observation(goal=False))
    with pytest.raises(ContractError, match=r"goal_state: expected .* D = 5 .* got float32 \(4,\)"):
        replace(observation, goal_state=np.zeros(4, np.float32))


def test_a_goal_of_another_length_is_refused() -> None:
    policy = small_state.policy("beso", goal_tokens=2).eval()
    with pytest.raises(TongsError, match="goals of 2 moments .* got 1"):
        policy.predict(small_state.batch(), generator())
    batch = small_state.batch(goal_tokens=2)
    del batch["goal_state"]
    with pytest.raises(TongsError, match="goal by goal_state, and the batch has none"):
        policy.predict(batch, generator())


def test_image_goals() -> None:
    spec = replace(small.spec(), goals=("image",))
    config = small.config(goal="image", goal_tokens=2, environment_names=())
    torch.manual_seed(0)
    policy = Beso(config, spec, small.statistics())
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    batch = small.batch()
    pictures = torch.randint(0, 256, (4, 2, *small.SIZE, 3), dtype=torch.uint8, generator=generator())
    batch["goal_images"] = {"front": pictures, "wrist": pictures}
    policy.train().loss(batch, generator())["loss"].backward()
    assert policy.image_goals.weight.grad is not None and policy.image_goals.weight.grad.abs().sum() > 0
    policy.eval()
    first = policy.predict(batch, generator())
    assert first.shape == (4, 4, 7)
    swapped = dict(batch, goal_images={"front": pictures.flip(1)})
    assert not torch.allclose(policy.predict(swapped, generator()), first)
    assert torch.equal(policy.predict(dict(batch, instruction=["anything"] * 4), generator()), first)

    policy.bind(small.ROBOT)
    policy.reset(0)
    goal = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    told = replace(small.observation(), goal_image=goal)
    assert policy.act(told).actions.shape == (4, 7)
    with pytest.raises(ContractError, match="goal as a picture; an observation has no goal_image"):
        policy.act(small.observation())


def test_state_goals_beside_cameras(tmp_path: Path) -> None:
    spec = replace(small.spec(), goals=("state",))
    policy = Beso(small.config(goal="state", goal_tokens=1), spec, small.statistics())
    batch = small.batch() | {"goal_state": torch.randn(4, 1, 3, generator=generator())}
    assert set(policy.train().loss(batch, generator())) == {"loss", "diffusion", "state_head"}
    policy.eval().save(tmp_path / "checkpoint")
    again = load_policy(tmp_path / "checkpoint")
    assert again.spec.goals == ("state",)
    assert torch.equal(again.predict(batch, generator()), policy.predict(batch, generator()))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"goal": "sound"}, "unknown goal 'sound'; known are: image, language, none, state"),
        ({"observation": "state"}, "goal is a state or none, got 'language'"),
        ({"observation": "raw"}, "unknown observation 'raw'"),
    ],
)
def test_bad_configuration(changes: dict, message: str) -> None:
    with pytest.raises(TongsError, match=message):
        GoalConditionedConfig(**changes)


def test_config_and_spec_must_agree() -> None:
    with pytest.raises(TongsError, match="no entry 'blok_x'; it has: block_x"):
        small_state.policy("beso", goal_names=("blok_x",))
    config = BesoConfig(observation="state", goal="state")
    with pytest.raises(TongsError, match="no cameras .* got front, wrist"):
        Beso(config, replace(small.spec(), goals=("state",)), small.statistics())
    with pytest.raises(TongsError, match="goal is 'language', and the spec says goals state"):
        Beso(small.config(), replace(small.spec(), goals=("state",)), small.statistics())
    blind = PolicySpec({}, small.STATE_NAMES, small.spec().action_space, 4, goals=("image",))
    with pytest.raises(TongsError, match="image goals needs a camera"):
        Beso(small.config(goal="image"), blind, small.statistics())
