"""The state of a run on disk, complete enough to continue to the last digit; tensors and plain values, no code."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import torch

from robot.errors import TongsError

FILE = "state/training.pt"


def save_state(folder: Path, state: dict[str, Any]) -> None:
    """Write the state whole or not at all, replacing the one before."""
    path = folder / FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".partial")
    try:
        with temporary.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except (OSError, RuntimeError) as error:
        raise TongsError(f"the training state could not be written to {path}: {error}") from error
    finally:
        temporary.unlink(missing_ok=True)


def load_state(folder: Path) -> dict[str, Any]:
    """Raises TongsError if there is none or it is damaged."""
    path = folder / FILE
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise TongsError(f"{folder} holds no run to resume: {FILE} is missing") from error
    except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise TongsError(f"{path} is damaged ({str(error).splitlines()[0]})") from error


def has_state(folder: Path) -> bool:
    return (folder / FILE).exists()


def random_state(generator: torch.Generator) -> dict[str, Any]:
    """State of the run's generator, of torch's own, and of the GPU's if one is in use."""
    state = {"generator": generator.get_state(), "torch": torch.get_rng_state()}
    if generator.device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(generator.device)
    return state


def restore_random_state(states: list[dict[str, Any]], index: int, count: int, generator: torch.Generator) -> None:
    """Go on with the random numbers of process `index`, of `count`; `states` are those of all processes of the run.

    Their generators are equal. Torch's own (dropout) differ, and stay as they are if there were more or fewer of us.
    """
    state = states[index if len(states) == count else 0]
    if (generator.device.type == "cuda") != ("cuda" in state):
        place = "cuda" if "cuda" in state else "cpu"
        raise TongsError(f"the run was on {place}; resume it there, not on {generator.device.type}")
    generator.set_state(state["generator"])
    if len(states) != count:
        return
    torch.set_rng_state(state["torch"])
    if "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], generator.device)
