"""What runs programs: the sandbox, or a stand-in of a test."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from policies.lmp.sandbox import Outcome, Value


class Executor(Protocol):
    """Runs programs in sessions; see `policies.lmp.sandbox.Sandbox`, which is one."""

    @property
    def stopping(self) -> threading.Event:
        """Set while a running program is to end."""
        ...

    def run(self, code: str, variables: Mapping[str, Value] | None = None, session: str = "main") -> Outcome: ...
    def forget(self, session: str = "main") -> None: ...
    def stop(self) -> None: ...
    def close(self) -> None: ...


MakeExecutor = Callable[[Mapping[str, Callable[..., Any]]], Executor]
"""Makes an executor whose programs have these functions."""
