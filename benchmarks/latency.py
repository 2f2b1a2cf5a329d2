"""What a slow policy costs: success against latency, for every way to follow chunks.

    python benchmarks/latency.py --policy beso                                        # hours
    python benchmarks/latency.py --policy beso --tasks open_drawer --episodes 20      # a first look

Every cell is a `tongs eval realtime=true` in a folder of its own, on the same scenes. Interrupted, the same command
goes on where it was. At the end: a table in Markdown and latency.json in the output folder.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from rich.console import Console

from eval.evaluation import evaluate
from eval.protocol import EvaluationConfig
from eval.results import Results
from robot.control.settings import MODES, Mode
from sim.tasks import SINGLE


def run(latency: float, execution: Mode, arguments: argparse.Namespace) -> Results:
    config = EvaluationConfig(
        policy=arguments.policy,
        tasks=tuple(arguments.tasks),
        scenes=(0, arguments.episodes),
        output=str(Path(arguments.output) / f"{execution}_{latency:g}ms"),
        execute=arguments.execute,
        realtime=True,
        latency_ms=latency,
        jitter_ms=arguments.jitter * latency,
        execution=execution,
        processes=arguments.processes,
        videos=0,
    )
    return evaluate(config, Console(quiet=True))


def cell(results: Results) -> str:
    low, high = results.overall.interval
    done = [episode.length for episode in results.episodes if episode.success]
    rate = results.config.real_time and results.policy.spec["action_space"]["rate"]
    seconds = f", {sum(done) / len(done) / rate:.1f} s" if done and rate else ""
    return f"{100 * results.overall.success_rate:.0f} % ({100 * low:.0f} to {100 * high:.0f}){seconds}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--policy", default="beso")
    parser.add_argument("--tasks", nargs="+", default=list(SINGLE))
    parser.add_argument("--episodes", type=int, default=50, help="per task")
    parser.add_argument("--latencies", nargs="+", type=float, default=[0, 100, 200, 400, 800], metavar="MS")
    parser.add_argument("--jitter", type=float, default=0.1, help="standard deviation as a share of the latency")
    parser.add_argument("--executions", nargs="+", choices=MODES, default=list(MODES))
    parser.add_argument("--execute", type=int, default=4)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--output", default="outputs/latency")
    arguments = parser.parse_args()
    print(f"Success of {arguments.policy}, its 95 % interval, and the mean time of a success.\n")
    print("| latency | " + " | ".join(arguments.executions) + " |\n" + "|---" * (1 + len(arguments.executions)) + "|")
    table = []
    for latency in arguments.latencies:
        row = {execution: run(latency, execution, arguments) for execution in arguments.executions}
        print(f"| {latency:g} ms | " + " | ".join(map(cell, row.values())) + " |", flush=True)
        table += [
            {"latency_ms": latency, "execution": execution, **asdict(results.overall)}
            for execution, results in row.items()
        ]
    file = Path(arguments.output) / "latency.json"
    file.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
    print(f"\n{file}")


if __name__ == "__main__":
    main()
