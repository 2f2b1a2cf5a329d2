"""What holds for all tests."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from importlib.util import find_spec

import pytest

from tests.executor import InThisProcess


def pytest_configure() -> None:
    """Absl's log handler (tensorflow_datasets brings it) keeps the stderr of its import and closes it when logging is
    configured anew, as Hydra's sweeps do: pytest's capture would be gone for all later tests."""
    if find_spec("absl"):
        from absl import logging

        logging.get_absl_handler().python_handler.setStream(sys.__stderr__)


@pytest.fixture(autouse=True)
def ordinary_priority() -> Iterator[None]:
    """SVT-AV1, LeRobot's video encoder, gives the process real-time priority where it may (root): the tests beside it
    would starve."""
    yield
    if hasattr(os, "sched_getscheduler") and os.sched_getscheduler(0) != os.SCHED_OTHER:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Collecting, evaluating and correcting do their work here; other tests see to the processes."""
    for module in ("train.demonstrations", "eval.evaluation", "eval.corrections", "eval.correcting"):
        monkeypatch.setattr(f"{module}.make_executor", InThisProcess)
