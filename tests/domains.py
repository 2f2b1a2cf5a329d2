"""Numbers of ROS 2 domains, so that no two tests hear each other."""

from __future__ import annotations

import itertools
import os
import zlib

_COUNT = 233
_RUN = zlib.crc32(os.environ.get("PYTEST_XDIST_TESTRUNUID", str(os.getpid())).encode())
_WORKERS = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
_WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
_numbers = itertools.count()


def new_domain() -> int:
    """A number that no other test of this run has, and another run beside it hardly ever."""
    return (_RUN + _WORKER + _WORKERS * next(_numbers)) % _COUNT
