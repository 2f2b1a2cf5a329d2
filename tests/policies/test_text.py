"""Token features of instructions, and the reader of them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from policies.encoders import text
from policies.encoders.text import MINILM, TextEncoder, minilm_folder
from policies.encoders.text_reader import TextReader
from robot.errors import TongsError

LONG, SHORT = "open the upper drawer by 37 percent", "close it"


def test_features_are_those_of_the_published_model() -> None:
    from transformers import AutoModel, AutoTokenizer

    folder = minilm_folder()
    tokens = AutoTokenizer.from_pretrained(folder)([LONG, SHORT], return_tensors="pt", padding=True)
    with torch.no_grad():
        expected = AutoModel.from_pretrained(folder).eval()(**tokens).last_hidden_state
    features, mask = TextEncoder().encode([LONG, SHORT])
    assert features.dtype == torch.float32 and features.shape == expected.shape == (2, 9, 384)
    assert torch.equal(mask, tokens["attention_mask"].bool())
    torch.testing.assert_close(features[mask], expected[mask], atol=2e-3, rtol=2e-3)
    assert (features[~mask] == 0).all()


def test_each_text_is_computed_once_and_does_not_depend_on_its_company(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = TextEncoder()
    together, _ = encoder.encode([LONG, SHORT, LONG])
    assert torch.equal(together[0], together[2])
    monkeypatch.setattr(encoder, "_compute", lambda texts: pytest.fail(f"computed again: {texts}"))
    alone, mask = encoder.encode([SHORT])
    assert alone.shape[1] == 4 and mask.all()
    assert torch.equal(alone[0], together[1, :4])


def test_numbers_keep_their_own_token() -> None:
    features, _ = TextEncoder().encode(["open it 37 percent", "open it 38 percent"])
    difference = (features[0] - features[1]).norm(dim=-1)
    assert difference.argmax().item() == 3  # [CLS] open it >37< percent [SEP]


def test_bad_texts() -> None:
    with pytest.raises(TongsError, match="64 tokens, this has 102"):
        TextEncoder().encode(["very " * 100])


def test_an_empty_instruction_is_one_too() -> None:
    features, mask = TextEncoder().encode(["", "open it"])
    assert mask[0].sum() == 2  # [CLS] [SEP]
    assert torch.isfinite(features[0, :2]).all()


def test_altered_weights_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text, "MINILM_SHA256", "0" * 64)
    minilm_folder.cache_clear()
    with pytest.raises(TongsError, match="not the published ones"):
        minilm_folder()
    monkeypatch.setattr(text, "MINILM_PACKAGE", "no-such-package")
    with pytest.raises(TongsError, match="install the package no-such-package"):
        minilm_folder()
    monkeypatch.undo()
    assert minilm_folder().is_dir()


@pytest.mark.parametrize("kind", ["clip", "siglip", "t5"])
def test_other_families_by_name(kind: str, tmp_path: Path) -> None:
    """Tiny random towers saved to a folder: their text side is found and read token by token."""
    import transformers

    shape = {"hidden_size": 24, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    words = {"vocab_size": 30522, "max_position_embeddings": 64}
    if kind == "t5":
        config = transformers.T5Config(d_model=24, d_ff=32, num_layers=1, num_heads=2, d_kv=12, vocab_size=30522)
        model = transformers.T5Model(config)
    elif kind == "clip":
        vision = shape | {"image_size": 32, "patch_size": 16}
        model = transformers.CLIPModel(transformers.CLIPConfig(text_config=shape | words, vision_config=vision))
    else:
        vision = shape | {"image_size": 32, "patch_size": 16}
        model = transformers.SiglipModel(transformers.SiglipConfig(text_config=shape | words, vision_config=vision))
    model.save_pretrained(tmp_path)
    transformers.AutoTokenizer.from_pretrained(minilm_folder()).save_pretrained(tmp_path)
    encoder = TextEncoder(str(tmp_path))
    features, mask = encoder.encode([LONG, SHORT])
    assert encoder.dimension == 24
    assert features.shape == (2, 9, 24) and mask.sum().item() == 13


def test_unknown_encoder_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(TongsError, match="cannot be"):
        TextEncoder(str(tmp_path / "nothing")).encode([SHORT])


def test_reader_ignores_padding_and_reads_order() -> None:
    torch.manual_seed(0)
    reader = TextReader(8, 6, goal_tokens=3, max_tokens=10, width=16, layers=1, heads=2).eval()
    features, mask = torch.randn(1, 5, 8), torch.ones(1, 5, dtype=torch.bool)
    goals = reader(features, mask)
    assert goals.shape == (1, 3, 6)
    padded = torch.cat([features, 100 * torch.randn(1, 4, 8)], dim=1)
    longer = torch.cat([mask, torch.zeros(1, 4, dtype=torch.bool)], dim=1)
    torch.testing.assert_close(reader(padded, longer), goals)
    assert not torch.allclose(reader(features.flip(1), mask), goals, atol=1e-3)


def test_default_is_bundled() -> None:
    assert TextEncoder().name == MINILM and TextEncoder().dimension == 384


def test_a_whitened_sentence_says_small_differences_as_loudly_as_large_ones() -> None:
    torch.manual_seed(0)
    reader = TextReader(8, 6, goal_tokens=3, max_tokens=10, width=16, layers=1, heads=2, directions=4)
    features, mask = torch.randn(64, 5, 8) * torch.tensor([3.0, 1.0, 0.1, 0.01, 0, 0, 0, 0]), torch.ones(64, 5) > 0
    mask[:, 4] = False
    features[:, 4] = 0.0
    reader.whiten((features[part], mask[part]) for part in (slice(0, 40), slice(40, 64)))
    whitened = (features[:, :4].mean(dim=1) - reader.middle) @ reader.whitening
    torch.testing.assert_close(whitened.T @ whitened / 64, torch.eye(4), atol=1e-3, rtol=0)
    loud = reader(features, mask)
    reader.whitening.zero_()
    heard = loud - reader(features, mask)
    torch.testing.assert_close(heard, reader.sentence(whitened)[:, None].expand(-1, 3, -1) - reader.sentence.bias)


def test_whitening_of_instructions_that_hardly_differ() -> None:
    reader = TextReader(8, 6, goal_tokens=3, max_tokens=10, width=16, layers=1, heads=2, directions=4)
    one, mask = torch.randn(1, 5, 8), torch.ones(1, 5) > 0
    reader.whiten([(one, mask)])
    assert not reader.whitening.any(), "a single instruction differs from no other"
    reader.whiten([(torch.cat([one, one + 1e-3]), mask.expand(2, 5))])
    assert int(reader.whitening.any(dim=0).sum()) == 1
    assert reader(one, mask).isfinite().all()
