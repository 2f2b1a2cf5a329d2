"""Six instructions for the same scenes; the expert heeds the goal it is given."""

import json

import pytest

import tongs
from eval.sensitivity import CONDITIONS


def test_the_five_conditions_beside_the_scenes_own_instruction():
    """Swapped target, swapped goal value, paraphrase, negation, empty; everything else stays as it is."""
    changes = {condition.name: dict(condition.changes) for condition in CONDITIONS}
    assert changes == {
        "original": {},
        "other_target": {"variant": "other_target"},
        "other_goal": {"variant": "other_goal"},
        "paraphrase": {"wording": "unseen"},
        "negated": {"variant": "negated"},
        "empty": {"variant": "empty"},
    }


@pytest.mark.usefixtures("in_this_process")
def test_every_condition_is_run_and_reported(tmp_path, capsys):
    words = ["policy=random", "task=open_drawer", "scenes=0:1", "sensitivity=true", "videos=0", f"output={tmp_path}"]
    assert tongs.main(["eval", *words, "processes=1"]) == 0
    fields = json.loads((tmp_path / "sensitivity.json").read_text())
    assert list(fields["conditions"]) == [condition.name for condition in CONDITIONS] and fields["complete"]
    said = {}
    for condition in CONDITIONS:
        results = json.loads((tmp_path / condition.name / "results.json").read_text())
        said[condition.name] = results["episodes"][0]["instruction"]
        row = fields["conditions"][condition.name]
        assert row["overall"] == results["overall"]
        for statistics in (row["overall"], row["tasks"]["open_drawer"]):
            low, high = statistics["interval"]
            assert 0.0 <= low <= statistics["success_rate"] <= high <= 1.0 and high - low > 0.5  # one episode
    assert said["empty"] == "" and "not" in said["negated"].split()
    assert len(set(said.values())) == 6
    page = (tmp_path / "sensitivity.html").read_text()
    assert "says not to do it" in page and 'href="negated/report.html"' in page
    assert "wrong object" in capsys.readouterr().out
