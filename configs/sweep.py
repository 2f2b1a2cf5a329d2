"""Many runs of one command with other settings each, through Hydra's multirun, its sweepers and its launchers."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from configs.composition import compose
from robot.errors import TongsError

Job = Callable[[list[str], Path], float]
"""(words of this job, its folder) -> what a sweeper that searches shall make small."""


def multirun(command: str, words: Sequence[str], folder: Path, job: Job) -> None:
    """Run `job` for every combination of the values in `words`, in folders `folder`/0, 1, ...

    Args:
        command: whose settings, configs/<command>.yaml.
        words: key=value in Hydra's grammar, where a comma is a sweep (`a=1,2`) and brackets are a list; and
            Hydra's own keys, such as `hydra/launcher=submitit_local` or `hydra.launcher.timeout_min=60`.
        folder: of the whole sweep.
        job: importable by its name, for a launcher may run it in another process or on another machine.

    Raises:
        TongsError: a word that the command does not know, told before anything starts.
    """
    import hydra

    ours = [word for word in words if not _is_hydras(word)]
    compose(command, _first_of_each(ours))
    own = {"hydra/job_logging": "none", "hydra/hydra_logging": "none", "hydra.sweep.dir": str(folder.absolute())}
    given = {word.partition("=")[0] for word in words}
    arguments = [*words, *(f"{key}={value}" for key, value in own.items() if key not in given)]

    def task(_: object) -> float:
        from hydra.core.global_hydra import GlobalHydra
        from hydra.core.hydra_config import HydraConfig

        here = HydraConfig.get()
        outer = GlobalHydra.instance().hydra
        GlobalHydra.instance().clear()  # the job composes its own settings
        try:
            return job(list(here.overrides.task), Path(here.runtime.output_dir))
        finally:
            GlobalHydra.instance().clear()
            if outer is not None:
                GlobalHydra.instance().initialize(outer)

    before, sys.argv = sys.argv, [f"tongs {command}", "--multirun", *arguments]  # hydra.main reads nothing else
    try:
        hydra.main(version_base="1.3", config_path="pkg://configs", config_name=command)(task)()
    finally:
        sys.argv = before


def _is_hydras(word: str) -> bool:
    return word.lstrip("+~").startswith(("hydra/", "hydra."))


def _first_of_each(words: Sequence[str]) -> list[str]:
    """The words with the first value of every sweep."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        parsed = OverridesParser.create().parse_overrides(list(words))
    except HydraException as error:
        raise TongsError(f"cannot read {' '.join(words)}: {str(error).splitlines()[0]}") from error
    return [
        f"{override.key_or_group}={next(override.sweep_string_iterator())}" if override.is_sweep_override() else word
        for word, override in zip(words, parsed, strict=True)
    ]
