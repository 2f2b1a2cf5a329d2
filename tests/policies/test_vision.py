"""Image encoders and augmentation."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from policies.encoders.augmentation import central_cut, colour_change, random_cut, random_shift, repainted
from policies.encoders.vision import CameraEncoder, KeypointReadout, PatchStem, TimmEncoder
from robot.errors import TongsError


def test_patch_stem_keeps_a_map_of_12_by_12_at_96_pixels() -> None:
    stem = PatchStem(16, (48, 64, 96))
    assert stem(torch.zeros(2, 3, 96, 96), torch.zeros(2, 16)).shape == (2, 96, 12, 12)


def test_language_modulates_the_features_once_trained() -> None:
    torch.manual_seed(0)
    stem, images = PatchStem(16, (8, 16, 16)), torch.randn(2, 3, 32, 32)
    assert torch.equal(stem(images, torch.zeros(2, 16)), stem(images, torch.ones(2, 16)))  # the identity at first
    for film in stem.films:
        torch.nn.init.normal_(film.linear.weight)  # type: ignore[union-attr]
    assert not torch.allclose(stem(images, torch.zeros(2, 16)), stem(images, torch.ones(2, 16)))


@pytest.mark.parametrize(("row", "column"), [(0, 0), (2, 5), (5, 7)])
def test_keypoint_coordinates_point_at_the_peak(row: int, column: int) -> None:
    readout = KeypointReadout(channels=1, features=3, keypoints=1, described=1)
    torch.nn.init.constant_(readout.maps.weight, 100.0)
    torch.nn.init.zeros_(readout.linear.bias)
    with torch.no_grad():
        readout.linear.weight.copy_(torch.eye(3))  # hand out x, y and the feature as they are
    features = torch.zeros(1, 1, 6, 8)
    features[0, 0, row, column] = 2.0
    x, y = (column + 0.5) / 8 * 2 - 1, (row + 0.5) / 6 * 2 - 1
    assert readout(features, torch.zeros(1, 0))[0].tolist() == pytest.approx([x, y, 2.0], abs=1e-4)


def test_words_choose_between_two_things_that_look_alike() -> None:
    readout = KeypointReadout(channels=1, features=3, keypoints=1, described=1, instructed=1, language_width=1)
    torch.nn.init.constant_(readout.maps.weight, 10.0)
    features = torch.zeros(1, 1, 6, 8)
    features[0, 0, 2, 1] = features[0, 0, 4, 6] = 2.0

    @torch.no_grad()
    def seen(word: float) -> float:
        """How much of the attention is on the left one."""
        return float(readout.attention(features, torch.tensor([[word]]))[0, 0].view(6, 8)[:, :4].sum())

    assert seen(1.0) == pytest.approx(0.5, abs=1e-4), "at first the words say nothing"
    with torch.no_grad():
        readout.queries[0].weight.zero_()
        readout.queries[0].weight[0] = 1.0
        readout.queries[0].bias.zero_()
        readout.queries[1].weight[1, 0] = 20.0  # the part of the query that asks how far right a cell is
    assert seen(-1.0) > 0.99 and seen(1.0) < 0.01


def test_keypoints_are_exact_under_autocast() -> None:
    torch.manual_seed(0)
    readout = KeypointReadout(4, 8, instructed=4, language_width=6)
    features, language = torch.randn(2, 4, 12, 12), torch.randn(2, 6)
    torch.nn.init.normal_(readout.queries[1].weight)
    readout.maps.requires_grad_(False)
    with torch.autocast("cpu", torch.bfloat16):
        rough = readout(features, language)
    assert rough.dtype == torch.float32
    torch.testing.assert_close(rough, readout(features, language), atol=0.02, rtol=0.02)


@pytest.mark.parametrize(
    "name", ["resnet10t.c3_in1k", "vit_tiny_patch16_224.augreg_in21k_ft_in1k", "swin_tiny_patch4_window7_224"]
)
def test_timm_backbones(name: str) -> None:
    """Convolutional, tokens with a class token, and channels last."""
    backbone = TimmEncoder(name, False, (64, 64), 16)
    encoder = CameraEncoder(backbone, KeypointReadout(backbone.channels, features=10)).eval()
    with torch.no_grad():
        assert encoder(torch.rand(2, 3, 64, 64) * 2 - 1, torch.zeros(2, 16)).shape == (2, 10)


def test_timm_map_keeps_rows_and_columns() -> None:
    """A bright patch moves the strongest feature change of a transformer's map to where it is."""
    torch.manual_seed(0)
    backbone = TimmEncoder("vit_tiny_patch16_224.augreg_in21k_ft_in1k", False, (64, 64), 16).eval()
    images = torch.zeros(1, 3, 64, 64)
    images[:, :, 16:32, 32:48] = 1.0  # patch row 1, column 2
    with torch.no_grad():
        blank = backbone(torch.zeros_like(images), torch.zeros(1, 16))
        change = (backbone(images, torch.zeros(1, 16)) - blank).norm(dim=1)[0]
    assert divmod(int(change.argmax()), 4) == (1, 2)


