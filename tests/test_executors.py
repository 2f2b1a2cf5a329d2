"""Wherever episodes run, on this machine or on a Ray cluster of two nodes, the files are the same, also when a node is
lost on the way."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from data.reader import Dataset
from eval.evaluation import evaluate
from eval.journal import NAME
from eval.protocol import EvaluationConfig
from eval.worker import Worker
from robot.errors import TongsError
from sim import executors
from sim.executors import make_executor, require_executor
from tests.clerk import Clerk
from train.demonstrations import CollectConfig, collect

QUIET = Console(quiet=True)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A Ray cluster whose head does no work; `node` adds what does."""
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
        patch.setenv("RAY_ADDRESS", made.address)
        made.add_node(num_cpus=1)
        yield made
        made.shutdown()


@pytest.fixture
def second_node(cluster: Any) -> Iterator[Any]:
    """A node that may be lost, beside the one that stays."""
    node = cluster.add_node(num_cpus=1)
    yield node
    if node in cluster.list_all_nodes():
        cluster.remove_node(node)


def wait_until(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture(params=["local", "ray"])
def name(request: pytest.FixtureRequest) -> str:
    if request.param == "ray":
        request.getfixturevalue("cluster")
    return request.param


def test_a_worker_is_made_once_and_its_errors_come_back_plain(name: str, tmp_path: Path) -> None:
    with make_executor(name, partial(Clerk, tmp_path), 1) as executor:
        assert executor.slots == 1
        squares = [future.result() for future in executor.submit("square", [(2,), (3,), (4,)])]
        assert squares == [(4, 1), (9, 2), (16, 3)]
        with pytest.raises(TongsError) as raised:
            executor.submit("refuse", [()])[0].result()
        assert str(raised.value) == "the action holds NaN" and type(raised.value) is TongsError
    refusing = make_executor(name, partial(Clerk, tmp_path, refuses=True), 1)
    with refusing as executor, pytest.raises(TongsError, match="^this worker cannot be made$"):
        executor.submit("square", [(2,)])[0].result()


def test_a_job_that_always_kills_its_process_ends(name: str, tmp_path: Path) -> None:
    with make_executor(name, partial(Clerk, tmp_path), 1) as executor, pytest.raises(BrokenExecutor):
        executor.submit("die", [()])[0].result()


def test_jobs_of_a_lost_node_are_run_again(cluster: Any, second_node: Any, tmp_path: Path) -> None:
    """Two jobs at work on two nodes, one of which is lost; the other node runs both in the end."""

    def started() -> set[tuple[str, str]]:
        return {tuple(file.name.split(" at ")) for file in tmp_path.glob("* at *")}  # type: ignore[misc]

    with make_executor("ray", partial(Clerk, tmp_path), 1) as executor:
        futures = executor.submit("wait", [("first",), ("second",)])
        wait_until(lambda: len(started()) == 2)
        (lost,) = (job for job, node in started() if node == second_node.node_id)
        ((kept, other_node),) = (pair for pair in started() if pair[0] != lost)
        cluster.remove_node(second_node, allow_graceful=False)
        (tmp_path / f"{kept} may go").touch()
        wait_until(lambda: (lost, other_node) in started())
        (tmp_path / f"{lost} may go").touch()
        assert [future.result() for future in futures] == [other_node, other_node]


def test_a_node_with_other_packages_is_refused(cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = executors.installation()
    monkeypatch.setattr(executors, "installation", lambda: here | {"mujoco": "1.0"})
    said = rf"node .* has mujoco {here['mujoco']}, not 1.0; install the same on all"
    with make_executor("ray", partial(Clerk, tmp_path), 1) as executor, pytest.raises(TongsError, match=said):
        executor.submit("square", [(2,)])[0].result()


def test_what_is_missing_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TongsError, match=r"unknown executor 'slurm'.*local, ray"):
        require_executor("slurm")
    if executors.find_spec("ray"):
        for address in ("127.0.0.1:1", "here"):
            monkeypatch.setenv("RAY_ADDRESS", address)
            with pytest.raises(
                TongsError, match=f"no Ray cluster answers at {address}; start one here with: ray start"
            ):
                make_executor("ray", dict, 1)
    monkeypatch.setattr(executors, "find_spec", lambda name: None)
    with pytest.raises(TongsError, match=r"needs Ray, which is not installed; run: pip install 'tongs\[ray\]'"):
        require_executor("ray")


# --- the same files


def config(output: Path, **changes: Any) -> EvaluationConfig:
    fields = {"policy": "expert", "tasks": ("open_drawer",), "scenes": (0, 6), "videos": 0}
    return EvaluationConfig(output=str(output), **fields | changes)


def lasting(output: Path) -> dict[str, Any]:
    fields = json.loads((output / "results.json").read_text())
    return {key: value for key, value in fields.items() if key != "timing"}


def test_an_evaluation_that_loses_a_node_is_the_same(cluster: Any, second_node: Any, tmp_path: Path) -> None:
    journal = tmp_path / "ray" / NAME

    def lose() -> None:
        wait_until(lambda: journal.is_file() and journal.read_bytes().count(b"\n") > 2)
        cluster.remove_node(second_node, allow_graceful=False)

    loss = threading.Thread(target=lose)
    loss.start()
    evaluate(config(tmp_path / "ray", executor="ray"), QUIET)
    loss.join()
    evaluate(config(tmp_path / "local", processes=1), QUIET)
    assert lasting(tmp_path / "ray") == lasting(tmp_path / "local")


def test_a_collection_is_the_same(cluster: Any, second_node: Any, tmp_path: Path) -> None:
    folders = []
    for executor in ("local", "ray"):
        settings = CollectConfig(["close_drawer"], 2, str(tmp_path / executor), executor=executor, processes=1)
        folders += collect(settings)
    local, ray = (Dataset(folder) for folder in folders)
    assert len(local.episodes) == 2 and local.columns.keys() == ray.columns.keys()
    for key, values in local.columns.items():
        np.testing.assert_array_equal(values, ray.columns[key])
    videos = [[file.read_bytes() for file in sorted(folder.rglob("*.mp4"))] for folder in folders]
    assert videos[0] == videos[1] and len(videos[0]) > 0


def test_a_checkpoint_travels_to_a_machine_without_its_folder() -> None:
    from eval.policies import shipped_checkpoints

    folder = shipped_checkpoints()["beso"]
    files = {file.name: file.read_bytes() for file in folder.iterdir()}
    sent = Worker(config(Path("unused"), policy="/nowhere/beso"), files)
    assert sent.describe() == Worker(config(Path("unused"), policy="beso")).describe()
