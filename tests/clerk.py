"""A worker for tests of executors that is quickly made."""

from __future__ import annotations

import os
import time
from pathlib import Path

from robot.errors import TongsError


class Clerk:
    """It leaves files in a folder that all nodes of the test see."""

    def __init__(self, folder: Path, refuses: bool = False) -> None:
        if refuses:
            raise TongsError("this worker cannot be made")
        self.folder = folder
        self.calls = 0

    def square(self, number: int) -> tuple[int, int]:
        self.calls += 1
        return number**2, self.calls

    def refuse(self) -> None:
        raise TongsError("the action holds NaN")

    def die(self) -> None:
        os._exit(1)

    def wait(self, name: str) -> str:
        """Leaves word of where it starts, and ends when told to."""
        import ray

        node = ray.get_runtime_context().get_node_id()
        (self.folder / f"{name} at {node}").touch()
        while not (self.folder / f"{name} may go").exists():
            time.sleep(0.02)
        return node
