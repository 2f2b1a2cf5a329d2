"""Instructions: templates, and the many ways in which people say a number.

Every wording belongs to one of two pools: `seen` is what demonstrations are told with, `unseen` never reaches
training. A goal value is always recoverable from the words.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from num2words import num2words

Wording = Literal["seen", "unseen"]

_FRACTIONS: dict[Wording, dict[int, tuple[str, ...]]] = {
    "seen": {
        10: ("a tenth of the way", "one tenth"),
        20: ("a fifth of the way", "one fifth"),
        25: ("a quarter of the way", "one quarter", "a quarter"),
        30: ("three tenths",),
        33: ("a third of the way", "one third"),
        50: ("halfway", "half way", "half of the way", "one half"),
        60: ("three fifths of the way", "three fifths"),
        75: ("three quarters of the way", "three quarters"),
        80: ("four fifths of the way", "four fifths"),
        90: ("nine tenths of the way", "nine tenths"),
        100: ("fully", "all the way", "completely"),
    },
    "unseen": {
        20: ("two tenths",),
        40: ("two fifths of the way", "two fifths", "four tenths"),
        50: ("one half of the way", "to the middle"),
        67: ("two thirds of the way", "two thirds"),
        70: ("seven tenths of the way", "seven tenths"),
        75: ("three fourths",),
        100: ("entirely", "the whole way"),
    },
}
_WORDS_UNSEEN = (23, 37, 42, 58, 64, 71, 86)
"""Numbers that demonstrations never spell out in words."""


def percent_phrases(percent: int, wording: Wording) -> list[str]:
    """Ways to say an opening of `percent`, as an adverb: "halfway", "40 percent", "forty percent"."""
    phrases = list(_FRACTIONS[wording].get(percent, ()))
    if wording == "seen":
        phrases += [f"{percent} percent", f"{percent}%", f"{percent} per cent"]
        if percent not in _WORDS_UNSEEN:
            phrases.append(f"{num2words(percent)} percent")
    else:
        phrases += [f"{num2words(percent)} per cent", f"{percent} % of the way"]
        if percent in _WORDS_UNSEEN:
            phrases.append(f"{num2words(percent)} percent")
    return phrases


_SHARES: dict[Wording, dict[int, tuple[str, ...]]] = {
    "seen": {
        10: ("a tenth", "one tenth"),
        20: ("a fifth", "one fifth"),
        25: ("a quarter", "one quarter"),
        30: ("three tenths",),
        33: ("a third", "one third"),
        50: ("half", "one half"),
        60: ("three fifths",),
        75: ("three quarters",),
        80: ("four fifths",),
        90: ("nine tenths",),
        100: ("all",),
    },
    "unseen": {
        20: ("two tenths",),
        40: ("two fifths", "four tenths"),
        67: ("two thirds",),
        70: ("seven tenths",),
        75: ("three fourths",),
        100: ("every drop",),
    },
}


def share_phrases(percent: int, wording: Wording) -> list[str]:
    """Ways to say how much of something: "half", "40 percent", "forty percent"."""
    phrases = list(_SHARES[wording].get(percent, ()))
    if wording == "seen":
        phrases += [f"{percent} percent", f"{percent}%"]
        if percent not in _WORDS_UNSEEN:
            phrases.append(f"{num2words(percent)} percent")
    else:
        phrases += [f"{num2words(percent)} per cent", f"{percent} per cent"]
        if percent in _WORDS_UNSEEN:
            phrases.append(f"{num2words(percent)} percent")
    return phrases


def centimetre_phrases(centimetres: int, wording: Wording) -> list[str]:
    """Ways to say a height: "25 cm", "twenty-five centimeters", "a quarter of a meter"."""
    spelled = num2words(centimetres)
    if wording == "seen":
        named = {10: ["a tenth of a meter"], 20: ["a fifth of a meter"], 25: ["a quarter of a meter"]}
        phrases = [f"{centimetres} centimeters", f"{centimetres} cm", f"0.{centimetres:02d} meters"]
        if centimetres not in _WORDS_UNSEEN:
            phrases.append(f"{spelled} centimeters")
    else:
        named = {30: ["three tenths of a meter"], 40: ["two fifths of a meter", "four tenths of a meter"]}
        phrases = [f"{centimetres} centimetres", f"{spelled} cm", f"{centimetres}cm"]
    return phrases + named.get(centimetres, [])


def degree_phrases(degrees: int, wording: Wording) -> list[str]:
    """Ways to say an angle: "45 degrees", "forty-five degrees"."""
    spelled = num2words(degrees)
    if wording == "seen":
        phrases = [f"{degrees} degrees", f"{degrees} deg"]
        if degrees not in _WORDS_UNSEEN:
            phrases.append(f"{spelled} degrees")
        return phrases
    return [f"{degrees}°", f"{spelled} deg", f"{degrees} angular degrees"]


def negate(sentence: str) -> str:
    """The sentence with the opposite meaning: "Do not open the left drawer halfway"."""
    if sentence.startswith("I need"):
        return sentence.replace("I need", "I do not need", 1)
    if " should " in sentence:
        return sentence.replace(" should ", " should not ", 1)
    for polite in ("Please ", "Could you "):
        if sentence.startswith(polite):
            return f"Please do not {sentence.removeprefix(polite).rstrip('?')}"
    return f"Do not {sentence[0].lower()}{sentence[1:]}"


def told(sentence: str, variant: str) -> str:
    """The sentence as a variant of a scene says it: turned round when `negated`, nothing when `empty`."""
    if variant == "negated":
        return negate(sentence)
    return "" if variant == "empty" else sentence


def choose(rng: np.random.Generator, templates: Sequence[str], **slots: str | Sequence[str]) -> str:
    """A random template with each slot filled by a random one of its phrases, starting with a capital."""
    template = templates[int(rng.integers(len(templates)))]
    filled = {
        slot: phrases if isinstance(phrases, str) else phrases[int(rng.integers(len(phrases)))]
        for slot, phrases in slots.items()
    }
    sentence = template.format(**filled)
    return sentence[0].upper() + sentence[1:]
