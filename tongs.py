"""The front door of Tongs: the public API and the `tongs` command."""

from __future__ import annotations

import argparse
import errno
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from robot.errors import TongsError, unknown

if TYPE_CHECKING:
    import gymnasium

    from data.reader import Dataset
    from eval.comparison import Comparison
    from eval.policies import LearnedPolicy
    from eval.protocol import EvaluationConfig
    from eval.reproduction import Collect, Train
    from eval.results import Results
    from eval.sessions import SessionConfig
    from policies.base import PolicyModule
    from robot.session.spacemouse import HandDevice
    from train.configuration import TrainConfig
    from train.trainer import Trainer

__all__ = ["TongsError", "compare", "evaluate", "load_dataset", "load_policy", "main", "make_env"]


def make_env(task: str, **settings: Any) -> gymnasium.Env:
    """The Gymnasium environment of a task such as "open_drawer"; `settings` go to `gymnasium.make`."""
    import gymnasium

    from sim.registration import IDS, register

    if task not in IDS:
        raise unknown("task", task, list(IDS))
    register()
    return gymnasium.make(IDS[task], **settings)


def load_policy(name: str | Path, lerobot: Mapping[str, Any] | None = None, **sampling: Any) -> LearnedPolicy:
    """A learned policy.

    Args:
        name: a shipped checkpoint's name, a checkpoint folder, "lerobot:" and a folder or hub id of LeRobot's, or
            "remote:" and the address of a policy server.
        lerobot: what a LeRobot checkpoint does not say of itself, see `policies.lerobot.fit.LeRobotSettings`.
        sampling: sampling settings that replace the checkpoint's.

    Raises:
        TongsError: there is no such policy, or its checkpoint is damaged.
    """
    from eval.policies import choose_policy

    return choose_policy(str(name)).load(sampling, lerobot)


