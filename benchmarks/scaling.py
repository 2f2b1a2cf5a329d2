"""Episodes per second of `tongs eval` with one worker process and with more, and whether their results agree.

    python benchmarks/scaling.py                   # one and two processes: the expert, then the shipped policy
    python benchmarks/scaling.py --policies expert --episodes 200 --processes 1 2 4

The numbers of processes take turns and medians are printed, since machines drift; the speed-up is against the first of
them. The clock runs from the start of the evaluation, so it counts starting processes and loading the policy; films are
left out. Where a speed-up is lost: `busy` is the share of its time that a process spends on episodes (the rest is
starting and waiting), and `s per episode` grows when processes are in each other's way.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from statistics import median

from rich.console import Console

from eval.evaluation import evaluate
from eval.policies import EXPERT
from eval.protocol import EvaluationConfig
from eval.results import Results


def run(policy: str, episodes: int, processes: int) -> Results:
    with tempfile.TemporaryDirectory() as folder:
        config = EvaluationConfig(
            policy=policy,
            tasks=("open_drawer", "pickup_object"),
            scenes=(0, episodes // 2),
            output=folder,
            processes=processes,
            videos=0,
        )
        return evaluate(config, Console(quiet=True))


def measure(policy: str, episodes: int, numbers: list[int], rounds: int) -> None:
    """Print a row per number of processes; fail if their episodes differ."""
    walls: dict[int, list[float]] = {number: [] for number in numbers}
    lasted: dict[int, list[float]] = {number: [] for number in numbers}
    outcomes = set()
    for _ in range(rounds):
        for number in numbers:
            results = run(policy, episodes, number)
            walls[number].append(results.wall_s)
            lasted[number].append(sum(episode.duration for episode in results.episodes))
            outcomes.add(tuple((e.task, e.scene, e.success, e.reached, e.length) for e in results.episodes))
    for number in numbers:
        wall, busy = median(walls[number]), median(lasted[number])
        speed_up = median(first / this for first, this in zip(walls[numbers[0]], walls[number], strict=True))
        cells = [policy, number, f"{episodes / wall:.2f}", f"{speed_up:.2f}", f"{100 * busy / wall / number:.0f} %"]
        print("| " + " | ".join(map(str, [*cells, f"{busy / episodes:.2f}"])) + " |", flush=True)
    if len(outcomes) != 1:
        raise SystemExit(f"{policy}: the results differ with the number of processes")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--policies", nargs="+", default=[EXPERT, "beso"])
    parser.add_argument("--episodes", type=int, help="per evaluation, half of each of two tasks (80; 40 if learned)")
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    print(f"{len(os.sched_getaffinity(0))} core(s)\n")
    titles = ("policy", "processes", "episodes/s", "speed-up", "busy", "s per episode")
    print("| " + " | ".join(titles) + " |\n" + "|---" * len(titles) + "|", flush=True)
    for policy in arguments.policies:
        episodes = arguments.episodes or (80 if policy == EXPERT else 40)
        measure(policy, episodes, arguments.processes, arguments.rounds)


if __name__ == "__main__":
    main()
