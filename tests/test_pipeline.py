"""The whole path on small settings, through the command line: collect, train, continue, resume, evaluate."""

import json
from pathlib import Path

import pytest

import tongs
from train.run import DataSettings, open_windows

SMALL = [
    "image_size=32",
    "policy.width=32",
    "policy.layers=1",
    "policy.observation_width=32",
    "policy.reader_width=32",
    "policy.reader_layers=1",
    "policy.vision_channels=[8,16,16]",
    "policy.keypoints=4",
    "policy.described_keypoints=2",
    "train.batch_size=16",
    "train.log_every=2",
    "train.threads=1",
    "held_out=0.3",
    "evaluation.episodes=0",
]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pipeline")
    words = ["task=open_drawer", "episodes=3", "processes=1", f"output={folder / 'data'}"]
    assert tongs.main(["collect", *words]) == 0
    assert tongs.main(["train", f"data={folder / 'data'}", "train.steps=4", f"output={folder / 'run'}", *SMALL]) == 0
    return folder


def test_training_leaves_a_checkpoint_and_a_record(trained: Path) -> None:
    assert {"config.json", "model.safetensors", "statistics.json", "README.md"} <= {
        file.name for file in (trained / "run/last").iterdir()
    }
    assert len((trained / "run/train.csv").read_text().splitlines()) == 3  # a heading and two rows


def test_training_warns_where_the_scene_tells_what_to_do(
    trained: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    words = ["task=open_drawer", "episodes=2", "processes=1", "instructions=1", "images=false", f"output={tmp_path}"]
    assert tongs.main(["collect", *words]) == 0

    def said(folder: Path) -> list[str]:
        caplog.clear()
        open_windows(DataSettings([str(folder)], [], 32, None, 8, 1, held_out=0.3, hold_weight=1.0, seed=0))
        return [record.getMessage() for record in caplog.records if record.name == "train.run"]

    (sentence,) = said(tmp_path)
    assert "no scene in the training data has two instructions (2 scenes, 2 episodes)" in sentence
    assert said(trained / "data") == []


def test_the_checkpoint_is_evaluated(trained: Path) -> None:
    words = [f"policy={trained / 'run/last'}", "task=open_drawer", "episodes=1", "processes=1"]
    assert tongs.main(["eval", *words, f"output={trained / 'eval'}"]) == 0
    results = json.loads((trained / "eval/results.json").read_text())
    assert results["overall"]["episodes"] == 1 and results["episodes"][0]["instruction"]
    assert (trained / "eval/report.html").stat().st_size > 1000


def test_a_checkpoint_says_where_it_was_trained_and_plays_in_another_engine(trained: Path) -> None:
    pytest.importorskip("pybullet")
    words = [f"policy={trained / 'run/last'}", "task=open_drawer", "episodes=1", "processes=1", "engine=bullet"]
    assert tongs.main(["eval", *words, f"output={trained / 'transfer'}"]) == 0
    results = json.loads((trained / "transfer/results.json").read_text())
    assert results["policy"]["checkpoint"]["trained_on"] == ["panda_mujoco"]
    assert results["protocol"]["engine"] == "bullet" and results["versions"]["pybullet"]
    assert "Trained on panda_mujoco: a transfer to another engine." in (trained / "transfer/report.html").read_text()


def test_training_goes_on_from_a_checkpoint(trained: Path) -> None:
    words = [f"data={trained / 'data'}", "train.steps=2", f"start_from={trained / 'run/last'}", *SMALL]
    assert tongs.main(["train", *words, f"output={trained / 'more'}"]) == 0
    assert (trained / "more/last/model.safetensors").is_file()
    assert json.loads((trained / "more/last/config.json").read_text())["trained_on"] == ["panda_mujoco"]


def test_going_on_with_another_horizon_is_one_sentence(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [f"data={trained / 'data'}", f"start_from={trained / 'run/last'}", "horizon=5", *SMALL]
    assert tongs.main(["train", *words, f"output={trained / 'other'}"]) == 2
    assert "trained with horizon 12, and this training has 5" in capsys.readouterr().err


def test_a_finished_run_is_not_overwritten(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [f"data={trained / 'data'}", "train.steps=4", f"output={trained / 'run'}", *SMALL]
    assert tongs.main(["train", *words]) == 2
    assert "already holds a run" in capsys.readouterr().err


def test_a_dataset_says_its_engine_and_takes_no_other(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("pybullet")
    words = ["task=open_drawer", "processes=1", "images=false", f"output={tmp_path}"]
    assert tongs.main(["collect", "engine=bullet", "episodes=1", *words]) == 0
    assert json.loads((tmp_path / "open_drawer/meta/info.json").read_text())["robot_type"] == "panda_bullet"
    assert tongs.main(["collect", "engine=mujoco", "episodes=2", *words]) == 2
    assert "panda_bullet" in capsys.readouterr().err
