"""The checkpoints of a run that are kept: the newest few and the best."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

from policies.base import PolicyModule

LAST, BEST = "last", "best"


class Checkpoints:
    """`checkpoints/step_000500/`, ... in a run folder, and the links `last` and `best` to two of them.

    Each is a checkpoint folder of `policies.checkpoint`, written whole or not at all; so are the links.

    Args:
        folder: the run folder.
        keep: the newest checkpoints that stay; the best one stays besides.
    """

    def __init__(self, folder: Path, keep: int) -> None:
        self._folder = folder
        self._keep = keep

    def write(self, policy: PolicyModule, step: int, best: bool = False) -> None:
        """Save the policy as it is, as the last and perhaps the best checkpoint; remove those beyond `keep`."""
        checkpoint = Path("checkpoints") / f"step_{step:06d}"
        policy.save(self._folder / checkpoint)
        self._link(LAST, checkpoint)
        if best:
            self._link(BEST, checkpoint)
        self._prune(step)

    def _link(self, name: str, target: Path) -> None:
        temporary = self._folder / f".{name}"
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(target, target_is_directory=True)
        os.replace(temporary, self._folder / name)

    def _prune(self, newest: int) -> None:
        """A resumed run may find checkpoints of later steps; those are not of its line any more, unless the best."""
        best = self._folder / BEST
        numbered = {
            int(path.name.removeprefix("step_")): path
            for path in (self._folder / "checkpoints").iterdir()
            if re.fullmatch(r"step_\d+", path.name)
        }
        stay = sorted(step for step in numbered if step <= newest)[-self._keep :]
        for step, path in numbered.items():
            if step not in stay and not (best.exists() and best.samefile(path)):
                shutil.rmtree(path)
