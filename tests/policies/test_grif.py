"""GRIF as a policy: its losses by closed forms, who gets gradients in which stage, goals in words and pictures."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from policies.base import load_policy
from policies.encoders.film_resnet import STAGES, FilmResNet
from policies.encoders.vision import FiLM
from policies.grif.config import GrifConfig
from policies.grif.heads import log_probability
from policies.grif.model import Grif
from policies.randomness import share
from robot.errors import TongsError
from tests.conformance import check_batches, check_policy
from tests.policies import small
from tests.policies.small_grif import batch, policy, spec

FAMILIES = ("grif", "grif_beso")


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def with_gradients(model: torch.nn.Module) -> set[str]:
    return {
        name.partition(".")[0]
        for name, parameter in model.named_parameters()
        if parameter.grad is not None and parameter.grad.abs().sum() > 0
    }


def test_the_gaussian_has_a_deviation_of_one() -> None:
    actions, mean = torch.randn(5, 7, generator=generator()), torch.randn(5, 7, generator=generator(1))
    wanted = torch.distributions.Normal(mean, 1.0).log_prob(actions).sum(-1)
    found = log_probability(actions, mean)
    torch.testing.assert_close(found, wanted)
    torch.testing.assert_close(found, -0.5 * (actions - mean).square().sum(-1) - 3.5 * math.log(2 * math.pi))


def test_actions_are_standardised_as_in_bridge_data() -> None:
    """The published statistics of BridgeData: (a - mean) / std, and back."""
    mean = [0.0000799, 0.00029883, -0.00014265, -0.00007046, -0.00000396, 0.00008324, 0.5428687]
    std = [0.0073178, 0.01133177, 0.01211691, 0.01779856, 0.02181558, 0.08579306, 0.49777785]
    statistics = small.statistics() | {"action": small.statistics()["action"] | {"mean": mean, "std": std}}
    given = policy()
    assert isinstance(given.config, GrifConfig)
    model = Grif(given.config, spec(), statistics)
    actions = torch.randn(3, 7, generator=generator()) * 0.02
    wanted = (actions.numpy() - np.array(mean)) / np.array(std)
    np.testing.assert_allclose(model.action_standard(actions).numpy(), wanted, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(model.action_standard.inverse(model.action_standard(actions)), actions)


@pytest.mark.parametrize("family", FAMILIES)
def test_words_teach_only_where_there_are_some_and_pictures_everywhere(family: str) -> None:
    model, data = policy(family), batch(6, labelled=2)
    model.eval()
    losses = model.loss(data, generator())
    image, language = (next(name for name in losses if name.startswith(kind)) for kind in ("image_", "language_"))
    assert losses["loss"].item() == pytest.approx(sum(losses[name].item() for name in (image, language, "alignment")))
    changed = dict(data, actions=data["actions"].clone())
    changed["actions"][2:] += 0.02
    other = model.loss(changed, generator())
    assert other[image] != losses[image]
    if family == "grif":  # which draws no noise
        assert other[language] == losses[language]
        alone = policy("grif", goal="language").eval()
        rows = {
            key: {k: v[:2] for k, v in value.items()} if isinstance(value, dict) else value[:2]
            for key, value in data.items()
        }
        assert alone.loss(rows, generator())["language_surprise"] == pytest.approx(
            alone.loss(data, generator())["language_surprise"].item(), rel=1e-5
        )
    none = model.loss(batch(6, labelled=0), generator())
    assert none["alignment"] == 0 and none[language] == 0 and torch.isfinite(none["loss"])


def test_the_loss_is_the_same_for_a_part_of_a_batch_on_each_of_several_processes() -> None:
    model, data = policy().eval(), batch(6, labelled=3)
    whole = model.loss(data, generator())
    shared = model.loss(data, share(generator(), 0, 6, 12))
    for name, value in whole.items():
        assert shared[name].item() == pytest.approx(value.item(), rel=1e-5), name


TOWERS = {"text_tower", "transition_tower", "log_temperature"}
CONTROL = {"task_layers", "head", "observation_encoder"}


@pytest.mark.parametrize(
    ("changes", "stage", "trained"),
    [
        ({}, "align", TOWERS),
        ({}, "control", TOWERS | CONTROL),
        ({"train_text": False}, "control", CONTROL | {"transition_tower", "log_temperature"}),
        ({"joint": False}, "control", CONTROL),
        ({"alignment": 0.0}, "control", CONTROL | {"text_tower", "transition_tower"}),
        ({"goal": "language"}, "control", CONTROL | {"text_tower"}),
        ({"goal": "image"}, "control", CONTROL | {"transition_tower"}),
    ],
)
def test_who_learns_in_which_stage(changes: dict[str, Any], stage: str, trained: set[str]) -> None:
    model = policy(**changes)
    model.enter(stage)
    model.train().loss(batch(6, labelled=3), generator())["loss"].backward()
    assert with_gradients(model) == trained
    assert {name.partition(".")[0] for name, p in model.named_parameters() if p.requires_grad} == trained
    assert model.stages == (("align", "control") if not changes.keys() & {"alignment", "goal"} else ("control",))


def test_the_tower_of_the_paper_learns_at_a_tenth_of_the_rate() -> None:
    from configs.composition import compose
    from train.configuration import TrainConfig
    from train.trainer import _optimizer

    settings = compose("train", ["policy=grif_clip", "data=unused"])["policy"]
    assert settings["tower_rate"] == 0.1 and settings["train_text"] is False and settings["embedding_width"] == 512
    model = policy(tower_rate=settings["tower_rate"], train_text=settings["train_text"])
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    optimizer, factors = _optimizer(trained, TrainConfig(), model.learning_rate_factors)
    names = {id(parameter): name for name, parameter in trained.items()}
    of = {names[id(p)]: f for group, f in zip(optimizer.param_groups, factors, strict=True) for p in group["params"]}
    assert len(of) == len(trained)
    assert {name.partition(".")[0] for name, factor in of.items() if factor == 0.1} == {"transition_tower"}
    assert all(factor == 0.1 for name, factor in of.items() if name.startswith("transition_tower."))
    model.enter("align")
    assert model.learning_rate_factors == {}


@pytest.mark.parametrize("family", FAMILIES)
def test_one_checkpoint_follows_words_or_a_picture(family: str, tmp_path: Path) -> None:
    policy(family).save(tmp_path / "checkpoint")
    model = load_policy(tmp_path / "checkpoint")
    assert model.spec.goals == ("language", "image")
    model.bind(small.ROBOT)
    check_policy(model, lambda seed: small.observation(seed))
    check_batches(model, lambda seed: small.observation(seed))
    pictures = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)

    def act(observation: Any) -> np.ndarray:
        model.reset(0)
        return model.act(observation).actions

    words = act(small.observation())
    assert not np.allclose(words, act(small.observation(instruction="close it")), atol=1e-5)
    first, second = (act(replace(small.observation(), goal_image=picture)) for picture in pictures)
    assert not np.allclose(first, second, atol=1e-5) and not np.allclose(first, words, atol=1e-5)
    told = replace(small.observation(instruction="close it"), goal_image=pictures[0])
    np.testing.assert_array_equal(act(told), first)  # a picture goes before words
    model.reset(0)
    one, other = model.act_batch([told, small.observation()])  # each by what it is told
    np.testing.assert_allclose(one.actions, first, atol=1e-5)
    assert not np.allclose(other.actions, first, atol=1e-5)


def test_the_start_is_what_was_seen_when_the_goal_was_given() -> None:
    model = policy().eval()
    model.bind(small.ROBOT)
    goal, other = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    now = replace(small.observation(1, time=3.0), goal_image=goal)

    def act(*observations: Any) -> np.ndarray:
        model.reset(0)
        return [model.act(observation).actions for observation in observations][-1]

    fresh = act(now)
    later = act(replace(small.observation(0), goal_image=goal), now)
    assert not np.allclose(fresh, later, atol=1e-5)
    np.testing.assert_array_equal(fresh, act(replace(small.observation(0), goal_image=other), now))
    np.testing.assert_array_equal(later, act(replace(small.observation(0), goal_image=goal.copy()), now))
    blind = policy(start=False).eval()
    blind.bind(small.ROBOT)
    blind.reset(0)
    blind.act(replace(small.observation(0), goal_image=goal))
    after = blind.act(now).actions
    blind.reset(0)
    np.testing.assert_array_equal(blind.act(now).actions, after)


def test_the_mean_is_what_it_does_unless_told_to_vary() -> None:
    model = policy().eval()
    data = batch()
    first = model.predict(data, generator(0))
    assert torch.equal(model.predict(data, generator(1)), first)
    assert isinstance(model, Grif)
    model.sampling = replace(model.sampling, temperature=1.0)
    many = torch.stack([model.action_standard(model.predict(data, generator(seed))) for seed in range(300)])
    assert (many.std(dim=0) <= 1.2).all() and many.std() > 0.3  # limited by the range of the data
    assert not torch.equal(model.predict(data, generator(0)), model.predict(data, generator(1)))


def test_start_goal_and_observation_are_augmented_alike() -> None:
    model = policy(shift=30, colour=0.2).train()
    data = batch()
    same = data["images"]["front"]
    data["initial_images"], data["goal_images"] = {"front": same}, {"front": same}
    start, goal, seen = model._look(data, generator())
    assert torch.equal(start, goal) and torch.equal(start, seen["front"][:, 0])
    assert not torch.equal(start, model.eval()._look(data, generator())[0])


def test_without_proprioception_nothing_but_pictures_counts() -> None:
    """GRIF as published: no proprioception (`state=[]`), one camera, one action, its ResNet."""
    given = spec(horizon=1, state_names=(), cameras={"front": small.SIZE})
    model = policy(given=given, vision="film_resnet18", vision_channels=(8,)).eval()
    data = batch(horizon=1) | {"state": torch.zeros(6, 1, 0)}
    assert model.predict(data, generator()).shape == (6, 1, 7)
    model.bind(small.ROBOT)
    model.reset(0)
    seen = small.observation()
    first = model.act(seen).actions
    model.reset(0)
    np.testing.assert_array_equal(model.act(replace(seen, state=seen.state + np.float32(1))).actions, first)


@pytest.mark.parametrize("name", STAGES)
def test_the_task_enters_after_every_block(name: str) -> None:
    torch.manual_seed(0)
    network = FilmResNet(name, 6, width=4).eval()
    assert len(network.blocks) == sum(STAGES[name]) and STAGES["film_resnet34"] == (3, 4, 6, 3)
    films = [part for part in network.modules() if isinstance(part, FiLM)]
    assert len(films) == len(network.blocks)
    pictures, task = torch.randn(2, 3, 32, 32), torch.randn(2, 6)
    with torch.no_grad():
        plain = network(pictures, task)
        assert plain.shape == (2, network.features) == (2, 32)
        assert torch.equal(plain, network(pictures, torch.zeros(2, 6)))  # FiLM begins as the identity
        for film in films:
            film.linear.weight.normal_(std=0.1)
            assert not torch.allclose(network(pictures, task), plain, atol=1e-6)
            film.linear.weight.zero_()
        assert not torch.allclose(network(pictures.flip(3), task), plain, atol=1e-6)  # it knows where things are


def test_the_trunk_of_the_resnet_is_that_of_a_resnet34() -> None:
    import timm

    published = timm.create_model("resnet34", num_classes=0)
    ours = FilmResNet("film_resnet34", 6)
    count = sum(p.numel() for name, p in ours.named_parameters() if "film" not in name)
    # Two more channels of the picture are the only difference.
    assert count == sum(p.numel() for p in published.parameters()) + 2 * 64 * 49


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"goal": "state"}, "unknown goal 'state'; known are: aligned, image, language"),
        ({"window": 2}, "a window of 1, got fused, 1 and 2"),
        ({"text_tower": "bert"}, "text_tower of GrifConfig is reader or clip:<model>, got 'bert'"),
        ({"alignment": -1.0}, "alignment of GrifConfig must not be negative"),
        ({"hidden": ()}, "needs hidden layers"),
    ],
)
def test_bad_settings(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(TongsError, match=message):
        GrifConfig(**changes)


def test_pictures_need_a_camera_and_a_goal() -> None:
    with pytest.raises(TongsError, match="image goals needs a camera"):
        policy(given=spec(cameras={}))
    model = policy(goal="image").eval()
    data = batch()
    del data["goal_images"]
    with pytest.raises(TongsError, match="told its goal by goal_images"):
        model.predict(data, generator())