def test_unknown_backbone() -> None:
    with pytest.raises(TongsError, match="no backbone 'resnet9000'"):
        TimmEncoder("resnet9000", False, (64, 64), 16)


def scene_of(table: tuple[int, int, int], wall: tuple[int, int, int], block: tuple[int, int, int]) -> torch.Tensor:
    """A picture (48, 64, 3): a wall above a shaded table with a block on it."""
    picture = torch.zeros(48, 64, 3, dtype=torch.uint8)
    picture[:16], picture[16:] = torch.tensor(wall, dtype=torch.uint8), torch.tensor(table, dtype=torch.uint8)
    picture[16:, :, 0] += torch.arange(64, dtype=torch.uint8) // 8
    picture[30:36, 20:28] = torch.tensor(block, dtype=torch.uint8)
    return picture


def test_new_paint_is_for_the_largest_surfaces_and_keeps_things_and_shading() -> None:
    before = scene_of((180, 150, 120), (60, 80, 90), (200, 20, 20)).expand(64, -1, -1, -1)
    after = repainted(before, 1.0, generator=torch.Generator().manual_seed(0))
    assert (after[:, 30:36, 20:28] == before[:, 30:36, 20:28]).all()  # the block keeps its colour
    table = after[:, 45, ::8].float()
    assert len(table[:, 0].unique(dim=0)) > 60 and table[:, 0].std(dim=0).min() > 40
    inside = ((table > 10) & (table < 245)).all(dim=2).all(dim=1)  # not clipped at black or white
    assert (table[inside, :, 0].diff() == 1).all() and (table[inside, :, 1:].diff(dim=1) == 0).all()
    wall = after[:, 5, 5].float()
    changed = (wall != before[0, 5, 5]).any(dim=1)
    assert 0.3 < changed.float().mean() < 0.7  # the second surface half as often
    assert wall[changed].std(dim=0).min() > 40


def test_new_paint_comes_to_its_share_of_pictures_and_is_one_within_a_window() -> None:
    before = scene_of((180, 150, 120), (60, 80, 90), (200, 20, 20)).expand(400, -1, -1, -1)
    after = repainted(before, 0.4, 2, torch.Generator().manual_seed(0))
    changed = (after[:, 45, 5] != before[:, 45, 5]).any(dim=1)
    assert 0.3 < changed.float().mean() < 0.5
    assert (after[::2] == after[1::2]).all()
    assert (repainted(before, 0.0) == before).all()


def test_random_shift_moves_pictures_and_repeats_their_border() -> None:
    images = torch.arange(8 * 8, dtype=torch.uint8).view(1, 8, 8, 1).repeat(200, 1, 1, 3)
    moved = random_shift(images, 2, generator=torch.Generator().manual_seed(0))
    padded = np.pad(images[0, :, :, 0].numpy(), 2, mode="edge")
    crops = {padded[r : r + 8, c : c + 8].tobytes() for r in range(5) for c in range(5)}
    seen = {picture[:, :, 0].numpy().tobytes() for picture in moved}
    assert seen == crops  # nothing else, and every shift occurs


def test_pictures_of_one_window_move_alike() -> None:
    images = torch.randint(0, 256, (1, 8, 8, 3), dtype=torch.uint8).repeat(30, 1, 1, 1)
    moved = random_shift(images, 2, window=3, generator=torch.Generator().manual_seed(0)).view(10, 3, 8, 8, 3)
    assert torch.equal(moved[:, 0], moved[:, 1]) and torch.equal(moved[:, 0], moved[:, 2])
    assert len({pictures.numpy().tobytes() for pictures in moved}) > 5


def test_random_cuts_are_windows_of_the_picture_and_cover_every_place() -> None:
    images = torch.arange(8 * 10, dtype=torch.uint8).view(1, 8, 10, 1).repeat(300, 1, 1, 3)
    cuts = random_cut(images, 0.75, window=3, generator=torch.Generator().manual_seed(0))
    assert cuts.shape == (300, 6, 8, 3)
    picture = images[0, :, :, 0].numpy()
    wanted = {picture[r : r + 6, c : c + 8].tobytes() for r in range(3) for c in range(3)}
    assert {cut[:, :, 0].numpy().tobytes() for cut in cuts} == wanted
    assert torch.equal(cuts[0], cuts[1]) and torch.equal(cuts[0], cuts[2])
    assert central_cut(images, 0.75)[0, :, :, 0].numpy().tobytes() == picture[1:7, 1:9].tobytes()


def test_colour_change_is_light_and_differs_between_samples() -> None:
    factor, offset = colour_change(1000, 0.1, torch.Generator().manual_seed(0), torch.device("cpu"))
    assert factor.shape == offset.shape == (1000, 3)
    assert (factor - 1).abs().max() <= 0.1 + 1e-6 and offset.abs().max() <= 0.1 + 1e-6
    assert (factor - 1).abs().max() > 0.08 and factor[:, 0].std() > 0.03
    assert (factor.amax(dim=1) - factor.amin(dim=1)).max() <= 0.04 + 1e-6  # a red block stays red
