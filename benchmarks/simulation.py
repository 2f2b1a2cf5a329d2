"""Control steps per second: our environment against robosuite's Lift, in one run on one core.

    taskset -c 0 python benchmarks/simulation.py

Both at the same control rate, image size and number of cameras (needs the extra `robosuite`). Each side is measured in
turn several times; the medians and their ratio are printed, since machines drift. Then the same steps of ours in
PyBullet, if the extra `bullet` is installed.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from importlib.util import find_spec
from statistics import median

import numpy as np

from robot.interface import EE_DELTA

SIZE = 128


def ours(task: str, cameras: int, engine: str = "mujoco") -> Callable[[int], float]:
    """Steps per second of a world under small random motions."""
    from sim.world import World

    names = ("front", "wrist")[:cameras]
    world = World(task, dict.fromkeys(names, (SIZE, SIZE)), engine=engine)
    rng = np.random.default_rng(0)

    def measure(steps: int) -> float:
        world.reset("test", 0)
        actions = np.concatenate([rng.uniform(-0.01, 0.01, (steps, 6)), np.ones((steps, 1))], axis=1)
        began = time.perf_counter()
        for action in actions.astype(np.float32):
            world.execute(action)
            world.observe()
        return steps / (time.perf_counter() - began)

    return measure


def robosuite_lift(cameras: int) -> Callable[[int], float]:
    """Steps per second of robosuite's Lift with a Panda and its default controller."""
    import robosuite

    names = ["frontview", "robot0_eye_in_hand"][:cameras]
    environment = robosuite.make(
        "Lift",
        robots="Panda",
        has_renderer=False,
        has_offscreen_renderer=cameras > 0,
        use_camera_obs=cameras > 0,
        camera_names=names or "agentview",
        camera_heights=SIZE,
        camera_widths=SIZE,
        control_freq=EE_DELTA.rate,
        horizon=10**9,
    )
    low, high = environment.action_spec
    rng = np.random.default_rng(0)

    def measure(steps: int) -> float:
        environment.reset()
        actions = rng.uniform(low, high, (steps, len(low))) * 0.2
        began = time.perf_counter()
        for action in actions:
            environment.step(action)
        return steps / (time.perf_counter() - began)

    return measure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", default="pickup_object")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    cores = len(os.sched_getaffinity(0))
    print(f"task {arguments.task}, {EE_DELTA.rate:g} control steps per simulated second, {SIZE} px, {cores} core(s)")
    print("cameras | ours steps/s | robosuite steps/s | ratio")
    for cameras in (0, 2):
        sides = ours(arguments.task, cameras), robosuite_lift(cameras)
        steps = (400, 100) if cameras == 0 else (200, 10)
        for side, count in zip(sides, steps, strict=True):
            side(count // 4)  # warm-up
        rounds = [[side(count) for side, count in zip(sides, steps, strict=True)] for _ in range(arguments.rounds)]
        mine, theirs = (median(column) for column in zip(*rounds, strict=True))
        ratio = median(a / b for a, b in rounds)
        print(f"{cameras:7} | {mine:12.0f} | {theirs:17.1f} | {ratio:5.1f}")
    if find_spec("pybullet") is None:
        print("engine=bullet is not installed")
        return
    for cameras in (0, 2):
        measure = ours(arguments.task, cameras, "bullet")
        measure(20)  # warm-up
        rate = median(measure(100) for _ in range(arguments.rounds))
        print(f"engine=bullet, {cameras} cameras: {rate:.0f} steps/s")


if __name__ == "__main__":
    main()
