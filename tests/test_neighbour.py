"""LeRobot beside us, end to end: its trainer on our demonstrations, its policy in our evaluation, ours in its."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from benchmarks import baselines
from data.features import ENVIRONMENT_STATE, STATE
from data.reader import Dataset
from robot.chunk_queue import ChunkQueue
from robot.errors import TongsError
from sim.world import GOAL_NAMES, STATE_NAMES, World
from train.demonstrations import CollectConfig, collect

pytest.importorskip("lerobot.policies")
pytestmark = pytest.mark.slow
ROOT, SIZE = Path(__file__).resolve().parents[1], 48
TINY = {
    **{"chunk_size": 6, "n_action_steps": 4, "dim_model": 32, "n_heads": 2, "dim_feedforward": 32},
    **{"n_encoder_layers": 1, "n_vae_encoder_layers": 1, "latent_dim": 8},
    **{"vision_backbone": "resnet18", "pretrained_backbone_weights": "null"},
}


def lerobot_eval(output: Path, **settings: object) -> dict[str, Any]:
    """What `lerobot-eval` in a process of its own writes about our scenes 0 and 1 of open_drawer."""
    words = {
        "env.discover_packages_path": "lerobot_policy_tongs",
        "env.type": "tongs",
        "env.task": "open_drawer",
        "policy.device": "cpu",
        "eval.n_episodes": 2,
        "eval.batch_size": 1,
        "seed": 0,
        "output_dir": output,
    } | {key.replace("__", "."): value for key, value in settings.items()}
    command = [sys.executable, "-m", "lerobot.scripts.lerobot_eval", *(f"--{key}={words[key]}" for key in words)]
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)}
    run = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=output.parent)
    assert run.returncode == 0, run.stderr[-3000:]
    (task,) = json.loads((output / "eval_info.json").read_text())["per_task"]
    return task["metrics"]


def film_lengths(metrics: dict[str, Any]) -> list[int]:
    lengths = []
    for path in metrics["video_paths"]:
        with av.open(path) as film:
            lengths.append(sum(1 for _ in film.decode(video=0)))
    return lengths


@pytest.fixture(scope="module")
def demonstrations(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("demonstrations")
    (folder,) = collect(CollectConfig(task=("open_drawer",), episodes=3, output=str(output), processes=1))
    return folder


@pytest.fixture(scope="module")
def act(demonstrations: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny ACT that LeRobot's trainer has trained for two steps."""
    folder, patch = tmp_path_factory.mktemp("baselines"), pytest.MonkeyPatch()
    with patch.context() as patched:
        patched.setitem(baselines.SETTINGS, "act", TINY)
        assert baselines.main(["data", str(demonstrations), str(folder / "data"), "--image-size", str(SIZE)]) == 0
        words = ["train", "act", str(folder / "data"), str(folder / "act"), "--steps", "2", "--save-every", "2"]
        assert baselines.main([*words, "--batch-size", "4", "--workers", "0"]) == 0
    return folder / "act" / "checkpoints" / "last" / "pretrained_model"


def test_the_dataset_of_a_baseline_tells_the_goal_and_no_truth(act: Path, demonstrations: Path) -> None:
    source, prepared = Dataset(demonstrations), Dataset(act.parents[3] / "data")
    assert prepared.features[ENVIRONMENT_STATE].names == GOAL_NAMES
    np.testing.assert_array_equal(prepared.columns[STATE], source.columns[STATE])
    for index, episode in enumerate(prepared.episodes):
        told = prepared.columns[ENVIRONMENT_STATE][sum(e.length for e in prepared.episodes[:index])]
        instruction = prepared.frame_tasks(index)[0]
        if "left" in instruction or "right" in instruction:
            assert ("left" in instruction) == (told[0] == 1.0), instruction
        if percent := [int(word) for word in instruction.replace("%", " ").split() if word.isdecimal()]:
            assert percent[0] / 100 == pytest.approx(told[1]), instruction
        assert episode.length == source.episodes[index].length
    config = json.loads((act / "config.json").read_text())
    assert config["input_features"]["observation.environment_state"]["shape"] == [len(GOAL_NAMES)]


def test_a_dataset_of_another_task_is_refused(demonstrations: Path, tmp_path: Path) -> None:
    with pytest.raises(TongsError, match="it is of another task or split"):
        baselines.prepare(demonstrations, tmp_path / "data", SIZE, "close_drawer", "train", None)


