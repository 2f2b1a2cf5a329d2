"""What RT-H's second query costs: time per chunk of the flat policy, and of RT-H asked in one pass or in two.

    python benchmarks/rth.py [l1|parallel|autoregressive] [device]

Networks of the size of policy=rth with random weights, two cameras, chunks of 12 actions. On a processor the time is
that of the process, so that other work on the machine does not count.
"""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from statistics import median

import numpy as np

from configs.composition import compose
from policies.base import TrainingData
from policies.rth.config import RthSampling
from policies.rth.model import Rth
from robot.interface import EE_DELTA, Observation, PolicySpec, RobotSpec
from robot.motions import TABLE

CHUNKS, HORIZON, SIZE = 12, 12, (96, 96)
STATE = tuple(f"s{number}" for number in range(21))
MOTIONS = tuple(f"{one} and {other}" for one in TABLE.phrases[:12] for other in TABLE.phrases[:12] if one != other)


def make(variant: str, prediction: str, device: str) -> Rth:
    settings = compose(
        "train", ["data=x", "policy=rth", f"policy.variant={variant}", f"policy.vla.prediction={prediction}"]
    )
    own = {name: value for name, value in settings["policy"].items() if name != "family"}
    entries = {"mean": 0.0, "std": 1.0, "min": -1.0, "q01": -1.0, "q99": 1.0, "max": 1.0}
    statistics = {
        feature: {key: [value] * size for key, value in entries.items()}
        for feature, size in (("observation.state", len(STATE)), ("action", EE_DELTA.dimension))
    }
    chunks = np.random.default_rng(0).normal(size=(100, HORIZON, EE_DELTA.dimension)).astype(np.float32)
    data = TrainingData(statistics, ("open the left drawer 40 percent",), (), lambda count: chunks, MOTIONS, TABLE)
    policy = Rth.new(own, PolicySpec({"front": SIZE, "wrist": SIZE}, STATE, EE_DELTA, HORIZON), data)
    policy.to(device).eval().bind(RobotSpec({"front": SIZE, "wrist": SIZE}, STATE, EE_DELTA))
    return policy


def seconds(policy: Rth) -> float:
    """The median time of a chunk, after the first few."""
    random, times = np.random.default_rng(0), []
    clock = time.perf_counter if policy.device.type == "cuda" else time.process_time
    policy.reset(0)
    for step in range(CHUNKS + 3):
        images = {name: random.integers(0, 256, (*SIZE, 3), dtype=np.uint8) for name in ("front", "wrist")}
        state = random.normal(size=len(STATE)).astype(np.float32)
        seen = Observation(images, state, "open the left drawer 40 percent", 0.4 * step)
        start = clock()
        policy.act(seen)  # ends with the actions on the processor
        times.append(clock() - start)
    return median(times[3:])


def main() -> None:
    prediction = sys.argv[1] if len(sys.argv) > 1 else "l1"
    device = sys.argv[2] if len(sys.argv) > 2 else "cpu"
    flat = seconds(make("flat", prediction, device))
    policy = make("hierarchy", prediction, device)
    together = seconds(policy)
    policy.sampling = replace(policy.sampling, asynchronous=False)
    assert policy.sampling == RthSampling(asynchronous=False)
    apart = seconds(policy)
    for name, value in (("flat", flat), ("RT-H, one pass", together), ("RT-H, two passes", apart)):
        print(f"{name:17} {1000 * value:7.1f} ms  {value / flat:.2f} x flat")


if __name__ == "__main__":
    main()
