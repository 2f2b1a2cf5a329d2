"""A run that repeats to the last digit, and the truth about what in it cannot."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from train.configuration import TrainConfig

_OPERATION = re.compile(r"(\S+) does not have a deterministic implementation")


@contextmanager
def deterministic(config: TrainConfig, say: Callable[[str], None]) -> Iterator[None]:
    """Within this context torch takes deterministic algorithms; `say` gets a sentence for each thing that is not.

    What repeats to the last digit does so with the same versions, hardware, processes and threads.
    """
    if config.max_minutes is not None:
        say("not deterministic: max_minutes ends the run, and cools it down, by the clock; give steps instead")
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS reads it when a GPU is first used
    before = (torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled())
    cudnn = (torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark)
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
    told: set[str] = set()
    with warnings.catch_warnings():
        warnings.filterwarnings("always", message=f"{_OPERATION.pattern}.*")
        show = warnings.showwarning

        def tell(message: Warning | str, category: type[Warning], filename: str, line: int, *rest: Any) -> None:
            found = _OPERATION.search(str(message))
            if found is None:
                show(message, category, filename, line, *rest)
            elif found[1] not in told:
                told.add(found[1])
                say(f"not deterministic: torch has no such implementation of {found[1]} on this device")

        warnings.showwarning = tell
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(before[0], warn_only=before[1])
            torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = cudnn
