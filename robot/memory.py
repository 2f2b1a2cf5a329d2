"""How much memory a process has needed."""

from __future__ import annotations

import sys
from pathlib import Path


def peak_memory() -> float:
    """The most memory in MB that this process has had.

    getrusage would also count what its parent had when it started this one, so Linux is asked in another way.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        lines = dict(line.split(":", 1) for line in status.read_text(encoding="utf-8").splitlines())
        return int(lines["VmHWM"].split()[0]) * 1024 / 1e6
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6
