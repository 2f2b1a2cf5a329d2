"""Prompts and their tokens."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tokenizers import Tokenizer

from policies.vla.config import LLAMA_SPACE, OPENVLA_PROMPT, VICUNA_PROMPT
from policies.vla.openvla_checkpoint import openvla_7b
from policies.vla.prompt import Prompter, learn_tokenizer
from robot.errors import TongsError
from tests.policies.small import INSTRUCTIONS

OWN = learn_tokenizer(INSTRUCTIONS, 300)


def llama(**changes: object) -> Prompter:
    """OpenVLA's prompt rules with a tokenizer of ours in the place of Llama's, which is not free to ship."""
    return Prompter(replace(openvla_7b(), **({"tokenizer": OWN} | changes)))  # type: ignore[arg-type]


def test_openvlas_words() -> None:
    wanted = "In: What action should the robot take to pick up the red block?\nOut:"
    assert llama().words.text("Pick up the RED block") == wanted
    assert (
        Prompter(replace(openvla_7b(), prompt=VICUNA_PROMPT))
        .words.text("Close it")
        .endswith(
            "polite answers to the user's questions. USER: What action should the robot take to close it? ASSISTANT:"
        )
    )


def test_every_prompt_begins_and_ends_as_in_training() -> None:
    ids = llama().ids("close it").tolist()
    words = Tokenizer.from_str(OWN).encode(OPENVLA_PROMPT.replace("{instruction}", "close it")).ids
    assert ids == [1, *words, LLAMA_SPACE]
    ends = llama(answer_token=words[-1], begin_token=words[0])
    assert ends.ids("close it").tolist() == words


def test_a_learned_tokenizer_reads_anything_and_every_digit() -> None:
    tokenizer = Tokenizer.from_str(OWN)
    for text in ("open the drawer 40 percent", "öffne die 3. Schublade, bitte!"):
        assert tokenizer.decode(tokenizer.encode(text).ids) == text
    assert [tokenizer.token_to_id(name) for name in ("<pad>", "<s>", "</s>")] == [0, 1, 2]
    forty = tokenizer.encode("40").tokens
    assert forty == ["4", "0"]
    assert len(tokenizer.encode(INSTRUCTIONS[0]).ids) < len(INSTRUCTIONS[0]) / 2


def test_too_long_an_instruction() -> None:
    with pytest.raises(TongsError, match=r"may have 20 tokens and this instruction gives \d+: 'open the open the"):
        llama(max_tokens=20).ids("open the " * 20)


def test_no_tokenizer_or_a_damaged_one() -> None:
    with pytest.raises(TongsError, match="no text tokenizer; put a tokenizer.json beside"):
        llama(tokenizer="").ids("close it")
    with pytest.raises(TongsError, match="the text tokenizer is damaged"):
        llama(tokenizer="{}").ids("close it")
