"""A policy on a server in an evaluation: `policy=remote:ws://...`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from eval.evaluation import evaluate
from eval.policies import choose_policy
from eval.protocol import EvaluationConfig
from eval.worker import Worker
from robot.errors import ContractError, TongsError, UnreachableError
from robot.interface import EE_DELTA, PolicySpec
from robot.remote.client import RemotePolicy
from sim.episode import run_episode
from sim.world import World
from tests.robot.remote.toy import bound, canonical, served

SPEC = PolicySpec({"front": (32, 32), "wrist": (32, 32)}, ("z", "joint_1"), EE_DELTA, horizon=4)


def config(url: str, output: Path, **changes: object) -> EvaluationConfig:
    settings = {"policy": f"remote:{url}", "tasks": ("open_drawer",), "scenes": (0, 1), "output": str(output)}
    return EvaluationConfig(**settings | {"image_size": 64, "processes": 1, "videos": 0} | changes)  # type: ignore[arg-type]


def test_episodes_are_those_of_the_local_policy(tmp_path: Path) -> None:
    world = World("open_drawer", cameras=dict.fromkeys(SPEC.cameras, (64, 64)))
    assert set(SPEC.state_names) <= set(world.spec.state_names)
    with served(canonical(SPEC)) as server:
        worker = Worker(config(server.url, tmp_path))
        remote = worker.run("open_drawer", 1)
        assert worker.describe().served == {"model": "ab" * 32} and worker.describe().sampling == {"steps": 5}
    local = run_episode(world, bound(SPEC, world.spec), "test", 1, execute=4)
    assert remote.length == local.length > 10
    np.testing.assert_array_equal(remote.states, local.states)
    world.close()


def test_an_evaluation_belongs_to_what_is_served_and_not_to_its_address(tmp_path: Path) -> None:
    """Finished, it is known again on another port; with another policy it is not."""
    with served(canonical(SPEC)) as server:
        results = evaluate(config(server.url, tmp_path), Console(quiet=True))
        assert len(results.episodes) == 1
    with served(canonical(SPEC)) as server:
        evaluate(config(server.url, tmp_path), Console(quiet=True))
        written = json.loads((tmp_path / "results.json").read_text())
        assert written["policy"]["checkpoint"]["path"].startswith("remote:ws://127.0.0.1:")
        assert written["policy"]["spec"]["horizon"] == 4
    with served(canonical(SPEC), "other") as server, pytest.raises(TongsError, match="another evaluation: policy"):
        evaluate(config(server.url, tmp_path), Console(quiet=True))


def test_mistakes_are_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UnreachableError, match="nothing listens at 127.0.0.1, port 9"):
        evaluate(config("ws://127.0.0.1:9", tmp_path), Console(quiet=True))
    with pytest.raises(TongsError, match="address is such as ws://localhost:8000"):
        choose_policy("remote:localhost")
    with pytest.raises(TongsError, match="set where the policy is served"):
        choose_policy("remote:ws://localhost:8000").load({"steps": 3})
    missing = PolicySpec({"front": (32, 32)}, ("mood",), EE_DELTA, 4)
    with served(canonical(missing)) as server:
        assert isinstance(choose_policy(f"remote:{server.url}").load(), RemotePolicy)
        with pytest.raises(ContractError, match="it reads state mood which the robot does not have"):
            Worker(config(server.url, tmp_path)).run("open_drawer", 0)
