"""Scenes are numbered, reproducible and never shared; instructions always carry their goal."""

import re
import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest

from robot.errors import TongsError
from sim.language import centimetre_phrases, choose, degree_phrases, negate, percent_phrases, share_phrases
from sim.scenes import asked_for, draw_scene
from sim.splits import SPLITS
from sim.tasks import SINGLE, TABLETOP, TASKS
from sim.tasks.base import Goal


@pytest.mark.parametrize("task", list(TASKS))
def test_a_scene_is_a_function_of_its_number(task):
    assert draw_scene(task, "test", 7) == draw_scene(task, "test", 7)
    assert draw_scene(task, "test", 7) != draw_scene(task, "test", 8)


def test_a_scene_is_the_same_in_another_process():
    code = "from sim.scenes import draw_scene; print(hash(repr(draw_scene('pickup_object', 'test', 123))))"
    runs = {
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": "0"}
        ).stdout
        for _ in range(2)
    }
    assert len(runs) == 1


@pytest.mark.parametrize("task", list(TASKS))
def test_splits_never_share_a_scene(task):
    seen: dict[str, str] = {}
    for split in SPLITS:
        for index in range(15 if task in TABLETOP else 150):
            layout = repr(draw_scene(task, split, index))
            assert layout not in seen, f"{split} {index} is also {seen[layout]}"
            seen[layout] = f"{split} {index}"


@pytest.mark.parametrize("task", SINGLE)
def test_goals_stay_in_range_and_variants_differ(task):
    low, high = TASKS[task].goal_range
    for index in range(200):
        scene = draw_scene(task, "val", index)
        values = [asked_for(scene, variant) for variant in ("original", "other_target", "other_goal")]
        assert all(low <= value <= high for _, value in values)
        assert values[0][0].body != values[1][0].body
        assert values[0][0].body == values[2][0].body
        assert abs(values[0][1] - values[2][1]) > TASKS[task].tolerance


def test_unknown_split_and_negative_index():
    with pytest.raises(TongsError, match=r"unknown split 'dev'.*test, train, val"):
        draw_scene("open_drawer", "dev", 0)
    with pytest.raises(TongsError, match="-1"):
        draw_scene("open_drawer", "test", -1)


def spoken_value(phrase: str) -> float:
    """An independent reading of a number phrase as a fraction of one (percent and fraction words)."""
    ones = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    ones += "seventeen eighteen nineteen"
    words = {word: i for i, word in enumerate(ones.split())}
    tens = dict(twenty=20, thirty=30, forty=40, fifty=50, sixty=60, seventy=70, eighty=80, ninety=90)
    words |= tens | {"one hundred": 100}
    words |= {f"{t}-{o}": tens[t] + words[o] for t in tens for o in list(words)[1:10]}
    if match := re.search(r"(\d+)", phrase):
        return int(match[1]) / 100
    for word in ("fully", "all the way", "completely", "entirely", "the whole way"):
        if word in phrase:
            return 1.0
    if "middle" in phrase or "half" in phrase:
        return 0.5
    parts = {"third": 3, "quarter": 4, "fourth": 4, "fifth": 5, "tenth": 10}
    for part, denominator in parts.items():
        if part in phrase:
            head = phrase.split(part)[0].strip()
            return float(Fraction(1 if head in ("a", "one") else words[head], denominator))
    return words[re.sub(r" per ?cent$", "", phrase)] / 100


@pytest.mark.parametrize("wording", ["seen", "unseen"])
def test_percent_phrases_mean_their_value(wording):
    for percent in range(101):
        for phrase in percent_phrases(percent, wording):
            assert abs(spoken_value(phrase) - percent / 100) < 0.004, phrase


def test_seen_and_unseen_wordings_are_disjoint():
    for phrases, values in (
        (percent_phrases, range(101)),
        (centimetre_phrases, range(10, 41)),
        (degree_phrases, range(181)),
    ):
        for value in values:
            assert not set(phrases(value, "seen")) & set(phrases(value, "unseen"))


def test_two_things_keep_apart():
    for index in range(100):
        scene = draw_scene("pickup_object", "train", index)
        first, second = (next(b for b in scene.bodies if b.name == c.body) for c in scene.candidates)
        stepped = len(scene.bodies) > 2
        assert np.linalg.norm(np.subtract(first.position, second.position)[:2]) > (0.20 if stepped else 0.14)


@pytest.mark.parametrize("wording", ["seen", "unseen"])
def test_share_phrases_mean_their_value(wording):
    for percent in range(101):
        for phrase in share_phrases(percent, wording):
            value = 1.0 if phrase in ("all", "every drop") else spoken_value(phrase.replace("%", " percent"))
            assert abs(value - percent / 100) < 0.004, phrase


@pytest.mark.parametrize(
    ("sentence", "negated"),
    [
        ("Open the left drawer halfway", "Do not open the left drawer halfway"),
        ("Please lift the red block 10 cm high", "Please do not lift the red block 10 cm high"),
        ("I need the left drawer 30 percent open", "I do not need the left drawer 30 percent open"),
        ("Could you hold the red block up 10 cm higher?", "Please do not hold the red block up 10 cm higher"),
        ("The bottle should be at 45° to the up axis", "The bottle should not be at 45° to the up axis"),
    ],
)
def test_negation(sentence, negated):
    assert negate(sentence) == negated


@pytest.mark.parametrize("name", SINGLE)
def test_every_template_can_be_negated(name, monkeypatch):
    """All templates, not some: each is caught on its way into a sentence. Those held out are others."""
    task, told, pools = TASKS[name], {}, {"seen": set(), "unseen": set()}

    def catch(rng, templates, **slots):
        told.update({template: choose(rng, [template], **slots) for template in templates})
        pools[wording].update(templates)
        return ""

    monkeypatch.setattr(sys.modules[type(task).__module__], "choose", catch)
    for index in range(80):
        for candidate in draw_scene(name, "any_state", index).candidates:
            for wording in ("seen", "unseen"):
                goal = Goal(candidate.body, candidate.words, candidate.goal)
                task.instruct(np.random.default_rng(index), goal, wording)
    assert not pools["seen"] & pools["unseen"]
    assert len(told) >= 7
    for template, sentence in told.items():
        no = negate(sentence)
        assert len(re.findall(r"\bnot\b", no)) == 1, no
        assert no[0].isupper() and not no.endswith("?") and "{" not in no
        if template.startswith("the "):
            assert re.match(r"The .* should not [a-z]+ ", no), no
        elif template.startswith("I need"):
            assert no.startswith("I do not need the "), no
        else:
            verb = re.sub("^(please|could you) ", "", template).split()[0]
            assert re.match(f"(Do|Please do) not {verb} ", no), no
        kept = set(sentence.lower().rstrip("?").split()) - {"please", "could", "you"}
        assert kept <= set(no.lower().split()), no
