"""Random numbers that belong to a batch, not to the process that happens to have some of its rows; or to each row."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor


@dataclass(frozen=True)
class GeneratorShare:
    """A generator that several processes hold in the same state, and the rows of the batch that are ours.

    Attributes:
        generator: equal on all processes; every draw is made for the whole batch, so they stay equal.
        first: our first row.
        rows: how many are ours.
        total: rows of the whole batch.
    """

    generator: torch.Generator
    first: int
    rows: int
    total: int


Randomness: TypeAlias = "torch.Generator | Sequence[torch.Generator] | GeneratorShare | None"
"""Where numbers are drawn from: one generator for a batch, one for each of its rows, one that processes share, or None
for torch's own."""


def share(generator: torch.Generator, first: int, rows: int, total: int) -> torch.Generator | GeneratorShare:
    """The randomness of rows `first` .. `first + rows` of a batch; the generator itself if that is all of them."""
    return generator if rows == total else GeneratorShare(generator, first, rows, total)


def draw(
    function: Callable[..., Tensor], shape: Sequence[int], randomness: Randomness, device: torch.device, **options: Any
) -> Tensor:
    """`function(shape)`, such as `torch.randn`, with the same numbers for a row however the batch is divided.

    The first axis runs over the rows, or over a fixed number of draws for each, row by row.
    """
    return own_rows(draw_whole(function, shape, randomness, device, **options), randomness)


def draw_whole(
    function: Callable[..., Tensor], shape: Sequence[int], randomness: Randomness, device: torch.device, **options: Any
) -> Tensor:
    """What `draw` draws for all rows of the batch, those of other processes too; `shape` is that of ours."""
    if isinstance(randomness, Sequence):
        each = (shape[0] // len(randomness), *shape[1:])
        return torch.cat([function(each, generator=own, device=device, **options) for own in randomness])
    if not isinstance(randomness, GeneratorShare):
        return function(tuple(shape), generator=randomness, device=device, **options)
    rows = shape[0] // randomness.rows * randomness.total
    return function((rows, *shape[1:]), generator=randomness.generator, device=device, **options)


def own_rows(whole: Tensor, randomness: Randomness) -> Tensor:
    """Our rows of something that has been drawn for the whole batch."""
    if not isinstance(randomness, GeneratorShare):
        return whole
    each = len(whole) // randomness.total
    return whole[each * randomness.first :][: each * randomness.rows]


def choose(probabilities: Tensor, randomness: Randomness) -> Tensor:
    """One index for every row of probabilities (N, K), as (N,); the rows are draws as in `draw`."""
    assert not isinstance(randomness, GeneratorShare), "policies act in one process"
    if isinstance(randomness, Sequence):
        parts = probabilities.chunk(len(randomness))
        return torch.cat([choose(part, own) for part, own in zip(parts, randomness, strict=True)])
    return torch.multinomial(probabilities, 1, generator=randomness)[:, 0]
