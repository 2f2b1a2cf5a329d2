"""YAY Robot's high level: what it sees, how it scores, what it trains, and who commands the low level for how long."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from policies.base import load_policy
from policies.encoders.sentences import SentenceEncoder
from policies.encoders.text import minilm_folder
from policies.yay.high_level import sinusoidal_positions
from policies.yay.model import Yay, weights_hash
from robot.chunk_queue import ChunkQueue
from robot.errors import ContractError, TongsError
from robot.interface import Observation
from tests.conformance import check_batches, check_policy, check_shared
from tests.policies import small, small_grif
from tests.policies.small_yay import COMMANDS, batch, policy
from tests.policies.vla import small as small_vla

TASK = "put the red block in the left drawer and close it"


def loud(**changes: Any) -> Yay:
    """A policy whose commands differ with what is seen: weights as after training."""
    made = policy(**changes)
    with torch.no_grad():
        for name, parameter in made.high.named_parameters():
            if name != "temperature":
                parameter.add_(torch.randn_like(parameter) * 0.2)
    return made


def bound(made: Yay) -> Yay:
    made.bind(small.ROBOT)
    made.reset(0)
    return made


def observation(time: float, instruction: str = TASK, seed: int | None = None) -> Observation:
    return small.observation(round(time * 10) if seed is None else seed, instruction, time)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CLIP image tower of random weights whose vectors have 512 numbers, as those of ViT-B/32."""
    import transformers

    folder = tmp_path_factory.mktemp("clip")
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = transformers.CLIPVisionConfig(**shape, image_size=32, patch_size=16, projection_dim=512)
    torch.manual_seed(0)
    transformers.CLIPVisionModelWithProjection(config).save_pretrained(folder)
    return folder


# --- what it sees


def test_the_papers_input_is_sixteen_tokens_of_512(clip: Path) -> None:
    """Four cameras at four moments, [B, 4, 4, 3, H, W], and nothing else (arXiv 2403.12910, section IV-B)."""
    cameras = ("high", "low", "left", "right")
    settings = {"vision": f"clip:{clip}", "vision_pretrained": True, "train_vision": False, "task_token": False}
    paper = settings | {"width": 512, "layers": 6, "heads": 8, "feed_forward": 512}
    torch.manual_seed(0)
    made = Yay.over(small.policy(), paper, COMMANDS, dict.fromkeys(cameras, (16, 16)))
    pictures = {camera: torch.rand(2, 4, 3, 16, 16) * 2 - 1 for camera in cameras}
    assert made.high.tokens(pictures).shape == (2, 16, 512)
    assert made.high(pictures, None).shape == (2, made.candidates().shape[1])
    reference = made.high.vision["all"]
    first, last = (made.high.tokens(pictures)[:, place] for place in (0, 15))
    torch.testing.assert_close(first, reference(pictures["high"][:, 0]))  # oldest first, cameras in their order
    torch.testing.assert_close(last, reference(pictures["right"][:, 3]))
    trained = {name for name, parameter in made.named_parameters() if parameter.requires_grad}
    assert {name.split(".")[1] for name in trained} == {"transformer", "readout", "temperature"}
    counted = sum(p.numel() for p in made.parameters() if p.requires_grad)
    layer = 4 * 512 * 512 + 4 * 512 + 2 * (512 * 512 + 512) + 4 * 512  # attention, feed-forward, two norms
    assert counted == 6 * layer + (512 * 512 + 512) + (512 * 384 + 384) + 1


def test_frozen_parts_get_no_gradient(clip: Path) -> None:
    made = policy(vision=f"clip:{clip}", vision_pretrained=True, train_vision=False).train()
    assert not made.low.training and not made.high.vision.training
    made.loss(batch())["loss"].backward()
    for name, parameter in made.named_parameters():
        frozen = name.startswith(("low.", "high.vision."))
        assert (parameter.grad is None) == frozen, name


def test_old_pictures_and_their_order_matter() -> None:
    made, seen = loud(), batch(3)
    scores = made.scores(seen)
    changed = {camera: pictures.clone() for camera, pictures in seen["images"].items()}
    changed["front"][:, 0] = 255 - changed["front"][:, 0]
    assert not torch.allclose(scores, made.scores(seen | {"images": changed}))
    swapped = {camera: pictures[:, [1, 0, 2, 3]] for camera, pictures in changed.items()}
    assert not torch.allclose(made.scores(seen | {"images": changed}), made.scores(seen | {"images": swapped}))
    other = seen | {"instruction": ["open the right drawer"] * 3}
    assert not torch.allclose(scores, made.scores(other))
    blind = loud(task_token=False)
    torch.testing.assert_close(blind.scores(seen), blind.scores(other))


