"""The training loop: exact resume, best and last checkpoints, interruption, bad numbers."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from data.windows import Batch, Windows
from policies.base import PolicyModule
from robot.errors import TongsError
from tests.train.small_policy import SmallPolicy, windows
from train.trainer import TrainConfig, Trainer

CONFIG = TrainConfig(
    steps=6,
    batch_size=8,
    learning_rate=1e-2,
    warmup_steps=2,
    log_every=1,
    heldout_every=2,
    save_every=0,
    threads=1,
    device="cpu",
)


HAS_COMPILER = shutil.which("g++") is not None


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> tuple[Windows, Windows]:
    return windows(tmp_path_factory.mktemp("trainer"))


def rows(folder: Path, table: str = "train") -> list[dict[str, float]]:
    with (folder / f"{table}.csv").open() as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def column(folder: Path, name: str, table: str = "train") -> list[float]:
    return [row[name] for row in rows(folder, table)]


def test_learning_lowers_both_losses(parts: tuple[Windows, Windows], tmp_path: Path) -> None:
    config = replace(CONFIG, steps=150, log_every=10, heldout_every=30, ema_decay=0.9)
    Trainer(SmallPolicy(), *parts, config, tmp_path).train()
    for table, part in (("train", 0.6), ("heldout", 0.9)):
        losses = column(tmp_path, "loss", table)
        assert losses[-1] < part * losses[0], f"{table}: {losses}"
    assert (tmp_path / "curves.png").stat().st_size > 5000


def test_three_steps_and_three_more_are_six(parts: tuple[Windows, Windows], tmp_path: Path) -> None:
    constant = replace(CONFIG, schedule="constant")
    Trainer(SmallPolicy(), *parts, constant, tmp_path / "straight").train()
    Trainer(SmallPolicy(), *parts, replace(constant, steps=3), tmp_path / "halves").train()
    assert column(tmp_path / "halves", "step") == [1, 2, 3]
    torch.randn(100), np.random.default_rng().random(3)  # the outside world moves on between the two
    Trainer(SmallPolicy(), *parts, constant, tmp_path / "halves").train(resume=True)
    for name in ("step", "loss", "gripper_error", "gradient_norm", "learning_rate"):
        assert column(tmp_path / "halves", name) == column(tmp_path / "straight", name), name
    assert column(tmp_path / "halves", "loss", "heldout") == column(tmp_path / "straight", "loss", "heldout")
    first, second = (load_file(tmp_path / run / "last/model.safetensors") for run in ("straight", "halves"))
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("stop", [1, 2, 3, 5, 6])
def test_a_run_may_be_stopped_at_any_step(parts: tuple[Windows, Windows], tmp_path: Path, stop: int) -> None:
    """Also between two lines of the log, with a batch in several parts."""
    config = replace(CONFIG, schedule="constant", log_every=4, steps=8, accumulate=2)
    Trainer(SmallPolicy(), *parts, config, tmp_path / "straight").train()
    Trainer(SmallPolicy(), *parts, replace(config, steps=stop), tmp_path / "halves").train()
    Trainer(SmallPolicy(), *parts, config, tmp_path / "halves").train(resume=True)
    assert column(tmp_path / "straight", "step") == [4, 8]
    for name in ("step", "loss", "gripper_error", "gradient_norm"):
        assert column(tmp_path / "halves", name) == column(tmp_path / "straight", name), name


def test_parts_of_a_batch_have_the_gradient_of_the_whole(parts: tuple[Windows, Windows], tmp_path: Path) -> None:
    def run(name: str, accumulate: int) -> Path:
        policy = SmallPolicy()
        policy.network[2].p = 0.0  # dropout draws in another order
        Trainer(policy, *parts, replace(CONFIG, accumulate=accumulate), tmp_path / name).train()
        return tmp_path / name

    whole, divided = run("whole", 1), run("divided", 4)
    for name in ("loss", "gripper_error", "gradient_norm"):
        np.testing.assert_allclose(column(divided, name), column(whole, name), rtol=1e-5)
    with pytest.raises(TongsError, match="batch_size of 8 cannot be divided among 1 processes in 3 parts"):
        run("indivisible", 3)


def test_a_run_killed_between_saves_repeats_the_lost_steps(parts: tuple[Windows, Windows], tmp_path: Path) -> None:
    class Dies(SmallPolicy):
        calls = 0

        def loss(self, batch: Batch, generator: torch.Generator | None = None) -> dict[str, torch.Tensor]:
            self.calls += self.training
            if self.calls == 6:
                raise MemoryError
            return super().loss(batch, generator)

    config = replace(CONFIG, steps=8, save_every=3)
    Trainer(SmallPolicy(), *parts, config, tmp_path / "straight").train()
    with pytest.raises(MemoryError):
        Trainer(Dies(), *parts, config, tmp_path / "killed").train()
    assert column(tmp_path / "killed", "step") == [1, 2, 3, 4, 5]
    Trainer(SmallPolicy(), *parts, config, tmp_path / "killed").train(resume=True)
    assert column(tmp_path / "killed", "step") == [1, 2, 3, 4, 5, 6, 7, 8]
    assert column(tmp_path / "killed", "loss") == column(tmp_path / "straight", "loss")


def test_evaluation_leaves_the_training_alone(parts: tuple[Windows, Windows], tmp_path: Path) -> None:
    def evaluate(policy: PolicyModule) -> dict[str, float]:
        assert not policy.training
        torch.randn(17)
        return {"success": 0.5}

    Trainer(SmallPolicy(), *parts, CONFIG, tmp_path / "plain").train()
    config = replace(CONFIG, evaluate_every=2)
    Trainer(SmallPolicy(), *parts, config, tmp_path / "evaluated", evaluate).train()
    assert column(tmp_path / "evaluated", "loss") == column(tmp_path / "plain", "loss")


def test_best_is_the_average_with_the_highest_success(parts: tuple[Windows, Windows], tmp_path: Path) -> None:
    seen: list[dict[str, torch.Tensor]] = []

    def evaluate(policy: PolicyModule) -> dict[str, float]:
        seen.append({name: value.clone() for name, value in policy.state_dict().items()})
        return {"success": [0.2, 0.7, 0.4][len(seen) - 1], "length": 10.0}

    policy = SmallPolicy()
    Trainer(policy, *parts, replace(CONFIG, evaluate_every=2), tmp_path, evaluate).train()
    best, last = (load_file(tmp_path / name / "model.safetensors") for name in ("best", "last"))
    assert all(torch.equal(best[name], seen[1][name]) for name in best)
    assert all(torch.equal(last[name], seen[2][name]) for name in last), "last holds the averaged weights too"
    assert any(not torch.equal(last[name], policy.state_dict()[name]) for name in last), (
        "and training goes on from its own"
    )
    assert column(tmp_path, "success", "evaluation") == [0.2, 0.7, 0.4]


def test_averaged_weights_follow_their_formula(parts: tuple[Windows, Windows], tmp_path: Path) -> None:
    """average_n = d_n average_(n-1) + (1 - d_n) weights_n with d_n = min(0.999, (1 + n) / (10 + n))."""
    weights: list[torch.Tensor] = []

    class Watched(SmallPolicy):
        def loss(self, batch: Batch, generator: torch.Generator | None = None) -> dict[str, torch.Tensor]:
            if self.training:
                weights.append(self.network[0].weight.detach().double().clone())
            return super().loss(batch, generator)

    policy = Watched()
    Trainer(policy, *parts, replace(CONFIG, heldout_every=0), tmp_path).train()
    weights.append(policy.network[0].weight.detach().double())
    average = weights[0]
    for step, now in enumerate(weights[1:], start=1):
        decay = min(0.999, (1 + step) / (10 + step))
        average = decay * average + (1 - decay) * now
    saved = load_file(tmp_path / "last/model.safetensors")["network.0.weight"]
    np.testing.assert_allclose(saved.numpy(), average.numpy(), atol=1e-6)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interruption_saves_and_can_be_resumed(
    parts: tuple[Windows, Windows], tmp_path: Path, capsys: pytest.CaptureFixture[str], number: int
) -> None:
    class Interrupting(SmallPolicy):
        def loss(self, batch: Batch, generator: torch.Generator | None = None) -> dict[str, torch.Tensor]:
            self.calls = getattr(self, "calls", 0) + self.training
            if self.calls == 4 and self.training:
                os.kill(os.getpid(), number)
            return super().loss(batch, generator)

    Trainer(SmallPolicy(), *parts, CONFIG, tmp_path / "straight").train()
    handler = signal.getsignal(number)
    with pytest.raises(SystemExit) as exit_info:
        Trainer(Interrupting(), *parts, CONFIG, tmp_path / "cut").train()
    assert exit_info.value.code == 130 and signal.getsignal(number) is handler
    assert "interrupted at step 4" in capsys.readouterr().out
    Trainer(SmallPolicy(), *parts, CONFIG, tmp_path / "cut").train(resume=True)
    assert column(tmp_path / "cut", "loss") == column(tmp_path / "straight", "loss")


def test_interrupting_an_evaluation_does_not_wait_for_it(parts: tuple[Windows, Windows], tmp_path: Path) -> None:
    def evaluate(policy: PolicyModule) -> dict[str, float]:
        os.kill(os.getpid(), signal.SIGINT)
        raise AssertionError("the evaluation went on")

    policy = SmallPolicy()
    with pytest.raises(SystemExit):
        Trainer(policy, *parts, replace(CONFIG, evaluate_every=2), tmp_path, evaluate).train()
    Trainer(SmallPolicy(), *parts, CONFIG, tmp_path).train(resume=True)
    assert column(tmp_path, "step") == [1, 2, 3, 4, 5, 6]


def test_a_loss_that_is_no_number_stops_with_its_batch(parts: tuple[Windows, Windows], tmp_path: Path) -> None:
    class Breaks(SmallPolicy):
        def loss(self, batch: Batch, generator: torch.Generator | None = None) -> dict[str, torch.Tensor]:
            self.calls = getattr(self, "calls", 0) + self.training
            losses = super().loss(batch, generator)
            return losses if self.calls < 3 else {**losses, "loss": losses["loss"] * float("nan")}

    policy = Breaks()
    with pytest.raises(TongsError, match=r"not finite at step 3 .*bad_batch.npz"):
        Trainer(policy, *parts, CONFIG, tmp_path).train()
    with np.load(tmp_path / "bad_batch.npz") as batch:
        assert batch["actions"].shape == (8, 4, 3) and batch["images.front"].dtype == np.uint8
        assert len(batch["instruction"]) == 8
    assert all(torch.isfinite(value).all() for value in policy.state_dict().values())


def test_gradient_is_clipped(parts: tuple[Windows, Windows], tmp_path: Path) -> None:
    """With plain AdamW the size of a gradient hardly matters, so the clipped gradients themselves are looked at."""
    norms: list[float] = []

    class Large(SmallPolicy):
        def loss(self, batch: Batch, generator: torch.Generator | None = None) -> dict[str, torch.Tensor]:
            return {name: 1e3 * value for name, value in super().loss(batch, generator).items()}

    policy = Large()
    trainer = Trainer(policy, *parts, replace(CONFIG, gradient_clip=0.5), tmp_path)
    step = trainer._optimizer.step
    trainer._optimizer.step = lambda: (  # type: ignore[method-assign]
        norms.append(float(torch.cat([p.grad.flatten() for p in policy.parameters() if p.grad is not None]).norm())),
        step(),
    )
    trainer.train()
    np.testing.assert_allclose(norms, 0.5, rtol=1e-3)
    assert min(column(tmp_path, "gradient_norm")) > 10, "the log tells the norm before clipping"


def test_a_budget_in_minutes_ends_in_time_and_cools_down(parts: tuple[Windows, Windows], tmp_path: Path) -> None:
    config = replace(CONFIG, steps=None, max_minutes=1 / 60, heldout_every=0, warmup_steps=0)
    Trainer(SmallPolicy(), *parts, config, tmp_path).train()
    rates, minutes = column(tmp_path, "learning_rate"), column(tmp_path, "minutes")
    assert 0.9 / 60 < minutes[-1] < 2.5 / 60
    assert rates[0] > 0.5 * config.learning_rate and rates[-1] < 0.1 * config.learning_rate
    assert all(later <= earlier for earlier, later in zip(rates, rates[1:], strict=False))


def test_wrong_starts_are_told(parts: tuple[Windows, Windows], tmp_path: Path) -> None:
    with pytest.raises(TongsError, match="no run to resume"):
        Trainer(SmallPolicy(), *parts, CONFIG, tmp_path).train(resume=True)
    Trainer(SmallPolicy(), *parts, replace(CONFIG, steps=2), tmp_path).train()
    assert json.loads((tmp_path / "config.json").read_text())["steps"] == 2
    with pytest.raises(TongsError, match="already holds a run"):
        Trainer(SmallPolicy(), *parts, CONFIG, tmp_path).train()
    with pytest.raises(TongsError, match="batch_size was 8 and is now 4"):
        Trainer(SmallPolicy(), *parts, replace(CONFIG, batch_size=4), tmp_path).train(resume=True)
    state = tmp_path / "state/training.pt"
    state.write_bytes(state.read_bytes()[:2000])
    with pytest.raises(TongsError, match="training.pt is damaged"):
        Trainer(SmallPolicy(), *parts, CONFIG, tmp_path).train(resume=True)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
@pytest.mark.skipif(not HAS_COMPILER, reason="needs a C++ compiler")
def test_compiled_training_is_the_same_training(parts: tuple[Windows, Windows], tmp_path: Path) -> None:
    def run(name: str, compiled: bool) -> list[float]:
        policy = SmallPolicy()
        policy.network[2].p = 0.0  # a compiled dropout draws other numbers
        Trainer(policy, *parts, replace(CONFIG, compile=compiled), tmp_path / name).train()
        return column(tmp_path / name, "loss")

    assert run("compiled", True) == pytest.approx(run("plain", False), rel=1e-4)


def test_a_missing_compiler_is_told(
    parts: tuple[Windows, Windows], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(TongsError, match="compile needs a C\\+\\+ compiler.*install g\\+\\+ or train without"):
        Trainer(SmallPolicy(), *parts, replace(CONFIG, compile=True), tmp_path).train()


def test_a_missing_gpu_is_told(parts: tuple[Windows, Windows], tmp_path: Path) -> None:
    with pytest.raises(TongsError, match="torch sees no GPU"):
        Trainer(SmallPolicy(), *parts, replace(CONFIG, device="cuda"), tmp_path)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": None}, "give steps or max_minutes"),
        ({"batch_size": 0}, "batch_size must be positive, got 0"),
        ({"schedule": "linear"}, "unknown schedule 'linear'; known are: constant, cosine"),
        ({"device": "tpu"}, "unknown device 'tpu'"),
        ({"parallel": "dp"}, "unknown parallel 'dp'; known are: ddp, fsdp"),
        ({"keep": 0}, "keep must be positive, got 0"),
        ({"ema_decay": 1.0}, "ema_decay must lie"),
        ({"warmup_steps": -1}, "warmup_steps must not be negative, got -1"),
    ],
)
def test_bad_settings_are_told(settings: dict, message: str) -> None:
    with pytest.raises(TongsError, match=message):
        TrainConfig(**settings)
