"""Noise without torch is torch's noise."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from robot.torch_noise import TorchNormal


@pytest.mark.parametrize("seed", [0, 7, 2**31 + 5])
def test_a_seed_gives_the_numbers_that_torch_gives(seed: int) -> None:
    generator, ours = torch.Generator().manual_seed(seed), TorchNormal(seed)
    for shape in ((1, 12, 7), (16,), (1, 7), (2, 4, 7), (100,), (3,), (3, 31), (1, 2, 7)):
        theirs = torch.randn(shape, generator=generator).numpy()
        np.testing.assert_allclose(ours(*shape), theirs, rtol=1e-4, atol=1e-6)


def test_a_state_can_be_returned_to() -> None:
    normal = TorchNormal(3)
    normal(1, 7)  # half a pair is left
    state = normal.state
    first = normal(40), normal(3)
    normal.state = state
    for one, again in zip(first, (normal(40), normal(3)), strict=True):
        np.testing.assert_array_equal(one, again)
