"""Grounded decoding against enumeration of every sequence, and the properties that the paper's equations promise."""

import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from policies.lmp.grounded import Affordance, Decoded, Grounder, Preference, PrefixScore, Safety, decode
from policies.lmp.grounded.grounders import FLOOR
from robot.errors import TongsError
from tests.policies.lmp.grounded.tiny import (
    PIECES,
    byte_level_language,
    every_command,
    next_log_probabilities,
    piece_language,
)

PROMPT = " red block"
LONGEST = 4


class Arbitrary:
    """A grounded function without any structure, and a record of what it was asked."""

    def __init__(self, salt: str, low: float = 0.05) -> None:
        self.salt, self.low, self.asked = salt, low, []

    def given(self, state: Any) -> PrefixScore:
        def score(prefixes: Sequence[str]) -> NDArray[np.float64]:
            self.asked.extend(prefixes)
            return np.array([self.value(prefix) for prefix in prefixes])

        return score

    def value(self, prefix: str) -> float:
        return self.low + (1 - self.low) * zlib.crc32((self.salt + prefix).encode()) / 2**32


class Where:
    """1 or 0."""

    def __init__(self, holds: Any) -> None:
        self.holds = holds

    def given(self, state: Any) -> PrefixScore:
        return lambda prefixes: np.array([float(self.holds(prefix)) for prefix in prefixes])


def _decode(language: Any, grounders: Sequence[Grounder], state: Any = None, **settings: Any) -> Decoded:
    settings = {"terminal": ".", "most_tokens": LONGEST, "candidates": len(PIECES)} | settings
    return decode(language, settings.pop("prompt", PROMPT), grounders, state, **settings)


def _best_by_enumeration(language: Any, grounder: Arbitrary, semantics: str) -> tuple[str, float]:
    begun = language.encode(PROMPT)
    best, text = -np.inf, ""
    cache: dict[tuple[int, ...], NDArray[np.float64]] = {}
    for command in every_command(0, LONGEST, len(PIECES)):
        score = 0.0
        for place, token in enumerate(command):
            before = command[:place]
            if before not in cache:
                cache[before] = next_log_probabilities(language, [*begun, *before])
            score += cache[before][token]
            score += np.log(grounder.value(language.text(command[: place + 1])))
            if semantics == "option":
                score -= np.log(grounder.value(language.text(before)))
        if score > best:
            best, text = score, language.text(command)
    return text.removesuffix(".").strip(), best


@pytest.mark.parametrize("seed", range(2))
def test_a_wide_beam_finds_the_best_of_all_sequences(seed: int) -> None:
    language, grounder = piece_language(seed), Arbitrary(f"salt {seed}")
    text, score = _best_by_enumeration(language, grounder, "prefix")
    decoded = _decode(language, [grounder], beams=len(PIECES) ** (LONGEST - 1))
    assert decoded.text == text and decoded.score == pytest.approx(score, abs=1e-4)


@pytest.mark.parametrize("seed", range(2))
def test_option_semantics_maximise_the_score_of_the_whole_command(seed: int) -> None:
    language = piece_language(seed)

    class Falling(Arbitrary):
        """As scores that are a best over options are: never better for a longer prefix."""

        def value(self, prefix: str) -> float:
            return min(super(Falling, self).value(prefix[:length]) for length in range(len(prefix) + 1))

    grounder = Falling(f"salt {seed}")
    text, score = _best_by_enumeration(language, grounder, "option")
    decoded = _decode(language, [grounder], beams=len(PIECES) ** (LONGEST - 1), semantics="option")
    assert decoded.text == text and decoded.score == pytest.approx(score, abs=1e-4)
    # the ratios telescope: language times the command's own score, over that of nothing
    command = decoded.text and "".join(token.text for token in decoded.tokens)
    expected = sum(token.language for token in decoded.tokens)
    expected += np.log(grounder.value(command)) - np.log(grounder.value(""))
    assert decoded.score == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(4))
def test_greedy_takes_the_best_product_at_each_place(seed: int) -> None:
    language, grounder = piece_language(seed), Arbitrary(f"salt {seed}")
    tokens = language.encode(PROMPT)
    chosen: list[int] = []
    while len(chosen) < LONGEST and 0 not in chosen:
        joint = [
            probability + np.log(grounder.value(language.text([*chosen, token])))
            for token, probability in enumerate(next_log_probabilities(language, [*tokens, *chosen]))
        ]
        chosen.append(int(np.argmax(joint)))
    decoded = _decode(language, [grounder])
    assert "".join(token.text for token in decoded.tokens) == language.text(chosen)
    assert decoded.ended == (chosen[-1] == 0) and decoded.scored_tokens == len(chosen)
    # each was asked for with the whole prefix, the candidate included
    assert {" red", ".", " block"} <= set(grounder.asked[: len(PIECES)])
    assert all(prefix.startswith(language.text(chosen[:1])) for prefix in grounder.asked[len(PIECES) :])


