"""RT-H: two queries of one network, what is learned and asked, corrections, and what is malformed."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from policies.base import load_policy
from policies.rth.answers import Answer, Query
from policies.rth.config import ACTION, FLAT, JOINT, MOTION, QUERIES, Mixture
from policies.rth.labels import Labels
from policies.rth.model import Rth
from policies.vla.sequence import Sequence as Tokens
from robot.errors import TongsError
from robot.interface import EE_DELTA, Observation
from robot.motions import TABLE, Axis, MotionTable
from tests.conformance import check_batches, check_policy, check_shared
from tests.policies import small
from tests.policies.small_rth import MOTIONS, fit, new, toy

LEFT, RIGHT = MOTIONS[:2]
SPOKEN = {"prediction": "autoregressive"}


def ready(policy: Rth, seed: int = 7) -> Rth:
    policy.eval().bind(small.ROBOT)
    policy.reset(seed)
    return policy


class Asked:
    """Keeps every pass: the queries that were put together."""

    def __init__(self, policy: Rth, monkeypatch: pytest.MonkeyPatch) -> None:
        self.passes: list[list[Query]] = []
        ask = policy.answers.ask

        def listen(image: Tensor, queries: Sequence[Query]) -> list[Answer]:
            self.passes.append(list(queries))
            return ask(image, queries)

        monkeypatch.setattr(policy.answers, "ask", listen)

    @property
    def kinds(self) -> list[list[str]]:
        return [[query.kind for query in queries] for queries in self.passes]


def seen(step: int, motion: str = "", instruction: str = small.INSTRUCTIONS[0]) -> Observation:
    made = small.observation(step, instruction, time=step / EE_DELTA.rate)
    return Observation(made.images, made.state, instruction, made.time, motion=motion)


# --- queries


def test_the_queries_differ_and_the_action_query_holds_task_and_motion() -> None:
    policy = new()
    motion, action = policy._text(MOTION, "lift it"), policy._text(ACTION, "lift it", LEFT)
    assert motion == "Q: What motion should the robot do to lift it? A:"
    assert action == f"Q: What action should the robot do to lift it with motion {LEFT}? A:"
    without_task = new(action_prompt="Q: What action with motion {motion}? A:")._text(ACTION, "lift it", LEFT)
    without_motion = new(action_prompt="Q: What action to {instruction}? A:")._text(ACTION, "lift it", LEFT)
    assert "lift it" not in without_task and LEFT in without_task
    assert LEFT not in without_motion and "lift it" in without_motion
    for settings, message in (
        ({"action_prompt": "what?"}, "must hold {instruction} or {motion}"),
        ({"motion_prompt": "{motion}?"}, "motion_prompt cannot hold {motion}"),
        ({"variant": "tree"}, "unknown variant of rth 'tree'"),
        ({"vla": {"prediction": "diffusion"}}, "rth takes a backbone with prediction"),
    ):
        with pytest.raises(TongsError, match=message):
            new(**settings)


def test_the_mixture_is_what_an_epoch_is_asked() -> None:
    """50, 25 and 25 per cent, within four standard deviations of 4000 draws."""
    policy, generator = new(), torch.Generator().manual_seed(0)

    def shares() -> dict[str, float]:
        kinds = policy._draw_kinds(4000, generator)
        return {kind: kinds.count(kind) / 4000 for kind in QUERIES}

    found = shares()
    for kind, share in ((FLAT, 0.5), (MOTION, 0.25), (ACTION, 0.25)):
        assert abs(found[kind] - share) < 4 * np.sqrt(share * (1 - share) / 4000)
    policy.enter("corrections")
    assert shares() == {FLAT: 0.0, MOTION: 1.0, ACTION: 0.0, JOINT: 0.0}
    policy.enter("interventions")
    assert abs(shares()[ACTION] - 0.5) < 0.04 and shares()[FLAT] == 0.0
    with pytest.raises(TongsError, match="not all 0"):
        Mixture(0.0, 0.0, 0.0)


@pytest.mark.parametrize("form", ["l1", "parallel", "autoregressive"])
def test_learning_from_corrections_asks_only_for_motions(form: str) -> None:
    """What no motion is known of costs nothing; the part that says only actions gets no gradient."""
    policy = new(vla={"prediction": form}).train()
    policy.enter("corrections")
    batch = toy(6, 0)
    generator = torch.Generator().manual_seed(0)
    result = policy.loss(batch, generator)
    changed = policy.loss({**batch, "actions": batch["actions"] * 0 + 0.01}, generator)
    torch.testing.assert_close(result["loss"], changed["loss"])
    assert "action_cost" not in result and result["loss"] > 0
    head = policy.vla.network.action_head
    assert head is None or not any(parameter.requires_grad for parameter in head.parameters())
    nothing = policy.loss({**batch, "motion_ahead": [""] * 6}, generator)
    assert nothing["loss"] == 0.0
    half = policy.loss({**batch, "motion_ahead": [*batch["motion_ahead"][:3], "", "", ""]}, generator)
    first = {
        key: {name: part[:3] for name, part in value.items()} if isinstance(value, dict) else value[:3]
        for key, value in batch.items()
    }
    torch.testing.assert_close(half["loss"], policy.loss(first, generator)["loss"], atol=1e-5, rtol=1e-5)


def test_the_motion_that_is_learned_lies_ahead() -> None:
    policy = new(vla=SPOKEN, mixture={"flat": 0.0, "motion": 1.0, "action": 0.0}).eval()
    batch = toy(4, 1)
    ahead = {**batch, "motion": [LEFT] * 4, "motion_ahead": [RIGHT] * 4}
    now = {**batch, "motion": [RIGHT] * 4, "motion_ahead": [RIGHT] * 4}
    generator = torch.Generator().manual_seed(0)
    assert torch.equal(policy.loss(ahead, generator)["loss"], policy.loss(now, generator)["loss"])
    assert (Rth.motion_ahead({}), Rth.motion_ahead({"ahead": 1}), Rth.motion_ahead({"variant": "joint"})) == (4, 1, 0)


# --- asking


def test_asynchronously_the_action_follows_the_motion_of_the_step_before(monkeypatch: pytest.MonkeyPatch) -> None:
    policy = ready(new())
    asked = Asked(policy, monkeypatch)
    chunks = [policy.act(seen(step)) for step in range(4)]
    assert asked.kinds == [[MOTION], [ACTION], [ACTION, MOTION], [ACTION, MOTION], [ACTION, MOTION]]
    said = [policy.labels.meaning(policy._begun(policy._episodes[0], seen(4)).label)]  # type: ignore[arg-type]
    motions = [chunk.motion for chunk in chunks]
    texts = [query.text for queries in asked.passes for query in queries if query.kind == ACTION]
    assert all(motion in text for motion, text in zip(motions, texts, strict=True))
    policy.reset(7)
    asked.passes.clear()
    again = new()
    ready(again)
    predicted = [
        again.predict_motions(again._batch([again.begin(0)], [seen(step)]))[0]  # type: ignore[list-item]
        for step in range(4)
    ]
    assert motions == [predicted[0], *predicted[:3]] and said == [predicted[3]]
    assert {chunk.motion_source for chunk in chunks} == {"model"}


def test_when_it_falls_back_to_asking_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """After another instruction, and after a pause; and always where it is told to be synchronous."""
    policy = ready(new())
    asked = Asked(policy, monkeypatch)
    first = [MOTION], [ACTION]
    for observation, kinds in (
        (seen(0), [*first]),
        (seen(1), [[ACTION, MOTION]]),
        (seen(2, instruction="close it"), [*first]),
        (seen(3, instruction="close it"), [[ACTION, MOTION]]),
        (seen(40, instruction="close it"), [*first]),
    ):
        asked.passes.clear()
        policy.act(observation)
        assert asked.kinds == kinds
    policy.sampling = type(policy.sampling)(asynchronous=False)
    asked.passes.clear()
    policy.act(seen(41, instruction="close it"))
    assert asked.kinds == [[MOTION], [ACTION]]


def test_a_chosen_motion_is_carried_out_until_it_is_released(monkeypatch: pytest.MonkeyPatch) -> None:
    policy, alone = ready(new()), ready(new())
    own = [alone.act(seen(step)) for step in range(4)]
    asked = Asked(policy, monkeypatch)
    policy.act(seen(0))
    held = policy.act(seen(1, "Move left!"))
    back = policy.act(seen(2))
    assert (held.motion, held.motion_source) == (LEFT, "human")
    assert asked.kinds[2:] == [[ACTION, MOTION], [ACTION, MOTION]] and LEFT in asked.passes[2][0].text
    assert back.motion_source == "model" and back.motion == own[2].motion
    np.testing.assert_allclose(back.actions, own[2].actions, atol=1e-6)
    unknown = policy.act(seen(3, "tilt arm left and open gripper"))  # not among the motions of its data
    assert unknown.motion == "tilt arm left and open gripper"
    with pytest.raises(TongsError, match="unknown motion 'move lefft'; the nearest known are: move arm left"):
        policy.act(seen(4, "move lefft"))
    with pytest.raises(TongsError, match="takes no motions"):
        ready(new(variant="flat")).act(seen(0, LEFT))


@pytest.mark.parametrize("form", ["l1", "parallel", "autoregressive"])
def test_it_keeps_the_contract(form: str) -> None:
    policy = new(vla={"prediction": form}).eval()
    policy.bind(small.ROBOT)
    check_policy(policy, small.observation)
    check_batches(policy, small.observation)
    check_shared(policy, small.observation)


# --- answers


def test_spoken_answers_are_the_likeliest_words_one_after_another() -> None:
    """With keys and values kept, as by reading the whole again for every word."""
    policy = ready(new(vla=SPOKEN))
    network, answers = policy.vla.network, policy.answers
    batch = policy._batch([policy.begin(0), policy.begin(0)], [seen(0), seen(1)])
    queries = [policy._query(MOTION, 0, "lift it"), policy._query(ACTION, 1, "close it", LEFT)]
    with torch.no_grad():
        sequence = answers.sequence(policy.look(batch), queries)
        spoken = answers._speak(sequence, queries)
        for row, tokens in enumerate(spoken):
            alone = Tokens(*(part[row : row + 1] for part in (sequence.embeddings, sequence.places, sequence.real)))
            count = len(tokens)
            whole = torch.cat([tokens, torch.tensor([network.config.end_token])])[None]
            logits = network.token_logits(alone, whole, torch.ones_like(whole, dtype=torch.bool))
            assert logits[0, :count].argmax(dim=-1).tolist() == tokens.tolist()
    assert len(spoken[0]) <= policy.config.motion_tokens and len(spoken[1]) <= answers.numbers


def test_in_parallel_the_likeliest_of_the_known_motions_is_said() -> None:
    policy = ready(new())
    network, answers = policy.vla.network, policy.answers
    batch = policy._batch([policy.begin(0)], [seen(0)])
    query = policy._query(MOTION, 0, "lift it")
    with torch.no_grad():
        (answer,) = answers.ask(policy.look(batch), [query])
        states = answers._states(answers.sequence(policy.look(batch), [query]))[0]
        logs = network.language_model.get_output_embeddings()(states).float().log_softmax(dim=-1)
    scores = {
        label: sum(logs[place, token].item() for place, token in enumerate(answers.label_ids(label)))
        for label in MOTIONS
    }
    assert answer.label == max(scores, key=lambda label: scores[label]) and answer.actions is None


def test_a_joint_answer_is_split_and_what_is_malformed_is_none() -> None:
    policy = new(variant="joint", vla=SPOKEN)
    answers, tokenizer = policy.answers, policy.vla.network.action_tokenizer
    actions = torch.rand(1, 4, 7) * 2 - 1
    numbers = tokenizer.encode(actions)[0]
    words = answers.label_ids(LEFT)[:-1]
    query = Query(JOINT, 0, "?")
    whole = answers._read(query, torch.cat([words, numbers]))
    assert whole.label == LEFT and whole.actions is not None
    assert (whole.actions - actions[0]).abs().max() <= 1 / 15
    short = answers._read(query, torch.cat([words, numbers[:-1]]))
    assert short.label == LEFT and short.actions is None
    broken = answers._read(query, torch.cat([words, numbers[:5], words[:1], numbers[6:]]))
    assert broken.actions is None
    assert answers._read(query, numbers).label is None  # no motion at all
    silent = answers._read(query, torch.empty(0, dtype=torch.long))
    assert silent.label is None and silent.actions is None
    action = Query(ACTION, 0, "?")
    assert answers._read(action, numbers).actions is not None
    for wrong in (numbers[:-1], torch.cat([numbers, numbers[:1]]), torch.cat([numbers[:-1], words[:1]])):
        assert answers._read(action, wrong).actions is None
    motion = Query(MOTION, 0, "?")
    assert answers._read(motion, words).label == LEFT
    assert answers._read(motion, torch.cat([words, numbers[:1]])).label is None


def test_what_is_malformed_holds_and_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    policy = ready(new())
    fine = policy.act(seen(0))
    monkeypatch.setattr(policy.answers, "ask", lambda image, queries: [Answer(None, None) for _ in queries])
    held = policy.act(seen(1))
    assert policy.malformed == {"action": 1, "motion": 1}
    assert (held.actions[:, :6] == 0).all() and (held.actions[:, 6] == fine.actions[-1, 6]).all()
    monkeypatch.setattr(policy.answers, "ask", lambda image, queries: [Answer("wiggle", None) for _ in queries])
    again = policy.act(seen(2))  # nothing was predicted for this step, so it is asked again, in vain
    assert again.motion == "" and policy.malformed == {"action": 1, "motion": 2}
    assert (again.actions[:, :6] == 0).all()


# --- variants


def test_one_hot_motions_differ_in_their_names_only() -> None:
    words, ids = new(), new(labels="ids")
    assert [tuple(p.shape) for p in words.vla.network.vision_backbone.parameters()] == [
        tuple(p.shape) for p in ids.vla.network.vision_backbone.parameters()
    ]
    assert ids.labels.known == ("0", "1", "2", "3") and ids.labels.of_data(RIGHT) == "1"
    assert ids.labels.of_person("move right") == "1" and ids.labels.meaning("1") == RIGHT
    assert ids.labels.of_data(f"{RIGHT} and tilt arm left") == "1"  # called by what it begins with
    assert ids.labels.of_data("tilt arm left") == "" and ids.labels.meaning("17") == ids.labels.meaning("x") == ""
    assert ids._text(ACTION, "lift it", "1") == "Q: What action should the robot do to lift it with motion 1? A:"
    with pytest.raises(
        TongsError, match="motion 'tilt arm left' has no number; the nearest that have are: move arm left"
    ):
        ids.labels.of_person("tilt left")
    assert ready(ids).act(seen(0, RIGHT)).motion == RIGHT


def test_clusters_take_the_place_of_motions() -> None:
    policy = new(labels="clusters")
    assert len(policy.config.centres) == 3 and policy.spec.goals == ("language",)
    batch = toy(5, 0)
    scaled = policy.vla.action_bounds.normalise(batch["actions"])
    now, ahead = policy._data_labels(batch, scaled)
    centres = np.array(policy.config.centres)
    for row in range(5):
        for label, part in ((now[row], scaled[row, :3]), (ahead[row], scaled[row, 1:])):
            distances = np.linalg.norm(centres - part.numpy().reshape(1, -1), axis=1)
            assert int(label) == distances.argmin()
    assert policy.loss(batch, torch.Generator().manual_seed(0))["loss"].isfinite()
    assert ready(policy).act(seen(0)).motion.startswith("cluster ")
    with pytest.raises(TongsError, match="clusters need a horizon above ahead, got 4 and 4"):
        new(labels="clusters", ahead=4)


@pytest.mark.parametrize(("variant", "form"), [("joint", "l1"), ("joint", "autoregressive"), ("flat", "l1")])
def test_the_other_variants_learn_and_act(variant: str, form: str) -> None:
    policy = new(variant=variant, vla={"prediction": form})
    losses = fit(policy, 25, size=8)
    assert np.mean(losses[-5:]) < np.mean(losses[:3])
    unused = [name for name, p in policy.named_parameters() if p.requires_grad and p.grad is None]
    assert not unused
    chunk = ready(policy).act(seen(0))
    assert chunk.actions.shape == (4, 7) and np.isfinite(chunk.actions).all()


# --- checkpoints


def test_a_checkpoint_keeps_words_and_motions_and_goes_with_its_table(tmp_path: Path) -> None:
    policy = ready(new())
    policy.save(tmp_path / "saved")
    again = load_policy(tmp_path / "saved")
    assert isinstance(again, Rth) and again.config == policy.config and again.spec == policy.spec
    np.testing.assert_array_equal(policy.act(seen(0)).actions, ready(again).act(seen(0)).actions)
    again.hear((LEFT, "tilt arm left"), TABLE)
    assert again.labels.known == (*MOTIONS, "tilt arm left")
    with pytest.raises(TongsError, match="another table of motions than the policy"):
        again.hear((LEFT,), MotionTable(TABLE.axes, horizon=1.0))
    with pytest.raises(TongsError, match="motion 'go west' of the data is none of the policy's table"):
        again.hear(("go west",), None)
    own = MotionTable((Axis("x", "push", "pull", 0.1),))
    with pytest.raises(TongsError, match="unknown motion 'move arm left'; the nearest known are: "):
        Labels(replace(policy.config, table=own)).of_person(LEFT)


def test_a_trained_vla_as_the_backbone(tmp_path: Path) -> None:
    from tests.policies.vla import small as vla

    base = vla.policy(prediction="l1", max_tokens=96)
    base.save(tmp_path / "vla")
    policy = new(shaken=False, motion_tokens=40, backbone=str(tmp_path / "vla"))
    for name, value in base.state_dict().items():
        assert torch.equal(value, policy.vla.state_dict()[name])
    assert policy.config.vla.tokenizer == base.config.tokenizer and policy.config.vla.prompt == "{instruction}"
    small.policy().save(tmp_path / "beso")
    with pytest.raises(TongsError, match="the backbone of rth is a vla, and .* holds a beso policy"):
        new(backbone=str(tmp_path / "beso"))


def test_a_frozen_vision_encoder_stays_as_it_is() -> None:
    from train.freezing import freeze

    policy = new()
    freeze(policy, ["vla.network.vision_backbone.*"])
    before = {name: value.clone() for name, value in policy.state_dict().items()}
    fit(policy, 2, size=4)
    changed = {name for name, value in policy.state_dict().items() if not torch.equal(value, before[name])}
    assert changed and not any("vision_backbone" in name for name in changed)
    assert any("language_model" in name for name in changed) and any("projector" in name for name in changed)


# --- what is learned


SHORT: dict[str, Any] = {
    "shaken": False,
    "horizon": 2,
    "motion_tokens": 12,
    "motion_prompt": "motion? {instruction}",
    "action_prompt": "{motion}! {instruction}",
}
"""For networks that learn something: what takes no more time than it has to."""


@pytest.fixture(scope="module")
def trained() -> Rth:
    """Knows which motion usually comes, and what to do then."""
    policy = new(mixture={"flat": 0.0, "motion": 0.5, "action": 0.5}, **SHORT)
    fit(policy, 220, size=32, horizon=2)
    return policy


def error(policy: Rth, batch: dict[str, Any]) -> float:
    return float((policy.predict(batch, None) - batch["actions"])[..., :6].square().mean())


@pytest.mark.slow
def test_a_chosen_motion_moves_the_arm_in_its_direction(trained: Rth) -> None:
    """In at least nine of ten states, in half of which it is the opposite of what usually comes."""
    batch = toy(100, 5, horizon=2)
    for motion, sign in ((LEFT, 1.0), (RIGHT, -1.0)):
        moved = trained.predict(batch | {"motion": [motion] * 100}, None)[..., 1].sum(dim=1) * sign
        assert (moved > 0).float().mean() >= 0.9


@pytest.mark.slow
def test_the_same_motion_is_another_action_in_another_context(trained: Rth) -> None:
    batch = toy(60, 6, horizon=2)
    low, high = batch["state"].clone(), batch["state"].clone()
    low[:, 0, 2], high[:, 0, 2] = -0.5, 0.7
    slow, fast = (
        trained.predict(batch | {"motion": [LEFT] * 60, "state": state}, None)[..., 1].mean() for state in (low, high)
    )
    assert fast > 1.5 * slow > 0


@pytest.mark.slow
def test_true_motions_guide_better_than_predicted_ones(trained: Rth) -> None:
    """The toy surprises in a fifth of its cases, which nobody can predict and everybody can be told."""
    batch = toy(300, 7, horizon=2)
    usual = toy(300, 7, horizon=2, surprise=0.0)
    predicted = trained.predict_motions(batch)
    assert np.mean([said == truth for said, truth in zip(predicted, usual["motion"], strict=True)]) > 0.9
    own = error(trained, {key: value for key, value in batch.items() if key != "motion"})
    assert error(trained, batch) < 0.8 * own


@pytest.mark.slow
def test_corrections_change_the_motions_and_not_the_head_of_the_actions(trained: Rth) -> None:
    """A person says the opposite where it is dark. Afterwards the policy says so itself."""
    taught = copy.deepcopy(trained)
    taught.enter("corrections")
    optimiser = torch.optim.AdamW([p for p in taught.parameters() if p.requires_grad], 5e-4, weight_decay=0.0)
    taught.train()
    for step in range(40):
        corrected = toy(24, 9000 + step, horizon=2, surprise=0.0)
        corrected["motion_ahead"] = [LEFT] * 24
        optimiser.zero_grad()
        taught.loss(corrected, torch.Generator().manual_seed(step))["loss"].backward()
        optimiser.step()
    taught.eval()
    batch = toy(120, 8, horizon=2, surprise=0.0)
    dark = [motion == RIGHT for motion in batch["motion"]]
    for policy, wanted in ((trained, RIGHT), (taught, LEFT)):
        said = policy.predict_motions(batch)
        assert np.mean([motion == wanted for motion, was in zip(said, dark, strict=True) if was]) > 0.9
    one, other = trained.vla.network.action_head, taught.vla.network.action_head
    assert one is not None and other is not None
    assert all(torch.equal(before, now) for before, now in zip(one.parameters(), other.parameters(), strict=True))
