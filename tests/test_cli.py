"""The `tongs` command: fast help, the words it understands, and one sentence for every mistake."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

import tongs
from configs.composition import compose
from data.console import COMMANDS as DATA_COMMANDS
from robot.errors import TongsError

ROOT = Path(__file__).resolve().parents[1]
HEAVY = ("torch", "mujoco", "numpy", "hydra", "omegaconf", "transformers", "rich")


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["eval", "--help"],
        ["compare", "--help"],
        ["import", "--help"],
        ["train", "--help"],
        ["serve", "--help"],
        ["gui", "--help"],
        ["teleop", "--help"],
        ["doctor", "--help"],
    ],
)
def test_help_is_fast_and_imports_nothing_heavy(words: list[str]) -> None:
    code = (
        f"import sys, tongs\ntry: status = tongs.main({words})\nexcept SystemExit as end: status = end.code\n"
        f"assert status == 0, status\nassert not [n for n in {HEAVY} if n in sys.modules]"
    )
    before = os.times()
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    after = os.times()
    assert run.returncode == 0, run.stderr
    assert "tongs" in run.stdout
    spent = after.children_user + after.children_system - before.children_user - before.children_system
    assert spent < 0.5, "seconds of processor time, which other work on the machine hardly changes"


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
        (["eval", "policy=remote:localhost", "episodes=1"], "address is such as ws://localhost:8000"),
        (["serve", "policy=expert"], "'expert' is no learned policy"),
        (
            ["serve", "policy=beso", "host=0.0.0.0"],
            "host=0.0.0.0 can be reached from other machines, which needs a token",
        ),
        (["serve", "policy=beso", "port=99999"], "port must be a whole number from 0 to 65535"),
        (["serve", "policy=beso", "device=tpu"], "device 'tpu' cannot be used"),
        (["train", "data=missing_folder"], "no dataset folder missing_folder"),
        (["train", "policy=gpt", "data=x"], "unknown policy 'gpt'.*beso"),
        (["train", "data=x", "train.batchsize=3"], "unknown key 'train.batchsize'.*train.batch_size"),
        (["train", "data=x", "train.bf16=maybe"], "train.bf16 must be true or false"),
        (["collect", "output=x", "task=fly"], "unknown task 'fly'"),
        (["collect"], "output is missing"),
        (["import", "source=x"], "output is missing"),
        (["import", "source=missing_bag", "output=x"], "there is no missing_bag"),
        (["import", "source=.", "output=x"], "no ROS 2 bag, no robomimic"),
        (["import", "source=.", "output=x", "format=hdf"], "unknown format 'hdf'.*libero, rlds, robomimic, rosbag"),
        (["import", "source=.", "output=x", "bad=ignore"], "unknown bad 'ignore'.*skip, stop"),
        (["compare"], "compare needs two results.json files"),
        (["compare", "a", "common=true"], "compare needs two results.json files"),
        (["compare", "a", "b", "c"], "expected key=value, got 'c'"),
        (["compare", "a", "b", "comon=true"], "unknown key 'comon'.*common"),
        (["compare", "a", "b"], "there is no a"),
        (["finetune", "data=x"], "policy is missing"),
        (["finetune", "policy=expert", "data=x"], "starts from a checkpoint of ours, and expert is none"),
        (["finetune", "policy=beso", "data=missing_folder"], "no dataset folder missing_folder"),
        (["finetune", "policy=beso", "data=x", "lora.rank=3"], "unknown key 'lora.rank'.*lora.r"),
        (["quantize", "policy=beso"], "data is missing"),
        (["quantize", "policy=beso", "data=x", "precision=int3"], "unknown precision of backend onnx 'int3'"),
        (["benchmark", "policy=beso", "data=x", "backend=tpu"], "unknown backend 'tpu'.*openvino"),
        (["reproduce", "gpt"], "unknown reproduction 'gpt'.*openvla-lora"),
        (["reproduce", "openvla-lora", "targets=open_drawer"], "open_drawer is pretrained on, so it is no target"),
        (["gui", "robot=dds"], "unknown robot 'dds'.*arm, ros, sim"),
        (["gui", "robot=ros", "task=open_drawer"], "task means nothing to robot=ros; it is for robot=sim"),
        (["gui", "robot=ros", "map=nowhere.yaml"], "there is no file nowhere.yaml"),
        (["gui", "limits=slow.yaml"], "limits means nothing to robot=sim; it is for robot=ros and robot=arm"),
        (["gui", "policy=random"], "'random' with robot=sim is none of them"),
        (["gui", "robot=arm"], "which arm"),
        (["gui", "robot=arm", "arm=nowhere.yaml"], "there is no file nowhere.yaml"),
        (["gui", "host=0.0.0.0"], "lets other machines drive the robot; set TONGS_TOKEN"),
        (["gui", "speech=nowhere"], "nowhere is no folder of a faster-whisper model: it has no model.bin"),
        (["gui", "spacemouse=true", "axes=[x,y]"], "a SpaceMouse drives six entries, got 2"),
        (["teleop", "robot=dds"], "unknown robot 'dds'.*arm, ros, sim"),
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
    from data.importers.run import ImportConfig
    from eval.benchmark import BenchmarkConfig
    from eval.deployment import QuantizeConfig
    from eval.reproduce_beso import ReproductionConfig
    from eval.reproduce_cap import CapReproductionConfig
    from eval.reproduce_grif import GrifReproductionConfig
    from eval.reproduce_grounded import GroundedReproductionConfig
    from eval.reproduce_lora import LoraReproductionConfig
    from eval.reproduce_rth import RthReproductionConfig
    from eval.reproduce_yay import YayReproductionConfig
    from policies.base import FAMILIES, policy_class
    from policies.configuration import configuration
    from policies.vla.config import Tower, VlaConfig
    from policies.yay.config import LowLevel
    from robot.remote.server import ServerConfig
    from train.adaptation import LoraConfig
    from train.configuration import TrainConfig
    from train.demonstrations import CollectConfig
    from train.finetuning import AUGMENTATIONS

    settings = compose("train", ["data=x"])
    assert TrainConfig(**settings["train"]) == TrainConfig()
    assert set(settings["train"]) == {field.name for field in fields(TrainConfig)}
    learned = {
        "environment_names",
        *("tokenizer", "vocabulary", "answer_token", "begin_token", "end_token", "pad_token", "fast_tokenizer"),
        *("table", "centres"),
    }
    heads = {"state_head_weight", "goal_head_weight", "goal_names"}  # which GRIF does not have
    transformer = {"width", "layers", "heads", "attention_dropout", "residual_dropout"}
    unused = {"grif": heads | transformer, "grif_beso": heads, "yay": {"cameras"}}
    assert compose("train", ["data=x"])["policy"]["family"] == "beso"
    for family in FAMILIES:
        chosen = compose("train", ["data=x", f"policy={family}"])["policy"]
        config_class = policy_class(chosen.pop("family")).config_class
        if family == "rth":
            assert chosen.pop("backbone") is None
            vla = VlaConfig((Tower("x"),), 96, {"model_type": "llama"}, prompt="{instruction}")
            assert configuration(config_class, chosen | {"vla": vla}) == config_class(vla)
        elif family == "yay":  # which needs a low level, and sees the training's cameras
            held = LowLevel("beso", {}, {}, "")
            assert configuration(config_class, chosen | {"low": held}) == config_class(held)
        elif family != "vla":  # which has no defaults of its own
            assert configuration(config_class, chosen) == config_class()
        assert set(chosen) == {field.name for field in fields(config_class)} - learned - unused.get(family, set())
    vla, oft = (compose("train", [f"policy={name}", "data=x"])["policy"] for name in ("vla", "vla_oft"))
    assert {name for name in vla if vla[name] != oft[name]} == {"prediction"}
    assert set(compose("collect", ["output=x"])) == {field.name for field in fields(CollectConfig)}
    reproductions = {
        "beso": ReproductionConfig,
        "code-as-policies": CapReproductionConfig,
        "grif": GrifReproductionConfig,
        "grounded-decoding": GroundedReproductionConfig,
        "openvla-lora": LoraReproductionConfig,
        "rt-h": RthReproductionConfig,
        "yay": YayReproductionConfig,
    }
    assert set(reproductions) == set(tongs.REPRODUCTIONS)
    for name, kind, required in (
        ("quantize", QuantizeConfig, {"policy": "beso", "data": "x", "output": "y"}),
        ("benchmark", BenchmarkConfig, {"policy": "beso", "data": "x", "output": "y"}),
        *((f"reproduce/{name.replace('-', '_')}", config, {"output": "y"}) for name, config in reproductions.items()),
    ):
        assert kind(**compose(name, [f"{key}={value}" for key, value in required.items()])) == kind(**required)
    tuning = compose("finetune", ["policy=beso", "data=x"])
    assert LoraConfig(**tuning["lora"]) == LoraConfig() and set(tuning["augmentation"]) == set(AUGMENTATIONS)
    imported = ImportConfig("x", "y")  # type: ignore[arg-type]
    assert compose("import", ["source=x", "output=y"]) == {f.name: getattr(imported, f.name) for f in fields(imported)}

    served = ServerConfig()
    settings = compose("serve", ["policy=beso"])
    shared = {name: value for name, value in settings.items() if name in {field.name for field in fields(served)}}
    assert ServerConfig(**shared) == served and len(shared) == len(fields(served)) - 1  # all but the token


@pytest.mark.parametrize(
    ("words", "file"),
    [
        *(([command], command) for command in tongs.COMMANDS if command not in ("data", "reproduce", "doctor")),
        *((["data", name], f"dataset/{name}") for name in DATA_COMMANDS),
        *((["reproduce", name], f"reproduce/{name.replace('-', '_')}") for name in tongs.REPRODUCTIONS),
    ],
)
def test_help_explains_every_key(words: list[str], file: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert tongs.main([*words, "--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert re.match(rf"tongs {' '.join(words)}\b.*:", lines[0])
    required = [line.partition("=")[0].strip() + "=x" for line in lines if re.match(r"  \w+=(  |$)", line)]
    for key in compose(file, required):
        assert any(re.match(rf"  {key}[=.].*  \S", line) for line in lines), key


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
