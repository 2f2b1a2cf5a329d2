"""What a person gets from the page: pictures per second of each camera, and how soon a typed line changes the command.

    python benchmarks/page.py                       # some two minutes; needs the extra gui, playwright and Chromium

Server and browser (headless Chromium at 1280x720) are processes of this machine, over loopback. The simulated table is
drawn at 256 px for the page; the policy answers at once, so that what is measured is everything else: keyboard event,
page, session, control loop, safety filter and the next control step, of which there are ten a second.

- A picture counts when what the browser shows has changed, looked at before every one of its own frames, while the arm
  moves.
- A line is typed into the text box; the time runs from the browser's Enter to the first action given to the robot that
  goes the other way. Lines come at random moments of the control period.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

RATE, LATENCY = 15.0, 150.0
"""What is wanted: pictures per s of each camera at least, ms from a typed line to a changed command at most."""
_COUNT = """(seconds) => new Promise((done) => {
  const cameras = [...document.querySelectorAll(".cameras img:not(.replayed)")];
  const SIDE = 96, canvas = document.createElement("canvas");
  canvas.width = canvas.height = SIDE;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  const changes = cameras.map(() => []), last = cameras.map(() => "");
  const begun = performance.now();
  const look = () => {
    cameras.forEach((camera, i) => {
      context.drawImage(camera, 0, 0, SIDE, SIDE);  // smaller, so that looking costs little
      const pixels = new Uint32Array(context.getImageData(0, 0, SIDE, SIDE).data.buffer);
      const sum = pixels.reduce((sum, pixel) => (31 * sum + pixel) | 0, 0);
      if (sum !== last[i]) { changes[i].push(performance.now()); last[i] = sum; }
    });
    if (performance.now() - begun < 1000 * seconds) requestAnimationFrame(look);
    else done(cameras.map((camera, i) => [camera.alt, camera.naturalWidth, changes[i]]));
  };
  look();
})"""
_CLOCK = """() => addEventListener("keydown", (event) => {
  if (event.key === "Enter") window.entered = performance.timeOrigin + performance.now();
}, true)"""


def host(port: int, size: int) -> None:
    """The page over the simulated table and a policy that goes where it is told, in a process of its own; prints every
    change of the sideways command with its time."""
    from robot import panda
    from robot.control.settings import Execution, Settings
    from robot.interface import EE_DELTA, ActionChunk, Observation, PolicySpec
    from robot.session.holder import Holder
    from robot.session.page import serve
    from robot.session.session import Session
    from sim.live import LiveWorld

    class Told(LiveWorld):
        side = 0.0

        def execute(self, action: Any) -> None:
            if np.sign(action[1]) != self.side and action[1]:
                self.side = np.sign(action[1])
                print(f"{time.time():.6f} {self.side:.0f}", flush=True)
            super().execute(action)

    class Immediate:
        spec = PolicySpec({}, (), EE_DELTA, horizon=16)

        def reset(self, seed: int) -> None: ...

        def act(self, observation: Observation) -> ActionChunk:
            actions = np.zeros((16, 7), np.float32)
            actions[:, 1] = 0.004 if "left" in observation.instruction else -0.004
            actions[:, 6] = 1.0
            return ActionChunk(actions, observation.time + 0.1 * np.arange(16))

        def act_batch(self, observations: Any) -> list[ActionChunk]:
            return [self.act(observation) for observation in observations]

    world = Told("open_drawer", "test", 0, image_size=128, view_size=size)
    settings = Settings(Execution("asynchronous", 8))
    with Session(world, panda.LIMITS, Immediate(), "immediate", None, world, settings, holder=Holder(5, 20)) as session:
        serve(session, "127.0.0.1", port, None, ready=lambda: print("ready", flush=True))
    world.close()


def line(name: str, values: Any, unit: str) -> str:
    p50, p95 = np.percentile(values, [50, 95])
    return f"{name}: p50 {p50:.0f} {unit}, p95 {p95:.0f} {unit}, of {len(values)}"


class Commands:
    """Reads in a thread what the server tells: when the command went to which side."""

    def __init__(self, server: subprocess.Popen[str]) -> None:
        self._server = server
        self._changes: list[tuple[float, float]] = []
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self._server.stdout is not None
        for told in self._server.stdout:
            moment, side = map(float, told.split())
            self._changes.append((moment, side))

    def changed(self, side: float, after: float) -> float:
        """When it went to this side (s), the first time after a moment."""
        deadline = time.monotonic() + 10.0
        while time.monotonic() < deadline:
            for moment, went in self._changes:
                if went == side and moment > after:
                    return moment
            time.sleep(0.005)
        raise SystemExit("what was typed changed nothing within 10 s")


SIDES = ((1.0, "open the left one"), (-1.0, "open the right one"))


def measure(page: Any, commands: Commands, seconds: float, lines: int) -> None:
    page.click("#control")
    page.get_by_text("Release control").wait_for()
    page.evaluate(_CLOCK)
    page.click("#start")
    page.get_by_text("running", exact=True).wait_for()
    halves = []
    for _, text in SIDES:  # there and back, before the arm has gone as far as it can
        say(page, text)
        halves.append(page.evaluate(_COUNT, seconds / 2))
    for (camera, side, one), (_, _, other) in zip(*halves, strict=True):
        gaps = np.concatenate([np.diff(one), np.diff(other)])
        if not len(gaps):
            print(f"{camera}, {side} px: fewer than two pictures in {seconds / 2:g} s, so no rate", flush=True)
            continue
        rate = 1e3 * len(gaps) / gaps.sum()
        print(f"{camera}, {side} px: {rate:.1f} frames/s (wanted: {RATE:g}); " + line("gaps", gaps, "ms"), flush=True)
    late, rng = [], random.Random(0)
    for number in range(lines):
        time.sleep(0.8 + 0.4 * rng.random())
        side, text = SIDES[number % 2]
        say(page, text)
        entered = page.evaluate("window.entered")
        late.append(1e3 * commands.changed(side, 1e-3 * entered) - entered)
    print(line(f"typed line to changed command (wanted: {LATENCY:g} ms)", late, "ms"))


def say(page: Any, text: str) -> None:
    page.fill("#say", text)
    page.press("#say", "Enter")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=256, help="px of the pictures on the page")
    parser.add_argument("--seconds", type=float, default=12.0, help="for which pictures are counted")
    parser.add_argument("--lines", type=int, default=40, help="that are typed")
    parser.add_argument("--host", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.host:
        host(arguments.host, arguments.size)
        return
    from playwright.sync_api import sync_playwright

    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    command = [sys.executable, str(Path(__file__).resolve()), "--host", str(port), "--size", str(arguments.size)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1])}
    print(f"load of the machine, {os.cpu_count()} cores: {os.getloadavg()[0]:.1f}", flush=True)
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    try:
        assert server.stdout is not None
        if server.stdout.readline().strip() != "ready":
            raise SystemExit("the server did not start")
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
            page = browser.new_page(viewport={"width": 1280, "height": 720})
            page.set_default_timeout(180_000)
            page.goto(f"http://127.0.0.1:{port}")
            measure(page, Commands(server), arguments.seconds, arguments.lines)
            browser.close()
    finally:
        server.terminate()
        server.wait()
    print(f"load of the machine: {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
