"""The training loop: AdamW, averaged weights, held-out loss, closed-loop evaluation, exact resume, many processes."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from data.prefetch import Prefetcher
from data.sampling import EpochSampler, Samples
from data.windows import CHANCES, Batch
from policies.adapters import resumable_state
from policies.base import PolicyModule
from policies.ema import ExponentialMovingAverage
from policies.randomness import share
from robot.errors import TongsError
from train.batches import save_batch, some_rows, to_tensors
from train.checkpoints import Checkpoints
from train.configuration import TrainConfig, require_same_run
from train.determinism import deterministic
from train.distributed import Processes
from train.freezing import freeze, frozen_norms
from train.interruption import Interruption
from train.loggers import Loggers
from train.progress import RunProgress
from train.record import Record
from train.schedule import learning_rate_factor, spent
from train.state import has_state, load_state, random_state, restore_random_state, save_state

Evaluate = Callable[[PolicyModule], Mapping[str, float]]
HELDOUT_SEED = 0
"""The held-out loss draws the same noise at every measurement, so that its changes are the network's."""


class Trainer:
    """Trains one policy in one run folder, in one process or in several that torchrun has started.

    The folder receives `checkpoints/step_<n>/` (averaged weights), the links `last` (the newest) and `best` (the one
    with the highest "success" of `evaluate`) to two of them, `state/` (for resuming), `train.csv`, `heldout.csv`,
    `evaluation.csv`, `curves.png` and `config.json`.

    However many processes and parts share a batch, the same windows meet the same noise: the run is the same up to
    rounding. (Except for dropout, which draws from torch's own generator, one per process; and a policy's mean over a
    varying number of rows is taken in each part.)

    Args:
        policy: what to train; moved to the device.
        windows_train, windows_heldout: where batches come from; None measures no held-out loss.
        config: see `TrainConfig`.
        folder: the run folder; of several processes the main one's.
        evaluate: plays the policy (averaged weights, evaluation mode) and returns numbers, "success" among them; called
            in the main process.
    """

    def __init__(
        self,
        policy: PolicyModule,
        windows_train: Samples,
        windows_heldout: Samples | None,
        config: TrainConfig,
        folder: Path | str,
        evaluate: Evaluate | None = None,
    ) -> None:
        self.config = config
        self.processes = Processes(config.device, config.bf16, config.parallel)
        self.folder = Path(self.processes.agreed(str(folder)))
        self.device = self.processes.device
        self.policy = policy
        self.step = 0
        freeze(policy, config.freeze)
        self._frozen_norms = frozen_norms(policy)
        self._loss = self.processes.prepare(policy)
        self._trained = {name: p for name, p in policy.named_parameters() if p.requires_grad}
        self._average = ExponentialMovingAverage(policy, config.ema_decay)
        self._optimizer, self._rate_factors = _optimizer(self._trained, config, policy.learning_rate_factors)
        self._generator = torch.Generator(self.device)
        self._part_size = _part_size(config, self.processes.count)
        self._windows_train = windows_train
        self._windows_heldout = windows_heldout
        order = np.random.default_rng(config.seed)
        self._sampler = EpochSampler(
            windows_train.weights, config.batch_size, order, windows_train.in_order, windows_train.newest
        )
        self._evaluate = evaluate
        self._checkpoints = Checkpoints(self.folder, config.keep)
        self._interruption = Interruption(alone=self.processes.count == 1)
        self._minutes_before = 0.0
        self._started = time.monotonic()
        self._best_success = -1.0
        self._sums: dict[str, Tensor] = {}  # losses since the last line of the log, added up
        self._summed_steps = 0

    @property
    def minutes(self) -> float:
        """Wall-clock minutes of the run so far, without the pauses between resumes."""
        return self._minutes_before + (time.monotonic() - self._started) / 60.0

    def train(self, resume: bool = False) -> None:
        """Run to the end of the budget.

        Raises:
            TongsError: the folder holds a run and `resume` is False, or there is none to resume, or the loss stopped
                being a number (the batch is then in `bad_batch.npz`).
            SystemExit: after an interruption (Ctrl-C or SIGTERM), with everything saved; status 130.
        """
        config, main = self.config, self.processes.main
        torch.set_num_threads(config.threads)
        self._begin(resume)
        if config.compile:
            _require_compiler()
            for part in self.policy.heavy_parts:
                part.compile()
        self.policy.prepare(self._windows_train.instructions)
        record = self._open_record() if main else None
        prefetcher = Prefetcher(self._windows_train, self._sampler, self._rows())
        progress = RunProgress(main, self._spent())
        exactly = deterministic(config, progress.say) if config.deterministic else nullcontext()
        with self._interruption.listening(), progress, exactly, prefetcher:
            self._loop(prefetcher, record, progress)
            self._save(prefetcher, record)
        if record is not None:
            record.close()
        if self._interruption.requested:
            progress.say(f"interrupted at step {self.step}; everything is in {self.folder}, resume to go on")
            raise SystemExit(130)

    def _begin(self, resume: bool) -> None:
        torch.manual_seed(self.config.seed + self.processes.index)  # each process has rows of its own to drop out
        self._generator.manual_seed(self.config.seed)
        if resume:
            self._restore(load_state(self.folder))
        elif has_state(self.folder):
            raise TongsError(f"{self.folder} already holds a run; resume it or choose another folder")
        self._started = time.monotonic()

    def _open_record(self) -> Record:
        self.folder.mkdir(parents=True, exist_ok=True)
        settings = self.config.to_json()
        (self.folder / "config.json").write_text(json.dumps(settings, indent=4), encoding="utf-8")
        return Record(self.folder, self.step, Loggers(self.config.loggers, self.folder, self.step, settings))

    def _loop(self, prefetcher: Prefetcher, record: Record | None, progress: RunProgress) -> None:
        config = self.config
        interval_step, interval_start = self.step, time.monotonic()
        while True:
            spent, interrupted = self.processes.largest([self._spent(), self._interruption.requested])
            if interrupted:
                self._interruption.requested = True  # whoever was asked, all end after the same step
            if interrupted or spent >= 1.0:
                return
            self._train_step(prefetcher.next_batch(), spent)
            if _due(self.step, config.log_every):
                now = time.monotonic()
                rate = (self.step - interval_step) * config.batch_size / (now - interval_start)
                interval_step, interval_start = self.step, now
                means = self._mean_losses()
                if record is not None:
                    self._log(record, means, rate)
                    progress.update(self._spent(), self.step, means["loss"], rate)
            if self._windows_heldout is not None and _due(self.step, config.heldout_every):
                heldout = self._heldout_losses(self._windows_heldout)
                if record is not None:
                    record.add("heldout", self.step, heldout)
                    progress.say(f"step {self.step}: held-out loss {heldout['loss']:.4f}")
            if _due(self.step, config.save_every):
                self._save(prefetcher, record)
            if self._evaluate is not None and _due(self.step, config.evaluate_every):
                self._evaluate_now(self._evaluate, record, progress)

    def _train_step(self, arrays: Batch, spent: float) -> None:
        """One optimiser step; adds its losses and the gradient's norm to the sums of the log."""
        config, processes = self.config, self.processes
        factor = learning_rate_factor(config.schedule, self.step, config.warmup_steps, spent)
        for group, own in zip(self._optimizer.param_groups, self._rate_factors, strict=True):
            group["lr"] = config.learning_rate * factor * own
        self.policy.train()
        for part in self._frozen_norms:
            part.eval()
        self._optimizer.zero_grad(set_to_none=True)
        losses = self._gradients(to_tensors(arrays, self.device))
        if self.step == 0:
            processes.require_all_used(self._trained)
        norm = processes.clip(self._trained.values(), config.gradient_clip)
        self._require_finite(losses["loss"], norm, arrays)
        self._optimizer.step()
        self.step += 1
        self._average.update(self.step)
        for name, value in (losses | {"gradient_norm": norm.detach()}).items():
            self._sums[name] = self._sums[name] + value if name in self._sums else value
        self._summed_steps += 1

    def _gradients(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        """Backward through this process's rows, part by part; their mean losses, detached."""
        parts, size, total = self.config.accumulate, self._part_size, self.config.batch_size
        before = self._generator.get_state() if parts > 1 else None
        sums: dict[str, Tensor] = {}
        for part in range(parts):
            if before is not None:  # every part draws for the whole batch
                self._generator.set_state(before)
            randomness = share(self._generator, self._rows().start + part * size, size, total)
            here = batch if parts == 1 else some_rows(batch, part * size, size)
            with self.processes.without_exchange(self._loss) if part < parts - 1 else nullcontext():
                losses = self._loss(here, randomness)
                (losses["loss"] if parts == 1 else losses["loss"] / parts).backward()
            for name, value in losses.items():
                sums[name] = sums[name] + value.detach() if name in sums else value.detach()
        return sums if parts == 1 else {name: value / parts for name, value in sums.items()}

    @torch.no_grad()
    def _heldout_losses(self, windows: Samples) -> dict[str, float]:
        """Mean losses of the averaged weights over evenly spread held-out windows, always the same."""
        processes, batch_size = self.processes, self.config.batch_size
        count = min(len(windows), batch_size * self.config.heldout_batches)
        indices = np.linspace(0, len(windows) - 1, count).astype(np.int64)
        generator = torch.Generator(self.device).manual_seed(HELDOUT_SEED)
        all_chances = np.random.default_rng(HELDOUT_SEED).random((count, CHANCES))
        sums: dict[str, float] = {}
        with self._evaluation_weights():
            for first in range(0, count, batch_size):
                part, chances = indices[first : first + batch_size], all_chances[first : first + batch_size]
                ours = np.array_split(np.arange(len(part)), processes.count)[processes.index]
                rows = ours if len(ours) else np.array([0])  # nobody may stay away, but such a row counts nothing
                randomness = share(generator, int(rows[0]), len(rows), len(part))
                losses = self._loss(to_tensors(windows.batch(part[rows], chances[rows]), self.device), randomness)
                for name, value in losses.items():
                    sums[name] = sums.get(name, 0.0) + float(value) * len(ours)
        return {name: total / count for name, total in zip(sums, processes.sums(list(sums.values())), strict=True)}

    def _evaluate_now(self, evaluate: Evaluate, record: Record | None, progress: RunProgress) -> None:
        progress.say(f"step {self.step}: evaluating")
        with self._averaged_policy() as policy, self._interruption.at_once():
            if record is not None:
                result = dict(evaluate(policy))
                if "success" not in result:
                    raise TongsError(f"an evaluation must return 'success', got: {', '.join(result)}")
                record.add("evaluation", self.step, result)
                progress.say(f"step {self.step}: success {result['success']:.3f}")
                if result["success"] > self._best_success:
                    self._best_success = float(result["success"])
                    self._checkpoints.write(policy, self.step, best=True)
        self.processes.wait()

    def _save(self, prefetcher: Prefetcher, record: Record | None) -> None:
        whole = self.processes.whole
        state = {
            "config": json.dumps(self.config.to_json()),
            "step": self.step,
            "minutes": self.minutes,
            "best_success": self._best_success,
            "policy": whole(resumable_state(self.policy, self.policy.adapter)),
            "optimizer": whole(self._optimizer.state_dict()),
            "average": whole(self._average.state_dict()),
            "random": self.processes.gathered(random_state(self._generator)),
            "sampler": json.dumps(prefetcher.state_dict()),
            "sums": self.processes.gathered({name: value.cpu() for name, value in self._sums.items()}),
            "summed_steps": self._summed_steps,
        }
        if record is not None:
            save_state(self.folder, state)
        with self._averaged_policy() as policy:
            if record is not None:
                self._checkpoints.write(policy, self.step)
                record.draw()
        self.processes.wait()

    def _restore(self, state: dict[str, Any]) -> None:
        require_same_run(json.loads(state["config"]), self.config)
        parted = self.processes.parted
        self.step, self._minutes_before = state["step"], state["minutes"]
        self._best_success = state["best_success"]
        weights = parted(state["policy"], self.policy.state_dict())
        self.policy.load_state_dict(weights, strict=self.policy.adapter is None)
        self._average.load_state_dict(parted(state["average"], self._trained))
        parameters = [parameter for group in self._optimizer.param_groups for parameter in group["params"]]
        moments = state["optimizer"]["state"]
        moments.update({i: parted(of, {name: parameters[i] for name in of}) for i, of in moments.items()})
        self._optimizer.load_state_dict(state["optimizer"])
        self._sampler.load_state_dict(json.loads(state["sampler"]))
        restore_random_state(state["random"], self.processes.index, self.processes.count, self._generator)
        self._sums = {name: value.to(self.device) for name, value in self._own(state["sums"]).items()}
        self._summed_steps = state["summed_steps"]

    def _own(self, sums: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        """This process's sums of the log; all have their mean where there were more or fewer of us."""
        if len(sums) == self.processes.count:
            return sums[self.processes.index]
        return {name: torch.stack([of_process[name] for of_process in sums]).mean() for name in sums[0]}

    def _log(self, record: Record, means: Mapping[str, float], rate: float) -> None:
        learning_rate = self._optimizer.param_groups[0]["lr"]
        extra = {"learning_rate": learning_rate, "samples_per_second": rate, "minutes": self.minutes}
        record.add("train", self.step, {**means, **extra})

    def _mean_losses(self) -> dict[str, float]:
        """Over the steps since the last line of the log, and over all processes."""
        names, count = list(self._sums), self._summed_steps * self.processes.count
        totals = self.processes.sums([float(value) for value in self._sums.values()])
        self._sums, self._summed_steps = {}, 0
        return {name: total / count for name, total in zip(names, totals, strict=True)}

    def _spent(self) -> float:
        return spent(self.step, self.minutes, self.config.steps, self.config.max_minutes)

    def _rows(self) -> slice:
        """The rows of every batch that are this process's."""
        size, index = self._part_size * self.config.accumulate, self.processes.index
        return slice(index * size, (index + 1) * size)

    @contextmanager
    def _evaluation_weights(self) -> Iterator[None]:
        """Averaged weights and evaluation mode; whatever happens inside leaves the run's random numbers alone."""
        devices = [self.device] if self.device.type == "cuda" else []
        interpreted = torch.compiler.set_stance("force_eager")
        with torch.random.fork_rng(devices), self._average.swapped(), interpreted:
            self.policy.eval()
            try:
                yield
            finally:
                self.processes.part_again(self._loss)  # or the next step would compute with these weights

    @contextmanager
    def _averaged_policy(self) -> Iterator[PolicyModule]:
        """The policy as it is used once trained; with FSDP it is whole in the main process only."""
        with self._evaluation_weights():
            yield self.processes.plain(self.policy)

    def _require_finite(self, loss: Tensor, norm: Tensor, arrays: Batch) -> None:
        """Raise in all processes if the loss of one, or the gradient of all, is not finite; whoever saw it saves."""
        seen = not torch.isfinite(loss)
        wrong, anywhere = self.processes.largest([seen or not torch.isfinite(norm), seen])
        if not wrong:
            return
        where = ""
        if seen or not anywhere:
            name = f"bad_batch_{self.processes.index}.npz" if self.processes.count > 1 else "bad_batch.npz"
            self.folder.mkdir(parents=True, exist_ok=True)
            save_batch(arrays, self.folder / name)
            where = f"; the batch is in {self.folder / name}"
        self.processes.wait()  # whoever leaves first takes the others along
        raise TongsError(
            f"the loss or its gradient is not finite at step {self.step + 1} (learning rate "
            f"{self._optimizer.param_groups[0]['lr']:.2g}){where}; try a lower learning rate"
        )


def _require_compiler() -> None:
    if not any(shutil.which(name) for name in (os.environ.get("CXX", "g++"), "g++", "clang++")):
        raise TongsError("compile needs a C++ compiler and none was found; install g++ or train without compile")


def _due(step: int, period: int) -> bool:
    return period > 0 and step % period == 0


def _part_size(config: TrainConfig, processes: int) -> int:
    """Rows of a batch that one process works on at a time."""
    size, rest = divmod(config.batch_size, processes * config.accumulate)
    if rest:
        raise TongsError(
            f"a batch_size of {config.batch_size} cannot be divided among {processes} processes "
            f"in {config.accumulate} parts each"
        )
    return size


def _optimizer(
    parameters: Mapping[str, torch.nn.Parameter], config: TrainConfig, factors: Mapping[str, float]
) -> tuple[torch.optim.AdamW, list[float]]:
    """The optimiser, and of each of its groups the learning rate as a multiple of the run's.

    There is a group for each such multiple, with and without decay; the run's own rate comes first.
    """
    groups: dict[tuple[float, bool], list[torch.nn.Parameter]] = {(1.0, True): [], (1.0, False): []}
    for name, parameter in parameters.items():
        factor = next((value for beginning, value in factors.items() if name.startswith(beginning)), 1.0)
        groups.setdefault((factor, parameter.ndim >= 2), []).append(parameter)
    settings = [
        {"params": of_group, "weight_decay": config.weight_decay if decays else 0.0}
        for (_, decays), of_group in groups.items()
    ]
    optimizer = torch.optim.AdamW(settings, lr=config.learning_rate, fused=True)
    return optimizer, [factor for factor, _ in groups]
