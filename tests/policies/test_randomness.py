"""A row of a batch meets the same random numbers, in whichever part of the batch it is worked on."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from policies.beso.noise import LogLogistic, LogNormal
from policies.encoders.augmentation import colour_change, random_shift, repainted
from policies.goal_conditioned.masking import mask_goals
from policies.randomness import Randomness, choose, draw, own_rows, share
from tests.policies.small import batch, policy

CPU = torch.device("cpu")
PICTURES = torch.randint(0, 256, (6, 8, 8, 3), dtype=torch.uint8)
DRAWS: dict[str, Callable[[slice, Randomness], torch.Tensor]] = {
    "normal": lambda rows, source: draw(torch.randn, (rows.stop - rows.start, 3), source, CPU),
    "several each": lambda rows, source: draw(torch.rand, (4 * (rows.stop - rows.start),), source, CPU),
    "noise levels": lambda rows, source: LogLogistic(0.01, 5.0)(2 * (rows.stop - rows.start), source, CPU),
    "lognormal": lambda rows, source: LogNormal(0.0, 1.0)(rows.stop - rows.start, source, CPU),
    "colours": lambda rows, source: torch.cat(colour_change(rows.stop - rows.start, 0.1, source, CPU), dim=1),
    "paint": lambda rows, source: repainted(PICTURES[rows], 0.5, generator=source),
    "shifts": lambda rows, source: random_shift(PICTURES[rows], 3, generator=source),
    "masked goals": lambda rows, source: mask_goals(torch.ones(rows.stop - rows.start, 2, 2), 0.4, True, source)[0],
    "their counts": lambda rows, source: mask_goals(torch.ones(rows.stop - rows.start, 2, 2), 0.4, False, source)[1],
}


@pytest.mark.parametrize("name", DRAWS)
@pytest.mark.parametrize("parts", [2, 3])
def test_parts_together_are_the_whole(name: str, parts: int) -> None:
    size = 6 // parts
    sources = [torch.Generator().manual_seed(5) for _ in range(parts + 1)]
    whole = DRAWS[name](slice(0, 6), sources[-1])
    joined = [DRAWS[name](slice(i * size, (i + 1) * size), share(sources[i], i * size, size, 6)) for i in range(parts)]
    torch.testing.assert_close(torch.cat(joined), whole, rtol=0, atol=0)
    assert all(torch.equal(source.get_state(), sources[-1].get_state()) for source in sources)
    assert len(whole.unique()) > 1, "something was drawn"


def test_all_rows_are_the_generator_itself() -> None:
    generator = torch.Generator()
    assert share(generator, 0, 6, 6) is generator
    assert torch.equal(own_rows(torch.arange(6), generator), torch.arange(6))


def test_the_mean_loss_of_two_halves_is_that_of_the_batch() -> None:
    """Of the whole policy in training mode, with masked goals and augmented pictures."""
    beso, whole = policy(goal_mask=0.3, shift=20, colour=0.2).train(), batch(8)

    def rows(first: int, count: int) -> dict:
        def part(value):
            return {k: part(v) for k, v in value.items()} if isinstance(value, dict) else value[first : first + count]

        return {key: part(value) for key, value in whole.items()}

    def losses(first: int, count: int) -> dict[str, torch.Tensor]:
        generator = torch.Generator().manual_seed(3)
        return beso.loss(rows(first, count), share(generator, first, count, 8))

    halves, one = (losses(0, 4), losses(4, 4)), losses(0, 8)
    assert {"loss", "diffusion", "state_head", "goal_head"} <= one.keys()
    for name in one:
        torch.testing.assert_close((halves[0][name] + halves[1][name]) / 2, one[name], rtol=1e-5, atol=1e-6)
        assert abs(halves[0][name] - one[name]) > 1e-4


def test_rows_may_have_generators_of_their_own() -> None:
    """Each draws what it draws alone, several numbers a row included, and indices too."""
    seeds, device = (3, 5, 8), torch.device("cpu")
    chances = torch.rand(6, 10, generator=torch.Generator().manual_seed(0))

    def generators() -> list[torch.Generator]:
        return [torch.Generator().manual_seed(seed) for seed in seeds]

    numbers, indices = draw(torch.randn, (6, 4), generators(), device), choose(chances, generators())
    for row, alone in enumerate(generators()):
        assert torch.equal(numbers[2 * row : 2 * row + 2], torch.randn(2, 4, generator=alone))
        alone = torch.Generator().manual_seed(seeds[row])
        mine = torch.multinomial(chances[2 * row : 2 * row + 2], 1, generator=alone)[:, 0]
        assert torch.equal(indices[2 * row : 2 * row + 2], mine)
