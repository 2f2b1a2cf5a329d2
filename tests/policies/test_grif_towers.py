"""The task encoders of GRIF: the surgery on the first convolution, unit vectors, CLIP and timm towers."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from policies.grif.config import GrifConfig
from policies.grif.towers import TransitionTower, see_two_pictures, text_tower
from robot.errors import TongsError
from tests.policies.small_grif import SMALL

CLIP = "openai/clip-vit-base-patch32"
CPU = torch.device("cpu")


def pictures(count: int = 3, side: int = 32, seed: int = 0) -> Tensor:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(seed)) * 2 - 1


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CLIP model of random weights with a tokenizer of single letters, as a folder that transformers reads."""
    import transformers

    folder = tmp_path_factory.mktemp("clip")
    letters = [chr(code) for code in range(33, 127)]
    words = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({word: number for number, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    transformers.CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt")).save_pretrained(folder)
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    shape["projection_dim"] = 24
    end = len(words) - 1
    text = {**shape, "vocab_size": len(words), "eos_token_id": end, "bos_token_id": end - 1, "pad_token_id": end}
    config = transformers.CLIPConfig.from_dict(
        {"text_config": text, "vision_config": {**shape, "image_size": 32, "patch_size": 8}, "projection_dim": 24}
    )
    torch.manual_seed(0)
    transformers.CLIPModel(config).eval().save_pretrained(folder)
    return folder


def config(**changes: Any) -> GrifConfig:
    return GrifConfig(**SMALL | changes)


def test_the_surgery_is_what_timm_does_for_six_channels() -> None:
    from timm.models._manipulate import adapt_input_conv

    network = nn.Sequential(nn.Conv2d(3, 8, 4, 4), nn.ReLU())
    first = network[0]
    assert isinstance(first, nn.Conv2d)
    before, bias = first.weight.detach().clone(), first.bias
    see_two_pictures(network)
    wide = network[0]
    assert isinstance(wide, nn.Conv2d) and wide.weight.shape == (8, 6, 4, 4)
    assert torch.equal(wide.weight, torch.cat([before, before], dim=1) / 2)
    torch.testing.assert_close(wide.weight.detach(), adapt_input_conv(6, before))
    assert bias is not None and torch.equal(wide.bias, bias)  # type: ignore[arg-type]
    with pytest.raises(TongsError, match="no convolution that sees a picture"):
        see_two_pictures(nn.Sequential(nn.Linear(3, 3)))


def pair(name: str) -> list[TransitionTower]:
    """The same tower without and with the start."""
    made = []
    for start in (False, True):
        torch.manual_seed(0)
        made.append(TransitionTower(config(tower=name, start=start), (32, 32)).eval())
    return made


@pytest.mark.parametrize("tower", ["vit_tiny_patch16_224", "resnet18", "clip"])
def test_two_equal_pictures_give_what_the_plain_network_gives(tower: str, clip: Path) -> None:
    plain, wide = pair(f"clip:{clip}" if tower == "clip" else tower)
    with torch.no_grad():
        one, other = pictures(), pictures(seed=1)
        torch.testing.assert_close(wide(one, one), plain(other, one), atol=1e-5, rtol=0)
        torch.testing.assert_close(wide(other, one), wide(one, other), atol=1e-5, rtol=0)  # until it is trained


@pytest.mark.parametrize("tower", ["patch_stem", "vit_tiny_patch16_224"])
def test_a_tower_sees_the_start(tower: str) -> None:
    plain, wide = pair(tower)
    with torch.no_grad():
        one, other = pictures(), pictures(seed=1)
        assert not torch.allclose(wide(other, one), wide(one, one), atol=1e-4)
        assert torch.equal(plain(other, one), plain(one, one))  # and without it does not
        torch.testing.assert_close(wide(other, one).norm(dim=-1), torch.ones(3))
        assert wide(other, one).shape == plain(other, one).shape == (3, 24)
        assert tower != "patch_stem" or not torch.allclose(wide(other, one), wide(one, other), atol=1e-4)


def test_a_clip_tower_is_clips_own(clip: Path) -> None:
    from torch.nn.functional import interpolate, normalize
    from transformers import CLIPImageProcessor, CLIPModel

    reference = CLIPModel.from_pretrained(clip).eval()
    own = TransitionTower(config(tower=f"clip:{clip}", tower_pretrained=True, start=False), (32, 32)).eval()
    values = (pictures(2) + 1) / 2
    processor = CLIPImageProcessor(do_resize=False, do_center_crop=False, do_rescale=False)
    seen = processor(list(values), return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        wanted = normalize(reference.get_image_features(pixel_values=seen), dim=-1)
        torch.testing.assert_close(own(pictures(2), pictures(2)), wanted, atol=1e-5, rtol=0)
        small = interpolate(pictures(2), (16, 16), mode="area")
        assert TransitionTower(config(tower=f"clip:{clip}"), (16, 16))(small, small).shape == (2, 24)


def test_texts_of_clip_are_clips_own(clip: Path) -> None:
    from torch.nn.functional import normalize
    from transformers import AutoTokenizer, CLIPModel

    tower = text_tower(config(text_tower=f"clip:{clip}", tower_pretrained=True)).eval()
    texts = ["open it", "lift the red block", "open it"]
    tokens = AutoTokenizer.from_pretrained(clip)(texts, padding=True, return_tensors="pt")
    with torch.no_grad():
        wanted = normalize(CLIPModel.from_pretrained(clip).eval().get_text_features(**tokens), dim=-1)
        torch.testing.assert_close(tower(texts, CPU), wanted, atol=1e-5, rtol=0)
    with pytest.raises(TongsError, match="may have 64 tokens"):
        tower(["open " * 30], CPU)


def test_the_reader_gives_unit_vectors_that_tell_numbers_apart() -> None:
    torch.manual_seed(0)
    tower = text_tower(config()).eval()
    with torch.no_grad():
        found = tower(["open it 37 percent", "open it 38 percent", "open it 37 percent", ""], CPU)
    torch.testing.assert_close(found.norm(dim=-1), torch.ones(4))
    assert torch.equal(found[0], found[2]) and not torch.allclose(found[0], found[1], atol=1e-4)
    assert not list(name for name, _ in tower.named_parameters() if "encoder" in name)  # MiniLM stays outside


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tower": "vit_gigantic"}, "timm has no tower 'vit_gigantic'"),
        ({"tower": "clip:/nowhere/at/all"}, "the CLIP model '/nowhere/at/all' cannot be loaded"),
    ],
)
def test_unknown_towers(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(TongsError, match=message):
        TransitionTower(config(**changes), (32, 32))


def test_a_clip_tower_says_its_width(clip: Path) -> None:
    with pytest.raises(TongsError, match="set policy.embedding_width=24, not 128"):
        TransitionTower(config(tower=f"clip:{clip}", embedding_width=128), (32, 32))


@pytest.mark.skipif(not os.environ.get("TONGS_CLIP"), reason=f"TONGS_CLIP=1 loads {CLIP} from the hub")
def test_the_published_clip() -> None:
    made = GrifConfig(tower=f"clip:{CLIP}", text_tower=f"clip:{CLIP}", tower_pretrained=True, embedding_width=512)
    plain, wide = (
        TransitionTower(GrifConfig(**{**made.__dict__, "start": start}), (224, 224)).eval() for start in (False, True)
    )
    with torch.no_grad():
        picture = pictures(2, 224)
        torch.testing.assert_close(wide(picture, picture), plain(picture, picture), atol=1e-5, rtol=0)
        red, blue = (
            torch.tensor(colour).view(1, 3, 1, 1).expand(1, 3, 224, 224) for colour in ([1.0, -1, -1], [-1.0, -1, 1])
        )
        seen = wide(torch.cat([red, blue]), torch.cat([red, blue]))
        said = text_tower(made).eval()(["a plain red picture", "a plain blue picture"], CPU)
    assert (said @ seen.T).argmax(dim=1).tolist() == [0, 1]
