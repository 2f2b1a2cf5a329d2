"""The training loop: AdamW, averaged weights, held-out loss, closed-loop evaluation, exact resume."""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from data.prefetch import Prefetcher
from data.sampling import EpochSampler
from data.windows import Batch, Windows
from policies.base import PolicyModule
from policies.ema import ExponentialMovingAverage
from robot.errors import TongsError
from train.configuration import TrainConfig, require_same_run
from train.progress import RunProgress
from train.record import Record
from train.schedule import learning_rate_factor, spent
from train.state import has_state, load_state, random_state, restore_random_state, save_state

Evaluate = Callable[[PolicyModule], Mapping[str, float]]
HELDOUT_SEED = 0
"""The held-out loss draws the same noise at every measurement, so that its changes are the network's."""


class Trainer:
    """Trains one policy in one run folder.

    The folder receives `best/` (averaged weights with the highest "success" of `evaluate`), `last/` (the newest
    averaged weights), `state/` (for resuming), `train.csv`, `heldout.csv`, `evaluation.csv`, `curves.png` and
    `config.json`.

    Args:
        policy: what to train; moved to the device.
        windows_train, windows_heldout: where batches come from; None measures no held-out loss.
        config: see `TrainConfig`.
        folder: the run folder.
        evaluate: plays the policy (averaged weights, evaluation mode) and returns numbers, "success" among them.
    """

    def __init__(
        self,
        policy: PolicyModule,
        windows_train: Windows,
        windows_heldout: Windows | None,
        config: TrainConfig,
        folder: Path | str,
        evaluate: Evaluate | None = None,
    ) -> None:
        self.config = config
        self.folder = Path(folder)
        self.device = _device(config.device)
        self.policy = policy.to(self.device)
        self.step = 0
        self._minutes_before = 0.0
        self._started = time.monotonic()
        self._best_success = -1.0
        self._windows_train = windows_train
        self._windows_heldout = windows_heldout
        self._evaluate = evaluate
        self._average = ExponentialMovingAverage(policy, config.ema_decay)
        self._optimizer = _optimizer(policy, config)
        self._generator = torch.Generator(self.device)
        order = np.random.default_rng(config.seed)
        self._sampler = EpochSampler(windows_train.weights, config.batch_size, order)
        self._interrupted = False
        self._interrupt_at_once = False

    @property
    def minutes(self) -> float:
        """Wall-clock minutes of the run so far, without the pauses between resumes."""
        return self._minutes_before + (time.monotonic() - self._started) / 60.0

    def train(self, resume: bool = False) -> None:
        """Run to the end of the budget.

        Raises:
            TongsError: the folder holds a run and `resume` is False, or there is none to resume, or the loss stopped
                being a number (the batch is then in `bad_batch.npz`).
            SystemExit: after an interruption (Ctrl-C), with everything saved; status 130.
        """
        torch.set_num_threads(self.config.threads)
        self._begin(resume)
        if self.config.compile:
            _require_compiler()
            for part in self.policy.heavy_parts:
                part.compile()
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "config.json").write_text(json.dumps(self.config.to_json(), indent=4), encoding="utf-8")
        self.policy.prepare(self._windows_train.instructions)
        record = Record(self.folder, self.step, self.config.tensorboard)
        prefetcher = Prefetcher(self._windows_train, self._sampler)
        with self._catch_interrupt(), RunProgress() as progress, prefetcher:
            try:
                self._loop(prefetcher, record, progress)
            except KeyboardInterrupt:
                self._interrupted = True
            self._save(prefetcher, record)
        record.close()
        if self._interrupted:
            progress.say(f"interrupted at step {self.step}; everything is in {self.folder}, resume to go on")
            raise SystemExit(130)

    def _begin(self, resume: bool) -> None:
        torch.manual_seed(self.config.seed)
        self._generator.manual_seed(self.config.seed)
        if resume:
            self._restore(load_state(self.folder))
        elif has_state(self.folder):
            raise TongsError(f"{self.folder} already holds a run; resume it or choose another folder")
        self._started = time.monotonic()

    def _loop(self, prefetcher: Prefetcher, record: Record, progress: RunProgress) -> None:
        config = self.config
        sums: dict[str, Tensor] = {}
        interval_step, interval_start = self.step, time.monotonic()
        while not self._interrupted and self._spent() < 1.0:
            losses = self._train_step(prefetcher.next_batch())
            for name, value in losses.items():
                sums[name] = sums[name] + value if name in sums else value
            if _due(self.step, config.log_every):
                count, now = self.step - interval_step, time.monotonic()
                means = {name: float(value) / count for name, value in sums.items()}
                rate = count * config.batch_size / (now - interval_start)
                self._log(record, means, rate)
                progress.update(self._spent(), self.step, means["loss"], rate)
                sums, interval_step, interval_start = {}, self.step, now
            if self._windows_heldout is not None and _due(self.step, config.heldout_every):
                heldout = self._heldout_losses(self._windows_heldout)
                record.add("heldout", self.step, heldout)
                progress.say(f"step {self.step}: held-out loss {heldout['loss']:.4f}")
            if _due(self.step, config.save_every):
                self._save(prefetcher, record)
            if self._evaluate is not None and _due(self.step, config.evaluate_every):
                self._evaluate_now(self._evaluate, record, progress)

    def _train_step(self, arrays: Batch) -> dict[str, Tensor]:
        """One optimiser step; the losses and the gradient's norm, detached."""
        factor = learning_rate_factor(self.config.schedule, self.step, self.config.warmup_steps, self._spent())
        for group in self._optimizer.param_groups:
            group["lr"] = self.config.learning_rate * factor
        self.policy.train()
        self._optimizer.zero_grad(set_to_none=True)
        with self._autocast():
            losses = self.policy.loss(to_tensors(arrays, self.device), self._generator)
        losses["loss"].backward()
        norm = torch.nn.utils.clip_grad_norm_(self.policy.parameters(), self.config.gradient_clip)
        if not torch.isfinite(losses["loss"]) or not torch.isfinite(norm):
            raise self._not_a_number(arrays)
        self._optimizer.step()
        self.step += 1
        self._average.update(self.step)
        return {name: value.detach() for name, value in losses.items()} | {"gradient_norm": norm.detach()}

    @torch.no_grad()
    def _heldout_losses(self, windows: Windows) -> dict[str, float]:
        """Mean losses of the averaged weights over evenly spread held-out windows, always the same."""
        count = min(len(windows), self.config.batch_size * self.config.heldout_batches)
        indices = np.linspace(0, len(windows) - 1, count).astype(np.int64)
        generator = torch.Generator(self.device).manual_seed(HELDOUT_SEED)
        sums: dict[str, float] = {}
        with self._evaluation_weights(), self._autocast():
            for first in range(0, count, self.config.batch_size):
                part = indices[first : first + self.config.batch_size]
                losses = self.policy.loss(to_tensors(windows.batch(part), self.device), generator)
                for name, value in losses.items():
                    sums[name] = sums.get(name, 0.0) + float(value) * len(part)
        return {name: total / count for name, total in sums.items()}

    def _evaluate_now(self, evaluate: Evaluate, record: Record, progress: RunProgress) -> None:
        progress.say(f"step {self.step}: evaluating")
        self._interrupt_at_once = True
        try:
            with self._evaluation_weights():
                result = dict(evaluate(self.policy))
                if "success" not in result:
                    raise TongsError(f"an evaluation must return 'success', got: {', '.join(result)}")
                record.add("evaluation", self.step, result)
                progress.say(f"step {self.step}: success {result['success']:.3f}")
                if result["success"] > self._best_success:
                    self._best_success = float(result["success"])
                    self.policy.save(self.folder / "best")
        finally:
            self._interrupt_at_once = False

    def _save(self, prefetcher: Prefetcher, record: Record) -> None:
        save_state(
            self.folder,
            {
                "config": json.dumps(self.config.to_json()),
                "step": self.step,
                "minutes": self.minutes,
                "best_success": self._best_success,
                "policy": self.policy.state_dict(),
                "optimizer": self._optimizer.state_dict(),
                "average": self._average.state_dict(),
                "random": random_state(self._generator),
                "sampler": json.dumps(prefetcher.state_dict()),
            },
        )
        with self._evaluation_weights():
            self.policy.save(self.folder / "last")
        record.draw()

    def _restore(self, state: dict[str, Any]) -> None:
        require_same_run(json.loads(state["config"]), self.config)
        self.step, self._minutes_before = state["step"], state["minutes"]
        self._best_success = state["best_success"]
        self.policy.load_state_dict(state["policy"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._average.load_state_dict(state["average"])
        restore_random_state(state["random"], self._generator)
        self._sampler.load_state_dict(json.loads(state["sampler"]))

    def _log(self, record: Record, means: Mapping[str, float], rate: float) -> None:
        learning_rate = self._optimizer.param_groups[0]["lr"]
        extra = {"learning_rate": learning_rate, "samples_per_second": rate, "minutes": self.minutes}
        record.add("train", self.step, {**means, **extra})

    def _spent(self) -> float:
        return spent(self.step, self.minutes, self.config.steps, self.config.max_minutes)

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.bf16)

    @contextmanager
    def _evaluation_weights(self) -> Iterator[None]:
        """Averaged weights and evaluation mode; whatever happens inside leaves the run's random numbers alone."""
        devices = [self.device] if self.device.type == "cuda" else []
        interpreted = torch.compiler.set_stance("force_eager")
        with torch.random.fork_rng(devices), self._average.swapped(), interpreted:
            self.policy.eval()
            yield

    @contextmanager
    def _catch_interrupt(self) -> Iterator[None]:
        """The first Ctrl-C ends the run after the current step (an evaluation at once), the second ends it hard."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def handle(*_: object) -> None:
            if self._interrupted or self._interrupt_at_once:
                raise KeyboardInterrupt
            self._interrupted = True

        before = signal.signal(signal.SIGINT, handle)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    def _not_a_number(self, arrays: Batch) -> TongsError:
        path = self.folder / "bad_batch.npz"
        flat = {key: value for key, value in arrays.items() if key not in ("images", "instruction")}
        flat |= {f"images.{name}": pixels for name, pixels in arrays["images"].items()}
        np.savez_compressed(path, **flat, instruction=np.array(arrays["instruction"], dtype=np.str_))
        return TongsError(
            f"the loss or its gradient is not finite at step {self.step + 1} (learning rate "
            f"{self._optimizer.param_groups[0]['lr']:.2g}); the batch is in {path}; try a lower learning rate"
        )


def to_tensors(arrays: Batch, device: torch.device) -> dict[str, Any]:
    """A batch of arrays as tensors on the device; strings stay strings."""

    def move(value: Any) -> Any:
        if isinstance(value, np.ndarray):
            return torch.from_numpy(value).to(device)
        if isinstance(value, Mapping):
            return {key: move(entry) for key, entry in value.items()}
        return value

    return {key: move(value) for key, value in arrays.items()}


def _require_compiler() -> None:
    if not any(shutil.which(name) for name in (os.environ.get("CXX", "g++"), "g++", "clang++")):
        raise TongsError("compile needs a C++ compiler and none was found; install g++ or train without compile")


def _due(step: int, period: int) -> bool:
    return period > 0 and step % period == 0


def _device(name: str) -> torch.device:
    if name == "cuda" and not torch.cuda.is_available():
        raise TongsError("device cuda was asked for, but torch sees no GPU; use cpu or auto")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def _optimizer(policy: PolicyModule, config: TrainConfig) -> torch.optim.AdamW:
    trained = [parameter for parameter in policy.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.learning_rate, fused=True)
