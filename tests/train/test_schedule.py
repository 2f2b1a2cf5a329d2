"""The learning rate against its closed form."""

from __future__ import annotations

import math

import pytest

from train.schedule import learning_rate_factor, spent


def test_cosine_falls_from_one_to_zero() -> None:
    for progress, wanted in [(0.0, 1.0), (1 / 3, 0.75), (0.5, 0.5), (2 / 3, 0.25), (1.0, 0.0), (1.2, 0.0)]:
        assert learning_rate_factor("cosine", 100, 0, progress) == pytest.approx(wanted, abs=1e-12)


def test_warmup_grows_linearly_and_is_over_at_its_last_step() -> None:
    factors = [learning_rate_factor("constant", step, 4, 0.3) for step in range(6)]
    assert factors == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]
    warm, cold = (learning_rate_factor("cosine", 1, warmup, 0.3) for warmup in (4, 0))
    assert warm == pytest.approx(0.5 * cold) and cold == pytest.approx(0.5 * (1 + math.cos(0.3 * math.pi)))


def test_the_budget_is_the_one_further_spent() -> None:
    assert spent(50, 1.0, 100, None) == 0.5
    assert spent(50, 3.0, None, 4.0) == 0.75
    assert spent(50, 3.0, 100, 4.0) == 0.75
    assert spent(90, 3.0, 100, 4.0) == 0.9
    assert spent(150, 0.0, 100, None) == 1.0
