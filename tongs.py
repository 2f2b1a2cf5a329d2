"""The front door of Tongs: the public API and the `tongs` command."""

from __future__ import annotations

import argparse
import errno
import sys
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from robot.errors import TongsError, unknown

if TYPE_CHECKING:
    import gymnasium

    from data.reader import Dataset
    from eval.comparison import Comparison
    from eval.protocol import EvaluationConfig
    from eval.results import Results
    from policies.base import PolicyModule

__all__ = ["TongsError", "compare", "evaluate", "load_dataset", "load_policy", "main", "make_env"]


def make_env(task: str, **settings: Any) -> gymnasium.Env:
    """The Gymnasium environment of a task such as "open_drawer"; `settings` go to `gymnasium.make`."""
    import gymnasium

    from sim.registration import IDS, register

    if task not in IDS:
        raise unknown("task", task, list(IDS))
    register()
    return gymnasium.make(IDS[task], **settings)


def load_policy(name: str | Path, **sampling: Any) -> PolicyModule:
    """A learned policy, by the name of a shipped checkpoint or by folder; `sampling` replaces sampling settings.

    Raises:
        TongsError: there is no such policy, or its checkpoint is damaged.
    """
    from eval.policies import choose_policy, load_checkpoint, shipped_checkpoints

    choice = choose_policy(str(name))
    if choice.folder is None:
        known = ", ".join(shipped_checkpoints()) or "none shipped"
        raise TongsError(f"{name!r} is no learned policy; known are: {known}, and any checkpoint folder")
    return load_checkpoint(choice.folder, sampling)


def load_dataset(folder: str | Path) -> Dataset:
    """A LeRobotDataset v3.0 folder, checked for completeness.

    Raises:
        TongsError: something is missing or cut short.
    """
    from data.reader import Dataset

    return Dataset(Path(folder))


def evaluate(
    policy: str | Path,
    task: str | Sequence[str] = "all",
    *,
    scenes: str | int | None = None,
    episodes: int | None = None,
    output: str | Path | None = None,
    **protocol: Any,
) -> Results:
    """Run a policy on numbered scenes; write `results.json` and `report.html`.

    Args:
        policy: "expert", "oracle", "random", the name of a shipped checkpoint, or a checkpoint folder.
        task: one task, several, or "all".
        scenes: a range of scene numbers such as "200:300"; or
        episodes: the number of scenes, from 0 on; 50 if neither is given.
        output: a folder; by default a dated one under `outputs/eval`. If it holds this evaluation, cut short, that is
            continued; if it is finished, nothing is run.
        protocol: further fields of `eval.protocol.EvaluationConfig`.
    """
    from eval.evaluation import evaluate as run

    return run(_protocol(policy, task, scenes, episodes, output, **protocol))


def _protocol(
    policy: str | Path,
    task: str | Sequence[str],
    scenes: str | int | None,
    episodes: int | None,
    output: str | Path | None,
    **protocol: Any,
) -> EvaluationConfig:
    from eval.protocol import EvaluationConfig, expand_scenes, expand_tasks
    from sim.engines import DEFAULT

    return EvaluationConfig(
        policy=str(policy),
        tasks=expand_tasks(task, protocol.get("engine", DEFAULT)),
        scenes=expand_scenes(scenes, episodes),
        output=str(output or _dated_folder("eval", Path(str(policy)).name)),
        **protocol,
    )


def compare(first: str | Path, second: str | Path, common: bool = False) -> Comparison:
    """Compare the success of two evaluations of the same scenes, episode by episode.

    Args:
        first, second: `results.json` files, or the folders that hold them.
        common: compare the scenes that both have, where one was interrupted or has more of them.

    Raises:
        TongsError: a file is none, or the protocols differ.
    """
    from eval.comparison import compare as pair
    from eval.results_file import read_results

    return pair(read_results(first), read_results(second), common)


def _dated_folder(command: str, name: str) -> Path:
    return Path("outputs") / command / f"{datetime.now():%Y-%m-%d_%H-%M-%S}-{name}"


def _eval(words: Sequence[str]) -> int:
    from configs.composition import compose

    settings = compose("eval", words)
    if settings.pop("sensitivity"):
        return _sensitivity(settings)
    results = evaluate(**settings)
    folder = Path(results.config.output)
    if not results.complete:
        done, wanted = len(results.episodes), len(results.config.jobs)
        where = f"{done} of {wanted} episodes are in {folder / 'results.json'}"
        print(f"tongs: interrupted; {where}; the same command with output={folder} continues", file=sys.stderr)
        return 130
    print(f"{folder / 'results.json'}\n{folder / 'report.html'}")
    return 0


def _sensitivity(settings: dict[str, Any]) -> int:
    from eval.sensitivity import measure

    sensitivity = measure(_protocol(**settings))
    folder = Path(sensitivity.config.output)
    if not sensitivity.complete:
        print(f"tongs: interrupted; the same command with output={folder} continues", file=sys.stderr)
        return 130
    print(f"{folder / 'sensitivity.json'}\n{folder / 'sensitivity.html'}")
    return 0


