"""Running an evaluation: episodes over processes, a live table, `results.json`, films and the report."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from eval import worker
from eval.policies import choose_policy
from eval.progress import LiveView
from eval.protocol import EvaluationConfig
from eval.report import write_report
from eval.results import Results, in_order, write_json
from robot.errors import TongsError
from sim.engines import require_engine
from sim.tasks import TASKS

if TYPE_CHECKING:
    from sim.episode import EpisodeResult

Films = dict[tuple[str, int], bytes]


def evaluate(config: EvaluationConfig, console: Console | None = None) -> Results:
    """Run every episode of `config`, write `results.json` and `report.html` into its output folder.

    Any number of processes gives the same episodes: each depends only on its task, its scene and the policy.
    Ctrl-C ends the run; what is finished is written and returned with `complete=False`.

    Raises:
        TongsError: bad settings, an engine that is not installed, or a policy that does not fit. Episodes finished
            before are in `results.json`.
        KeyboardInterrupt: Ctrl-C before the first episode ended.
    """
    choose_policy(config.policy)
    require_engine(config.engine)
    output = Path(config.output)
    output.mkdir(parents=True, exist_ok=True)
    units = {task: TASKS[task].unit for task in config.tasks}
    with _Pool(config) as pool, LiveView(units, len(config.jobs), console) as view:
        results, failure = _roll_out(config, pool, view)
        fields = results.to_json()
        write_json(fields, output / "results.json")
        if failure is not None:
            raise failure
        films = _film(results, pool, view) if results.complete else {}
    write_report(fields, films, output / "report.html")
    return results


class _Pool:
    """Worker processes of one evaluation; leaving the context drops the jobs that have not started."""

    def __init__(self, config: EvaluationConfig) -> None:
        self._executor = ProcessPoolExecutor(
            min(config.processes, len(config.jobs)),
            mp_context=multiprocessing.get_context("spawn"),
            initializer=worker.initialise,
            initargs=(config,),
        )

    def __enter__(self) -> _Pool:
        return self

    def __exit__(self, *exception: object) -> None:
        self._executor.shutdown(wait=True, cancel_futures=True)

    def submit(self, function: Callable[..., Any], jobs: Sequence[tuple]) -> list[Future]:
        """One future per job: a tuple of arguments for a function of `eval.worker`."""
        with worker.child_settings():
            return [self._executor.submit(function, *job) for job in jobs]


def _roll_out(config: EvaluationConfig, pool: _Pool, view: LiveView) -> tuple[Results, TongsError | None]:
    """The episodes that ended, and the error that stopped the others, if one did."""
    start, episodes, stopped = time.perf_counter(), [], None
    description = pool.submit(worker.describe, [()])[0].result()
    try:
        for future in as_completed(pool.submit(worker.run, config.jobs)):
            episodes.append(future.result())
            view.add(episodes[-1].task, episodes[-1])
    except (KeyboardInterrupt, TongsError, BrokenProcessPool) as error:
        if not episodes:
            raise
        stopped = error
    wall_s = time.perf_counter() - start
    results = Results(config, description, in_order(episodes, config.tasks), wall_s, complete=stopped is None)
    if isinstance(stopped, BrokenProcessPool):
        return results, TongsError("a worker process died, most likely for lack of memory; try processes=1")
    return results, stopped if isinstance(stopped, TongsError) else None


def _film(results: Results, pool: _Pool, view: LiveView) -> Films:
    """Films of the first successes and failures of each task; those made so far if Ctrl-C comes."""
    chosen: list[EpisodeResult] = []
    for task in results.config.tasks:
        for success in (True, False):
            alike = [episode for episode in results.of_task(task) if bool(episode.success) == success]
            chosen += alike[: results.config.videos]
    view.start_films(len(chosen))
    films: Films = {}
    try:
        for episode, film in zip(chosen, pool.submit(worker.film, [(e,) for e in chosen]), strict=True):
            films[episode.task, episode.scene] = film.result()
            view.advance()
    except KeyboardInterrupt:
        return films
    return films