@pytest.mark.parametrize("beams", [1, 3])
def test_a_constant_changes_nothing(beams: int) -> None:
    language = piece_language(1)
    constant = Preference(("nothing",), preferred=0.5, other=0.5)
    inputs = torch.tensor([language.encode(PROMPT)])
    plain = language.model.generate(
        inputs,
        attention_mask=torch.ones_like(inputs),
        max_new_tokens=LONGEST,
        num_beams=beams,
        do_sample=False,
        eos_token_id=0,
        pad_token_id=0,
        length_penalty=0.0,
    )
    text = language.text(plain[0, inputs.shape[1] :].tolist()).split(".")[0].strip()
    assert _decode(language, [], beams=beams).text == text
    assert _decode(language, [constant], beams=beams, semantics="option").text == text


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("beams", [1, 4])
def test_what_is_impossible_is_not_said(seed: int, beams: int) -> None:
    language = piece_language(seed)
    allowed = Where(lambda prefix: "red" not in prefix and "[" not in prefix and "]" not in prefix)
    assert not set("".join(t.text for t in _decode(language, [allowed], beams=beams).tokens)) & set("[]r")


def test_where_nothing_is_possible_the_language_decides() -> None:
    language = piece_language(2)
    nothing = Where(lambda prefix: False)
    decoded, plain = _decode(language, [nothing]), _decode(language, [])
    assert decoded.text == plain.text
    assert [token.grounded for token in decoded.tokens] == pytest.approx([np.log(FLOOR)] * len(decoded.tokens))


def test_several_multiply_in_any_order() -> None:
    language = piece_language(3)
    one, two = Arbitrary("one"), Arbitrary("two")

    class Product(Arbitrary):
        def value(self, prefix: str) -> float:
            return one.value(prefix) * two.value(prefix)

    forward, backward = _decode(language, [one, two], beams=3), _decode(language, [two, one], beams=3)
    assert forward == backward
    product = _decode(language, [Product("")], beams=3)
    assert forward.text == product.text and forward.score == pytest.approx(product.score)
    # a common factor of all prefixes cancels
    half = Preference(("nothing",), preferred=0.5, other=0.5)
    assert _decode(language, [one, two, half]).text == _decode(language, [one, two]).text


def test_only_candidates_are_judged() -> None:
    grounder = Arbitrary("salt")
    decoded = _decode(piece_language(0), [grounder], candidates=2)
    assert decoded.scored_prefixes == 2 * len(decoded.tokens) == len(grounder.asked)
    wide = Arbitrary("salt")
    assert _decode(piece_language(0), [wide], candidates=10**6).scored_prefixes == len(PIECES) * len(wide.asked) // 7


def test_between_brackets_only() -> None:
    for seed in range(6):
        language, grounder = piece_language(seed), Arbitrary("salt")
        decoded = _decode(language, [grounder], gate="brackets", most_tokens=8, prompt=" red [ blue]")
        said = ""
        for token in decoded.tokens:
            inside = said.rpartition("[")[1] and "]" not in said.rpartition("[")[2]
            if not inside or token.text == "]":
                assert token.grounded == 0.0
            else:
                phrase = (said + token.text).rpartition("[")[2]
                assert token.grounded == pytest.approx(np.log(grounder.value(phrase)))
            said += token.text
        assert not any("[" in asked or "]" in asked for asked in grounder.asked)


def test_a_command_ends_at_its_terminal() -> None:
    language = piece_language(0)
    decoded = _decode(language, [Where(lambda prefix: prefix in (" red", " red block", " red block."))], most_tokens=9)
    assert decoded.text == "red block" and decoded.ended and len(decoded.tokens) == 3
    cut = _decode(language, [Where(lambda prefix: "." not in prefix)], most_tokens=5)
    assert not cut.ended and len(cut.tokens) == 5


OPTIONS = (
    "pick up the red block",
    "pick up the red bowl",
    "pick up the reddish box",
    "open the drawer",
    "schließe die Tür",
    "done",
)


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("beams", [1, 3])
def test_words_in_pieces_and_bytes(seed: int, beams: int) -> None:
    language = byte_level_language([f"Step 1: {option}\n" for option in OPTIONS], seed=seed)
    assert all(len(language.encode(" " + word)) > 1 for word in ("reddish", "Tür"))
    assert language.text(language.encode(" die Tür")) == " die Tür"
    values = {option: 1.0 for option in OPTIONS}
    for _ in range(3):  # take away what was chosen: the next best is chosen
        can = Affordance(lambda options, state: np.array([state[option] for option in options]), OPTIONS)
        decoded = decode(
            language, "Step 1:", [can], values, beams=beams, candidates=10**6, most_tokens=60, semantics="option"
        )
        assert decoded.ended and values[decoded.text] == 1.0
        values[decoded.text] = 0.0


