"""How often each policy succeeds, for every task and split, and in both physics engines: the tables of docs/results.md.

    python benchmarks/table.py                                  # expert, random and the shipped policy: some hours
    python benchmarks/table.py --policies beso --episodes 20    # a first look
    python benchmarks/table.py --splits test --engines mujoco bullet

Every cell is a `tongs eval` in a folder of its own. Interrupted, the same command goes on where it was; finished cells
are only read.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console

from eval.evaluation import evaluate
from eval.protocol import EvaluationConfig
from eval.results import Results
from eval.statistics import Rate, rate
from sim.tasks import SINGLE

SPLITS = ("test", "novel_object", "novel_scene", "novel_state", "any_state", "perturbed:0.5")


def run(policy: str, engine: str, split: str, arguments: argparse.Namespace) -> Results:
    folder = Path(arguments.output) / policy.replace("/", "_") / engine / split.replace(":", "_")
    config = EvaluationConfig(
        policy=policy,
        tasks=tuple(arguments.tasks),
        scenes=(0, arguments.episodes),
        output=str(folder),
        split=split,
        engine=engine,
        processes=arguments.processes,
        videos=0,
    )
    return evaluate(config, Console(quiet=True))


def cell(outcome: Rate) -> str:
    low, high = outcome.interval
    return f"{100 * outcome.success_rate:.0f} % ({100 * low:.0f} to {100 * high:.0f})"


def show(title: str, columns: Mapping[str, Results]) -> None:
    """A table in Markdown with a row per task, then the mean over tasks and over all episodes of each column."""
    tasks = next(iter(columns.values())).config.tasks
    print(f"\n{title}\n\n| task | " + " | ".join(columns) + " |\n" + "|---" * (1 + len(columns)) + "|")
    for task in tasks:
        print(f"| {task} | " + " | ".join(cell(rate(results.of_task(task))) for results in columns.values()) + " |")
    print("| all | " + " | ".join(cell(results.overall) for results in columns.values()) + " |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--policies", nargs="+", default=["expert", "random", "beso"])
    parser.add_argument("--tasks", nargs="+", default=list(SINGLE))
    parser.add_argument("--splits", nargs="+", default=list(SPLITS))
    parser.add_argument("--engines", nargs="+", default=["mujoco"], help="the first one does all splits, others one")
    parser.add_argument("--episodes", type=int, default=100, help="scenes per task")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--output", default="outputs/table", help="folder of the evaluations")
    arguments = parser.parse_args()
    first, *others = arguments.engines
    for policy in arguments.policies:
        show(f"{policy}, {first}", {split: run(policy, first, split, arguments) for split in arguments.splits})
        if others:
            split = arguments.splits[0]
            columns = {engine: run(policy, engine, split, arguments) for engine in arguments.engines}
            show(f"{policy}, {split}, engines side by side", columns)


if __name__ == "__main__":
    main()
