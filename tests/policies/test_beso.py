"""The whole policy: its losses, its masking, its sampling at run time."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from policies.beso.config import BesoConfig, Sampling
from policies.beso.model import Beso
from policies.goal_conditioned import model
from policies.goal_conditioned.masking import mask_goals
from robot.errors import TongsError
from robot.interface import PolicySpec
from tests.policies import small


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_losses_have_names_and_reach_every_parameter() -> None:
    policy = small.policy().train()
    losses = policy.loss(small.batch(), generator())
    assert set(losses) == {"loss", "diffusion", "state_head", "goal_head"}
    total = losses["diffusion"] + losses["state_head"] + losses["goal_head"]
    assert losses["loss"].item() == pytest.approx(total.item(), rel=1e-5)
    losses["loss"].backward()
    for name, parameter in policy.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().sum() > 0, name


def test_head_weights_and_their_absence() -> None:
    batch = small.batch()
    weighted = small.policy(state_head_weight=3.0, goal_head_weight=0.0).eval().loss(batch, generator())
    assert weighted["loss"].item() == pytest.approx(
        (weighted["diffusion"] + 3 * weighted["state_head"]).item(), rel=1e-5
    )
    plain = small.policy(environment_names=()).eval().loss(batch, generator())
    assert set(plain) == {"loss", "diffusion"}
    without_goal = small.policy(environment_names=("value", "other")).eval().loss(batch, generator())
    assert set(without_goal) == {"loss", "diffusion", "state_head"}


def test_training_lowers_the_loss() -> None:
    policy, batch = small.policy().train(), small.batch()
    optimizer = torch.optim.AdamW(policy.parameters(), 3e-3)
    before = policy.eval().loss(batch, generator())["loss"].item()
    policy.train()
    for step in range(40):
        optimizer.zero_grad()
        policy.loss(batch, generator(step))["loss"].backward()
        optimizer.step()
    assert policy.eval().loss(batch, generator())["loss"].item() < 0.7 * before


def test_padded_actions_do_not_count() -> None:
    policy, batch = small.policy(causal_chunk=True).eval(), small.batch()
    batch["action_is_pad"][:, 2:] = True
    spoiled = dict(batch, actions=batch["actions"].clone())
    spoiled["actions"][:, 2:] = 7.0
    first, second = (policy.loss(given, generator())["diffusion"].item() for given in (batch, spoiled))
    assert first == pytest.approx(second, rel=1e-6)  # later actions are padding, earlier ones do not see them
    spoiled["actions"][:, 0] = 7.0
    assert policy.loss(spoiled, generator())["diffusion"].item() > 2 * first


def test_sample_weights() -> None:
    policy, batch = small.policy(noise_samples=1).eval(), small.batch()
    batch["weight"] = torch.tensor([1.0, 0.0, 0.0, 0.0])
    spoiled = dict(batch, actions=batch["actions"].clone(), environment_state=batch["environment_state"].clone())
    spoiled["actions"][1:], spoiled["environment_state"][1:] = 7.0, 7.0
    first, second = (policy.loss(given, generator())["loss"].item() for given in (batch, spoiled))
    assert first == pytest.approx(second, rel=1e-6)


def test_goals_are_masked_in_training_only(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[float, bool]] = []

    def spy(goals: torch.Tensor, probability: float, per_element: bool, source: torch.Generator) -> tuple:
        calls.append((probability, per_element))
        return mask_goals(goals, probability, per_element, source)

    monkeypatch.setattr(model, "mask_goals", spy)
    policy = small.policy()
    policy.eval().loss(small.batch(), generator())
    policy.predict(small.batch(), generator())
    assert calls == []
    policy.train().loss(small.batch(), generator())
    assert calls == [(0.1, False)]


def test_a_hidden_goal_is_a_zero_goal_everywhere_and_its_state_head_does_not_count(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    policy, batch = small.policy(shift=0, colour=0.0).train(), small.batch()
    monkeypatch.setattr(model, "mask_goals", lambda goals, *_: (goals * 0, torch.zeros(len(goals), dtype=torch.bool)))
    seen = policy.loss(batch, generator())
    other = policy.loss(dict(batch, instruction=["turn it"] * 4), generator())
    assert seen["diffusion"].item() == other["diffusion"].item()  # neither goal tokens nor FiLM know the instruction
    assert seen["state_head"].item() == 0.0
    assert seen["goal_head"].item() != other["goal_head"].item()  # the reader still learns


def test_only_the_middle_of_a_picture_counts_in_use_when_it_is_cut() -> None:
    policy, batch = small.policy(cut=0.5).eval(), small.batch()
    actions = policy.predict(batch, generator())
    inside, outside = small.batch(), small.batch()
    inside["images"]["front"][:, :, 6:10, 6:10] ^= 127
    outside["images"]["front"][:, :, :3] ^= 127
    assert torch.equal(policy.predict(outside, generator()), actions)
    assert not torch.equal(policy.predict(inside, generator()), actions)
    outside_loss = policy.train().loss(outside, generator())["loss"]
    assert not torch.equal(outside_loss, policy.loss(batch, generator())["loss"])  # in training every place is seen


def test_diffusion_loss_sees_one_noise_level_per_sequence(monkeypatch: pytest.MonkeyPatch) -> None:
    policy = small.policy(noise_samples=3).eval()
    seen: list[torch.Size] = []
    monkeypatch.setattr(
        policy.score_transformer,
        "forward",
        lambda actions, states, goals, noise: seen.extend([actions.shape, noise.shape]) or torch.zeros_like(actions),
    )
    policy.loss(small.batch(), generator())
    assert seen == [(12, 4, 7), (12,)]


@pytest.mark.parametrize("name", ["ddim", "euler", "euler_ancestral", "heun"])
@pytest.mark.parametrize("steps", [3, 10, 50])
def test_sampling_changes_at_run_time(name: str, steps: int) -> None:
    policy, batch = small.policy().eval(), small.batch()
    policy.sampling = replace(policy.sampling, sampler=name, steps=steps)
    actions = policy.predict(batch, generator())
    assert actions.shape == (4, 4, 7)
    entries = small.statistics()["action"]
    assert (actions >= torch.tensor(entries["min"]) - 1e-6).all()
    assert (actions <= torch.tensor(entries["max"]) + 1e-6).all()


def test_guidance_strength() -> None:
    policy, batch = small.policy().eval(), small.batch()
    other = dict(batch, instruction=["turn it"] * 4)

    def predict(strength: float, given: dict) -> torch.Tensor:
        policy.sampling = Sampling(guidance=strength)
        return policy.action_scaling.scale(policy.predict(given, generator()))

    conditional, unconditional = predict(1.0, batch), predict(0.0, batch)
    assert not torch.allclose(conditional, unconditional, atol=1e-4)
    assert not torch.allclose(conditional, predict(1.0, other), atol=1e-4)
    assert torch.equal(unconditional, predict(0.0, other))
    goals = policy.read_instructions(batch["instruction"])
    policy.sampling = Sampling(steps=1, guidance=2.0)
    policy.config = replace(policy.config, sigma_max=0.3)
    noise = torch.randn(4, 4, 7, generator=generator()) * 0.3
    with_goal, without = policy.denoiser(batch, goals)(noise, 0.3), policy.denoiser(batch, goals * 0)(noise, 0.3)
    expected = policy.action_scaling.unscale(without + 2.0 * (with_goal - without))
    torch.testing.assert_close(policy.predict(batch, generator()), expected)


def test_sampling_starts_where_it_is_told() -> None:
    policy, batch = small.policy(sigma_max=3.0).eval(), small.batch()
    goals = policy.read_instructions(batch["instruction"])
    policy.sampling = Sampling(steps=1, start=2.0)
    noise = torch.randn(4, 4, 7, generator=generator()) * 2.0
    expected = policy.action_scaling.unscale(policy.denoiser(batch, goals)(noise, 2.0))
    torch.testing.assert_close(policy.predict(batch, generator()), expected)
    policy.sampling = Sampling(start=4.0)
    with pytest.raises(TongsError, match=r"cannot start at noise 4.0; this policy knows up to 3.0"):
        policy.predict(batch, generator())


def test_every_distinct_instruction_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    policy = small.policy().eval()
    sizes: list[int] = []
    forward = policy.text_reader.forward
    monkeypatch.setattr(policy.text_reader, "forward", lambda f, m: sizes.append(len(f)) or forward(f, m))
    texts = ["open the drawer 40 percent", "turn it", "open the drawer 40 percent"]
    goals = policy.read_instructions(texts)
    assert sizes == [2]
    assert torch.equal(goals[0], goals[2]) and not torch.allclose(goals[0], goals[1])
    torch.testing.assert_close(goals[1], policy.read_instructions(["turn it"])[0], atol=1e-5, rtol=1e-4)


def test_training_in_bfloat16_stays_close_to_float32() -> None:
    policy, batch = small.policy(goal_mask=0.0, shift=0, colour=0.0).train(), small.batch()
    exact = policy.loss(batch, generator())["loss"].item()
    with torch.autocast("cpu", torch.bfloat16):
        rough = policy.loss(batch, generator())["loss"]
    assert rough.dtype == torch.float32
    assert rough.item() == pytest.approx(exact, rel=0.03)


def test_window_and_horizon() -> None:
    with pytest.raises(TongsError, match="window of 4 .* horizon of 1; got 8"):
        small.policy(horizon=8, window=4)
    policy, batch = small.policy(horizon=1, window=4), small.batch(window=4, horizon=1)
    assert torch.isfinite(policy.train().loss(batch, generator())["loss"])
    batch["past_actions"] = batch["actions"][:, :3]
    assert policy.eval().predict(batch, generator()).shape == (4, 1, 7)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sampling": {"sampler": "plms"}}, "unknown sampler"),
        ({"noise_density": "uniform"}, "unknown noise density"),
        ({"sampling": {"start": 0.0}}, "positive noise level, got 0.0"),
        ({"heads": 3}, "multiple of heads, got 128 and 3"),
        ({"goal_mask": 1.0}, "goal_mask"),
        ({"sigma_min": 6.0}, "sigma_min < sigma_max"),
        ({"steps": 3}, "unknown setting of BesoConfig 'steps'"),
        ({"sampling": "fast"}, "must be a group of settings"),
    ],
)
def test_bad_configuration(changes: dict, message: str) -> None:
    from policies.configuration import configuration

    with pytest.raises(TongsError, match=message):
        configuration(BesoConfig, changes)


def test_missing_statistics_name_the_feature() -> None:
    numbers = small.statistics()
    for feature in ("observation.state", "action", "observation.environment_state"):
        rest = {key: value for key, value in numbers.items() if key != feature}
        with pytest.raises(TongsError, match=f"{feature}.*missing"):
            Beso(small.config(), small.spec(), rest)


def test_images_of_another_size_or_camera_are_refused() -> None:
    policy, batch = small.policy().eval(), small.batch()
    large = {camera: pictures.repeat_interleave(2, dim=2) for camera, pictures in batch["images"].items()}
    with pytest.raises(TongsError, match="'front': expected images of 16x16x3, got"):
        policy.loss(dict(batch, images=large))
    with pytest.raises(TongsError, match="no camera 'wrist'; it has: front"):
        policy.loss(dict(batch, images={"front": batch["images"]["front"]}))


def test_a_policy_without_cameras() -> None:
    spec = PolicySpec({}, small.STATE_NAMES, small.spec().action_space, 4)
    policy = Beso(small.config(), spec, small.statistics()).eval()
    assert policy.predict(dict(small.batch(), images={}), generator()).shape == (4, 4, 7)
