"""The affordance that is learned from tries: its facts of a state, its fit against a known law, and going on."""

import json

import numpy as np
import pytest

from eval import affordance
from eval.affordance import FEATURES, SuccessClassifier, features, fit, learn
from eval.planning import PlannedTable, achieved
from robot.errors import TongsError
from robot.interface import Cavity, SceneObject
from sim.tasks.tabletop.planning import skill

UPRIGHT = np.array([1.0, 0.0, 0.0, 0.0])


def state(**places):
    """Blocks with their middle, and bowls with the middle of their bottom, at (x, y, z)."""
    found = {}
    for body, at in places.items():
        name, place = body.replace("_", " "), np.array(at, float)
        if name.endswith("bowl"):
            cavity = Cavity(place + (0.0, 0.0, 0.005), np.array([0.1, 0.1, 0.04]))
            place = place + (0.0, 0.0, 0.0225)
            found[name] = SceneObject(name, place, UPRIGHT, np.array([0.11, 0.11, 0.045]), "", cavity=cavity)
        else:
            found[name] = SceneObject(name, place, UPRIGHT, np.full(3, 0.04), "")
    return found


def facts(given, thing, target):
    values = dict(zip(FEATURES, features(given, thing, target), strict=True))
    return {name: value for name, value in values.items() if abs(value) > 1e-9}


def test_facts_of_a_state():
    table = state(red_block=(0.4, 0.1, 0.02), blue_block=(0.6, -0.1, 0.02), green_bowl=(0.5, 0.2, 0.0))
    assert facts(table, "red block", "green bowl") == {}
    stacked = table | state(blue_block=(0.4, 0.1, 0.06))
    assert facts(stacked, "red block", "green bowl")["something stands on it"] == 1
    assert facts(stacked, "blue block", "red block")["it is there already"] == 1
    assert "something stands on it" not in facts(stacked, "blue block", "green bowl")
    assert facts(stacked, "blue block", "green bowl").keys() == {"things are close to it (cm)"}
    assert facts(table, "red block", "blue block") == {}
    inside = table | state(red_block=(0.5, 0.2, 0.03))
    assert facts(inside, "red block", "middle")["it is in a bowl"] == 1
    assert facts(inside, "blue block", "green bowl")["things in the target bowl"] == 1
    away = table | state(red_block=(0.9, 0.1, 0.02))
    assert facts(away, "red block", "green bowl") == {"it is out of reach (dm)": pytest.approx(1.0)}
    assert facts(away, "blue block", "red block")["the target is out of reach (dm)"] == pytest.approx(1.0)
    taken = table | state(red_block=(0.48, 0.0, 0.02))
    assert facts(taken, "blue block", "middle")["things are close to the target place (cm)"] > 5
    assert achieved(taken, "red block", "middle") and not achieved(table, "red block", "middle")


def test_the_fit_finds_the_law_that_made_the_tries():
    rng = np.random.default_rng(0)
    found = np.zeros((3000, len(FEATURES)))
    found[:, 0] = rng.random(3000) < 0.3
    found[:, 6] = rng.integers(0, 4, 3000)
    law = 1 / (1 + np.exp(-(2.0 - 4.0 * found[:, 0] - 0.5 * found[:, 6])))
    learned = fit(found, rng.random(3000) < law)
    for zero, six in ((0, 0), (1, 0), (0, 3), (1, 3)):
        row = np.zeros(len(FEATURES))
        row[[0, 6]] = zero, six
        truth = 1 / (1 + np.exp(-(2.0 - 4.0 * zero - 0.5 * six)))
        assert learned.probability(row) == pytest.approx(truth, abs=0.08)
    assert learned.accuracy > learned.usual + 0.05 and learned.tries == 3000


@pytest.mark.parametrize(("count", "outcome"), [(4, True), (100, True), (100, False)])
def test_tries_that_tell_nothing_apart_are_told(count, outcome):
    with pytest.raises(TongsError, match=f"cannot be learned from {count} tries"):
        fit(np.zeros((count, len(FEATURES))), np.full(count, outcome))


def test_the_same_step_is_worth_more_or_less_by_the_state():
    can = SuccessClassifier((-6.0, *[0.0] * 9), 2.0, 10, 1.0, 0.5)
    table = state(red_block=(0.4, 0.1, 0.02), blue_block=(0.6, -0.1, 0.02), green_bowl=(0.5, 0.2, 0.0))
    step = skill("red block", "green bowl")
    free, done, nothing = can([step, "done", skill("pink block", "green bowl")], table)
    assert free == pytest.approx(1 / (1 + np.exp(-2))) and done == 1.0 and nothing == 0.0
    (covered,) = can([f" {step}"], table | state(blue_block=(0.4, 0.1, 0.06)))
    assert covered < 0.02


def test_learning_goes_on_after_an_interruption(tmp_path, monkeypatch):
    rng, made = np.random.default_rng(1), []

    def steps(table, scene, generator):
        if len(made) == 3 and not (tmp_path / "stopped").exists():
            (tmp_path / "stopped").touch()
            raise KeyboardInterrupt
        made.append(scene)
        return [{"step": "x", "features": [float(v), *[0.0] * 9], "success": bool(v < 0.5)} for v in rng.random(4)]

    monkeypatch.setattr(affordance, "_steps", steps)
    monkeypatch.setattr(affordance, "PlannedTable", lambda task: type("Table", (), {"close": lambda self: None})())
    with pytest.raises(KeyboardInterrupt):
        learn(tmp_path, 40, print)
    with (tmp_path / "tries.jsonl").open("a") as file:
        file.write('[{"step": "cut')
    told = []
    first = learn(tmp_path, 40, told.append)
    assert made == list(range(10)) and "held-out tries" in told[0]
    assert len([json.loads(line) for line in (tmp_path / "tries.jsonl").read_text().splitlines()]) == 10
    assert learn(tmp_path, 40, told.append) == first and len(told) == 1


def test_steps_on_the_simulated_table():
    """What can be done is done and seen to be; what cannot leaves a reason."""
    table = PlannedTable("planning_infeasible")
    try:
        for scene in range(20):
            table.reset("test", scene)
            seen = table.observe()
            away = [name for name, thing in seen.items() if thing.position[0] > 0.82]
            if away:
                break
        near = next(n for n in seen if not n.endswith("bowl") and n not in away)
        bowl = next(name for name in seen if name.endswith("bowl"))
        table.execute(skill(near, bowl))
        assert achieved(table.observe(), near, bowl) and not table.refused
        table.execute(skill(away[0], bowl))
        table.execute(skill("transparent block", bowl))
        assert not achieved(table.observe(), away[0], bowl)
        assert "out of the arm's reach" in table.refused[0] and "no such thing" in table.refused[1]
        assert not table.fulfilled()
    finally:
        table.close()
