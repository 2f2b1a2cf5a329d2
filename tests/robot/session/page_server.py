"""The page over a real simulated table and a small policy that listens, for the test in a browser.

Run as `python -m tests.robot.session.page_server PORT DATASET`; with an arm file and one of limits after that it is
over that arm, as `tongs gui robot=arm` opens it. The control is kept for longer than a busy browser is silent, and the
table is patient with what a busy machine is late with: an arm that has not followed yet would stop for good.
"""

import sys
from pathlib import Path

from data.recorder import SessionRecorder
from eval.sessions import SessionConfig, open_session
from robot import panda
from robot.control.settings import Execution, Patience, Settings
from robot.errors import TongsError
from robot.session.holder import Holder
from robot.session.page import Extras, serve
from robot.session.session import Session
from sim.live import LiveWorld
from tests.robot.session.sounds import Pitch
from tests.robot.session.test_session import Listener


def load(name: str) -> Listener:
    if name != "another":
        raise TongsError(f"unknown policy {name!r}; known are: another")
    return Listener()


def serve_arm(port: int, folder: Path, arm: str, limits: str) -> None:
    config = SessionConfig("arm", "none", str(folder), arm=arm, limits=limits)
    with open_session(config, holder=Holder(30, 60)) as session:
        serve(session, "127.0.0.1", port, None, Extras(["beso"]), lambda: print("ready", flush=True))


def serve_table(port: int, folder: Path) -> None:
    world = LiveWorld("open_drawer", "test", 0, image_size=64, view_size=64)
    settings = Settings(Execution("asynchronous", 4), patience=Patience(observation=5, camera=5, policy=30, astray=100))
    recorder = SessionRecorder(folder, "panda_mujoco")
    try:
        with Session(
            world, panda.LIMITS, Listener(), "listener", recorder, world, settings, load=load, holder=Holder(30, 60)
        ) as session:
            extras = Extras(["listener", "another"], Pitch())
            serve(session, "127.0.0.1", port, None, extras, lambda: print("ready", flush=True))
    finally:
        world.close()


if __name__ == "__main__":
    port, folder = int(sys.argv[1]), Path(sys.argv[2])
    if len(sys.argv) > 3:
        serve_arm(port, folder, *sys.argv[3:])
    else:
        serve_table(port, folder)
