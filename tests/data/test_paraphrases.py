"""Paraphrases come from a file, and a mistake in it is told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from data.paraphrases import read_paraphrases
from robot.errors import TongsError


def test_a_file_of_paraphrases(tmp_path: Path) -> None:
    pool = {"open it": ["pull it open", "make it open"], "close it": []}
    (tmp_path / "pool.json").write_text(json.dumps(pool))
    assert read_paraphrases(tmp_path / "pool.json", {"open it", "close it", "lift it"}) == pool
    assert read_paraphrases(None, {"open it"}) == {}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{", "are not JSON"),
        ("[1]", "must be an object"),
        ('{"open it": "pull"}', "of 'open it' in .* must be a list of texts, got 'pull'"),
        ('{"fly": ["soar"]}', "paraphrases of 'fly', which is no instruction of the training data"),
    ],
)
def test_mistakes_in_it(tmp_path: Path, text: str, sentence: str) -> None:
    (tmp_path / "pool.json").write_text(text)
    with pytest.raises(TongsError, match=sentence):
        read_paraphrases(tmp_path / "pool.json", {"open it"})
    with pytest.raises(TongsError, match="cannot be read"):
        read_paraphrases(tmp_path / "absent.json", set())
