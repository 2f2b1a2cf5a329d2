"""OpenVLA here against openvla's own code at tiny size; see fixtures.md."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from policies.vla.bounds import Bounds
from policies.vla.model import IGNORED, VisionLanguageAction
from policies.vla.openvla_checkpoint import read_openvla
from policies.vla.vision import resized
from tests.policies.vla.published import Reference, openvla_folder

REFERENCE = Reference("openvla")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> VisionLanguageAction:
    return read_openvla(openvla_folder(tmp_path_factory.mktemp("published"), REFERENCE))


def texts() -> list[torch.Tensor]:
    return [REFERENCE["prompt"][0], REFERENCE["prompt_2"][0]]


def pixels(model: VisionLanguageAction) -> torch.Tensor:
    return model.pixel_values([[REFERENCE["image"].numpy()], [REFERENCE["image_2"].numpy()]])


@pytest.mark.parametrize(
    ("resize", "name"), [("squash", "resize-naive"), ("letterbox", "letterbox"), ("crop", "resize-crop")]
)
def test_pixel_values(model: VisionLanguageAction, resize: str, name: str) -> None:
    """A 2:1 image at 56 pixels, six channels, DINOv2's first."""
    square = model.vision_backbone.square(REFERENCE["image"].numpy(), resize)
    values = model.vision_backbone.pixel_values(torch.from_numpy(square)[None])
    assert values.shape == (1, 6, 56, 56)
    torch.testing.assert_close(values, REFERENCE[f"pixel_values.{name}"], atol=1e-6, rtol=0)


def test_squashing_keeps_both_ends_of_a_wide_image() -> None:
    image = np.zeros((20, 40, 3), np.uint8)
    image[:, :4], image[:, -4:] = 255, 255
    squashed = resized(image, 20, "squash")
    assert squashed.shape == (20, 20, 3) and squashed[10, 0, 0] > 200 and squashed[10, -1, 0] > 200


def test_patch_features_and_projection(model: VisionLanguageAction) -> None:
    features = model.vision_backbone(REFERENCE["pixel_values.resize-naive"][:, None])
    torch.testing.assert_close(features, REFERENCE["patch_features"], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(model.projector(features), REFERENCE["projected"], atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_logits_of_prompts_of_two_lengths(model: VisionLanguageAction) -> None:
    """The reference pads on the right, this program between image and words."""
    sequence = model.read(texts(), pixels(model), None)
    tokens = torch.stack([REFERENCE["input_ids"][0, -8:]] * 2)
    logits = model.token_logits(sequence, tokens, torch.ones_like(tokens, dtype=torch.bool))
    patches = model.vision_backbone.patches
    for row, text in enumerate(texts()):
        first = patches + len(text) - 1
        expected = REFERENCE["logits"][row, first : first + 8]
        torch.testing.assert_close(logits[row][:, REFERENCE["columns"]], expected, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_patches_are_at_1_to_256_and_actions_are_read_from_there(model: VisionLanguageAction) -> None:
    """In the reference the logits [:, patches:-1] belong to the labels [:, 1:]; those are ours, too."""
    sequence = model.read(texts()[:1], pixels(model)[:1], None)
    patches = model.vision_backbone.patches
    embeddings = model.embed(texts()[0])
    torch.testing.assert_close(sequence.embeddings[0, 0], embeddings[0])
    torch.testing.assert_close(sequence.embeddings[0, patches + 1 :], embeddings[1:])
    assert sequence.places[0].tolist() == list(range(patches + len(texts()[0])))


@torch.no_grad()
def test_the_loss_of_the_reference(model: VisionLanguageAction) -> None:
    """Mean over the 8 labelled tokens (7 of the action and the end) of both rows."""
    labels = REFERENCE["labels"]
    assert ((labels != IGNORED).sum(dim=1) == 8).all()
    actions = torch.from_numpy(model.action_tokenizer.values(labels[0, -8:-1].numpy()))  # type: ignore[attr-defined]
    chunks = actions.float().expand(2, 1, 7)
    ids = torch.stack(model.action_tokenizer.encode(chunks))
    keep = labels[0, -8:-1] != 31744  # -> 31745 when encoded again: they decode alike
    assert torch.equal(ids[0][keep], labels[0, -8:-1][keep])
    tokens, ours, share = model.labelled(chunks, torch.ones(2, 1))
    assert (ours != IGNORED).sum(dim=1).tolist() == [8, 8] and bool((share == 1).all())
    tokens[:, 1] = ours[:, 1] = 31744
    sequence = model.read(texts(), pixels(model), None)
    logits = model.token_logits(sequence, tokens, ours != IGNORED)
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), ours.flatten())
    torch.testing.assert_close(loss, REFERENCE["loss"], atol=1e-4, rtol=1e-4)


def test_greedy_tokens_with_the_cache(model: VisionLanguageAction) -> None:
    together = model.predict(texts(), pixels(model), None)
    assert together.tokens is not None
    assert torch.equal(torch.stack(together.tokens), REFERENCE["greedy"])


def test_actions_in_the_datasets_units(model: VisionLanguageAction) -> None:
    prediction = model.predict(texts(), pixels(model), None)
    units = Bounds(model.norm_statistics["tiny_a"], "action", 7)
    actions = units.physical(prediction.actions)[:, 0]
    np.testing.assert_allclose(actions.numpy(), REFERENCE["actions"].numpy(), atol=1e-6)


def test_dataset_statistics_beside_the_checkpoint_take_precedence(tmp_path: Path) -> None:
    folder = openvla_folder(tmp_path, REFERENCE)
    (folder / "dataset_statistics.json").write_text('{"mine": {"action": {"q01": [0.0], "q99": [1.0]}}}')
    model = read_openvla(folder)
    assert list(model.norm_statistics) == ["mine"] and model.size.actions == 1
