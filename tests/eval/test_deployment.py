"""Exports: the same policy by another runtime, without torch, refused where it is not the same; and the benchmark."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import tongs
from data.features import ACTION, IMAGES, STATE, robot_features
from data.writer import DatasetWriter
from eval import deployment
from eval.benchmark import Row, verdicts
from eval.deployment import QuantizeConfig, Recorded, quantize
from policies.base import PolicyModule, load_policy
from policies.beso.config import Sampling
from robot.errors import TongsError
from robot.exported import BACKENDS, ExportedPolicy
from robot.interface import EE_DELTA
from tests.conformance import check_policy
from tests.policies import small as beso
from tests.policies.vla import small as vla

ROOT = Path(__file__).resolve().parents[2]
onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Two short episodes of the robot that the small policies are for."""
    folder = tmp_path_factory.mktemp("deployment") / "set"
    sizes = {name: (32, 32) for name in beso.ROBOT.cameras}
    features = robot_features(sizes, beso.ROBOT.state_names, EE_DELTA.names)
    with DatasetWriter(folder, 10, features, "arm", image_storage="png") as writer:
        for seed in range(2):
            seen = [beso.observation(10 * seed + frame) for frame in range(6)]
            columns = {
                STATE: np.stack([one.state for one in seen]),
                ACTION: np.random.default_rng(seed).normal(0, 0.01, (6, 7)).astype(np.float32),
            }
            pictures = {IMAGES + name: np.stack([one.images[name] for one in seen]) for name in sizes}
            writer.add_episode(columns, [beso.INSTRUCTIONS[seed]] * 6, images=pictures)
    return str(folder)


def saved(folder: Path, kind: str) -> str:
    policy = beso.policy() if kind == "beso" else vla.policy(prediction=kind)
    if kind == "diffusion":
        policy.sampling = replace(policy.sampling, steps=3)  # type: ignore[union-attr]
    policy.save(folder)
    return str(folder)


