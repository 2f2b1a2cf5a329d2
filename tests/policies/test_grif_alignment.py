"""GRIF's contrastive loss against closed forms and CLIP's own, its masks, its temperature, and retrieval."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from policies.grif.alignment import HIGHEST, INITIAL, LOWEST, info_nce, retrieval, same_task, similarity


def vectors(count: int, seed: int, width: int = 16) -> Tensor:
    return normalize(torch.randn(count, width, generator=torch.Generator().manual_seed(seed)), dim=-1)


TEMPERATURE = torch.tensor(INITIAL)


def test_with_one_text_for_each_transition_it_is_the_loss_of_clip() -> None:
    from transformers.models.clip.modeling_clip import clip_loss

    a, b = vectors(9, 0), vectors(9, 1)
    ours = info_nce(a, b, TEMPERATURE, torch.eye(9, dtype=torch.bool))
    assert ours.item() == pytest.approx(clip_loss(a @ b.T / 0.07).item(), rel=1e-5)
    assert info_nce(b, a, TEMPERATURE, torch.eye(9, dtype=torch.bool)).item() == pytest.approx(ours.item(), rel=1e-5)


def test_perfect_and_useless_embeddings() -> None:
    same, eye = torch.eye(8), torch.eye(8, dtype=torch.bool)
    assert info_nce(same, same, torch.tensor(LOWEST), eye).item() == pytest.approx(0.0, abs=1e-6)
    alike = vectors(1, 0).expand(8, -1)
    assert info_nce(alike, alike, TEMPERATURE, eye).item() == pytest.approx(math.log(8), rel=1e-5)


def test_the_temperature_begins_at_007_and_is_clipped() -> None:
    a = vectors(3, 0)
    cosine = a @ a.T
    for logarithm, temperature in ((INITIAL, 0.07), (LOWEST - 5, 0.01), (HIGHEST + 5, 100.0), (0.0, 1.0)):
        torch.testing.assert_close(similarity(a, a, torch.tensor(logarithm)), cosine / temperature)


def test_rows_without_words_contribute_nothing() -> None:
    a, b = vectors(7, 0), vectors(7, 1)
    labelled = torch.tensor([True, False, True, True, False, True, False])
    eye = torch.eye(7, dtype=torch.bool)
    alone = info_nce(a[labelled], b[labelled], TEMPERATURE, torch.eye(4, dtype=torch.bool))
    assert info_nce(a, b, TEMPERATURE, eye, labelled).item() == pytest.approx(alone.item(), rel=1e-5)
    changed = torch.where(labelled[:, None], b, vectors(7, 2))
    assert info_nce(a, changed, TEMPERATURE, eye, labelled).item() == pytest.approx(alone.item(), rel=1e-5)
    assert info_nce(a, b, TEMPERATURE, eye, torch.zeros(7, dtype=torch.bool)).item() == 0.0


def test_episodes_of_other_datasets_are_no_negatives() -> None:
    a, b = vectors(6, 0), vectors(6, 1)
    dataset = torch.tensor([0, 0, 0, 1, 1, 1])
    eye = torch.eye(6, dtype=torch.bool)
    parts = [
        info_nce(a[part], b[part], TEMPERATURE, torch.eye(3, dtype=torch.bool)) for part in (slice(3), slice(3, 6))
    ]
    together = info_nce(a, b, TEMPERATURE, eye, comparable=dataset[:, None] == dataset)
    assert together.item() == pytest.approx((parts[0].item() + parts[1].item()) / 2, rel=1e-5)
    assert together.item() != pytest.approx(info_nce(a, b, TEMPERATURE, eye).item(), rel=1e-2)


def test_equal_words_and_equal_episodes_are_positives() -> None:
    positives = same_task(["lift it", "open it", "lift it", "raise it"], torch.tensor([0, 1, 2, 0]))
    wanted = [[1, 0, 1, 1], [0, 1, 0, 0], [1, 0, 1, 0], [1, 0, 0, 1]]
    assert positives.int().tolist() == wanted
    a, b = vectors(4, 0), vectors(4, 1)
    logits = a @ b.T / 0.07
    slow = 0.0
    for matrix, fits in ((logits, positives), (logits.T, positives.T)):
        for row in range(4):
            shares = matrix[row].softmax(0)
            slow -= math.log(shares[fits[row]].sum().item()) / 8
    assert info_nce(a, b, TEMPERATURE, positives).item() == pytest.approx(slow, rel=1e-5)


def test_gradients_are_finite_and_bring_pairs_together() -> None:
    raw = torch.randn(12, 8, generator=torch.Generator().manual_seed(0)).requires_grad_()
    other = torch.randn(12, 8, generator=torch.Generator().manual_seed(1)).requires_grad_()
    temperature = torch.tensor(INITIAL).requires_grad_()
    optimizer = torch.optim.Adam([raw, other, temperature], 0.05)
    labelled = torch.arange(12) < 10
    for _ in range(150):
        optimizer.zero_grad()
        a, b = normalize(raw, dim=-1), normalize(other, dim=-1)
        info_nce(a, b, temperature, torch.eye(12, dtype=torch.bool), labelled).backward()
        optimizer.step()
    assert torch.isfinite(raw).all() and (raw.grad[10:] == 0).all()  # type: ignore[index]
    found = retrieval(normalize(other, dim=-1), normalize(raw, dim=-1), torch.eye(12, dtype=torch.bool), 1)
    assert found[:10].all()


def test_retrieval_is_that_of_a_full_sort() -> None:
    texts, transitions = vectors(256, 0, 4), vectors(256, 1, 4)
    positives = torch.eye(256, dtype=torch.bool)
    found = retrieval(texts, transitions, positives, 5)
    order = (texts @ transitions.T).argsort(dim=1, descending=True)[:, :5]
    assert found.tolist() == [row in order[row] for row in range(256)]
    assert found.float().mean().item() == pytest.approx(5 / 256, abs=0.03)
    assert retrieval(texts, texts, positives, 1).all()
    assert retrieval(texts[:3], transitions[:3], positives[:3, :3], 5).all()
    positives[0] = True  # the first transition fits every text
    assert (retrieval(texts, transitions, positives, 5) >= found).all()
    hits = cross_entropy(texts @ transitions.T, torch.arange(256))
    assert torch.isfinite(hits)
