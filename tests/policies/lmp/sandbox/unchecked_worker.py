"""The program's process without its first wall: any Python, all builtins, for tests of the second."""

import builtins
import importlib
from types import CodeType
from typing import Any

from policies.lmp.sandbox import worker


def _compile(source: str, filename: str, *names: Any) -> tuple[CodeType, dict[str, str]]:
    return compile(source, filename, "exec"), {}


def main() -> None:
    # an attacker who is in has whatever was imported before the walls went up
    for name in (
        *("ctypes", "encodings.idna", "mmap", "multiprocessing.popen_fork", "numpy", "resource", "shutil", "socket"),
        *("subprocess", "urllib.request"),
    ):
        importlib.import_module(name)
    worker.BUILTINS.update(vars(builtins))
    worker._import_for_numpy = builtins.__import__
    worker.main(_compile)
