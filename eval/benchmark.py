"""What each precision costs and brings on this machine: latency, memory, throughput, success (`tongs benchmark`)."""

from __future__ import annotations

import multiprocessing
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from eval.deployment import TORCH, Made, Parity, QuantizeConfig, megabytes, precisions, quantize
from eval.latency import measure
from eval.paired import PairedRates
from eval.policies import choose_policy
from eval.results import write_json
from robot.errors import TongsError
from robot.exported import is_export

ALL = "all"
FULL = "fp32"


@dataclass(frozen=True)
class BenchmarkConfig:
    """What to measure.

    Attributes:
        policy: name or folder of a checkpoint of ours.
        data: a dataset of the kind that it was trained on.
        output: folder of what is made, of the evaluations and of `benchmark.json`.
        precision: precisions, or "all".
        backend: backends; full precision by torch is always measured.
        calls: of `act` that are timed.
        task, episodes: what is played with each; 0 episodes for none.
        execute, processes: of the evaluations.
        frames: recorded observations that decide whether a precision is valid.
        sampling: sampling settings that replace the checkpoint's.
    """

    policy: str
    data: str
    output: str
    precision: Sequence[str] = (ALL,)
    backend: Sequence[str] = ("onnx",)
    calls: int = 100
    task: str | Sequence[str] = ALL
    episodes: int = 0
    execute: int = 4
    processes: int = 2
    frames: int = 64
    sampling: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("precision", "backend"):
            value = getattr(self, name)
            object.__setattr__(self, name, (value,) if isinstance(value, str) else tuple(value))
        if self.calls < 1 or self.episodes < 0:
            raise TongsError(f"calls must be at least 1 and episodes at least 0, got {self.calls} and {self.episodes}")
        for backend in self.backend:
            known = precisions(backend)
            for precision in self.precision:
                if precision != ALL and precision not in known:
                    raise TongsError(f"backend {backend} has no {precision}; it has {', '.join(known)}")


@dataclass(frozen=True)
class Row:
    """One precision.

    Attributes:
        backend, precision: of it.
        p50_ms, p99_ms: of one call of `act` on one thread; NaN where there is no valid policy.
        chunks_per_second: at the median.
        memory_mb: most memory of a process that does nothing else.
        megabytes: on disk.
        parity: with full precision by torch; None for that itself.
        paired: success of full precision and of this on the same scenes, None if not measured.
        problem: why there is no such policy, in a sentence.
    """

    backend: str
    precision: str
    p50_ms: float = float("nan")
    p99_ms: float = float("nan")
    chunks_per_second: float = 0.0
    memory_mb: float = 0.0
    megabytes: float = 0.0
    parity: Parity | None = None
    paired: PairedRates | None = None
    problem: str | None = None


def benchmark(config: BenchmarkConfig, console: Console | None = None) -> list[Row]:
    """Make, check, time and play each precision; print a table and write `benchmark.json`.

    Raises:
        TongsError: bad settings, or the policy itself cannot be loaded. A precision that cannot be had is a row that
            says why.
    """
    console, output = console or Console(), Path(config.output)
    output.mkdir(parents=True, exist_ok=True)
    folder = choose_policy(config.policy).folder
    if folder is None:
        raise TongsError(f"a benchmark needs a checkpoint of ours, and {config.policy} is none")
    played = _play(config, config.policy, output / f"eval-{TORCH}-{FULL}", console)
    rows = [_timed(config, Row(TORCH, FULL, megabytes=megabytes(folder)), config.policy, config.sampling)]
    for backend in config.backend:
        wanted = precisions(backend) if ALL in config.precision else config.precision
        for precision in wanted:
            if (backend, precision) != (TORCH, FULL):
                rows.append(_row(config, backend, precision, played, console))
    _print(rows, console)
    write_json({"config": asdict(config), "rows": [asdict(row) for row in rows]}, output / "benchmark.json")
    return rows


