"""What the sandbox costs: a start, a program, an API call, a stop.

    taskset -c 0 python benchmarks/sandbox.py

A call carries an array of three numbers there and one back, as a pose does.
"""

from __future__ import annotations

import argparse
import threading
import time

import numpy as np

from policies.lmp.sandbox import Sandbox, SandboxLimits


def position(name: str) -> np.ndarray:
    return np.array([0.4, 0.1, 0.02])


def move(target: np.ndarray) -> None:
    pass


def _show(what: str, seconds: list[float]) -> None:
    p50, p99 = np.percentile(np.array(seconds) * 1000, (50, 99))
    print(f"{what:42} p50 {p50:8.3f} ms, p99 {p99:8.3f} ms")


def _timed(run: object, times: int) -> list[float]:
    seconds = []
    for _ in range(times):
        since = time.perf_counter()
        run()  # type: ignore[operator]
        seconds.append(time.perf_counter() - since)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=5000)
    arguments = parser.parse_args()
    limits = SandboxLimits(seconds=60, calls=10**9, calls_per_second=10**9)
    with Sandbox({"position": position, "move": move}, limits) as sandbox:
        _show("start of the process, with the first program", _timed(lambda: sandbox.run("pass"), 1))
        _show("a program that does nothing", _timed(lambda: sandbox.run("x = 1"), 500))
        outcome = sandbox.run(f"for i in range({arguments.calls}):\n    move(position('block') + 0.1)")
        assert outcome.ok, outcome.error
        begun = np.array([call.started for call in outcome.calls])
        _show("from one API call to the next", list(np.diff(begun)))
        stops = []
        for code in ("while True:\n    pass", "while True:\n    move([1, 2, 3])", "x = max(iter(int, 1))"):
            for _ in range(5):
                sandbox.run("pass")
                stops.append(_stop(sandbox, code))
        _show("from stop to the end of the program", stops)
        print("walls:", ", ".join(f"{name} {state}" for name, state in sandbox.walls.items()))


def _stop(sandbox: Sandbox, code: str) -> float:
    pressed: list[float] = []

    def press() -> None:
        pressed.append(time.perf_counter())
        sandbox.stop()

    timer = threading.Timer(0.05, press)
    timer.start()
    outcome = sandbox.run(code)
    ended = time.perf_counter()
    assert outcome.reason == "stopped", outcome
    return ended - pressed[0]


if __name__ == "__main__":
    main()
