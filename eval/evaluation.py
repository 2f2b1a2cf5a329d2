"""Running an evaluation: episodes over processes or a cluster, a live table, `results.json`, films and the report."""

from __future__ import annotations

import time
from concurrent.futures import BrokenExecutor, as_completed
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from eval.goal_pictures import goal_file
from eval.journal import Journal
from eval.policies import choose_policy
from eval.progress import LiveView, success_table
from eval.protocol import EvaluationConfig
from eval.report import write_report
from eval.results import Results, in_order, write_json
from eval.topic_worker import TopicWorker
from eval.worker import Film, Worker
from robot.errors import TongsError
from sim.executors import LOCAL, Executor, make_executor, require_executor
from sim.worlds import require_simulator, tasks_of

if TYPE_CHECKING:
    from sim.episode import EpisodeResult

Films = dict[tuple[str, int], Film]


def evaluate(config: EvaluationConfig, console: Console | None = None) -> Results:
    """Run every episode of `config`, write `results.json` and `report.html` into its output folder.

    Any number of processes, here or on a Ray cluster, gives the same episodes: each depends only on its task, its
    scene and the policy. Ctrl-C ends the run; what is finished is written and returned with `complete=False`. However
    a run ended, calling this again with the same output goes on from there (see `eval.journal`) and gives the same
    `results.json` as one that ran through, apart from "timing" and "machine", and from "commit" if the code changed.

    Raises:
        TongsError: bad settings, an engine or executor that is not installed, a policy that does not fit, or an output
            folder that holds another evaluation. Episodes finished before are in `results.json`.
        KeyboardInterrupt: Ctrl-C before the first episode ended.
    """
    choose_policy(config.policy)
    require_simulator(config.engine)
    require_executor(config.executor)
    output, console = Path(config.output), console or Console()
    output.mkdir(parents=True, exist_ok=True)
    with Journal(config) as journal:
        written = all((output / name).is_file() for name in ("results.json", "report.html"))
        if journal.videos == config.videos and written:
            return _recall(config, journal, console)
        try:
            return _run(config, journal, console)
        except BrokenExecutor as error:
            remedy = " (processes=1 needs less memory)" if config.executor == LOCAL else ""
            raise TongsError(
                f"a worker process died, most likely for lack of memory; the same command with output={output} "
                f"continues after the {len(journal.episodes)} finished episodes{remedy}"
            ) from error


def _recall(config: EvaluationConfig, journal: Journal, console: Console) -> Results:
    """The results of an evaluation that is finished."""
    assert journal.wall_s is not None
    results = _results(config, journal, journal.wall_s)
    console.print(success_table({task: results.of_task(task) for task in config.tasks}, _units(config)))
    console.print(f"{config.output} holds this evaluation, finished: nothing had to be run (resume=false starts anew)")
    return results


def _run(config: EvaluationConfig, journal: Journal, console: Console) -> Results:
    """What the journal lacks, then all the files."""
    output, finished = Path(config.output), {task: [] for task in config.tasks}
    for episode in journal.episodes:
        finished[episode.task].append(episode)
    if journal.episodes:
        console.print(f"going on after {len(journal.episodes)} of {len(config.jobs)} episodes")
    with _executor(config) as executor, LiveView(_units(config), finished, len(config.jobs), console) as view:
        results, failure = _roll_out(config, journal, executor, view)
        fields = results.to_json()
        write_json(fields, output / "results.json")
        if failure is not None:
            raise failure
        films, every_film = _film(results, executor, view, console) if results.complete else ({}, False)
    write_report(fields, films, output / "report.html")
    if every_film:
        journal.finish(results.wall_s, config.videos)
    return results


def _results(config: EvaluationConfig, journal: Journal, wall_s: float, complete: bool = True) -> Results:
    assert journal.description is not None
    episodes = in_order(journal.episodes, config.tasks)
    return Results(config, journal.description, episodes, wall_s, complete, journal.commit)


def _units(config: EvaluationConfig) -> dict[str, str]:
    tasks = tasks_of(config.engine)
    return {task: tasks[task].unit for task in config.tasks}


def _executor(config: EvaluationConfig) -> Executor:
    """Where the workers run; those of another machine get the checkpoint and the goal's picture along."""
    choice, files, goal = choose_policy(config.policy), None, None
    if config.executor != LOCAL:
        if choice.folder is not None:
            files = {name: path.read_bytes() for name, path in choice.files.items() if path.is_file()}
        goal = None if (file := goal_file(config.goal)) is None else file.read_bytes()
    make = partial(TopicWorker if config.topics else Worker, config, files, goal)
    return make_executor(config.executor, make, min(config.processes, len(config.jobs)))


def _roll_out(
    config: EvaluationConfig, journal: Journal, executor: Executor, view: LiveView
) -> tuple[Results, Exception | None]:
    """The episodes that ended, and the error that stopped the others, if one did."""
    start, stopped = time.perf_counter(), None
    done = {(episode.task, episode.scene) for episode in journal.episodes}
    description = executor.submit("describe", [()] if journal.description is None else [])
    futures = executor.submit("run", [job for job in config.jobs if job not in done])
    for future in description:
        journal.begin(future.result())
    waiting = set(futures)
    try:
        for future in as_completed(futures):
            waiting.remove(future)
            episode = future.result()
            journal.add(episode)
            view.add(episode.task, episode)
    except (KeyboardInterrupt, TongsError, BrokenExecutor) as error:
        stopped = error
        for future in waiting:
            if future.done() and not future.cancelled() and future.exception() is None:
                journal.add(future.result())
        if not journal.episodes:
            raise
    results = _results(config, journal, time.perf_counter() - start, complete=stopped is None)
    return results, stopped if isinstance(stopped, Exception) else None


def _film(results: Results, executor: Executor, view: LiveView, console: Console) -> tuple[Films, bool]:
    """Films of the first successes and failures of each task, and whether Ctrl-C spared all of them."""
    chosen: list[EpisodeResult] = []
    for task in results.config.tasks:
        for success in (True, False):
            alike = [episode for episode in results.of_task(task) if bool(episode.success) == success]
            chosen += alike[: results.config.videos]
    view.start_films(len(chosen))
    films: Films = {}
    try:
        for episode, future in zip(chosen, executor.submit("film", [(e,) for e in chosen]), strict=True):
            film = future.result()
            if film is None:
                console.print(f"no film of {episode.task} {episode.scene}: run again here, it ended otherwise")
            else:
                films[episode.task, episode.scene] = film
            view.advance()
    except KeyboardInterrupt:
        return films, False
    return films, True
