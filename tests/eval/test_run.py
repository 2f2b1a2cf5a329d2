"""`tongs run` and `tongs eval policy=lmp`, with recorded answers of a language model."""

import json

import pytest

import tongs
from eval.run import RunConfig, choose_scene
from robot.errors import TongsError

SAID = [
    ("drawer_ui", "# put the red block in the open drawer.", "put_first_on_second('red block', parse_part_name('it'))"),
    ("parse_part_name", "# it.", "ret_val = find_objects('drawers')[np.argmax([1, 0])]"),
    ("drawer_ui", "# close it.", "set_joint('left drawer', 0.0)"),
]


@pytest.fixture
def recording(tmp_path):
    path = tmp_path / "said.json"
    entries = [dict(zip(("program", "query", "completion"), said, strict=True)) for said in SAID]
    path.write_text(json.dumps(entries))
    return path


def test_say_it_and_watch(recording, tmp_path, capsys):
    words = ["put the red block in the open drawer", "close it", "lmp.model.backend=transcript", "video=false"]
    words += [f"lmp.model.model={recording}", f"output={tmp_path / 'run'}"]
    assert tongs.main(["run", *words]) == 0
    told = capsys.readouterr().out
    assert "put_first_on_second('red block', 'left drawer')" in told and told.count("  finished") == 2
    assert "left drawer: 93% open before, 0% now" in told and "red block: moved by" in told
    log = json.loads((tmp_path / "run" / "log.json").read_text())
    assert log["task"] == "compose" and [command["ending"] for command in log["commands"]] == ["finished"] * 2


def test_an_evaluation_keeps_what_was_written(tmp_path):
    answer = [
        {
            "program": "drawer_ui",
            "query": "# Open the one on the left 50%.",
            "completion": "set_joint('left drawer', 0.5)",
        }
    ]
    (tmp_path / "said.json").write_text(json.dumps(answer))
    settings = {"model": {"backend": "transcript", "model": str(tmp_path / "said.json")}}
    results = tongs.evaluate(
        "lmp", "open_drawer", episodes=1, output=tmp_path / "eval", processes=1, videos=0, lmp=settings
    )
    assert results.overall.success_rate == 1.0
    assert "lmp.model.backend=transcript" in results.config.command
    log = json.loads((tmp_path / "eval" / "programs" / "open_drawer-0.json").read_text())
    assert log["outcome"]["success"] is True and log["commands"][0]["attempts"][0]["calls"][0]["name"] == "set_joint"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["policy=lmp"], "run needs an instruction in quotes"),
        (["dance", "lmp.model.backend=gpt"], "unknown language model backend 'gpt'"),
        (["dance", "lmp.repair=3"], "unknown setting of LmpSettings 'repair'"),
        (["dance", "lmp.model.backend=transcript", "lmp.model.model=/nowhere"], "needs a recording"),
        (["dance", "lmp.domain=kitchen", "lmp.model.backend=embedded", "lmp.model.model=/x"], "lacks config.json"),
        (["dance", "task=flying"], "unknown task 'flying'"),
        (["dance", "seconds=0"], "seconds must be above 0"),
    ],
)
def test_mistakes_are_told_in_a_sentence(words, message, tmp_path, capsys):
    assert tongs.main(["run", *words, f"output={tmp_path}"]) == 2
    assert message in capsys.readouterr().err


def test_settings_of_programs_are_for_programs(tmp_path):
    with pytest.raises(TongsError, match="settings lmp.* are for policy=lmp"):
        tongs.evaluate("expert", "open_drawer", episodes=1, output=tmp_path, lmp={"repairs": 1})


@pytest.mark.parametrize(
    ("said", "task"),
    [
        ("pour half of the water into the green bowl with the cup", "transfer_water"),
        ("turn the yellow bottle upside down", "reorient_object"),
        ("put the purple block in the red bowl", "tabletop"),
        ("put the red block in the open drawer", "compose"),
    ],
)
def test_a_scene_has_what_is_named(said, task):
    chosen, number = choose_scene(RunConfig((said,), "lmp", ""))
    assert chosen.startswith(task) and number >= 0