def test_a_part_of_a_noun_keeps_what_it_may_become() -> None:
    can = Affordance(lambda options, state: np.array([state.get(o, 0.0) for o in options]), OPTIONS)
    score = can.given({"pick up the reddish box": 0.9, "pick up the red block": 0.4, "open the drawer": 0.7})
    prefixes = [
        "",
        " pi",
        " pick up the",
        "pick up the red",
        "pick up the redd",
        "pick up the red b",
        "pick up the red bo",
    ]
    assert list(score(prefixes)) == [0.9, 0.9, 0.9, 0.9, 0.9, 0.4, 0.0]
    assert list(score(["pick up the red block", "pick up the red block\n", "pick up the red block now", "x"])) == [
        *(0.4, 0.4, 0.0, 0.0),
    ]
    # half a character: the first of the two bytes of "ü" may become it, the second comes too early
    door = Affordance(lambda options, state: np.ones(1), ["Tür"]).given(None)
    assert list(door(["T\udcc3", "T\udcbc", "Tü"])) == [1.0, 0.0, 1.0]


def test_the_state_decides() -> None:
    """A block that carries another block cannot be picked up, and a door without its key not be opened."""

    def value(options: Sequence[str], state: dict[str, Any]) -> NDArray[np.float64]:
        def can(option: str) -> float:
            thing = option.removeprefix("pick up the ").removeprefix("open the ")
            if option.startswith("open"):
                return 0.95 if state["key"] else 0.01
            return 0.02 if thing in state["carries"] else 0.9

        return np.array([can(option) for option in options])

    score = Affordance(value, ["pick up the blue block", "pick up the red block", "open the door"])
    free, stacked = {"key": True, "carries": ()}, {"key": False, "carries": ("blue block",)}
    prefixes = ["pick up the blue", "open the door", "pick"]
    assert list(score.given(free)(prefixes)) == [0.9, 0.95, 0.9]
    assert list(score.given(stacked)(prefixes)) == [0.02, 0.01, 0.9]


def test_rules_about_words() -> None:
    safety = Safety(("knife", "red")).given(None)
    assert list(safety(["pick up the knife", "a Knife.", "kni", "bored", "the red", "redder"])) == [
        1e-3,
        1e-3,
        1,
        1,
        1e-3,
        1,
    ]
    preference = Preference(("apple", "orange")).given(None)
    assert list(preference(["pick up the apple", "pick up the", "an orange\n"])) == [0.5, 0.1, 0.5]


def test_a_forbidden_word_loses_unless_there_is_nothing_else() -> None:
    firsts = ((piece_language(seed), _decode(piece_language(seed), []).tokens[0].text.strip()) for seed in range(20))
    language, word = next((language, word) for language, word in firsts if word in ("red", "blue", "block"))
    assert word not in _decode(language, [Safety((word,), epsilon=1e-8)]).text
    only = Where(lambda prefix: prefix in (f" {word}", f" {word}."))
    assert _decode(language, [Safety((word,), epsilon=1e-3), only]).text == word


def test_bad_input_is_told() -> None:
    language = piece_language(0)
    for grounder, word in (
        (Affordance(lambda options, state: np.array([1.2]), ["a"]), "in \\[0, 1\\]; for 'a'"),
        (Affordance(lambda options, state: np.array([np.nan]), ["a"]), "in \\[0, 1\\]"),
        (Affordance(lambda options, state: np.ones(3), ["a"]), "1 scores"),
        (Affordance(lambda options, state: np.ones(0), []), "at least one option"),
    ):
        with pytest.raises(TongsError, match=word):
            _decode(language, [grounder])
    for settings, word in (
        ({"terminal": "!"}, "no token"),
        ({"prompt": ""}, "needs a prompt"),
        ({"beams": 0}, "beams"),
        ({"candidates": 0}, "candidates"),
    ):
        with pytest.raises(TongsError, match=word):
            _decode(language, [], **settings)
    with pytest.raises(TongsError, match="epsilon"):
        Safety(("a",), epsilon=0)
    with pytest.raises(TongsError, match="preferred"):
        Preference(("a",), preferred=0.1, other=0.5)
    with pytest.raises(TongsError, match="at least one word"):
        Safety(()).given(None)
