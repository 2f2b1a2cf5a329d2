"""TensorBoard and Weights & Biases behind one seam, through accelerate's trackers."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from robot.errors import TongsError

if TYPE_CHECKING:
    from accelerate.tracking import GeneralTracker


class Loggers:
    """Where the numbers of a run go besides its CSV files.

    Args:
        names: among `train.configuration.LOGGERS`.
        folder: the run folder.
        last_step: the step that the run continues from; 0 begins anew.
        config: the settings of the run, kept with its numbers.

    Raises:
        TongsError: one of them is not installed, or Weights & Biases knows no account.
    """

    def __init__(self, names: Sequence[str], folder: Path, last_step: int, config: Mapping[str, Any]) -> None:
        makers = {"tensorboard": _tensorboard, "wandb": _wandb}
        self._trackers = [makers[name](folder, last_step, config) for name in names]

    def add(self, step: int, values: Mapping[str, float]) -> None:
        for tracker in self._trackers:
            tracker.log(dict(values), step)

    def close(self) -> None:
        for tracker in self._trackers:
            tracker.finish()


def _tensorboard(folder: Path, last_step: int, config: Mapping[str, Any]) -> GeneralTracker:
    """Events in `folder`/tensorboard; a resumed run takes back those after its last step."""
    from accelerate.tracking import TensorBoardTracker

    tracker = TensorBoardTracker("tensorboard", folder, purge_step=last_step + 1)
    tracker.start()
    return tracker


def _wandb(folder: Path, last_step: int, config: Mapping[str, Any]) -> GeneralTracker:
    """A run in `folder`/wandb, sent to the server unless WANDB_MODE=offline; a resumed run goes on with its own."""
    try:
        import wandb
    except ImportError as error:
        raise TongsError("Weights & Biases is not installed; run: pip install 'tongs[wandb]'") from error
    from accelerate.tracking import WandBTracker

    earlier = sorted(path.name for path in (folder / "wandb").glob("*run-*-*"))  # such as offline-run-<date>-<id>
    tracker = WandBTracker(
        os.environ.get("WANDB_PROJECT", "tongs"),
        name=folder.name,
        dir=folder,
        config=dict(config),
        id=earlier[-1].rpartition("-")[2] if last_step and earlier else None,
        resume="allow" if last_step else None,
        settings=wandb.Settings(console="off"),
    )
    try:
        tracker.start()
    except wandb.Error as error:
        raise TongsError(
            f"Weights & Biases did not begin ({str(error).splitlines()[0]}); run `wandb login`, or set "
            "WANDB_MODE=offline and send the run later with `wandb sync`"
        ) from error
    return tracker