def load_dataset(folder: str | Path) -> Dataset:
    """A LeRobotDataset folder, v3.0 or v2.1, checked for completeness.

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
        policy: "expert", "oracle", "random", the name of a shipped checkpoint, a checkpoint folder, or "lerobot:" and
            the folder or hub id of a LeRobot policy.
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
        output=str(output or _dated_folder("eval", Path(str(policy)).name.replace(":", "-"))),
        **protocol,
    )


def compare(first: str | Path, second: str | Path, common: bool = False, across: Sequence[str] = ()) -> Comparison:
    """Compare the success of two evaluations of the same scenes, episode by episode.

    Args:
        first, second: `results.json` files, or the folders that hold them.
        common: compare the scenes that both have, where one was interrupted or has more of them.
        across: fields of the protocol that may differ, since it is their effect that is asked for.

    Raises:
        TongsError: a file is none, or the protocols differ.
    """
    from eval.comparison import compare as pair
    from eval.results_file import read_results

    return pair(read_results(first), read_results(second), common, across)


def _dated_folder(command: str, name: str) -> Path:
    return Path("outputs") / command / f"{datetime.now():%Y-%m-%d_%H-%M-%S}-{name}"


def _eval(words: Sequence[str]) -> int:
    from configs.composition import compose

    settings = compose("eval", words)
    if settings["task"] == "block_push":
        return _eval_pushing(settings)
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


def _eval_pushing(settings: dict[str, Any]) -> int:
    """The pushing world has a protocol of its own: reward and result instead of success."""
    from configs.composition import compose
    from eval.protocol import expand_scenes
    from eval.pushing import evaluate_pushing

    taken = ("policy", "task", "split", "scenes", "episodes", "execute", "sampling", "output")
    usual = compose("eval", [f"policy={settings['policy']}"])
    if other := [key for key in settings if key not in taken and settings[key] != usual[key]]:
        raise TongsError(f"{other[0]} means nothing to task=block_push; it takes {', '.join(taken)}")
    policy = settings["policy"]
    output = settings["output"] or _dated_folder("eval", Path(policy).name)
    execute = 1 if settings["execute"] == usual["execute"] else settings["execute"]
    scenes = expand_scenes(settings["scenes"], settings["episodes"])
    evaluate_pushing(policy, scenes, output, settings["split"], execute, settings["sampling"])
    print(Path(output) / "results.json")
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


def _run(words: Sequence[str]) -> int:
    from configs.composition import compose

    said = tuple(word for word in words if " " in word.partition("=")[0] or "=" not in word)
    settings = compose("run", [word for word in words if word not in said])
    from eval.run import RunConfig, run

    output = str(settings.pop("output") or _dated_folder("run", Path(settings["policy"]).name.replace(":", "-")))
    answer = _answer if sys.stdin.isatty() else None
    run(RunConfig(instructions=said, output=output, **settings), print, answer)
    print(Path(output) / "log.json")
    return 0


def _answer(question: str) -> str:
    return input(f"  robot asks: {question} ")


def _compare(words: Sequence[str]) -> int:
    from configs.composition import compose

    files, settings = words[:2], compose("compare", words[2:])
    if len(files) < 2 or any("=" in word and word.partition("=")[0] in settings for word in files):
        raise TongsError("compare needs two results.json files, or their folders, before any key=value")
    from rich.console import Console

    from eval.comparison import print_comparison, write_comparison

    comparison = compare(files[0], files[1], settings["common"], tuple(settings["across"]))
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


def _correct(words: Sequence[str]) -> int:
    from configs.composition import compose

    settings = compose("correct", words)
    from eval.corrections import CorrectionsConfig, collect_corrections
    from eval.protocol import expand_tasks

    config = CorrectionsConfig(task=expand_tasks(settings.pop("task")), **settings)
    for found in collect_corrections(config):
        print(
            f"{Path(config.output) / found.task}: {found.episodes} episodes with {found.corrections} corrections "
            f"in {found.attempts} scenes"
        )
    return 0


def _import(words: Sequence[str]) -> int:
    from configs.composition import compose

    settings = compose("import", words)
    from data.importers.run import ImportConfig, run_import

    for key in ("source", "state", "state_names", "action", "action_names", "action_units"):
        if isinstance(settings[key], str):
            settings[key] = [settings[key]]
    report = run_import(ImportConfig(**settings))
    for line in report.sentences():
        print(line)
    return 0


def _train(words: Sequence[str]) -> int:
    if "--multirun" in words:
        return _sweep([word for word in words if word != "--multirun"])
    from configs.composition import compose, explicit

    settings = compose("train", words)
    from data.segments import SegmentRules
    from policies.configuration import configuration
    from train.configuration import TrainConfig
    from train.run import (
        DataSettings,
        align,
        build_policy,
        continue_policy,
        goal_rules,
        motion_ahead,
        open_windows,
        require_labels,
        robot_types,
        seed_weights,
    )
    from train.state import has_state
    from train.trainer import Trainer

    config = TrainConfig(**settings["train"])
    seed_weights(config.seed)
    names = (
        "cameras",
        "image_size",
        "state",
        "horizon",
        "held_out",
        "hold_weight",
        "start_weight",
        "shares",
        "labelled",
        "paraphrases",
        "corrections",
    )
    data = [settings["data"]] if isinstance(settings["data"], str) else settings["data"]
    told = settings["policy"]
    if told["family"] == "yay":
        return _train_high_level(settings, config)
    goals = goal_rules(told, settings["goals"])
    wanted = DataSettings(
        data=data,
        window=told.get("window", 1),
        seed=config.seed,
        goals=goals,
        goal_window=told["goal_tokens"] if goals else 1,
        motion_ahead=motion_ahead(told),
        segments=configuration(SegmentRules, settings["segment"]) if settings["segments"] else None,
        **{name: settings[name] for name in names},
    )
    windows_train, windows_heldout = open_windows(wanted)
    if settings["start_from"]:
        changes = explicit(words, "policy", settings)
        policy = continue_policy(settings["start_from"], told["family"], changes, windows_train, settings["image_size"])
    else:
        policy = build_policy(told, windows_train, settings["image_size"])
    policy.trained_on = tuple(sorted({*policy.trained_on, *robot_types(data)}))
    require_labels(policy, windows_train)
    if settings["stage"] is not None:
        if settings["stage"] not in policy.stages:
            raise unknown(f"stage of a {policy.family} training", settings["stage"], policy.stages)
        policy.enter(settings["stage"])
    folder = Path(settings["output"] or _dated_folder("train", told["family"]))
    first = "align" in policy.stages and settings["align"]["steps"] > 0
    if first and not settings["start_from"] and not has_state(folder):
        policy = align(policy, windows_train, windows_heldout, config, settings["align"], folder, settings["resume"])
    play = _closed_loop(settings["evaluation"], folder)
    trainer = Trainer(policy, windows_train, windows_heldout, config, folder, play)
    return _trained(trainer, settings["resume"] and (has_state(folder) or not first), lambda: folder)


def _finetune(words: Sequence[str]) -> int:
    from configs.composition import compose

    settings = compose("finetune", words)
    from eval.policies import LEROBOT, choose_policy
    from train.configuration import TrainConfig
    from train.finetuning import FinetuneSettings, open_finetuning, sentence, write_report
    from train.run import seed_weights
    from train.trainer import Trainer

    config = TrainConfig(**settings.pop("train"))
    name, evaluation, resume = (settings.pop(key) for key in ("policy", "evaluation", "resume"))
    output, data = settings.pop("output"), settings.pop("data")
    base = choose_policy(str(name)).folder
    if base is None or str(name).startswith(LEROBOT):
        raise TongsError(f"fine-tuning starts from a checkpoint of ours, and {name} is none")
    wanted = FinetuneSettings(base, (data,) if isinstance(data, str) else tuple(data), seed=config.seed, **settings)
    seed_weights(config.seed)
    policy, windows_train, windows_heldout = open_finetuning(wanted)
    folder = Path(output or _dated_folder("finetune", base.name))
    trainer = Trainer(policy, windows_train, windows_heldout, config, folder, _closed_loop(evaluation, folder))
    return _trained(trainer, resume, lambda: sentence(write_report(trainer, wanted)))


def _train_high_level(settings: dict[str, Any], config: TrainConfig) -> int:
    """`tongs train policy=yay`: what it learns are commands, not actions."""
    from configs.composition import compose
    from train.high_level import HighLevelSettings, open_high_level
    from train.run import robot_types
    from train.trainer import Trainer

    usual = compose("train", ["data=unused"])
    idle = (
        "state",
        "horizon",
        "hold_weight",
        "start_weight",
        "shares",
        "goals",
        "labelled",
        "paraphrases",
        "segments",
        "corrections",
    )
    if given := [key for key in idle if settings[key] != usual[key]]:
        raise TongsError(f"{given[0]} means nothing to policy=yay, which learns what to say, not what to do")
    data = [settings["data"]] if isinstance(settings["data"], str) else settings["data"]
    cameras = [settings["cameras"]] if isinstance(settings["cameras"], str) else settings["cameras"]
    names = ("policy", "image_size", "held_out", "stage", "start_from", "segment", "newest")
    chosen = {name: settings[name] for name in names}
    policy, training, heldout = open_high_level(
        HighLevelSettings(data=data, cameras=cameras, seed=config.seed, **chosen)
    )
    policy.trained_on = tuple(sorted({*policy.trained_on, *robot_types(data)}))
    folder = Path(settings["output"] or _dated_folder("train", "yay"))
    trainer = Trainer(policy, training, heldout, config, folder, _closed_loop(settings["evaluation"], folder))
    return _trained(trainer, settings["resume"], lambda: folder)


def _trained(trainer: Trainer, resume: bool, told: Callable[[], object]) -> int:
    """Train to the end; then the first of the processes says what came of it."""
    trainer.train(resume)
    if trainer.processes.main:
        print(told())
    trainer.processes.close()
    return 0


def _quantize(words: Sequence[str]) -> int:
    from configs.composition import compose

    settings = compose("quantize", words)
    from eval.deployment import QuantizeConfig, quantize

    name = Path(str(settings["policy"])).name.replace(":", "-")
    made_of = f"{name}-{settings['backend']}-{settings['precision']}"
    settings["output"] = str(settings["output"] or Path("outputs") / "quantize" / made_of)
    made = quantize(QuantizeConfig(**settings))
    print(made.parity)
    if made.kept:
        print(f"left in full precision: {', '.join(made.kept)}")
    print(f"{made.megabytes:.1f} MB\n{made.folder}")
    return 0


def _benchmark(words: Sequence[str]) -> int:
    from configs.composition import compose

    settings = compose("benchmark", words)
    from eval.benchmark import BenchmarkConfig, benchmark

    settings["output"] = str(settings["output"] or _dated_folder("benchmark", Path(str(settings["policy"])).name))
    benchmark(BenchmarkConfig(**settings))
    print(Path(settings["output"]) / "benchmark.json")
    return 0


def _teach(words: Sequence[str]) -> int:
    from configs.composition import compose

    settings = compose("teach", words)
    from eval.protocol import expand_tasks
    from train.programs.teaching import ALL, TeachConfig, teach

    tasks = settings.pop("tasks")
    tasks = ALL if tasks == "all" else expand_tasks(tasks)
    for task in tasks:
        if task not in ALL:
            raise unknown("task", task, ["all", *ALL])
    print(teach(TeachConfig(tasks=tasks, **settings)))
    return 0


def _sweep(words: Sequence[str]) -> int:
    """`tongs train --multirun`: a run for every combination of values; `output` is the folder of them all."""
    from configs.sweep import multirun
    from train.sweep import summarise

    given = [word.partition("=")[2] for word in words if word.startswith("output=")]
    folder = Path(given[-1]) if given else _dated_folder("train", "sweep")
    multirun("train", [word for word in words if not word.startswith("output=")], folder, _sweep_job)
    failed = summarise(folder)
    print(folder / "sweep.csv")
    return 2 if failed else 0


def _sweep_job(words: list[str], folder: Path) -> float:
    """One run of a sweep; one that was cut short goes on. A mistake in its settings does not end the others."""
    from train.state import has_state
    from train.sweep import finish, join_tasks

    join_tasks()
    error = None
    try:
        _train([*words, f"output={folder}", f"resume={str(has_state(folder)).lower()}"])
    except TongsError as caught:
        error = str(caught)
        print(f"tongs: {error}", file=sys.stderr)
    return finish(folder, words, error)


def _closed_loop(settings: dict[str, Any], folder: Path) -> Callable[[PolicyModule], dict[str, float]]:
    """What the trainer calls to play a policy on validation scenes; its newest report is in `folder`/evaluation."""

    def play(policy: PolicyModule) -> dict[str, float]:
        from rich.console import Console

        from eval.evaluation import evaluate as run
        from eval.protocol import EvaluationConfig, expand_scenes, expand_tasks

        candidate = folder / "evaluation" / "policy"
        policy.save(candidate)
        config = EvaluationConfig(
            policy=str(candidate),
            tasks=expand_tasks(settings["task"]),
            scenes=expand_scenes(None, settings["episodes"]),
            output=str(folder / "evaluation"),
            split="val",
            execute=settings["execute"],
            goal="language" if "language" in policy.spec.goals else "image:expert",
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


def _check(words: Sequence[str]) -> int:
    from configs.composition import compose

    settings = compose("check", words)
    from rich.progress import track

    from eval.check import CheckConfig, check, print_result

    config = CheckConfig(**settings)
    episodes = iter(track(range(config.episodes), "replaying", transient=True))
    result = check(config, lambda: next(episodes, None))
    print_result(result)
    return 1 if result.mismatches else 0


def _serve(words: Sequence[str]) -> int:
    from configs.composition import compose

    settings = compose("serve", words)
    try:
        from robot.remote.server import PolicyServer, ServerConfig, serve
    except ModuleNotFoundError as error:
        raise TongsError(f"tongs serve needs {error.name}: pip install 'tongs[serve]'") from error
    from eval.policies import choose_policy, sampling_settings
    from robot.remote.address import token_of_environment
    from robot.remote.session import canonical_robot

    name, device = str(settings.pop("policy")), settings.pop("device")
    choice, sampling, lerobot = choose_policy(name), settings.pop("sampling"), settings.pop("lerobot")
    config = ServerConfig(token=token_of_environment(), **settings)
    policy = choice.load(sampling, lerobot, device)
    policy.bind(canonical_robot(policy.spec))
    checkpoint = {file: digest for file, digest in choice.hashes.items() if digest}

    def ready(server: PolicyServer) -> None:
        print(f"{name} is served at {server.url} (Ctrl-C ends)", flush=True)

    serve(PolicyServer(policy, name, config, sampling_settings(policy), checkpoint), ready)
    return 0


def _ros(words: Sequence[str]) -> int:
    from configs.composition import compose
    from eval.ros_nodes import NodeConfig, run_node

    run_node(NodeConfig(**compose("ros", words)))
    return 0


def _gui(words: Sequence[str]) -> int:
    from configs.composition import compose

    settings = compose("gui", words)
    config = _session_config(words, settings)
    try:
        from robot.session.page import Extras, serve
    except ModuleNotFoundError as error:
        raise TongsError(f"tongs gui needs {error.name}: pip install 'tongs[gui]'") from error
    from eval.policies import shipped_checkpoints
    from eval.sessions import open_session
    from robot.remote.address import TOKEN, token_of_environment
    from robot.session.access import require_token
    from robot.session.speech import FasterWhisper

    host, port, token = str(settings["host"]), settings["port"], token_of_environment()
    require_token(host, token, TOKEN)
    speech, language = settings["speech"], str(settings["language"])
    transcriber = FasterWhisper(speech, language, settings["device"]) if speech else None
    policies = sorted({*shipped_checkpoints(), settings["policy"]} - {"none"})
    note = "; add ?token=<the token> to the address" if token else ""
    with _hand_device(settings) as device, open_session(config, _tell) as session:
        serve(
            session,
            host,
            port,
            token,
            Extras(policies, transcriber, device),
            lambda: print(f"the page is at http://{host}:{port}{note} (Ctrl-C ends)", flush=True),
        )
    return 0


def _teleop(words: Sequence[str]) -> int:
    from getpass import getuser

    from configs.composition import compose

    settings = {**compose("teleop", words), "view_size": 0}
    config = _session_config(words, settings)
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise TongsError("tongs teleop needs a terminal on its input and output; tongs gui works without one")
    from eval.sessions import open_session
    from robot.session.terminal import Terminal

    with _hand_device(settings) as device, open_session(config, _tell) as session:
        Terminal(session, getuser(), device, settings["pictures"]).run()
    if settings["output"] and session.view().saved:
        print(settings["output"])
    return 0


def _tell(text: str) -> None:
    print(f"tongs: {text}", file=sys.stderr)


@contextmanager
def _hand_device(settings: Mapping[str, Any]) -> Iterator[HandDevice | None]:
    """The SpaceMouse, if one is asked for."""
    if not settings["spacemouse"]:
        yield None
        return
    from robot.session.spacemouse import SpaceMouse

    device = SpaceMouse(settings["axes"])
    try:
        yield device
    finally:
        device.close()


def _session_config(words: Sequence[str], settings: Mapping[str, Any]) -> SessionConfig:
    """Of the settings of `tongs gui` or `tongs teleop`, those of the session; refuses a word that means nothing to the
    robot."""
    from dataclasses import fields

    from eval.sessions import SessionConfig, require_meant

    require_meant(settings["robot"], [word.partition("=")[0] for word in words])
    names = {one.name for one in fields(SessionConfig)}
    return SessionConfig(**{name: value for name, value in settings.items() if name in names})


def _data(words: Sequence[str]) -> int:
    from configs.composition import compose
    from data.console import COMMANDS as DATA_COMMANDS

    name, *rest = words or [""]
    if name not in DATA_COMMANDS:
        raise unknown("command of `tongs data`", name, list(DATA_COMMANDS))
    folders = [word for word in rest if "=" not in word]
    pairs = [word for word in rest if "=" in word]
    names = {}
    if name == "rename":
        names = dict(word.split("=", 1) for word in pairs if not word.startswith("output="))
        pairs = [word for word in pairs if word.startswith("output=")]
        if not names:
            raise TongsError("rename needs OLD=NEW, the names of columns or instructions")
    if not folders:
        raise TongsError(f"data {name} needs a dataset folder")
    return DATA_COMMANDS[name].run(folders, compose(f"dataset/{name}", pairs) | ({"names": names} if names else {}))


def _reproduce(words: Sequence[str]) -> int:
    name, *rest = words or [""]
    if name not in REPRODUCTIONS:
        raise unknown("reproduction", name, list(REPRODUCTIONS))
    from configs.composition import compose

    print(REPRODUCTIONS[name](compose(f"reproduce/{name.replace('-', '_')}", rest)))
    return 0


def _resumed(command: Callable[[Sequence[str]], int]) -> Train:
    """A training command that goes on with what its run folder holds."""

    def run(words: list[str], folder: Path) -> None:
        from train.state import has_state

        started = has_state(folder) or has_state(folder / "align")
        command([*words, f"output={folder}", f"resume={str(started).lower()}"])

    return run


def _demonstrated(processes: int) -> Collect:
    """Collecting demonstrations for a reproduction; those to learn from show how to come back after a disturbance."""

    def collect(folder: Path, tasks: Sequence[str], demonstrations: int, split: str, start: int) -> Path:
        from train.demonstrations import CollectConfig
        from train.demonstrations import collect as collect_demonstrations

        perturb = 0.0 if split == "val" else 0.4
        collect_demonstrations(
            CollectConfig(tasks, demonstrations, str(folder), split, start, perturb=perturb, processes=processes)
        )
        return folder

    return collect


def _reproduce_beso(settings: Mapping[str, Any]) -> Path:
    from eval.reproduce_beso import ReproductionConfig, reproduce
    from train.push_demonstrations import collect_pushing

    def collect(folder: Path, demonstrations: int) -> Path:
        return collect_pushing(str(folder / "data"), demonstrations, images=False)

    return reproduce(ReproductionConfig(**settings), collect, _resumed(_train))


def _reproduce_grif(settings: Mapping[str, Any]) -> Path:
    from eval.reproduce_grif import GrifReproductionConfig, reproduce

    return reproduce(GrifReproductionConfig(**settings), _demonstrated(settings["processes"]), _resumed(_train))


def _reproduce_lora(settings: Mapping[str, Any]) -> Path:
    from eval.reproduce_lora import LoraReproductionConfig, reproduce

    collect = _demonstrated(settings["processes"])
    return reproduce(LoraReproductionConfig(**settings), collect, _resumed(_train), _resumed(_finetune))


def _reproduce_rth(settings: Mapping[str, Any]) -> Path:
    from eval.reproduce_rth import RthReproductionConfig, reproduce

    return reproduce(RthReproductionConfig(**settings), _demonstrated(settings["processes"]), _resumed(_train))


def _reproduce_yay(settings: Mapping[str, Any]) -> Path:
    from eval.reproduce_yay import YayReproductionConfig, reproduce

    return reproduce(YayReproductionConfig(**settings), _demonstrated(settings["processes"]), _resumed(_train))


def _reproduce_cap(settings: Mapping[str, Any]) -> Path:
    from eval.reproduce_cap import CapReproductionConfig, reproduce

    return reproduce(CapReproductionConfig(**settings))


def _reproduce_grounded(settings: Mapping[str, Any]) -> Path:
    from eval.reproduce_grounded import GroundedReproductionConfig, reproduce

    return reproduce(GroundedReproductionConfig(**settings))


REPRODUCTIONS: dict[str, Callable[[Mapping[str, Any]], Path]] = {
    "beso": _reproduce_beso,
    "code-as-policies": _reproduce_cap,
    "grif": _reproduce_grif,
    "grounded-decoding": _reproduce_grounded,
    "openvla-lora": _reproduce_lora,
    "rt-h": _reproduce_rth,
    "yay": _reproduce_yay,
}
"""Papers whose central claim a command checks."""


def _doctor(words: Sequence[str]) -> int:
    if words:
        raise TongsError(f"doctor takes no settings, got {' '.join(words)}")
    from eval.doctor import examine

    return 0 if examine() else 1


COMMANDS: dict[str, tuple[Callable[[Sequence[str]], int], str]] = {
    "eval": (_eval, "run a policy on numbered scenes and report how often it succeeds"),
    "run": (_run, "say something to the robot and watch what it does in simulation"),
    "compare": (_compare, "compare two evaluations of the same scenes"),
    "collect": (_collect, "let the scripted expert demonstrate into a dataset"),
    "correct": (_correct, "let a simulated person correct a policy, and record that as a dataset"),
    "import": (_import, "turn ROS 2 bags, robomimic, LIBERO and RLDS recordings into a dataset"),
    "train": (_train, "train a policy on datasets"),
    "finetune": (_finetune, "adapt a trained policy to new demonstrations, with LoRA or as a whole"),
    "quantize": (_quantize, "make a policy smaller or faster for a device, with proof that it is the same"),
    "benchmark": (_benchmark, "latency, memory and success of a policy in each precision on this machine"),
    "teach": (_teach, "train the small language model that writes programs"),
    "check": (_check, "replay recordings through a policy before an arm moves: do they fit?"),
    "serve": (_serve, "serve a policy to robots and simulations, here or over a network"),
    "ros": (_ros, "be a node of a ROS 2 graph, without ROS: simulated robot, policy runner, recorder, game pad"),
    "gui": (_gui, "run a robot from a page in the browser: speak, correct, drive, record"),
    "teleop": (_teleop, "drive a robot from a terminal and record it, without a browser"),
    "data": (_data, "look at datasets, check, edit and mend them"),
    "reproduce": (_reproduce, "check a paper's central claim: train, measure, report"),
    "doctor": (_doctor, "say what this machine can and cannot do"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """The `tongs` command; returns the exit status: 0 done, 2 bad input, 130 interrupted."""
    parser = argparse.ArgumentParser(
        prog="tongs",
        description="A robot learning stack for language-conditioned manipulation.",
        epilog="commands:\n"
        + "\n".join(f"  {name:<10}{text}" for name, (_, text) in COMMANDS.items())
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
            return _help(given.command, given.words[0])
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


def _help(command: str, first: str) -> int:
    if command == "doctor":
        print("tongs doctor: say what this machine can and cannot do, and what to install. It takes no keys.")
        return 0
    from configs.composition import help_text

    if command == "data":
        from data.console import COMMANDS as DATA_COMMANDS

        if first not in DATA_COMMANDS:
            print("tongs data COMMAND FOLDER ... key=value\n")
            print("\n".join(f"  {name:<9}{known.text}" for name, known in DATA_COMMANDS.items()))
            print("\n`tongs data COMMAND --help` lists the keys of a command.")
            return 0
        command = f"dataset/{first}"
    if command == "reproduce":
        if first not in REPRODUCTIONS:
            print(f"tongs reproduce NAME key=value\n\n  names: {', '.join(REPRODUCTIONS)}")
            return 0
        command = f"reproduce/{first.replace('-', '_')}"
    print(help_text(command))
    if command == "train":
        print("\n`tongs train --multirun train.seed=0,1 ...` runs every combination of values, see docs/training.md")
    return 0


if __name__ == "__main__":
    sys.exit(main())
