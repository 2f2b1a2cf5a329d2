"""The normal numbers that torch's CPU generator gives, without torch, so that a seed means the same on a robot."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

_BLOCK = 16
"""torch makes normal numbers in blocks of so many: Box and Muller's pairs are eight apart."""


class TorchNormal:
    """`torch.randn(..., generator=torch.Generator().manual_seed(seed))`, up to rounding.

    Both use the Mersenne Twister with the same start. For 16 numbers and more torch takes 24 bits of each of its words;
    fewer it makes in pairs, of 53 bits each, and keeps what is left of a pair.
    """

    def __init__(self, seed: int) -> None:
        self._bits = np.random.RandomState(seed & 0xFFFFFFFF)
        self._left: float | None = None

    @property
    def state(self) -> Any:
        """Where it is; assign it to go back."""
        return self._bits.get_state(legacy=False), self._left

    @state.setter
    def state(self, state: Any) -> None:
        bits, self._left = state
        self._bits.set_state(bits)

    def __call__(self, *shape: int) -> NDArray[np.float32]:
        """Standard normal numbers, float32 of this shape."""
        count = int(np.prod(shape))
        if count < _BLOCK:
            return np.array([self._single() for _ in range(count)], dtype=np.float32).reshape(shape)
        uniform = self._uniform(count)
        whole = count // _BLOCK * _BLOCK
        numbers = _box_muller(uniform[:whole])
        if whole < count:  # the last 16 are drawn anew, over some of those before
            numbers = np.concatenate([numbers, uniform[whole:]])
            numbers[-_BLOCK:] = _box_muller(self._uniform(_BLOCK))
        return numbers.reshape(shape)

    def _single(self) -> float:
        if self._left is not None:
            single, self._left = self._left, None
            return single
        high, low, other_high, other_low = self._words(4).astype(np.uint64).tolist()
        first, second = ((a << 32 | b) % (1 << 53) / (1 << 53) for a, b in ((high, low), (other_high, other_low)))
        radius, angle = math.sqrt(-2 * math.log1p(-second)), 2 * math.pi * first
        self._left = radius * math.sin(angle)
        return radius * math.cos(angle)

    def _words(self, count: int) -> NDArray[np.uint32]:
        return self._bits.randint(0, 1 << 32, count, dtype=np.uint32)

    def _uniform(self, count: int) -> NDArray[np.float32]:
        return (self._words(count) & np.uint32((1 << 24) - 1)).astype(np.float32) * np.float32(2**-24)


def _box_muller(uniform: NDArray[np.float32]) -> NDArray[np.float32]:
    first, second = uniform.reshape(-1, 2, _BLOCK // 2).transpose(1, 0, 2)
    radius, angle = np.sqrt(-2 * np.log(1 - first)), np.float32(2 * np.pi) * second
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1).reshape(-1).astype(np.float32)
