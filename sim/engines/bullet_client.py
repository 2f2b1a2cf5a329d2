"""PyBullet itself: imported without its greeting, and one simulation without a window."""

from __future__ import annotations

import functools
import os
import weakref
from importlib import import_module
from typing import Any


def _import_quietly() -> Any:
    """PyBullet prints when it was built while it is imported, from C, into the middle of a live table."""
    kept = os.dup(2)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        return import_module("pybullet")
    finally:
        os.dup2(kept, 2)
        os.close(kept)


pybullet = _import_quietly()


class Client:
    """PyBullet's functions, all for one simulation of its own, which ends with `close` or with this object."""

    def __init__(self) -> None:
        self.number = pybullet.connect(pybullet.DIRECT)
        self.close = weakref.finalize(self, pybullet.disconnect, physicsClientId=self.number)

    def __getattr__(self, name: str) -> Any:
        function = functools.partial(getattr(pybullet, name), physicsClientId=self.number)
        setattr(self, name, function)  # the next call finds it without coming here
        return function
