"""How fast and how large a simulated world is: each task, engine and camera setting, and robosuite in the same run.

    taskset -c 0 python benchmarks/simulation.py            # every table; about four minutes on a quiet core
    taskset -c 0 python benchmarks/simulation.py --tasks open_drawer pour_water --output simulation.json

The ratio: control steps per second of ours (`pickup_object`) and of robosuite's Lift, in turn, both at the same control
rate, image size and number of cameras; the medians are printed, since machines drift. It needs the extra `robosuite`,
PyBullet's rows the extra `bullet`. Steps are 10 to a simulated second; no task runs slower than real time at 10 per s.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from robot.interface import EE_DELTA
from sim.tasks import TASKS
from sim.world import World

CAMERAS: dict[str, dict[str, tuple[int, int]]] = {
    "none": {},
    "1 x 64 px": {"front": (64, 64)},
    "1 x 128 px": {"front": (128, 128)},
    "2 x 128 px": {"front": (128, 128), "wrist": (128, 128)},
}
ROUNDS = 3
SECONDS = 0.4
"""How long one measurement of a rate shall take."""


def stepping(world: World) -> Callable[[int], float]:
    """Seconds that so many control steps of small random motions take after a reset, with an observation after each."""
    rng = np.random.default_rng(0)

    def run(steps: int) -> float:
        world.reset("test", 0)
        actions = np.concatenate([rng.uniform(-0.01, 0.01, (steps, 6)), np.ones((steps, 1))], axis=1)
        began = time.perf_counter()
        for action in actions.astype(np.float32):
            world.execute(action)
            world.observe()
        return time.perf_counter() - began

    return run


def rate(run: Callable[[int], float]) -> float:
    """Steps per second: the median of some measurements after a warm-up that finds how many steps fill one."""
    run(2)
    steps = max(5, round(SECONDS / run(5) * 5))
    return median(steps / run(steps) for _ in range(ROUNDS))


def milliseconds(call: Callable[[], Any], times: int) -> float:
    durations = []
    for _ in range(times):
        began = time.perf_counter()
        call()
        durations.append(time.perf_counter() - began)
    return 1000 * median(durations)


def resident_mb() -> float:
    """Memory of this process that is in use, in MB; without what files of libraries take, which worlds share."""
    fields = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines() if "Rss" in line)
    return int(fields["RssAnon"].split()[0]) * 1024 / 1e6


def measure_task(task: str, engine: str) -> dict[str, Any]:
    """One row: steps per second by cameras; reset, snapshot and restore; memory of a world with both cameras."""
    rates = {}
    for name, cameras in CAMERAS.items():
        world = World(task, cameras, engine=engine)
        rates[name] = rate(stepping(world))
        world.close()
    row = {"task": task, "engine": engine, "steps_per_s": rates}
    return row | costs(task, engine) | {"memory_mb": memory(task, engine)}


def costs(task: str, engine: str) -> dict[str, float]:
    """Milliseconds of a reset to another scene, and to another goal in the same one; microseconds of a snapshot taken
    and restored."""
    world, scenes = World(task, {}, engine=engine), iter(range(1, 100))
    another = milliseconds(lambda: world.reset("test", next(scenes)), 11)
    same = milliseconds(lambda: world.reset("test", 12, "other_goal"), 12)
    stepping(world)(5)
    snapshot = world.snapshot()
    taken, restored = milliseconds(world.snapshot, 101), milliseconds(lambda: world.restore(snapshot), 101)
    world.close()
    return {
        "reset_ms": another,
        "reset_same_scene_ms": same,
        "snapshot_us": 1000 * taken,
        "restore_us": 1000 * restored,
    }


def memory(task: str, engine: str, worlds: int = 4) -> float:
    """MB that one more world with two cameras takes, after a reset, ten steps and a snapshot."""
    kept: list[Any] = []

    def add() -> float:
        world = World(task, CAMERAS["2 x 128 px"], engine=engine)
        stepping(world)(10)
        kept.append((world, world.snapshot()))
        return resident_mb()

    gc.collect()
    before = add()
    after = [add() for _ in range(worlds)][-1]
    for world, _ in kept:
        world.close()
    return (after - before) / worlds


def robosuite_lift(cameras: int) -> Callable[[int], float]:
    """The same for robosuite's Lift with a Panda and its default controller."""
    import robosuite

    names = ["frontview", "robot0_eye_in_hand"][:cameras]
    environment = robosuite.make(
        "Lift",
        robots="Panda",
        has_renderer=False,
        has_offscreen_renderer=cameras > 0,
        use_camera_obs=cameras > 0,
        camera_names=names or "agentview",
        camera_heights=128,
        camera_widths=128,
        control_freq=EE_DELTA.rate,
        horizon=10**9,
    )
    low, high = environment.action_spec
    rng = np.random.default_rng(0)

    def run(steps: int) -> float:
        environment.reset()
        actions = rng.uniform(low, high, (steps, len(low))) * 0.2
        began = time.perf_counter()
        for action in actions:
            environment.step(action)
        return time.perf_counter() - began

    return run


def measure_ratio(setting: str, ours: int, theirs: int, rounds: int = 5) -> dict[str, Any]:
    """So many steps of ours and of robosuite's, in turn."""
    world = World("pickup_object", CAMERAS[setting])
    sides = (stepping(world), ours), (robosuite_lift(len(CAMERAS[setting])), theirs)
    for run, steps in sides:
        run(steps // 4)  # warm-up
    pairs = [[steps / run(steps) for run, steps in sides] for _ in range(rounds)]
    world.close()
    mine, other = (median(column) for column in zip(*pairs, strict=True))
    return {"cameras": setting, "ours": mine, "robosuite": other, "ratio": median(a / b for a, b in pairs)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=list(TASKS))
    parser.add_argument("--output", type=Path, help="a JSON file for the numbers")
    arguments = parser.parse_args()
    print(f"{len(os.sched_getaffinity(0))} core(s), {EE_DELTA.rate:g} control steps per simulated second")
    results: dict[str, Any] = {"tasks": [], "robosuite": []}
    titles = (*CAMERAS, "reset ms", "same scene", "snapshot us", "restore us", "memory MB")
    print("control steps per second by cameras, and what else a world costs")
    print("| task | engine | " + " | ".join(titles) + " |\n" + "|---" * (2 + len(titles)) + "|")
    for engine in ("mujoco", "bullet") if find_spec("pybullet") else ("mujoco",):
        for task in arguments.tasks:
            row = measure_task(task, engine)
            results["tasks"].append(row)
            rates = [f"{value:.0f}" for value in row["steps_per_s"].values()]
            rest = [f"{row[key]:.1f}" for key in ("reset_ms", "reset_same_scene_ms")]
            rest += [f"{row[key]:.0f}" for key in ("snapshot_us", "restore_us", "memory_mb")]
            print("| " + " | ".join([task, engine, *rates, *rest]) + " |", flush=True)
    if find_spec("robosuite"):
        print("\n| cameras | ours | robosuite | ratio |\n|---|---|---|---|")
        for setting, ours, theirs in (("none", 400, 100), ("2 x 128 px", 200, 10)):
            row = measure_ratio(setting, ours, theirs)
            results["robosuite"].append(row)
            numbers = f"{row['ours']:.0f} | {row['robosuite']:.1f} | {row['ratio']:.1f}"
            print(f"| {setting} | {numbers} |", flush=True)
    else:
        print("\nrobosuite is not installed: no ratio")
    if arguments.output:
        arguments.output.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