def test_positions_by_hand() -> None:
    table = sinusoidal_positions(3, 4)
    assert table[2].tolist() == pytest.approx([np.sin(2), np.cos(2), np.sin(2 / 100), np.cos(2 / 100)])


def test_what_has_not_been_seen_is_black() -> None:
    made = bound(policy())
    windows: list[dict[str, Tensor]] = []
    scores = made.scores
    made.scores = lambda given, generator=None: windows.append(given["images"]) or scores(given)  # type: ignore
    for step in range(0, 45):
        if step % 4:
            made.remember([observation(step / 10)])
        else:
            made.act(observation(step / 10))
    first, second = windows  # a command holds for 4 s
    assert first["front"].shape == (1, 4, *small.SIZE, 3)
    assert not first["front"][:, :3].any() and first["front"][:, 3].any()
    for place, step in enumerate((10, 20, 30, 40)):
        seen = observation(step / 10).images["front"].reshape(16, 2, 16, 2, 3).mean((1, 3))
        assert np.abs(second["front"][0, place].numpy() - seen).max() <= 1


# --- how it scores


def test_scores_are_cosines_over_a_learned_temperature() -> None:
    made, seen = loud(), batch()
    with torch.no_grad():
        made.high.temperature.fill_(0.5)
    scores = made.scores(seen)
    assert scores.shape == (6, 3) and scores.abs().max() <= 1 / 0.5 + 1e-5
    pictures = {camera: made._prepare(seen["images"], camera, None) for camera in made.config.cameras}
    encoder = SentenceEncoder()
    prediction = made.high(pictures, encoder(seen["instruction"], made.device))
    wanted = torch.cosine_similarity(prediction[:, None], encoder(COMMANDS, made.device)[None], dim=-1)
    torch.testing.assert_close(scores, wanted / 0.5)
    made.train().loss(seen)["loss"].backward()
    assert made.high.temperature.grad is not None and made.high.temperature.grad != 0


def test_sentence_vectors_are_those_of_sentence_transformers() -> None:
    """The model card of all-MiniLM-L6-v2: mean over the tokens of the attention mask, then normalised."""
    import transformers

    tokens = transformers.AutoTokenizer.from_pretrained(minilm_folder())(
        list(COMMANDS), padding=True, return_tensors="pt"
    )
    with torch.no_grad():
        hidden = transformers.AutoModel.from_pretrained(minilm_folder()).eval()(**tokens).last_hidden_state
    mask = tokens["attention_mask"][..., None]
    wanted = torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=-1)
    torch.testing.assert_close(SentenceEncoder()(COMMANDS, torch.device("cpu")), wanted, atol=2e-3, rtol=0)


def test_an_unknown_command_is_an_error() -> None:
    wrong = batch() | {"command": ["fly"] * 6}
    with pytest.raises(TongsError, match="does not know the command 'fly'"):
        policy().loss(wrong)


@pytest.mark.parametrize("one_hot", [False, True])
def test_it_learns_and_keeps_what_it_knew(one_hot: bool) -> None:
    """Training, then a new command that is learned beside the old ones, over the same low level."""
    made = policy(one_hot=one_hot, shift=0, colour=0.0, dropout=0.0)
    low = weights_hash(made.low)

    def train(of: Yay, seen: dict[str, Any], steps: int) -> None:
        of.train()
        optimizer = torch.optim.Adam([p for p in of.parameters() if p.requires_grad], 3e-3)
        for _ in range(steps):
            optimizer.zero_grad()
            of.loss(seen)["loss"].backward()
            optimizer.step()
        of.eval()

    train(made, batch(12), 40)
    assert made.loss(batch(12, seed=1))["accuracy"] == 1
    grown = made.learning(["lift the arm", COMMANDS[0]])
    assert grown.spec.commands == (*COMMANDS, "lift the arm") and made.spec.commands == COMMANDS
    torch.testing.assert_close(grown.scores(batch())[:, :3], made.scores(batch()))
    both = batch(16)
    both["images"] = {camera: pictures.clone() for camera, pictures in both["images"].items()}
    for pictures in both["images"].values():
        pictures[12:, :, :, 8:] = 5
    both["command"][12:] = ["lift the arm"] * 4
    train(grown, both, 80)
    assert grown.loss(both)["accuracy"] == 1 and grown.loss(batch(12, seed=2))["accuracy"] == 1
    assert weights_hash(grown.low) == weights_hash(made.low) == low == grown.config.low.sha256