def test_an_act_trained_by_lerobot_runs_in_our_evaluation_as_in_lerobots(act: Path, tmp_path: Path) -> None:
    import tongs

    ours = tongs.evaluate(
        f"lerobot:{act}", "open_drawer", scenes="0:1", output=tmp_path / "ours", processes=1, videos=0, image_size=SIZE
    )
    settings = {"env__tell_goal": "true", "env__image_size": SIZE, "eval__n_episodes": 1}
    theirs = lerobot_eval(tmp_path / "theirs", policy__path=act, **settings)
    assert [episode.success for episode in ours.episodes] == theirs["successes"]
    assert [episode.length for episode in ours.episodes] == film_lengths(theirs)
    policy = json.loads((tmp_path / "ours" / "results.json").read_text())["policy"]
    assert policy["spec"]["state_names"] == [*STATE_NAMES, *GOAL_NAMES]
    assert policy["checkpoint"]["trained_on"] == ["panda_mujoco"]
    again = tongs.evaluate(
        f"lerobot:{act}", "open_drawer", scenes="0:1", output=tmp_path / "ours", processes=1, videos=0, image_size=SIZE
    )
    assert again.wall_s == ours.wall_s, "a finished evaluation is not run again"


def test_its_actions_are_those_of_lerobots_rollout(act: Path) -> None:
    """The same scene, seen and acted in by LeRobot's own loop and by ours, up to where rounding has grown."""
    from lerobot.configs.policies import PreTrainedConfig
    from lerobot.envs.factory import make_env, make_env_pre_post_processors
    from lerobot.policies.factory import make_policy, make_pre_post_processors
    from lerobot.scripts.lerobot_eval import rollout

    from eval.policies import choose_policy
    from lerobot_policy_tongs import TongsEnv

    kind = TongsEnv(task="open_drawer", image_size=SIZE, tell_goal=True)
    (environments,) = make_env(kind, n_envs=2)["tongs"].values()
    config = PreTrainedConfig.from_pretrained(act)
    config.pretrained_path = act
    theirs = make_policy(config, env_cfg=kind)
    around = (*make_env_pre_post_processors(kind, config), *make_pre_post_processors(config, str(act)))
    actions = rollout(environments, theirs, *around, seeds=[3, 4])["action"].numpy()
    environments.close()

    ours: Any = choose_policy(f"lerobot:{act}").load()
    world = World("open_drawer", {"front": (SIZE, SIZE), "wrist": (SIZE, SIZE)}, tell_goal=True)
    ours.bind(world.spec)
    for row, scene in enumerate((3, 4)):
        world.reset("test", scene)
        queue = ChunkQueue(ours, execute=4)
        queue.reset(0)
        for step in range(20):
            action = queue.action(world.observe())
            expected = world.spec.action_space.clip(actions[row, step])
            np.testing.assert_allclose(action, expected, atol=1e-4, err_msg=f"scene {scene}, step {step}")
            world.execute(action)
    world.close()
    assert not np.allclose(actions[0, :20], actions[1, :20], atol=1e-3)


def test_our_policy_runs_under_lerobot_eval_with_our_result(tmp_path: Path) -> None:
    import tongs
    from lerobot_policy_tongs.__main__ import export

    ours = tongs.evaluate("beso", "open_drawer", scenes="0:2", output=tmp_path / "ours", processes=1, videos=0)
    export("beso", tmp_path / "beso")
    theirs = lerobot_eval(tmp_path / "theirs", policy__path=tmp_path / "beso", policy__scenes="open_drawer/test/0")
    lengths = [episode.length for episode in ours.episodes]
    assert len(set(lengths)) == 2, "episodes that end at different times say most"
    assert [episode.success for episode in ours.episodes] == theirs["successes"] and lengths == film_lengths(theirs)


def test_what_our_plug_in_says(tmp_path: Path) -> None:
    from lerobot.configs.types import FeatureType, PolicyFeature
    from lerobot.policies.factory import make_policy

    from lerobot_policy_tongs import TongsConfig, TongsEnv
    from lerobot_policy_tongs.__main__ import export
    from lerobot_policy_tongs.modeling_tongs import TongsPolicy

    with pytest.raises(TongsError, match="camera wrist and the robot has front"):
        make_policy(TongsConfig(device="cpu"), env_cfg=TongsEnv(cameras=["front"]))
    with pytest.raises(TongsError, match=r"observation.state must have 24 entries .* there is \(6,\)"):
        state = {"observation.state": PolicyFeature(FeatureType.STATE, (6,))}
        TongsPolicy(TongsConfig(device="cpu", input_features=state))
    policy = make_policy(TongsConfig(device="cpu", scenes="open_drawer"), env_cfg=TongsEnv())
    with pytest.raises(TongsError, match="must be task/split/first"):
        policy.reset()
    with pytest.raises(TongsError, match="trained by `tongs train`"):
        policy.forward({})
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "something").touch()
    with pytest.raises(TongsError, match="is not empty"):
        export("beso", tmp_path / "full")
