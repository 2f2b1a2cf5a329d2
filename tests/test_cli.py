"""The `tongs` command: fast help, the words it understands, and one sentence for every mistake."""

from __future__ import annotations

import errno
import re
import subprocess
import sys
import time
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

import tongs
from configs.composition import compose, help_text
from robot.errors import TongsError

ROOT = Path(__file__).resolve().parents[1]
HEAVY = ("torch", "mujoco", "numpy", "hydra", "omegaconf", "transformers", "rich")


@pytest.mark.parametrize(
    "words", [["--help"], ["eval", "--help"], ["compare", "--help"], ["train", "--help"], ["doctor", "--help"]]
)
def test_help_is_fast_and_imports_nothing_heavy(words: list[str]) -> None:
    code = (
        f"import sys, tongs\ntry: status = tongs.main({words})\nexcept SystemExit as end: status = end.code\n"
        f"assert status == 0, status\nassert not [n for n in {HEAVY} if n in sys.modules]"
    )
    durations = []
    for _ in range(3):
        start = time.perf_counter()
        run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
        durations.append(time.perf_counter() - start)
        assert run.returncode == 0, run.stderr
        assert "tongs" in run.stdout
    assert min(durations) < 0.5


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["task=open_drawer,close_drawer"], {"task": ["open_drawer", "close_drawer"]}),
        (["task=all", "scenes=200:300"], {"task": "all", "scenes": "200:300"}),
        (["scenes=7"], {"scenes": 7}),
        (["output=a folder/(1)=x"], {"output": "a folder/(1)=x"}),
        (["output=~/runs/2026-11-22_best"], {"output": "~/runs/2026-11-22_best"}),
        (["sampling.steps=10", "sampling.sampler=heun"], {"sampling": {"steps": 10, "sampler": "heun"}}),
        (["episodes=null"], {"episodes": None}),
    ],
)
def test_words_become_settings(words: list[str], expected: dict[str, Any]) -> None:
    settings = compose("eval", ["policy=expert", *words])
    assert {key: settings[key] for key in expected} == expected


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["fly"], "unknown command 'fly'.*eval"),
        (["eval"], "policy is missing"),
        (["eval", "expert"], "expected key=value, got 'expert'"),
        (["eval", "policy=expert", "tsk=all"], "unknown key 'tsk'.*task"),
        (["eval", "policy=expert", "task=fly"], "unknown task 'fly'.*open_drawer"),
        (["eval", "policy=expert", "split=tset"], "unknown split 'tset'.*test"),
        (["eval", "policy=nobody"], "unknown policy 'nobody'.*expert"),
        (["eval", "policy=expert", "execute=two"], "execute must be a whole number such as 4, got two"),
        (["eval", "policy=expert", "sampling=fast"], "sampling has keys of its own"),
        (["eval", "policy=expert", "scenes=9:3"], "empty range"),
        (["eval", "policy=expert", "resume=maybe"], "resume must be true or false"),
        (["train", "data=missing_folder"], "no dataset folder missing_folder"),
        (["train", "policy=gpt", "data=x"], "unknown policy 'gpt'.*beso"),
        (["train", "data=x", "train.batchsize=3"], "unknown key 'train.batchsize'.*train.batch_size"),
        (["train", "data=x", "train.bf16=maybe"], "train.bf16 must be true or false"),
        (["collect", "output=x", "task=fly"], "unknown task 'fly'"),
        (["collect"], "output is missing"),
        (["compare"], "compare needs two results.json files"),
        (["compare", "a", "common=true"], "compare needs two results.json files"),
        (["compare", "a", "b", "c"], "expected key=value, got 'c'"),
        (["compare", "a", "b", "comon=true"], "unknown key 'comon'.*common"),
        (["compare", "a", "b"], "there is no a"),
        (["doctor", "now"], "doctor takes no"),
    ],
)
def test_a_mistake_is_one_sentence_and_status_2(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert tongs.main(words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("tongs: ") and err.count("\n") == 1
    assert re.search(said, err), err
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_one_sentence(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def full(words: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device", "results.json")

    monkeypatch.setitem(tongs.COMMANDS, "eval", (full, ""))
    assert tongs.main(["eval"]) == 2
    assert capsys.readouterr().err == "tongs: the disk is full, writing results.json\n"


def test_configuration_files_hold_the_defaults_of_the_code() -> None:
    """The files document every setting; none may drift from the dataclass that it fills."""
    from policies.beso.config import BesoConfig
    from policies.configuration import configuration
    from train.configuration import TrainConfig
    from train.demonstrations import CollectConfig

    settings = compose("train", ["data=x"])
    assert TrainConfig(**settings["train"]) == TrainConfig()
    assert set(settings["train"]) == {field.name for field in fields(TrainConfig)}
    assert configuration(BesoConfig, settings["policy"]) == BesoConfig()
    assert set(settings["policy"]) == {field.name for field in fields(BesoConfig)} - {"environment_names"}
    assert set(compose("collect", ["output=x"])) == {field.name for field in fields(CollectConfig)}


@pytest.mark.parametrize("command", ["eval", "compare", "collect", "train"])
def test_help_explains_every_key(command: str) -> None:
    settings = compose(command, _required(command))
    text = help_text(command)
    for key in settings:
        assert f"  {key}=" in text or f"  {key}." in text


def _required(command: str) -> list[str]:
    return {"eval": ["policy=expert"], "collect": ["output=x"], "train": ["policy=beso", "data=x"]}.get(command, [])


def test_public_api_names_what_is_unknown(tmp_path: Path) -> None:
    with pytest.raises(TongsError, match="unknown task 'fly'.*open_drawer"):
        tongs.make_env("fly")
    with pytest.raises(TongsError, match="'expert' is no learned policy"):
        tongs.load_policy("expert")
    with pytest.raises(TongsError):
        tongs.load_dataset(tmp_path)


def test_make_env_makes_the_task() -> None:
    env = tongs.make_env("open_drawer", cameras={})
    observation, _ = env.reset(seed=0)
    assert observation["instruction"] == env.unwrapped.world.instruction != ""  # type: ignore[attr-defined]
    assert env.unwrapped.world.task.name == "open_drawer"  # type: ignore[attr-defined]
    env.close()