def verdicts(rows: Sequence[Row]) -> list[str]:
    """A plain sentence for every precision: refused, slower, or so much faster than full precision by torch."""
    base, lines = rows[0], []
    for row in rows[1:]:
        name = f"{row.precision} by {row.backend}"
        if row.problem is not None:
            lines.append(f"{name}: {row.problem}")
            continue
        ratio = base.p50_ms / row.p50_ms
        if ratio < 1:
            lines.append(f"{name} is SLOWER than fp32 by torch here: {row.p50_ms:.1f} ms against {base.p50_ms:.1f} ms")
        else:
            lines.append(f"{name} is {ratio:.2f} times as fast as fp32 by torch here")
        same = next((r for r in rows if (r.backend, r.precision) == (row.backend, FULL) and r is not row), None)
        if same is not None and same is not base and row.p50_ms > same.p50_ms:
            lines.append(
                f"{name} is SLOWER than fp32 by {row.backend} here: {row.p50_ms:.1f} ms against {same.p50_ms:.1f} ms"
            )
    return lines


def _row(config: BenchmarkConfig, backend: str, precision: str, played: Path | None, console: Console) -> Row:
    row = Row(backend, precision)
    target = config.output + f"/{backend}-{precision}"
    try:
        made: Made = quantize(
            QuantizeConfig(
                config.policy, config.data, target, precision, backend, frames=config.frames, sampling=config.sampling
            )
        )
    except TongsError as error:
        return Row(backend, precision, problem=str(error))
    row = _timed(config, Row(backend, precision, parity=made.parity, megabytes=made.megabytes), target, {})
    ours = _play(config, target, Path(config.output) / f"eval-{backend}-{precision}", console)
    return Row(**{**row.__dict__, "paired": _paired(played, ours)})


def _timed(config: BenchmarkConfig, row: Row, policy: str, sampling: Mapping[str, Any]) -> Row:
    """Latency and memory, in a process of its own that holds nothing else."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        p50, p99, memory = pool.apply(measure, (policy, config.data, config.calls, dict(sampling)))
    numbers = {"p50_ms": p50, "p99_ms": p99, "chunks_per_second": 1000 / p50, "memory_mb": memory}
    return Row(**{**row.__dict__, **numbers})


def _play(config: BenchmarkConfig, policy: str, output: Path, console: Console) -> Path | None:
    if not config.episodes:
        return None
    from eval.evaluation import evaluate
    from eval.protocol import EvaluationConfig, expand_scenes, expand_tasks

    evaluate(
        EvaluationConfig(
            policy=policy,
            tasks=expand_tasks(config.task),
            scenes=expand_scenes(None, config.episodes),
            output=str(output),
            execute=config.execute,
            processes=config.processes,
            sampling={} if is_export(policy) else dict(config.sampling),
            videos=0,
        ),
        console,
    )
    return output


def _paired(first: Path | None, second: Path | None) -> PairedRates | None:
    if first is None or second is None:
        return None
    from eval.comparison import compare
    from eval.results_file import read_results

    return compare(read_results(first), read_results(second)).overall


def _print(rows: Sequence[Row], console: Console) -> None:
    table = Table(header_style="bold", box=None)
    table.add_column("policy")
    for column in ("p50 ms", "p99 ms", "chunks/s", "memory MB", "disk MB", "cosine", "success", "against fp32"):
        table.add_column(column, justify="right")
    for row in rows:
        if row.problem is not None:
            continue
        rates = row.paired
        success = "-" if rates is None else f"{100 * rates.second.success_rate:.0f} %"
        difference = "-" if rates is None else _difference(rates)
        cosine = "-" if row.parity is None else f"{row.parity.cosine:.5f}"
        table.add_row(
            f"{row.backend} {row.precision}",
            f"{row.p50_ms:.1f}",
            f"{row.p99_ms:.1f}",
            f"{row.chunks_per_second:.1f}",
            f"{row.memory_mb:.0f}",
            f"{row.megabytes:.1f}",
            cosine,
            success,
            difference,
        )
    console.print(table)
    for line in verdicts(rows):
        console.print(line, highlight=False, markup=False)


def _difference(rates: PairedRates) -> str:
    low, high = rates.interval
    return f"{100 * rates.difference:+.1f} ({100 * low:+.1f} to {100 * high:+.1f})"