def request(policy: str, data: str, output: Path, precision: str = "fp32", **changes: object) -> QuantizeConfig:
    return QuantizeConfig(policy, data, str(output), precision, frames=8, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("backend", ["onnx", "openvino"])
@pytest.mark.parametrize("kind", ["beso", "l1", "parallel", "diffusion"])
def test_an_export_does_what_the_policy_does(kind: str, backend: str, data: str, tmp_path: Path) -> None:
    """Other observations and instructions than it was traced with, of other lengths, and several draws of noise."""
    pytest.importorskip(BACKENDS[backend][0])
    policy = load_policy(saved(tmp_path / "policy", kind))
    made = quantize(request(str(tmp_path / "policy"), data, tmp_path / "export", backend=backend))
    assert made.parity.cosine > 0.99999
    export = tongs.load_policy(made.folder)
    assert isinstance(export, ExportedPolicy)
    for one in (policy, export):
        one.bind(beso.ROBOT)
        one.reset(11)
    for seed, words in enumerate(("turn", beso.INSTRUCTIONS[2], "please open the left drawer by a third of its way")):
        seen = beso.observation(seed + 50, words)
        np.testing.assert_allclose(export.act(seen).actions, policy.act(seen).actions, rtol=1e-3, atol=2e-5)
    several = [beso.observation(seed + 60) for seed in range(3)]
    for given, wanted in zip(export.act_batch(several), policy.act_batch(several), strict=True):
        np.testing.assert_allclose(given.actions, wanted.actions, rtol=1e-3, atol=2e-5)
    check_policy(export, beso.observation)


def test_an_export_runs_without_torch(data: str, tmp_path: Path) -> None:
    made = quantize(request(saved(tmp_path / "policy", "beso"), data, tmp_path / "export"))
    code = (
        "import sys; sys.modules['torch'] = None; sys.modules['transformers'] = None\n"
        "import numpy as np; from robot.exported import ExportedPolicy; from robot.interface import *\n"
        f"policy = ExportedPolicy({str(made.folder)!r})\n"
        "sizes = {'front': (32, 32), 'wrist': (32, 32)}\n"
        "policy.bind(RobotSpec(sizes, ('z', 'y', 'x', 'w'), EE_DELTA)); policy.reset(0)\n"
        "images = {name: np.zeros((32, 32, 3), np.uint8) for name in sizes}\n"
        "print(policy.act(Observation(images, np.zeros(4, np.float32), 'close it', 0.0)).actions.shape)"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() == "(4, 7)"


@pytest.mark.parametrize("activations", [False, True])
def test_eight_bits_are_smaller_and_pass_or_stay_out(activations: bool, data: str, tmp_path: Path) -> None:
    policy = saved(tmp_path / "policy", "l1")
    whole = quantize(request(policy, data, tmp_path / "fp32"))
    try:
        made = quantize(request(policy, data, tmp_path / "int8", "int8", activations=activations))
    except TongsError as error:
        assert activations and "is not the same policy any more" in str(error)
        assert not (tmp_path / "int8").exists()
        return
    assert made.parity.valid and made.megabytes < whole.megabytes
    header = json.loads((made.folder / "config.json").read_text())
    assert header["exported"]["parity"]["cosine"] == made.parity.cosine


def test_what_is_not_the_same_policy_is_refused_with_the_numbers(
    data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Graphs of another policy stand for a precision that it does not survive."""
    policy = saved(tmp_path / "policy", "beso")
    beso.policy(seed=9).save(tmp_path / "other")
    trace = deployment.graphs.trace
    other = load_policy(tmp_path / "other")
    monkeypatch.setattr(deployment.graphs, "trace", lambda policy, folder: trace(other, folder))
    with pytest.raises(TongsError, match=r"not the same policy any more: cosine 0\.\d+ \(at least 0.999"):
        quantize(request(policy, data, tmp_path / "export"))
    assert not (tmp_path / "export").exists()


def test_the_noise_of_a_policy_is_what_two_seeds_differ_by(data: str, tmp_path: Path) -> None:
    policy = load_policy(saved(tmp_path / "policy", "beso"))
    recorded = Recorded(data, policy, 6, 0)
    same = recorded.parity(policy)
    assert same.cosine == pytest.approx(1) and same.error == 0 and same.noise > 0
    two = np.abs(recorded.act(policy, 0) - recorded.act(policy, 1)).mean()
    assert same.noise == pytest.approx(two)


@pytest.mark.parametrize("precision", ["bf16"])
def test_a_checkpoint_in_half_the_bytes(precision: str, data: str, tmp_path: Path) -> None:
    policy = saved(tmp_path / "policy", "l1")
    try:
        made = quantize(request(policy, data, tmp_path / "made", precision, backend="torch"))
    except TongsError as error:
        assert "not the same policy" in str(error)  # eight bits of mantissa are few for so small a network
        return
    again = load_policy(made.folder)
    assert isinstance(again, PolicyModule) and again.precision == "bf16"
    half, whole = (Path(folder, "model.safetensors").stat().st_size for folder in (made.folder, policy))
    assert half < 0.6 * whole


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"precision": "int3"}, "unknown precision of backend onnx 'int3'; known are: fp32, int4, int8"),
        ({"backend": "tensorrt"}, "unknown backend 'tensorrt'; known are: onnx, openvino, torch"),
        ({"precision": "bf16"}, "unknown precision of backend onnx 'bf16'"),
        ({"policy": "expert"}, "is no learned policy"),
    ],
)
def test_bad_input(changes: dict[str, str], message: str, data: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = {"policy": "beso", "data": data, **changes}
    assert tongs.main(["quantize", *(f"{key}={value}" for key, value in words.items())]) == 2
    assert message in capsys.readouterr().err


def test_what_is_not_installed_is_said(data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(TongsError, match="backend openvino needs openvino, which is not installed"):
        quantize(request(saved(tmp_path / "policy", "l1"), data, tmp_path / "made", backend="openvino"))


def test_what_cannot_be_a_graph_is_said(data: str, tmp_path: Path) -> None:
    with pytest.raises(TongsError, match="autoregressive or sampled VLA is no fixed graph"):
        quantize(request(saved(tmp_path / "tokens", "autoregressive"), data, tmp_path / "made"))
    policy = beso.policy()
    policy.sampling = Sampling(sampler="euler_ancestral")
    policy.save(tmp_path / "random")
    with pytest.raises(TongsError, match="sampler euler_ancestral draws noise on its way"):
        quantize(request(str(tmp_path / "random"), data, tmp_path / "made"))


def test_a_damaged_export_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"exported": {"version": 99}, "policy": "beso"}')
    with pytest.raises(TongsError, match="no whole export: it has no statistics.json"):
        tongs.load_policy(tmp_path)
    (tmp_path / "statistics.json").write_text("{}")
    with pytest.raises(TongsError, match="no export of version 1"):
        tongs.load_policy(tmp_path)
    with pytest.raises(TongsError, match="is an export and no network any more"):
        load_policy(tmp_path)


def test_a_slower_precision_is_called_slower() -> None:
    rows = [
        Row("torch", "fp32", p50_ms=20.0),
        Row("onnx", "fp32", p50_ms=8.0),
        Row("onnx", "int8", p50_ms=10.0),
        Row("onnx", "int4", p50_ms=25.0),
        Row("openvino", "int4", problem="refused"),
    ]
    said = verdicts(rows)
    assert "int8 by onnx is 2.00 times as fast as fp32 by torch here" in said
    assert "int8 by onnx is SLOWER than fp32 by onnx here: 10.0 ms against 8.0 ms" in said
    assert "int4 by onnx is SLOWER than fp32 by torch here: 25.0 ms against 20.0 ms" in said
    assert "int4 by openvino: refused" in said and len(said) == 6


def test_the_benchmark(data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [f"policy={saved(tmp_path / 'policy', 'l1')}", f"data={data}", "precision=fp32", "calls=3", "frames=4"]
    assert tongs.main(["benchmark", *words, f"output={tmp_path / 'out'}"]) == 0
    first, second = json.loads((tmp_path / "out/benchmark.json").read_text())["rows"]
    assert first["backend"] == "torch" and second["parity"]["cosine"] > 0.999
    assert 0 < first["p50_ms"] <= first["p99_ms"] and 0 < second["memory_mb"] < first["memory_mb"]