def _compare(words: Sequence[str]) -> int:
    from configs.composition import compose

    files, settings = words[:2], compose("compare", words[2:])
    if len(files) < 2 or any("=" in word and word.partition("=")[0] in settings for word in files):
        raise TongsError("compare needs two results.json files, or their folders, before any key=value")
    from rich.console import Console

    from eval.comparison import print_comparison, write_comparison

    comparison = compare(files[0], files[1], settings["common"])
    print_comparison(comparison, Console())
    if settings["output"]:
        print(write_comparison(comparison, settings["output"]))
    return 0


def _collect(words: Sequence[str]) -> int:
    from configs.composition import compose

    settings = compose("collect", words)
    from eval.protocol import expand_tasks
    from train.demonstrations import CollectConfig, collect

    for folder in collect(CollectConfig(task=expand_tasks(settings.pop("task")), **settings)):
        print(folder)
    return 0


def _train(words: Sequence[str]) -> int:
    from configs.composition import compose

    settings = compose("train", words)
    from train.configuration import TrainConfig
    from train.run import DataSettings, build_beso, continue_beso, open_windows, robot_types
    from train.trainer import Trainer

    config = TrainConfig(**settings["train"])
    names = ("cameras", "image_size", "state", "horizon", "held_out", "hold_weight")
    data = [settings["data"]] if isinstance(settings["data"], str) else settings["data"]
    window = settings["policy"]["window"]
    wanted = DataSettings(data=data, window=window, seed=config.seed, **{name: settings[name] for name in names})
    windows_train, windows_heldout = open_windows(wanted)
    if settings["start_from"]:
        policy = continue_beso(settings["start_from"], windows_train, settings["image_size"])
    else:
        policy = build_beso(settings["policy"], windows_train, settings["image_size"])
    policy.trained_on = tuple(sorted({*policy.trained_on, *robot_types(data)}))
    folder = Path(settings["output"] or _dated_folder("train", "beso"))
    play = _closed_loop(settings["evaluation"], folder)
    Trainer(policy, windows_train, windows_heldout, config, folder, play).train(settings["resume"])
    print(folder)
    return 0


def _closed_loop(settings: dict[str, Any], folder: Path) -> Callable[[PolicyModule], dict[str, float]]:
    """What the trainer calls to play a policy on validation scenes; its newest report is in `folder`/evaluation."""
    from rich.console import Console

    from eval.evaluation import evaluate as run
    from eval.protocol import EvaluationConfig, expand_scenes, expand_tasks

    def play(policy: PolicyModule) -> dict[str, float]:
        candidate = folder / "evaluation" / "policy"
        policy.save(candidate)
        config = EvaluationConfig(
            policy=str(candidate),
            tasks=expand_tasks(settings["task"]),
            scenes=expand_scenes(None, settings["episodes"]),
            output=str(folder / "evaluation"),
            split="val",
            execute=settings["execute"],
            processes=settings["processes"],
            resume=False,
        )
        results = run(config, Console(quiet=True))
        if not results.complete:
            raise KeyboardInterrupt
        return {"success": results.overall.success_rate} | {
            f"{task}_success": statistics.success_rate for task, statistics in results.tasks.items()
        }

    return play


def _doctor(words: Sequence[str]) -> int:
    if words:
        raise TongsError(f"doctor takes no settings, got {' '.join(words)}")
    from eval.doctor import examine

    return 0 if examine() else 1


COMMANDS: dict[str, tuple[Callable[[Sequence[str]], int], str]] = {
    "eval": (_eval, "run a policy on numbered scenes and report how often it succeeds"),
    "compare": (_compare, "compare two evaluations of the same scenes"),
    "collect": (_collect, "let the scripted expert demonstrate into a dataset"),
    "train": (_train, "train a policy on datasets"),
    "doctor": (_doctor, "say what this machine can and cannot do"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """The `tongs` command; returns the exit status: 0 done, 2 bad input, 130 interrupted."""
    parser = argparse.ArgumentParser(
        prog="tongs",
        description="A robot learning stack for language-conditioned manipulation.",
        epilog="commands:\n"
        + "\n".join(f"  {name:<9}{text}" for name, (_, text) in COMMANDS.items())
        + "\n\n`tongs COMMAND --help` lists the keys of a command.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", metavar="COMMAND")
    parser.add_argument("words", metavar="key=value", nargs=argparse.REMAINDER)
    given = parser.parse_args(arguments)
    try:
        if given.command not in COMMANDS:
            raise unknown("command", given.command, list(COMMANDS))
        if {"-h", "--help"} & set(given.words):
            return _help(given.command)
        return COMMANDS[given.command][0](given.words)
    except TongsError as error:
        print(f"tongs: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        sys.stdout = None  # whoever read our output has gone; there is nobody left to tell
        return 1
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        print(f"tongs: the disk is full, writing {error.filename or 'a file'}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("tongs: interrupted", file=sys.stderr)
        return 130


def _help(command: str) -> int:
    if command == "doctor":
        print("tongs doctor: say what this machine can and cannot do, and what to install. It takes no keys.")
        return 0
    from configs.composition import help_text

    print(help_text(command))
    return 0


if __name__ == "__main__":
    sys.exit(main())
