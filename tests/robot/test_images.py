"""Area averaging against exact means."""

import numpy as np
import pytest

from robot.errors import TongsError
from robot.images import scale_down

SIZE = (32, 48)


def pictures(seed: int, count: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, *SIZE, 3), dtype=np.uint8)


@pytest.mark.parametrize("size", [(16, 24), (8, 48), (32, 16)])
def test_whole_factors_average_blocks(size: tuple[int, int]) -> None:
    frames = pictures(0, 3)
    tall, wide = SIZE[0] // size[0], SIZE[1] // size[1]
    exact = frames.reshape(3, size[0], tall, size[1], wide, 3).mean(axis=(2, 4))
    scaled = scale_down(frames, size)
    assert scaled.dtype == np.uint8 and np.abs(scaled - exact).max() <= 0.5


def test_four_thirds_averages_the_pixels_whose_centres_fall_in() -> None:
    """Of four pixels in a row, three come out: the first, the mean of the middle two, the last."""

    def shrink(values: np.ndarray) -> np.ndarray:
        first, second, third, fourth = (values[:, start::4] for start in range(4))
        return np.stack([first, (second + third) / 2, fourth], axis=2).reshape(len(values), -1, *values.shape[2:])

    frames = pictures(0, 2)
    exact = shrink(shrink(frames.astype(float)).swapaxes(1, 2)).swapaxes(1, 2)
    assert np.abs(scale_down(frames, (24, 36)) - exact).max() <= 1.0  # two passes, each rounded


def test_enlarging_is_refused() -> None:
    with pytest.raises(TongsError, match="32x48 cannot be scaled up to the 64x48"):
        scale_down(pictures(0, 1), (64, 48))


def test_a_single_picture_is_scaled_like_one_of_many() -> None:
    frames = pictures(1, 4)
    for size in ((16, 24), (24, 36)):
        np.testing.assert_array_equal(scale_down(frames, size)[2], scale_down(frames[2], size))
