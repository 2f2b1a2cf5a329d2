"""How often each policy succeeds, for every task and split, and in both physics engines: the tables of docs/results.md.

    python benchmarks/table.py --engines mujoco bullet          # expert, random and the shipped policy: many hours
    python benchmarks/table.py --policies beso --splits test    # some of it
    python benchmarks/table.py --show                           # what has been measured so far

Every split is a `tongs eval` in a folder of its own, which goes on where it was when it is interrupted. What is
finished is kept in benchmarks/table.csv, with the hash of the policy's weights, and not measured again, so the whole of
it may take several machines and days. After a change of the tasks or of an expert, delete the lines that it concerns.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from rich.console import Console

from eval.evaluation import evaluate
from eval.policies import choose_policy
from eval.protocol import EvaluationConfig
from eval.statistics import wilson_interval
from sim.tasks import SINGLE

SPLITS = ("test", "novel_object", "novel_scene", "novel_state", "any_state", "perturbed:0.5")
POLICIES = ("expert", "random", "beso")
RECORD = Path(__file__).with_name("table.csv")


@dataclass(frozen=True)
class Cell:
    """What was measured: `weights` is the beginning of their SHA-256, "" for a policy without."""

    policy: str
    weights: str
    engine: str
    split: str
    task: str
    successes: int
    episodes: int


class Record:
    """The cells measured so far, in a CSV file."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._cells: list[Cell] = []
        if file.exists():
            with file.open(encoding="utf-8", newline="") as rows:
                self._cells = [_cell(row) for row in csv.DictReader(rows)]

    def of(self, policy: str, engine: str, split: str) -> dict[str, Cell]:
        """By task."""
        key = (policy, weights_of(policy), engine, split)
        return {cell.task: cell for cell in self._cells if (cell.policy, cell.weights, cell.engine, cell.split) == key}

    def add(self, cells: Sequence[Cell]) -> None:
        """In place of what was measured of the same before, with these weights or others."""
        new = {(cell.policy, cell.engine, cell.split, cell.task) for cell in cells}
        kept = [cell for cell in self._cells if (cell.policy, cell.engine, cell.split, cell.task) not in new]
        self._cells = [*kept, *cells]
        partial = self._file.with_suffix(".partial")
        with partial.open("w", encoding="utf-8", newline="") as rows:
            writer = csv.DictWriter(rows, [field.name for field in fields(Cell)], lineterminator="\n")
            writer.writeheader()
            writer.writerows(asdict(cell) for cell in sorted(self._cells, key=_order))
        partial.replace(self._file)


def weights_of(policy: str) -> str:
    return (choose_policy(policy).hashes.get("model.safetensors") or "")[:12]


def measure(record: Record, policy: str, engine: str, split: str, arguments: argparse.Namespace) -> None:
    """Play the tasks that are not recorded yet with as many scenes."""
    known = record.of(policy, engine, split)
    tasks = [task for task in arguments.tasks if task not in known or known[task].episodes < arguments.episodes]
    if not tasks:
        return
    weights = weights_of(policy)
    config = EvaluationConfig(
        policy=policy,
        tasks=tuple(tasks),
        scenes=(0, arguments.episodes),
        output=str(Path(arguments.output) / policy.replace("/", "_") / engine / f"{split.replace(':', '_')}{weights}"),
        split=split,
        engine=engine,
        processes=arguments.processes,
        videos=0,
    )
    results = evaluate(config, Console(quiet=True))
    counted = results.tasks
    record.add(
        [Cell(policy, weights, engine, split, task, counted[task].successes, counted[task].episodes) for task in tasks]
    )


def show(title: str, columns: Mapping[str, Mapping[str, Cell]]) -> None:
    """A table in Markdown with a row per task, then all tasks together, of the columns that have been measured."""
    columns = {name: cells for name, cells in columns.items() if cells}
    tasks = [task for task in SINGLE if any(task in cells for cells in columns.values())]
    if not tasks:
        return
    print(f"\n{title}\n\n| task | " + " | ".join(columns) + " |\n" + "|---" * (1 + len(columns)) + "|")
    for task in tasks:
        print(
            f"| {task} | "
            + " | ".join(_rate([cells[task]] if task in cells else []) for cells in columns.values())
            + " |"
        )
    print("| all | " + " | ".join(_rate(list(cells.values())) for cells in columns.values()) + " |", flush=True)


def _rate(cells: Sequence[Cell]) -> str:
    if not cells:
        return ""
    successes, episodes = sum(cell.successes for cell in cells), sum(cell.episodes for cell in cells)
    low, high = wilson_interval(successes, episodes)
    return f"{100 * successes / episodes:.0f} % ({100 * low:.0f} to {100 * high:.0f})"


def _cell(row: Mapping[str, str]) -> Cell:
    names = [field.name for field in fields(Cell) if field.name not in ("successes", "episodes")]
    return Cell(**{name: row[name] for name in names}, successes=int(row["successes"]), episodes=int(row["episodes"]))


def _order(cell: Cell) -> tuple[int, ...]:
    listed = (POLICIES, ("mujoco", "bullet"), SPLITS, SINGLE)
    values = (cell.policy, cell.engine, cell.split, cell.task)
    return tuple(known.index(one) if one in known else len(known) for one, known in zip(values, listed, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--policies", nargs="+", default=list(POLICIES))
    parser.add_argument("--tasks", nargs="+", default=list(SINGLE))
    parser.add_argument("--splits", nargs="+", default=list(SPLITS))
    parser.add_argument("--engines", nargs="+", default=["mujoco"], help="the first one does all splits, others one")
    parser.add_argument("--episodes", type=int, default=100, help="scenes per task")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--output", default="outputs/table", help="folder of the evaluations")
    parser.add_argument("--record", type=Path, default=RECORD, help="file of what has been measured")
    parser.add_argument("--show", action="store_true", help="measure nothing")
    arguments = parser.parse_args()
    record = Record(arguments.record)
    first, *others = arguments.engines
    for policy in arguments.policies:
        pairs = [(first, split) for split in arguments.splits] + [(other, arguments.splits[0]) for other in others]
        for engine, split in [] if arguments.show else pairs:
            measure(record, policy, engine, split, arguments)
        show(f"{policy}, {first}", {split: record.of(policy, first, split) for split in arguments.splits})
        if others:
            split = arguments.splits[0]
            columns = {engine: record.of(policy, engine, split) for engine in arguments.engines}
            show(f"{policy}, {split}, engines side by side", columns)


if __name__ == "__main__":
    main()
