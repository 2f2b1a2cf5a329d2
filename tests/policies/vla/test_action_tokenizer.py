"""Actions as tokens, against the published table and the definition of the transform."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from policies.vla.action_tokenizer import UniformBins
from policies.vla.fast import FastTokens, fit
from robot.errors import TongsError
from tests.policies.vla import small

LLAMA = UniformBins(vocabulary=32000, bins=256, horizon=1, actions=7)


@pytest.mark.parametrize(
    ("value", "token", "decoded"),
    [
        (-1, 31999, -0.996078),
        (-0.5, 31936, -0.501961),
        (0, 31872, 0.0),
        (0.5, 31808, 0.501961),
        (1, 31744, 0.996078),
        (-3, 31999, -0.996078),
        (3, 31744, 0.996078),
    ],
)
def test_the_published_table(value: float, token: int, decoded: float) -> None:
    ids = LLAMA.ids(np.array([value]))
    assert ids.tolist() == [token]
    assert LLAMA.values(ids)[0] == pytest.approx(decoded, abs=1e-6)


@pytest.mark.parametrize(
    ("token", "decoded"), [(31744, 0.996078), (31745, 0.996078), (100, 0.996078), (32000, -0.996078)]
)
def test_ids_at_and_beyond_the_ends(token: int, decoded: float) -> None:
    assert LLAMA.values(np.array([token]))[0] == pytest.approx(decoded, abs=1e-6)


@given(arrays(np.float64, 50, elements=st.floats(-1, 1)))
def test_a_round_trip_is_off_by_half_an_interval_at_most(values: np.ndarray) -> None:
    ids = LLAMA.ids(values)
    assert LLAMA.first == 31744 and ids.min() >= 31744 and ids.max() <= 31999
    assert np.abs(LLAMA.values(ids) - values).max() <= 1 / 255 + 1e-12


def test_chunks_keep_their_order() -> None:
    tokenizer = UniformBins(vocabulary=400, bins=256, horizon=3, actions=2)
    chunk = torch.linspace(-0.9, 0.9, 12).view(2, 3, 2)
    ids = tokenizer.encode(chunk)
    assert [len(row) for row in ids] == [6, 6]
    torch.testing.assert_close(tokenizer.decode(ids), chunk, atol=1 / 255, rtol=0)


def test_no_room_in_the_vocabulary() -> None:
    with pytest.raises(TongsError, match="a vocabulary of 200 has no room for 256 action tokens"):
        UniformBins(200, 256, 1, 7)


def fast(scale: float = 10.0) -> tuple[FastTokens, torch.Tensor]:
    scaled = torch.from_numpy(small.chunks(200, 12)).mul(30).clamp(-1, 1).float()
    return FastTokens(fit(scaled.numpy(), 512, scale), 1000, 12, 7), scaled


def test_fast_tokens_lose_what_rounding_loses() -> None:
    """The transform is orthonormal, so the error is at most half a step in the root of the squared sum."""
    tokenizer, chunks = fast(scale=20.0)
    decoded = tokenizer.decode(tokenizer.encode(chunks))
    error = (decoded - chunks).square().sum(dim=1).sqrt()
    assert error.max() <= 0.5 / 20 * 12**0.5 + 1e-5
    assert error.max() > 0


def test_fast_tokens_are_fewer_than_numbers() -> None:
    tokenizer, chunks = fast()
    lengths = [len(row) for row in tokenizer.encode(chunks)]
    assert np.mean(lengths) < 0.7 * 12 * 7 and max(lengths) <= tokenizer.longest
    ids = torch.cat(tokenizer.encode(chunks))
    assert ids.min() >= tokenizer.first and ids.max() < 1000


def test_fast_tokens_of_a_constant_are_its_mean() -> None:
    """Only the first coefficient of a constant is not zero, so its beginning says all."""
    tokenizer, _ = fast()
    (ids,) = tokenizer.encode(torch.full((1, 12, 7), 0.5))
    whole = tokenizer.decode([ids])
    torch.testing.assert_close(whole, torch.full((1, 12, 7), 0.5), atol=0.5 / 10 / 12**0.5 + 1e-6, rtol=0)
    cut_off = tokenizer.decode([torch.cat([ids, ids])])
    assert torch.equal(cut_off, whole)


def test_fast_tokens_that_end_early_lack_high_frequencies() -> None:
    tokenizer, chunks = fast()
    (ids,) = tokenizer.encode(chunks[:1])
    smooth = tokenizer.decode([ids[: len(ids) // 2]])
    assert smooth.isfinite().all() and smooth.diff(dim=1).abs().sum() < chunks[:1].diff(dim=1).abs().sum()
    assert tokenizer.decode([ids[:0]]).abs().max() == 0


def test_fast_tokens_for_another_shape_or_not_fitted() -> None:
    fitted = fit(small.chunks(50, 4))
    with pytest.raises(TongsError, match=r"fitted to chunks of \[4, 7\], not of \[5, 7\]"):
        FastTokens(fitted, 1000, 5, 7)
    with pytest.raises(TongsError, match="have to be fitted"):
        FastTokens("", 1000, 5, 7)
    with pytest.raises(TongsError, match="need at least .* pieces for this data, got 3"):
        fit(small.chunks(50, 4) * 100, pieces=3)
