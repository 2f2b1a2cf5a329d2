"""The VLA as a policy: training, saving, acting."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from policies.base import PolicyModule, load_policy
from policies.configuration import configuration
from policies.randomness import share
from policies.vla.config import Sampling, VlaConfig
from policies.vla.model import Size
from policies.vla.openvla_checkpoint import read_openvla
from policies.vla.policy import Vla
from robot.errors import TongsError
from robot.interface import EE_DELTA, PolicySpec
from tests.conformance import check_batches, check_policy, check_shared
from tests.policies import small as beso
from tests.policies.vla import small
from tests.policies.vla.published import Reference, openvla_folder

FORMS = ("autoregressive", "parallel", "l1", "diffusion")


def ready(policy: PolicyModule, seed: int = 7) -> PolicyModule:
    policy.eval().bind(beso.ROBOT)
    policy.reset(seed)
    return policy


@pytest.mark.parametrize("form", FORMS)
def test_it_learns_and_keeps_what_it_learned(form: str, tmp_path: Path) -> None:
    """Four windows by heart; then saved, loaded, and acted on."""
    policy = small.policy(prediction=form, shift=0, colour=0.0)
    policy.prepare(beso.INSTRUCTIONS)
    batch = beso.batch()
    optimiser = torch.optim.AdamW([p for p in policy.parameters() if p.requires_grad], 3e-3)
    generator = torch.Generator().manual_seed(0)
    losses = []
    for _ in range(60):
        optimiser.zero_grad()
        result = policy.loss(batch, generator)
        result["loss"].backward()
        optimiser.step()
        losses.append(result["loss"].item())
    assert np.mean(losses[-5:]) < 0.6 * np.mean(losses[:5])
    unused = [name for name, p in policy.named_parameters() if p.requires_grad and p.grad is None]
    assert not unused  # several processes would wait for their gradients
    policy.save(tmp_path / "saved")
    again = load_policy(tmp_path / "saved")
    assert isinstance(again, Vla) and again.config == policy.config
    chunks = [ready(one).act(beso.observation()).actions for one in (policy, again)]
    np.testing.assert_array_equal(chunks[0], chunks[1])
    assert (chunks[0] >= EE_DELTA.low).all() and (chunks[0] <= EE_DELTA.high).all()


def test_it_keeps_the_contract() -> None:
    policy = small.policy(prediction="l1")
    policy.eval().bind(beso.ROBOT)
    check_policy(policy, beso.observation)
    check_batches(policy, beso.observation)


def test_a_batch_of_episodes_is_as_each_alone() -> None:
    policy = ready(small.policy())
    seen = [beso.observation(seed, text) for seed, text in enumerate(beso.INSTRUCTIONS)]
    together = policy.act_batch(seen)
    for observation, chunk in zip(seen, together, strict=True):
        policy.reset(7)
        np.testing.assert_allclose(policy.act(observation).actions, chunk.actions, atol=1e-6)


@pytest.mark.parametrize(
    "settings", [{"prediction": "autoregressive"}, {"action_tokens": "fast"}, {"prediction": "diffusion"}]
)
def test_episodes_side_by_side_are_what_each_is_alone(settings: dict[str, Any]) -> None:
    """With sampled tokens too, also where a chunk's number of tokens is open."""
    policy = ready(small.policy(**settings))
    policy.sampling = Sampling(temperature=1.0, steps=5)  # rounding grows with the steps
    check_shared(policy, beso.observation)


def test_padding_is_not_learned() -> None:
    policy = small.policy(prediction="l1").eval()
    batch = beso.batch()
    batch["action_is_pad"][:, 2:] = True
    changed = {**batch, "actions": batch["actions"].clone()}
    changed["actions"][:, 2:] = 0.5
    assert torch.equal(policy.loss(batch)["loss"], policy.loss(changed)["loss"])


