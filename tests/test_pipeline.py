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
    "policy.instructed_keypoints=2",
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
    assert "no scene in the data has two instructions (2 scenes, 2 episodes)" in sentence
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


def test_training_goes_on_with_a_changed_setting_or_says_why_not(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [f"data={trained / 'data'}", "train.steps=2", f"start_from={trained / 'run/last'}", *SMALL]
    assert tongs.main(["train", *words, "policy.repaint=0.5", f"output={trained / 'painted'}"]) == 0
    before, after = (json.loads((trained / run / "last/config.json").read_text()) for run in ("run", "painted"))
    assert after["config"] == before["config"] | {"repaint": 0.5}
    assert tongs.main(["train", *words, "policy.width=64", f"output={trained / 'wider'}"]) == 2
    assert "score_transformer.position of shape (17, 32)" in capsys.readouterr().err


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


@pytest.mark.parametrize("policy", ["vla", "vla_oft"])
def test_another_family_through_the_same_commands(trained: Path, tmp_path: Path, policy: str) -> None:
    model = {"model_type": "llama", "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1}
    small = [word for word in SMALL if not word.startswith("policy.")]
    small += [f"policy.language_model.{name}={value}" for name, value in model.items()]
    small += ["policy.language_model.num_attention_heads=2", "policy.language_model.num_key_value_heads=2"]
    data, run = f"data={trained / 'data'}", tmp_path / "run"
    assert tongs.main(["train", f"policy={policy}", data, "horizon=4", "train.steps=2", f"output={run}", *small]) == 0
    header = json.loads((run / "last/config.json").read_text())
    assert header["policy"] == "vla" and header["config"]["image_size"] == 32
    words = [f"policy={run / 'last'}", "task=open_drawer", "episodes=1", "processes=1", f"output={tmp_path / 'eval'}"]
    assert tongs.main(["eval", *words]) == 0
    again = [f"policy={policy}", data, "horizon=4", "train.steps=1", f"start_from={run / 'last'}", *small]
    assert tongs.main(["train", *again, f"output={tmp_path / 'further'}"]) == 0
    assert tongs.main(["train", data, f"start_from={run / 'last'}", "horizon=4", *SMALL]) == 2


def grif(trained: Path, run: Path, *words: str) -> int:
    small = [word for word in SMALL if not word.startswith(("policy.width", "policy.layers"))]
    small += ["policy.hidden=[32]", "policy.embedding_width=16", "align.steps=3", "align.batch_size=8"]
    return tongs.main(["train", "policy=grif", f"data={trained / 'data'}", f"output={run}", *small, *words])


def test_grif_in_two_stages_told_in_words_and_by_pictures(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, few = tmp_path / "run", "labelled.fraction=0.5"
    assert grif(trained, run, few, "train.steps=2", "train.log_every=1") == 0
    assert len((run / "align/train.csv").read_text().splitlines()) == 4  # a heading and three steps
    heading = (run / "train.csv").read_text().splitlines()[0]
    assert "image_surprise,language_surprise,alignment,retrieved" in heading
    header = json.loads((run / "last/config.json").read_text())
    assert header["spec"]["goals"] == ["language", "image"] and header["trained_on"] == ["panda_mujoco"]
    capsys.readouterr()
    assert grif(trained, run, few, "train.steps=2") == 2
    assert "already holds a run" in capsys.readouterr().err
    before = (run / "align/state/training.pt").stat().st_mtime_ns
    assert grif(trained, run, few, "train.steps=3", "resume=true") == 0
    assert (run / "align/state/training.pt").stat().st_mtime_ns == before  # only the second stage went on

    words = [f"policy={run / 'last'}", "task=open_drawer", "episodes=1", "processes=1", "videos=1"]
    assert tongs.main(["eval", *words, f"output={tmp_path / 'words'}"]) == 0
    assert tongs.main(["eval", *words, "goal=image:expert", f"output={tmp_path / 'picture'}"]) == 0
    told, shown = (json.loads((tmp_path / name / "results.json").read_text()) for name in ("words", "picture"))
    assert "goal" not in told["protocol"] and shown["protocol"]["goal"] == "image:expert"
    assert told["episodes"][0]["instruction"] == shown["episodes"][0]["instruction"]
    page = (tmp_path / "picture/report.html").read_text()
    assert page.count("data:image/png;base64,") == 1 and page.count("data:video/mp4;base64,") == 1
    assert "data:image/png" not in (tmp_path / "words/report.html").read_text()


def test_a_first_stage_that_was_cut_short_goes_on(trained: Path, tmp_path: Path) -> None:
    from train.trainer import Trainer

    step = Trainer._train_step

    def stop(self: Trainer, *arguments: object) -> None:
        step(self, *arguments)  # type: ignore[arg-type]
        self._interruption.requested = True

    with pytest.MonkeyPatch.context() as patched, pytest.raises(SystemExit):
        patched.setattr(Trainer, "_train_step", stop)
        grif(trained, tmp_path / "cut", "train.steps=1")
    assert not (tmp_path / "cut/train.csv").exists()
    assert grif(trained, tmp_path / "cut", "train.steps=1", "resume=true") == 0
    assert grif(trained, tmp_path / "whole", "train.steps=1") == 0
    cut, whole = ((tmp_path / name / "last/model.safetensors").read_bytes() for name in ("cut", "whole"))
    assert cut == whole


def test_grif_without_any_words_is_told(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert grif(trained, tmp_path / "none", "labelled.fraction=0") == 2
    assert "no episode has an instruction; give labelled.fraction" in capsys.readouterr().err
    assert grif(trained, tmp_path / "lcbc", "labelled.fraction=0", "policy.goal=language") == 2
    assert "told its task in words, and no episode has any" in capsys.readouterr().err
    assert grif(trained, tmp_path / "half", "labelled.fraction=half") == 2
    assert "labelled.fraction must be a number" in capsys.readouterr().err
