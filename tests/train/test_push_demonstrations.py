"""Demonstrations of the pushing world: as a dataset, and as what goal-conditioned policies are trained on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import tongs
from configs.composition import compose
from data.features import ACTION, SCENE, STATE
from data.reader import Dataset
from policies.base import load_policy
from robot.errors import TongsError
from robot.interface import PLANAR_DELTA
from sim.block_push.expert import MODES
from sim.block_push.scene import NAME
from sim.block_push.world import STATE_NAMES, PushWorld
from sim.scenes import generator
from train.demonstrations import CollectConfig, collect
from train.run import goal_rules


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("push")
    for episodes in (2, 5):  # the second continues the first
        (path,) = collect(CollectConfig((NAME,), episodes, str(folder), images=False))
    return path


def test_replayed_actions_lead_to_the_recorded_states(dataset: Path) -> None:
    data = Dataset(dataset)
    assert len(data.episodes) == 5 and data.fps == PLANAR_DELTA.rate
    scenes = data.columns[SCENE][:, 0]
    assert sorted(set(scenes.tolist())) == [0, 1, 2, 3, 4]
    world = PushWorld()
    for scene in range(5):
        rows = np.flatnonzero(scenes == scene)
        mode = MODES[int(generator(NAME, "train", scene, "expert").integers(len(MODES)))]
        world.reset("train", scene, mode.wanted)
        for row in rows:
            np.testing.assert_allclose(data.columns[STATE][row], world.state, atol=1e-5)
            world.execute(data.columns[ACTION][row])
        assert world.result == 1.0


def test_settings_that_mean_nothing_here(tmp_path: Path) -> None:
    for changes in ({"play": True}, {"perturb": 0.5}, {"engine": "bullet"}):
        with pytest.raises(TongsError, match="task=block_push has no play, perturb, midway or dagger"):
            collect(CollectConfig((NAME,), 1, str(tmp_path), images=False, **changes))


SMALL = (
    "cameras=[]",
    "policy.observation=state",
    "policy.goal=state",
    "policy.goal_tokens=2",
    "policy.goal_names=red_x,red_y,green_x,green_y",
    "policy.width=16",
    "policy.layers=1",
    "policy.heads=2",
    "goals.last=1.0",
    "train.threads=1",
    "train.log_every=1",
    "train.heldout_every=0",
)


@pytest.mark.parametrize("family", ["beso", "bet"])
def test_tongs_train_and_eval(family: str, dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    extra = ["policy.bins=8"] if family == "bet" else []
    words = [f"data={dataset}", f"policy={family}", *SMALL, *extra, "horizon=1", "policy.window=3", "held_out=0.3"]
    assert tongs.main(["train", *words, "train.steps=2", "train.batch_size=8", f"output={run}"]) == 0
    policy = load_policy(run / "last")
    assert policy.family == family
    assert policy.spec.action_space == PLANAR_DELTA and policy.spec.state_names == STATE_NAMES
    assert policy.spec.goals == ("state",)
    other = [word for word in words if not word.startswith(("policy=", "policy.bins="))]
    assert tongs.main(["train", *other, "policy=gmm", f"start_from={run / 'last'}"]) == 2
    assert f"holds a {family} policy, and this is a gmm training" in capsys.readouterr().err
    words = ["eval", "task=block_push", f"policy={run / 'last'}", "episodes=1", "execute=2"]
    assert tongs.main([*words, f"output={tmp_path / 'eval'}"]) == 2
    assert "execute must be from 1 to the 1 actions of a chunk, got 2" in capsys.readouterr().err


def test_goals_and_policies_must_go_together() -> None:
    told = compose("train", ["data=x"])["policy"]
    with pytest.raises(TongsError, match="this policy's goal is language"):
        goal_rules(told, {"last": 1.0})
    with pytest.raises(TongsError, match="policy.goal=state needs goals from the data"):
        goal_rules(told | {"goal": "state"}, {})
    with pytest.raises(TongsError, match="this policy's goal is language"):
        goal_rules({"family": "other"}, {"last": 1.0})
    goal_rules(told | {"goal": "image"}, {"last": 1.0})
    goal_rules(told, {})
