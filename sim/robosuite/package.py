"""robosuite itself: imported when it is needed, without its greetings, and without changing how we render."""

from __future__ import annotations

import functools
import logging
import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np

from robot.errors import TongsError


def require_robosuite() -> None:
    """Raise a TongsError unless robosuite is installed."""
    if find_spec("robosuite") is None:
        raise TongsError(
            "engine=robosuite needs robosuite, which is not installed; run: pip install 'tongs[robosuite]'"
        )


@functools.cache
def robosuite() -> Any:
    """The package. Importing it claims MUJOCO_GL and advertises optional parts; both are undone.

    Raises:
        TongsError: it is not installed, or a library of the system is missing.
    """
    require_robosuite()
    logging.getLogger("robosuite_logs").addFilter(lambda record: record.levelno >= logging.ERROR)
    kept = os.environ.get("MUJOCO_GL")
    try:
        return import_module("robosuite")
    except ImportError as error:
        raise TongsError(
            f"robosuite cannot be imported ({error}); its OpenCV needs: apt-get install -y libgl1 libglib2.0-0"
        ) from error
    finally:
        if kept is None:
            os.environ.pop("MUJOCO_GL", None)
        else:
            os.environ["MUJOCO_GL"] = kept


@contextmanager
def global_randomness(seed: int) -> Iterator[None]:
    """Seed the global generators that robosuite 1.5.1 draws its scenes from, and put them back afterwards."""
    numpy_state, python_state = np.random.get_state(), random.getstate()
    np.random.seed(seed)
    random.seed(seed)
    try:
        yield
    finally:
        np.random.set_state(numpy_state)
        random.setstate(python_state)