# --- what it commands


def test_it_keeps_the_contract() -> None:
    made = loud()
    made.bind(small.ROBOT)
    check_policy(made, lambda number: observation(float(number)))
    check_batches(made, lambda number: observation(float(number)))
    check_shared(made, lambda number: observation(float(number)), atol=1e-4)


def test_the_low_level_does_what_it_is_told() -> None:
    """Its actions are those of the low level alone, told the command in the place of the task."""
    made, alone = bound(loud()), small.policy()
    alone.bind(small.ROBOT)
    alone.reset(0)
    seen = observation(0.0)
    chunk = made.act(seen)
    (commanded,) = made.commanded
    assert commanded.command in COMMANDS and commanded.task == TASK and not commanded.by_person
    told = replace(seen, instruction=commanded.command)
    np.testing.assert_array_equal(chunk.actions, alone.act(told).actions)
    others = []
    for command in COMMANDS:
        alone.reset(0)
        others.append(alone.act(replace(seen, instruction=command)).actions)
    assert not np.allclose(others[0], others[1]) and not np.allclose(others[1], others[2])


def test_a_correction_drives_the_low_level_for_the_skills_length() -> None:
    made = bound(loud())
    asked: list[float] = []
    scores = made.scores
    now = 0.0
    made.scores = lambda given, generator=None: asked.append(now) or scores(given)  # type: ignore[method-assign]
    told: dict[float, tuple[str, bool]] = {}
    queue = ChunkQueue(made, 4)
    for step in range(120):
        now = step / 10
        said = "lift the arm higher" if 10 <= step < 90 else TASK  # any text, not only one of the commands
        queue.action(observation(now, said))
        told[now] = (made.commanded[0].command, made.commanded[0].by_person)
    corrected = [time for time, (_, by_person) in told.items() if by_person]
    assert corrected == [step / 10 for step in range(10, 50)]  # 40 steps of 10 Hz, from the next step on
    assert {told[time][0] for time in corrected} == {"lift the arm higher"}
    assert not any(1.0 <= time < 5.0 for time in asked) and 5.0 in asked  # not asked meanwhile, then goes on
    assert told[5.0][0] in COMMANDS
    assert 9.0 in asked  # the task said again ends whatever is left of it


def test_saying_the_task_again_takes_a_correction_back() -> None:
    made = bound(policy())
    made.act(observation(0.0))
    made.act(observation(0.4, "lift the arm"))
    assert made.commanded[0].by_person
    made.act(observation(0.8))
    assert not made.commanded[0].by_person and made.commanded[0].command in COMMANDS
    with pytest.raises(ContractError, match="a correction is empty"):
        made.act(observation(1.2, " "))


def test_a_checkpoint_holds_both_levels(tmp_path: Path) -> None:
    made = loud(one_hot=True)
    made.save(tmp_path / "yay")
    again = load_policy(tmp_path / "yay")
    assert isinstance(again, Yay) and again.spec == made.spec and again.spec.history == 31
    assert bound(again).act(observation(0.0)).actions.tolist() == bound(made).act(observation(0.0)).actions.tolist()
    with torch.no_grad():
        next(made.low.parameters()).add_(1.0)
    made.save(tmp_path / "changed")
    with pytest.raises(TongsError, match="is not the one that its high level was trained over"):
        load_policy(tmp_path / "changed")


def test_over_any_low_level_that_is_told_in_words() -> None:
    for low in (small_grif.policy(goal="language"), small_vla.policy()):
        made = bound(policy(low))
        assert made.act(observation(0.0)).actions.shape == (4, 7)
        assert weights_hash(made.low) == weights_hash(low)
    with pytest.raises(TongsError, match="told in words"):
        policy(small_grif.policy(goal="image"))
    with pytest.raises(TongsError, match="told in words"):
        policy(policy())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"skill": 0.0}, "skill of YayConfig must be positive"),
        ({"history": -1}, "history of YayConfig must be at least 0"),
        ({"width": 30, "heads": 4}, "must be a multiple of heads"),
        ({"train_vision": False}, "would leave the patch stem at random"),
    ],
)
def test_bad_settings(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(TongsError, match=message):
        policy(**changes)