def test_weights_of_samples() -> None:
    policy = small.policy(prediction="autoregressive").eval()
    batch = beso.batch() | {"weight": torch.tensor([1.0, 0.0, 0.0, 0.0])}
    alone = {
        name: {key: part[:1] for key, part in value.items()} if isinstance(value, dict) else value[:1]
        for name, value in batch.items()
    }
    torch.testing.assert_close(policy.loss(batch)["loss"], policy.loss(alone)["loss"], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("form", ["l1", "diffusion"])
def test_rows_draw_the_same_however_the_batch_is_divided(form: str) -> None:
    policy = small.policy(prediction=form, shift=4, colour=0.2).train()
    batch = beso.batch()

    def part(first: int, rows: int) -> float:
        own: dict[str, Any] = {
            name: {key: images[first : first + rows] for key, images in value.items()}
            if isinstance(value, dict)
            else value[first : first + rows]
            for name, value in batch.items()
        }
        randomness = share(torch.Generator().manual_seed(5), first, rows, 4)
        return policy.loss(own, randomness)["loss"].item()

    assert (part(0, 2) + part(2, 2)) / 2 == pytest.approx(part(0, 4), rel=1e-5)


def test_without_proprioception() -> None:
    policy = small.policy(state=False)
    assert policy.network.proprio_projector is None
    batch = beso.batch() | {"state": torch.zeros(4, 1, 0)}
    assert policy.loss(batch)["loss"].isfinite()


def test_images_of_another_size_or_type() -> None:
    policy = small.policy()
    batch = beso.batch()
    wrong = {**batch["images"], "wrist": batch["images"]["wrist"][:, :, :8]}
    with pytest.raises(TongsError, match="camera 'wrist': expected uint8 images of 16x16x3, got uint8 "):
        policy.loss({**batch, "images": wrong})
    with pytest.raises(TongsError, match="got float32"):
        policy.loss({**batch, "images": {**batch["images"], "front": batch["images"]["front"].float()}})
    with pytest.raises(TongsError, match="the batch has no camera 'wrist'; it has: front"):
        policy.loss({**batch, "images": {"front": batch["images"]["front"]}})


def test_too_long_an_instruction_is_known_before_training() -> None:
    with pytest.raises(TongsError, match="may have 64 tokens"):
        small.policy().prepare(["close it " * 100])


def test_quantiles_that_cut_a_rare_action_off() -> None:
    """A dimension that is zero in 99 % of the data keeps its whole range."""
    policy = small.policy()
    bounds = policy.action_bounds
    assert bounds.mask.tolist() == [name != "gripper" for name in EE_DELTA.names]
    from policies.vla.policy import _widened

    widened = _widened({"q01": [0.0, -1.0], "q99": [0.0, 1.0], "min": [-2.0, -3.0], "max": [2.0, 3.0]})
    assert widened["q01"] == [-2.0, -1.0] and widened["q99"] == [2.0, 1.0]


def test_a_published_checkpoint_as_a_policy(tmp_path: Path) -> None:
    network = read_openvla(openvla_folder(tmp_path / "published", Reference("openvla")))
    spec = PolicySpec({"front": (56, 56)}, (), EE_DELTA, 1)
    policy = Vla.from_network(network, spec, "tiny_a")
    assert network.size == Size()
    batch = {
        "images": {"front": Reference("openvla")["image"][None, None, :, :45].repeat(1, 1, 1, 1, 1)},
        "state": torch.zeros(1, 1, 0),
    }
    texts = Reference("openvla")["prompt"]
    policy.network.prompter.batch = lambda instructions, device=None: list(texts)  # type: ignore[method-assign]
    small_image = torch.nn.functional.interpolate(batch["images"]["front"][0].permute(0, 3, 1, 2), size=(56, 56))
    batch["images"]["front"] = small_image.permute(0, 2, 3, 1)[:, None]
    actions = policy.predict(batch | {"instruction": ["close it"]}, torch.Generator())
    assert actions.shape == (1, 1, 7) and (actions[0, 0, :6] <= torch.tensor([0.02, 0.03, 0.05, 0.1, 0.25, 0.3])).all()
    policy.save(tmp_path / "ours")
    again = load_policy(tmp_path / "ours")
    again.network.prompter.batch = lambda instructions, device=None: list(texts)  # type: ignore[method-assign, union-attr]
    torch.testing.assert_close(again.predict(batch | {"instruction": ["close it"]}, torch.Generator()), actions)
    with pytest.raises(TongsError, match="unknown unnorm_key 'nothing'"):
        Vla.from_network(network, spec, "nothing")
    with pytest.raises(TongsError, match="the policy is to have Size"):
        Vla.from_network(network, PolicySpec({"front": (56, 56)}, (), EE_DELTA, 8), "tiny_a")


def test_a_list_of_groups_in_a_configuration() -> None:
    with pytest.raises(TongsError, match="each of the towers must be a group of settings, got 'vit'"):
        configuration(VlaConfig, {"towers": ["vit"], "image_size": 16, "language_model": {"model_type": "llama"}})
    with pytest.raises(TongsError, match="unknown setting of Tower 'nmae'"):
        configuration(VlaConfig, {"towers": [{"nmae": "vit"}]})
